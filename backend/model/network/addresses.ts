/** IPv6 and MAC addresses as numbers, and the rules that make one from the other. */
import { createHash } from 'node:crypto';

/** An IPv6 address: 128 bits. */
export type Ipv6Address = bigint;
/** A MAC address in the form `42:00:5e:10:00:01`: lower case, colons. */
export type Mac = string;

/** The address of a text in any form of RFC 4291 section 2.2, or undefined. Zones (`%eth0`) are not addresses. */
export function parseIpv6(text: string): Ipv6Address | undefined {
  if (text.length > 45) return undefined;
  const ipv4 = /^(.*:)(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  let groups = text;
  if (ipv4) {
    const bytes = ipv4.slice(2, 6);
    if (bytes.some((byte) => Number(byte) > 255 || (byte.length > 1 && byte.startsWith('0')))) return undefined;
    const [a = 0, b = 0, c = 0, d = 0] = bytes.map(Number);
    groups = `${ipv4[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const halves = groups.split('::');
  if (halves.length > 2) return undefined;
  const [head = [], tail = []] = halves.map((half) => (half === '' ? [] : half.split(':')));
  const all = [...head, ...tail];
  if (all.some((group) => !/^[0-9a-fA-F]{1,4}$/.test(group))) return undefined;
  if (halves.length === 1 ? all.length !== 8 : all.length > 7) return undefined;
  const full = [...head, ...Array<string>(8 - all.length).fill('0'), ...tail];
  return full.reduce((address, group) => (address << 16n) | BigInt(`0x${group}`), 0n);
}

/** Reads what the database holds, which was checked on its way in. */
export function storedIpv6(text: string): Ipv6Address {
  const address = parseIpv6(text);
  if (address === undefined) throw new RangeError(`${text} is not an IPv6 address`);
  return address;
}

/** The canonical text (RFC 5952): lower case, no leading zeros, the longest run of zero groups as `::`. */
export function formatIpv6(address: Ipv6Address): string {
  const groups = Array.from({ length: 8 }, (_, i) => Number((address >> BigInt(112 - 16 * i)) & 0xffffn));
  let start = 0;
  let length = 0;
  for (let i = 0; i < 8; ) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > length) [start, length] = [i, end - i];
    i = end + 1;
  }
  const text = (part: number[]) => part.map((group) => group.toString(16)).join(':');
  if (length < 2) return text(groups);
  return `${text(groups.slice(0, start))}::${text(groups.slice(start + length))}`;
}

/**
 * The network that a client's address stands for: an IPv6 client has a whole /64, an IPv4 client its one address, also
 * where it comes as IPv4-mapped (RFC 4291 section 2.5.5.2). Zones (`%eth0`) say nothing of the client.
 */
export function sourceNetwork(text: string): string {
  const address = parseIpv6(text.split('%', 1)[0] ?? '');
  if (address === undefined) return text;
  if (address >> 32n === 0xffffn) return [24n, 16n, 8n, 0n].map((bits) => (address >> bits) & 255n).join('.');
  return `${formatIpv6((address >> 64n) << 64n)}/64`;
}

/** 32 hex digits, as keys of the database carry it: they sort as the addresses do. */
export const addressKey = (address: Ipv6Address): string => address.toString(16).padStart(32, '0');

export function parseMac(text: string): bigint | undefined {
  return /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(text) ? BigInt(`0x${text.replaceAll(':', '')}`) : undefined;
}

const formatMac = (mac: bigint): Mac => (mac.toString(16).padStart(12, '0').match(/../g) ?? []).join(':');

/** Unicast (bit 0 of the first byte clear) and locally administered (bit 1 set), IEEE 802. */
export function isUsableMac(mac: Mac): boolean {
  const value = parseMac(mac);
  return value !== undefined && ((value >> 40n) & 0b11n) === 0b10n;
}

/** First byte of the addresses that are computed (defaultMac). Nobody can choose one of another VM by hand. */
const computedByte = '42';
export const isInComputedRange = (mac: Mac): boolean => mac.startsWith(`${computedByte}:`);

/**
 * The key that holds a MAC address, of which names of taps are made, too: those have 15 characters at most. What can be
 * computed needs no first byte; so no address that was chosen by hand has the key of one that was computed.
 */
export const macKey = (mac: Mac): string => (isInComputedRange(mac) ? earlierMacKey(mac) : mac.replaceAll(':', ''));

/** The key of earlier versions, by the last five bytes whatever the first. VMs of theirs still have it. */
export const earlierMacKey = (mac: Mac): string => mac.replaceAll(':', '').slice(2);

/** Modified EUI-64 interface identifier (RFC 4291 appendix A): ff:fe in the middle, universal/local bit inverted. */
export function interfaceId(mac: Mac): bigint {
  const value = parseMac(mac);
  if (value === undefined) throw new RangeError(`${mac} is not a MAC address`);
  const upper = value >> 24n;
  return ((upper << 40n) | (0xfffen << 24n) | (value & 0xffffffn)) ^ (1n << 57n);
}

const linkLocalPrefix = 0xfe80n << 112n;

/** The link-local address that a guest forms from its MAC address (RFC 4291 section 2.5.6 and appendix A). */
export const linkLocalAddress = (mac: Mac): Ipv6Address => linkLocalPrefix | interfaceId(mac);

/** The address that a guest with this MAC address forms by SLAAC in a /64 (its first address). */
export const slaacAddress = (subnet: Ipv6Address, mac: Mac): Ipv6Address => subnet | interfaceId(mac);

/**
 * Interface identifiers that no VM may have (RFC 5453): that of the subnet-router anycast address, the Ethernet block
 * of IANA, and the subnet anycast addresses of RFC 2526.
 */
export function isReservedInterfaceId(id: bigint): boolean {
  return (
    id === 0n ||
    (id >= 0x0200_5eff_fe00_0000n && id <= 0x0200_5eff_fe00_5212n) ||
    (id >= 0xfdff_ffff_ffff_ff80n && id <= 0xfdff_ffff_ffff_ffffn)
  );
}

/**
 * The MAC address of an interface for which the user asks for none: the same for the same project, VM name and
 * position, so that a VM that is made anew keeps its address. `probe` counts the addresses found taken.
 */
export function defaultMac(project: string, vmName: string, index: number, probe: number): Mac {
  const digest = createHash('sha256').update(`${project}\0${vmName}\0${index}\0${probe}`).digest();
  return formatMac((BigInt(`0x${computedByte}`) << 40n) | BigInt(`0x${digest.subarray(0, 5).toString('hex')}`));
}
