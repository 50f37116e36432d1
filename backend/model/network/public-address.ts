/**
 * The rule for public internet addresses. The image scanner fetches URLs that users choose. Its machine may reach
 * services that users must not reach: those of the machine itself, of the operator's network, and of other VMs.
 */
import { BlockList, isIP } from 'node:net';
import { formatIpv6, parseIpv6 } from './addresses.ts';

/**
 * Ranges of the IANA IPv4 Special-Purpose Address Registry (RFC 6890) that are not globally reachable, and multicast.
 */
const nonPublicIpv4 = new BlockList();
for (const [network, length] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const)
  nonPublicIpv4.addSubnet(network, length, 'ipv4');

/**
 * 2000::/3 is the only range that IANA has assigned as global unicast. `nonPublicIpv6` lists its exceptions, and the
 * tunnel ranges for 6to4 and Teredo.
 */
const globalUnicastIpv6 = new BlockList();
globalUnicastIpv6.addSubnet('2000::', 3, 'ipv6');
const nonPublicIpv6 = new BlockList();
for (const [network, length] of [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const)
  nonPublicIpv6.addSubnet(network, length, 'ipv6');

/** The NAT64 prefix (RFC 6052): the last 32 bits are an IPv4 address. */
const nat64Prefix = 0x64ff9bn << 96n;

const ipv4Of = (address: bigint): string => [24n, 16n, 8n, 0n].map((shift) => (address >> shift) & 0xffn).join('.');

/** Tells whether the text is an address of the public internet. False for a text that is not an IP address. */
export function isPublicAddress(text: string): boolean {
  if (isIP(text) === 4) return !nonPublicIpv4.check(text, 'ipv4');
  const address = parseIpv6(text);
  if (address === undefined) return false;
  if (address >> 32n === nat64Prefix >> 32n) return isPublicAddress(ipv4Of(address));
  const plain = formatIpv6(address);
  return globalUnicastIpv6.check(plain, 'ipv6') && !nonPublicIpv6.check(plain, 'ipv6');
}
