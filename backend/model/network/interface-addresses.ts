/**
 * The addresses of an interface. Each interface has the address that its guest forms by SLAAC, because no setting of a
 * network keeps a guest from that. A user may choose its shown address, and secondary addresses. Pure.
 */
import { formatIpv6, type Ipv6Address, interfaceId, isReservedInterfaceId, type Mac, storedIpv6 } from './addresses.ts';
import { contains, formatPrefix, type Prefix } from './prefixes.ts';

/** The part of an interface that its addresses follow from. Records of earlier versions lack secondary addresses. */
export interface AddressedInterface {
  readonly mac: Mac;
  readonly address: string;
  readonly secondary_addresses?: readonly string[] | undefined;
}

const interfaceMask = (1n << 64n) - 1n;

/** Returns the address that the guest forms by SLAAC in the /64 of its declared address. */
export const derivedAddress = ({ mac, address }: Pick<AddressedInterface, 'mac' | 'address'>): string =>
  formatIpv6((storedIpv6(address) & ~interfaceMask) | interfaceId(mac));

/** Returns all addresses of the interface in the prefix of its network, the shown one first. */
export const interfaceAddresses = ({ mac, address, secondary_addresses = [] }: AddressedInterface): string[] => [
  ...new Set([address, derivedAddress({ mac, address }), ...secondary_addresses]),
];

/** Returns the addresses that the guest does not form by itself. Its network configuration contains them. */
export const configuredAddresses = (each: AddressedInterface): string[] => {
  const derived = derivedAddress(each);
  return interfaceAddresses(each).filter((address) => address !== derived);
};

/** Returns the rule that an address breaks which a user has chosen in a network; undefined if it can be used. */
export function addressProblem(network: Prefix, address: Ipv6Address): string | undefined {
  if (!contains(network, { address, length: 128 })) {
    return `must be in the prefix of the network, ${formatPrefix(network)}`;
  }
  const id = address & interfaceMask;
  if (id === 0n) return `must not be ${formatIpv6(address)}: it is the anycast address of the routers (RFC 4291)`;
  if (id === 1n) return `must not be ${formatIpv6(address)}: it is the address of the network's router`;
  if (isReservedInterfaceId(id)) return 'must not have a reserved interface identifier (RFC 5453)';
  return undefined;
}
