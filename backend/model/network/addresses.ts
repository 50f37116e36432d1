/** IPv6 and MAC addresses as numbers, and the conversions between them. */
import { createHash } from 'node:crypto';

/** An IPv6 address: 128 bits. */
export type Ipv6Address = bigint;
/** A MAC address in the form `42:00:5e:10:00:01`: lower case, colons. */
export type Mac = string;

/** Parses every form of RFC 4291, 2.2; undefined for other texts. An address with a zone (`%eth0`) is refused. */
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

/** Parses an address of the database, which was valid when it was written. @throws Error */
export function storedIpv6(text: string): Ipv6Address {
  const address = parseIpv6(text);
  if (address === undefined) throw new RangeError(`${text} is not an IPv6 address`);
  return address;
}

/** Returns the canonical text (RFC 5952): lower case, no leading zeros, the longest run of zero groups as `::`. */
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
 * Returns the network of a client: the /64 of an IPv6 client, or the address of an IPv4 client, also in the IPv4-mapped
 * form (RFC 4291, 2.5.5.2). A zone (`%eth0`) is ignored.
 */
export function sourceNetwork(text: string): string {
  const address = parseIpv6(text.split('%', 1)[0] ?? '');
  if (address === undefined) return text;
  if (address >> 32n === 0xffffn) return [24n, 16n, 8n, 0n].map((bits) => (address >> bits) & 255n).join('.');
  return `${formatIpv6((address >> 64n) << 64n)}/64`;
}

/** Returns the 32 hex digits of the address for keys of the database. They sort like the addresses. */
export const addressKey = (address: Ipv6Address): string => address.toString(16).padStart(32, '0');

/** Returns the 48 bits of a MAC address; undefined for other texts. */
export function parseMac(text: string): bigint | undefined {
  return /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(text) ? BigInt(`0x${text.replaceAll(':', '')}`) : undefined;
}

const formatMac = (mac: bigint): Mac => (mac.toString(16).padStart(12, '0').match(/../g) ?? []).join(':');

/**
 * Tells whether the address is unicast (bit 0 of the first byte clear) and locally administered (bit 1 set), IEEE 802.
 */
export function isUsableMac(mac: Mac): boolean {
  const value = parseMac(mac);
  return value !== undefined && ((value >> 40n) & 0b11n) === 0b10n;
}

/** The first byte of computed addresses (defaultMac). Users cannot choose such an address of another VM. */
const computedByte = '42';
/** Tells whether the MAC address has the form of a computed one. */
export const isInComputedRange = (mac: Mac): boolean => mac.startsWith(`${computedByte}:`);

/**
 * Returns the key of a MAC address. It is also part of tap names, which have at most 15 characters. The key of a
 * computed address omits the first byte, so no chosen address has the same key.
 */
export function macKey(mac: Mac): string {
  const digits = mac.replaceAll(':', '');
  return isInComputedRange(mac) ? digits.slice(2) : digits;
}

/**
 * Returns the modified EUI-64 interface identifier (RFC 4291, appendix A): ff:fe in the middle, universal/local bit
 * inverted.
 */
export function interfaceId(mac: Mac): bigint {
  const value = parseMac(mac);
  if (value === undefined) throw new RangeError(`${mac} is not a MAC address`);
  const upper = value >> 24n;
  return ((upper << 40n) | (0xfffen << 24n) | (value & 0xffffffn)) ^ (1n << 57n);
}

const linkLocalPrefix = 0xfe80n << 112n;

/** Returns the link-local address that a guest forms from its MAC address (RFC 4291, 2.5.6 and appendix A). */
export const linkLocalAddress = (mac: Mac): Ipv6Address => linkLocalPrefix | interfaceId(mac);

/** Returns the address that a guest with this MAC address forms by SLAAC in a /64. */
export const slaacAddress = (subnet: Ipv6Address, mac: Mac): Ipv6Address => subnet | interfaceId(mac);

/**
 * Tells whether an interface identifier is reserved (RFC 5453): the subnet-router anycast address, the Ethernet block
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
 * Returns the default MAC address of an interface. It depends only on the project, the name of the VM and the index, so
 * a replaced VM keeps its address. @param probe the number of addresses that were found taken
 */
export function defaultMac(project: string, vmName: string, index: number, probe: number): Mac {
  const digest = createHash('sha256').update(`${project}\0${vmName}\0${index}\0${probe}`).digest();
  return formatMac((BigInt(`0x${computedByte}`) << 40n) | BigInt(`0x${digest.subarray(0, 5).toString('hex')}`));
}
