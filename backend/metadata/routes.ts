/**
 * The paths of the metadata server. `/v1/` is ucloud's own layout: JSON documents for programs, and the values for
 * shell scripts as plain text. `/nocloud/` is that of cloud-init's data source NoCloud.
 */
import { guestConfigOf, type NoCloudDocuments, noCloudDocuments, noCloudFiles } from '../model/guest/no-cloud.ts';
import { configuredAddresses } from '../model/network/interface-addresses.ts';
import { images, networks, sshKeys, type VmRecord, vms } from '../model/records/index.ts';
import { read } from '../store/collection.ts';
import type { Mirror } from '../store/mirror.ts';
import type { Store } from '../store/store.ts';
import { metadataDocument, networkDocument, sshKeysOf } from './documents.ts';

/** The content of a response. */
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

/** Returns the addresses that the guest does not form by SLAAC, a line for each: the MAC address of the link, the address. */
const addressLines: Route = (vm) =>
  text(vm.interfaces.flatMap((each) => configuredAddresses(each).map((address) => `${each.mac} ${address}`)));

/**
 * Returns the user data exactly as declared. The document is empty without user data, because a guest could not
 * distinguish a missing document from a failure. The route reads the database, because the mirror may be behind the
 * agent that has restarted the guest for new user data. A guest that gets old user data asks again only at its next
 * boot.
 */
const userData: Route = async ({ id }, _mirror, store) => {
  const vm = await read(store, vms, id);
  return { type: 'text/plain; charset=utf-8', body: vm?.value.user_data ?? '' };
};

/** Returns the handler of a document of cloud-init's data source NoCloud, for images that read it over the network. */
const noCloud =
  (name: keyof NoCloudDocuments): Route =>
  async (vm, mirror, store) => {
    if (name === 'user-data') return userData(vm, mirror, store);
    const config = guestConfigOf(vm, {
      sshKey: (id) => mirror.get(sshKeys, id)?.value,
      network: (id) => mirror.get(networks, id)?.value,
      image: (id) => mirror.get(images, id)?.value,
    });
    return { type: 'text/plain; charset=utf-8', body: noCloudDocuments(config)[name] };
  };

/** The route of each path. `/` lists the paths. */
export const routes: Readonly<Record<string, Route>> = {
  '/': () => text(Object.keys(routes).slice(1)),
  '/v1/metadata': (vm, mirror) => json(metadataDocument(vm, mirror)),
  '/v1/network-data': (vm, mirror) => json(networkDocument(vm, mirror)),
  '/v1/instance-id': (vm) => text([vm.id]),
  '/v1/host-name': (vm) => text([vm.name]),
  '/v1/ssh-keys': sshKeyLines,
  '/v1/addresses': addressLines,
  '/v1/user-data': userData,
  ...Object.fromEntries(noCloudFiles.map((name) => [`/nocloud/${name}`, noCloud(name)])),
  // Guests of the first version of ucloud use this path.
  '/ssh-keys': sshKeyLines,
};

/** The path to which a guest reports with POST that it is ready. */
export const readyPath = '/v1/ready';
