/**
 * The paths that guests may ask for. `/v1/` is ucloud's own layout: a JSON document for programs, and each value that
 * a shell script needs as plain text. Layouts of other systems (NoCloud, OpenStack) become further rows of this table.
 */
import { type VmRecord, vms } from '../model/records/index.ts';
import { read } from '../store/collection.ts';
import type { Mirror } from '../store/mirror.ts';
import type { Store } from '../store/store.ts';
import { metadataDocument, networkDocument, sshKeysOf } from './documents.ts';

export interface Document {
  readonly type: 'application/json' | 'text/plain; charset=utf-8';
  readonly body: string;
}

type Route = (vm: VmRecord, mirror: Mirror, store: Store) => Document | Promise<Document>;

const text = (lines: readonly string[]): Document => ({
  type: 'text/plain; charset=utf-8',
  body: lines.map((line) => `${line}\n`).join(''),
});
const json = (value: unknown): Document => ({ type: 'application/json', body: `${JSON.stringify(value)}\n` });

const sshKeyLines: Route = (vm, mirror) => text(sshKeysOf(vm, mirror));

/**
 * Exactly as declared, and empty when none was: an absent document could not be told from a failure. Asked of the
 * database, since a mirror may be behind the agent that has started the guest: a guest that is restarted for new user
 * data and gets the old does not ask again before its next boot, while its VM owes no restart any more.
 */
const userData: Route = async ({ id }, _mirror, store) => {
  const vm = await read(store, vms, id);
  return { type: 'text/plain; charset=utf-8', body: vm?.value.user_data ?? '' };
};

export const routes: Readonly<Record<string, Route>> = {
  '/': () => text(Object.keys(routes).slice(1)),
  '/v1/metadata': (vm, mirror) => json(metadataDocument(vm, mirror)),
  '/v1/network-data': (vm, mirror) => json(networkDocument(vm, mirror)),
  '/v1/instance-id': (vm) => text([vm.id]),
  '/v1/host-name': (vm) => text([vm.name]),
  '/v1/ssh-keys': sshKeyLines,
  '/v1/user-data': userData,
  // Where the first ucloud had it.
  '/ssh-keys': sshKeyLines,
};

/** Takes the guest's word that it is ready (POST). */
export const readyPath = '/v1/ready';
