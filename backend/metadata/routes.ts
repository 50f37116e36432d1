/**
 * The paths that guests may ask for. `/v1/` is ucloud's own layout: a JSON document for programs, and each value that
 * a shell script needs as plain text. Layouts of other systems (NoCloud, OpenStack) become further rows of this table.
 */
import type { VmRecord } from '../model/records.ts';
import type { Mirror } from '../store/mirror.ts';
import { metadataDocument, networkDocument, sshKeysOf } from './documents.ts';

export interface Document {
  readonly type: 'application/json' | 'text/plain; charset=utf-8';
  readonly body: string;
}

type Route = (vm: VmRecord, mirror: Mirror) => Document;

const text = (lines: readonly string[]): Document => ({
  type: 'text/plain; charset=utf-8',
  body: lines.map((line) => `${line}\n`).join(''),
});
const json = (value: unknown): Document => ({ type: 'application/json', body: `${JSON.stringify(value)}\n` });

const sshKeyLines: Route = (vm, mirror) => text(sshKeysOf(vm, mirror));

export const routes: Readonly<Record<string, Route>> = {
  '/': () => text(Object.keys(routes).slice(1)),
  '/v1/metadata': (vm, mirror) => json(metadataDocument(vm, mirror)),
  '/v1/network-data': (vm, mirror) => json(networkDocument(vm, mirror)),
  '/v1/instance-id': (vm) => text([vm.id]),
  '/v1/host-name': (vm) => text([vm.name]),
  '/v1/ssh-keys': sshKeyLines,
  // Exactly as declared, and empty when none was: an absent document could not be told from a failure.
  '/v1/user-data': (vm) => ({ type: 'text/plain; charset=utf-8', body: vm.user_data ?? '' }),
  // Where the first ucloud had it.
  '/ssh-keys': sshKeyLines,
};

/** Takes the guest's word that it is ready (POST). */
export const readyPath = '/v1/ready';
