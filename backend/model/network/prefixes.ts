/** Arithmetic of IPv6 prefixes: what contains, what overlaps, what is still free. */
import { formatIpv6, type Ipv6Address, parseIpv6 } from './addresses.ts';

export interface Prefix {
  /** First address; all bits after `length` are zero. */
  readonly address: Ipv6Address;
  readonly length: number;
}

export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: string };

const size = (length: number): bigint => 1n << BigInt(128 - length);

/** The network that an address lies in. */
export const networkOf = (address: Ipv6Address, length: number): Prefix => ({
  address: (address / size(length)) * size(length),
  length,
});

/** Reads CIDR notation (RFC 4291 section 2.3). Bits after the length must be zero: else it is a slip. */
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

/** Reads what the database holds, which was checked on its way in. */
export function storedPrefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  if (!parsed.ok) throw new RangeError(`${text} ${parsed.problem}`);
  return parsed.value;
}

export const formatPrefix = (prefix: Prefix): string => `${formatIpv6(prefix.address)}/${prefix.length}`;

const end = (prefix: Prefix): bigint => prefix.address + size(prefix.length);

export const contains = (outer: Prefix, inner: Prefix): boolean =>
  outer.length <= inner.length && networkOf(inner.address, outer.length).address === outer.address;

export const overlaps = (a: Prefix, b: Prefix): boolean => contains(a, b) || contains(b, a);

export const comparePrefixes = (a: Prefix, b: Prefix): number =>
  a.address < b.address ? -1 : a.address > b.address ? 1 : a.length - b.length;

/**
 * The first prefix of `length` in `space` that overlaps none of `used`, or undefined when there is none. `used` must
 * be sorted (comparePrefixes). One pass over `used`, whatever the size of the space.
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

/** Whether VMs can have addresses in it: global unicast (RFC 4291) or unique local (RFC 4193). */
export const isUnicastSpace = (prefix: Prefix): boolean =>
  contains(globalUnicast, prefix) || contains(uniqueLocal, prefix);

interface PoolLengths {
  readonly default_length: number;
  readonly min_length?: number | undefined;
}

/** The least length that one request may take by default: 1/256 of the pool, no more than a /48 (RFC 6177). */
export const minLengthOf = (space: Prefix, { default_length, min_length }: PoolLengths): number =>
  min_length ?? Math.min(default_length, Math.max(48, space.length + 8));

/** The least length that one request may take: what is given to who asks for none is never too much. */
export const minAllocationLength = (space: Prefix, pool: PoolLengths): number =>
  Math.min(pool.default_length, minLengthOf(space, pool));

/** 16 hex digits of the upper half: the key of a /64. */
export const subnetKey = (subnet: Prefix): string => (subnet.address >> 64n).toString(16).padStart(16, '0');
