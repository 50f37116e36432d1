/**
 * Which VM asks. A request arrives on the listener of one network, from one source address; both cannot be chosen by
 * the guest: the listener is bound to the bridge, and the filters on the guest's tap let through only the addresses
 * made from its MAC address. Nothing in the request itself is looked at.
 */

import type { Id } from '../contract/fields.ts';
import { formatIpv6, linkLocalAddress, parseIpv6 } from '../model/network/addresses.ts';
import { placementId } from '../model/placement/placement-id.ts';
import { placements, type VmRecord, vms } from '../model/records/index.ts';
import type { Mirror } from '../store/mirror.ts';
import type { Stored } from '../store/record-kind.ts';

const sourceKey = (network: Id<'network'>, address: string): string => `${network} ${address}`;

/** A VM on this host, with the placement that makes it so. */
export interface Guest {
  readonly vm: Stored<VmRecord>;
  readonly placement: Stored<unknown>;
}

export type Identify = (network: Id<'network'>, remoteAddress: string | undefined) => Guest | undefined;

export function identifier(mirror: Mirror, hostId: Id<'host'>): Identify {
  const bySource = mirror.index(vms, ({ value }) =>
    value.interfaces.flatMap(({ network, mac, address }) => [
      sourceKey(network, formatIpv6(linkLocalAddress(mac))),
      sourceKey(network, address),
    ]),
  );
  return (network, remoteAddress) => {
    // Node appends the zone to link-local addresses: fe80::1%ub4711.
    const source = parseIpv6(remoteAddress?.split('%')[0] ?? '');
    if (source === undefined) return undefined;
    for (const vm of bySource.list(sourceKey(network, formatIpv6(source)))) {
      const placement = mirror.get(placements, placementId(hostId, vm.value.id));
      if (placement) return { vm, placement };
    }
    return undefined;
  };
}
