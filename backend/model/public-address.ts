/**
 * Which addresses are on the public internet. The image scanner fetches URLs that users choose; from where it stands it
 * may reach what they must not: other services of the machine, of the operator's network, of other VMs.
 */
import { BlockList, isIP } from 'node:net';
import { formatIpv6, parseIpv6 } from './addresses.ts';

/** IANA IPv4 Special-Purpose Address Registry: what is not globally reachable; and multicast. */
const notPublic4 = new BlockList();
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
  notPublic4.addSubnet(network, length, 'ipv4');

/** Only 2000::/3 is assigned as global unicast (IANA), and in it these are not, or lead elsewhere (6to4, Teredo). */
const global6 = new BlockList();
global6.addSubnet('2000::', 3, 'ipv6');
const notPublic6 = new BlockList();
for (const [network, length] of [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const)
  notPublic6.addSubnet(network, length, 'ipv6');

/** NAT64 (RFC 6052): the last 32 bits are an IPv4 address. */
const nat64 = 0x64ff9bn << 96n;

const ipv4Of = (address: bigint): string => [24n, 16n, 8n, 0n].map((shift) => (address >> shift) & 0xffn).join('.');

/** Whether an address is of the public internet. What is not an address is not. */
export function isPublicAddress(text: string): boolean {
  if (isIP(text) === 4) return !notPublic4.check(text, 'ipv4');
  const address = parseIpv6(text);
  if (address === undefined) return false;
  if (address >> 32n === nat64 >> 32n) return isPublicAddress(ipv4Of(address));
  const plain = formatIpv6(address);
  return global6.check(plain, 'ipv6') && !notPublic6.check(plain, 'ipv6');
}
