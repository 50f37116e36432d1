/** Arithmetic of IPv6 prefixes: containment, overlap, free space. */
import { formatIpv6, type Ipv6Address, parseIpv6 } from './addresses.ts';

/** An IPv6 prefix. */
export interface Prefix {
  /** The first address; all bits after `length` are zero. */
  readonly address: Ipv6Address;
  readonly length: number;
}

/** A parsed value, or the problem of the text. */
export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: string };

const size = (length: number): bigint => 1n << BigInt(128 - length);

/** Returns the network of an address. */
export const networkOf = (address: Ipv6Address, length: number): Prefix => ({
  address: (address / size(length)) * size(length),
  length,
});

/** Parses CIDR notation (RFC 4291, 2.3). All bits after the length must be zero, because other bits are a mistake. */
export function parsePrefix(text: string): Parsed<Prefix> {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(text);
  const address = match?.[1] === undefined ? undefined : parseIpv6(match[1]);
  const length = Number(match?.[2]);
  if (address === undefined || length > 128 || (match?.[2] !== '0' && match?.[2]?.startsWith('0'))) {
    return { ok: false, problem: 'must be an IPv6 prefix such as 2001:db8::/32' };
  }
  const network = networkOf(address, length);
  if (network.address !== address) {
    return { ok: false, problem: `has bits set after /${length}: the prefix is ${formatPrefix(network)}` };
  }
  return { ok: true, value: network };
}

/** Parses a prefix of the database, which was valid when it was written. @throws Error */
export function storedPrefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  if (!parsed.ok) throw new RangeError(`${text} ${parsed.problem}`);
  return parsed.value;
}

/** Returns the prefix in CIDR notation (RFC 5952). */
export const formatPrefix = (prefix: Prefix): string => `${formatIpv6(prefix.address)}/${prefix.length}`;

const end = (prefix: Prefix): bigint => prefix.address + size(prefix.length);

/** Tells whether `outer` contains `inner`. */
export const contains = (outer: Prefix, inner: Prefix): boolean =>
  outer.length <= inner.length && networkOf(inner.address, outer.length).address === outer.address;

/** Tells whether the prefix contains one of the addresses, which are in ascending order. */
export function containsAny(prefix: Prefix, ascending: readonly Ipv6Address[]): boolean {
  let [low, high] = [0, ascending.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ascending[middle] ?? 0n) < prefix.address) low = middle + 1;
    else high = middle;
  }
  const first = ascending[low];
  return first !== undefined && first < end(prefix);
}

/** Tells whether two prefixes overlap. */
export const overlaps = (a: Prefix, b: Prefix): boolean => contains(a, b) || contains(b, a);

/** Compares prefixes by address, then by length. */
export const comparePrefixes = (a: Prefix, b: Prefix): number =>
  a.address < b.address ? -1 : a.address > b.address ? 1 : a.length - b.length;

/**
 * Returns the first prefix of `length` in `space` that overlaps none of `used`; undefined if there is none. `used` must
 * be sorted (comparePrefixes). The function reads it once, regardless of the size of the space.
 */
export function firstFree(space: Prefix, length: number, used: Iterable<Prefix>): Prefix | undefined {
  if (length < space.length) return undefined;
  const step = size(length);
  let candidate = space.address;
  for (const taken of used) {
    if (end(taken) <= candidate) continue;
    if (taken.address >= candidate + step) break;
    candidate = ((end(taken) + step - 1n) / step) * step;
  }
  return candidate + step <= end(space) ? { address: candidate, length } : undefined;
}

const globalUnicast: Prefix = { address: 0x2000n << 112n, length: 3 };
const uniqueLocal: Prefix = { address: 0xfc00n << 112n, length: 7 };

/** Tells whether VMs can have addresses in the space: global unicast (RFC 4291) or unique local (RFC 4193). */
export const isUnicastSpace = (prefix: Prefix): boolean =>
  contains(globalUnicast, prefix) || contains(uniqueLocal, prefix);

interface PoolLengths {
  readonly default_length: number;
  readonly min_length?: number | undefined;
}

/** Returns the minimum length of one request. Default: 1/256 of the pool, at most a /48 (RFC 6177). */
export const minLengthOf = (space: Prefix, { default_length, min_length }: PoolLengths): number =>
  min_length ?? Math.min(default_length, Math.max(48, space.length + 8));

/** Returns the minimum length of one allocation. The default length is always allowed. */
export const minAllocationLength = (space: Prefix, pool: PoolLengths): number =>
  Math.min(pool.default_length, minLengthOf(space, pool));

/** Returns the 16 hex digits of the upper half: the key of a /64. */
export const subnetKey = (subnet: Prefix): string => (subnet.address >> 64n).toString(16).padStart(16, '0');

/** Returns the first hex digits of an address. */
const digitsOf = (address: Ipv6Address, count: number): string =>
  address.toString(16).padStart(32, '0').slice(0, count);

/**
 * Returns the keys of a space: hex digits with which all its addresses, and only these, begin. There are 1, 2, 4 or 8 of
 * them, because a digit has four bits.
 */
export function spaceKeys({ address, length }: Prefix): string[] {
  const digits = Math.ceil(length / 4);
  const count = 2 ** (4 * digits - length);
  return Array.from({ length: count }, (_each, index) => digitsOf(address + BigInt(index) * size(4 * digits), digits));
}

/** Returns the keys that larger spaces within `outer` can have if they contain the space. */
export function outerKeys(space: Prefix, outer: Prefix): string[] {
  const [least, own] = [Math.ceil(outer.length / 4), Math.ceil(space.length / 4)];
  return Array.from({ length: Math.max(0, own - least) }, (_each, index) => digitsOf(space.address, least + index));
}
