/**
 * The documents with a guest's own metadata. They contain only its VM's declaration, and nothing of the host or other
 * VMs.
 */
import { interfaceAddresses } from '../model/network/interface-addresses.ts';
import { gatewayAddress } from '../model/network/interface-names.ts';
import { networks, sshKeys, type VmRecord } from '../model/records/index.ts';
import type { Mirror } from '../store/mirror.ts';

/** A network interface of the VM. */
export interface NetworkInterfaceDocument {
  /** The MAC address, in lower case with colons. The guest finds the interface by it. */
  readonly mac: string;
  readonly network: { readonly id: string; readonly name: string };
  readonly mtu: number;
  readonly addresses: readonly { readonly address: string; readonly prefix_length: number }[];
  /** The link-local address of the default router. */
  readonly gateway: string;
  readonly dns_servers: readonly string[];
}

/** The document of `/v1/network-data`. */
export interface NetworkDocument {
  readonly interfaces: readonly NetworkInterfaceDocument[];
}

/** The document of `/v1/metadata`. */
export interface MetadataDocument extends NetworkDocument {
  readonly id: string;
  readonly name: string;
  readonly host_name: string;
  readonly project: string;
  readonly labels: Readonly<Record<string, string>>;
  /** One line for each key, as in authorized_keys. */
  readonly ssh_keys: readonly string[];
}

/** Returns the VM's public keys. Deleted keys are left out. */
export function sshKeysOf(vm: VmRecord, mirror: Mirror): string[] {
  return vm.ssh_keys.map((id) => mirror.get(sshKeys, id)?.value.public_key).filter((key) => key !== undefined);
}

/** Returns the network document. Networks that the mirror does not have yet are left out. */
export function networkDocument(vm: VmRecord, mirror: Mirror): NetworkDocument {
  const described = vm.interfaces.map((each) => {
    const { network: id, mac } = each;
    const network = mirror.get(networks, id)?.value;
    return (
      network && {
        mac,
        network: { id, name: network.name },
        mtu: network.mtu,
        addresses: interfaceAddresses(each).map((address) => ({ address, prefix_length: 64 })),
        gateway: gatewayAddress,
        dns_servers: network.dns_servers,
      }
    );
  });
  return { interfaces: described.filter((each) => each !== undefined) };
}

/** Returns the metadata document. */
export const metadataDocument = (vm: VmRecord, mirror: Mirror): MetadataDocument => ({
  id: vm.id,
  name: vm.name,
  host_name: vm.name,
  project: vm.project,
  labels: vm.labels,
  ssh_keys: sshKeysOf(vm, mirror),
  ...networkDocument(vm, mirror),
});
