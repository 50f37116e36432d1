/**
 * Identifies the VM of a request by the network of the listener and by the source address. A guest can choose neither
 * of them. The listener is bound to the bridge, and the tap's filter accepts only the addresses
 * of the VM. The content of the request does not count.
 */

import type { Id } from '../contract/fields.ts';
import { formatIpv6, linkLocalAddress, parseIpv6 } from '../model/network/addresses.ts';
import { interfaceAddresses } from '../model/network/interface-addresses.ts';
import { placementId } from '../model/placement/placement-id.ts';
import { placements, type VmRecord, vms } from '../model/records/index.ts';
import type { Mirror } from '../store/mirror.ts';
import type { Stored } from '../store/record-kind.ts';

const sourceKey = (network: Id<'network'>, address: string): string => `${network} ${address}`;

/** A VM with its placement on this host. */
export interface Guest {
  readonly vm: Stored<VmRecord>;
  readonly placement: Stored<unknown>;
}

/** Returns the VM on this host that has the address in the network; undefined if there is none. */
export type Identify = (network: Id<'network'>, remoteAddress: string | undefined) => Guest | undefined;

/** Returns a function that identifies the VMs of the host by the records of the mirror. */
export function createIdentify(mirror: Mirror, hostId: Id<'host'>): Identify {
  const bySource = mirror.index(vms, ({ value }) =>
    value.interfaces.flatMap((each) =>
      [formatIpv6(linkLocalAddress(each.mac)), ...interfaceAddresses(each)].map((address) =>
        sourceKey(each.network, address),
      ),
    ),
  );
  return (network, remoteAddress) => {
    // Node appends the zone to link-local addresses, as in fe80::1%ub4711.
    const source = parseIpv6(remoteAddress?.split('%')[0] ?? '');
    if (source === undefined) return undefined;
    for (const vm of bySource.list(sourceKey(network, formatIpv6(source)))) {
      const placement = mirror.get(placements, placementId(hostId, vm.value.id));
      if (placement) return { vm, placement };
    }
    return undefined;
  };
}
