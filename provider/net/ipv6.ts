/** IPv6 addresses as text and as numbers: RFC 4291 (text forms, EUI-64), RFC 5952 (the recommended text form). */
import { isIPv6 } from 'node:net';

/** Returns the 128 bits of an address in any text form; undefined for other texts, such as addresses with a zone. */
export function parseAddress(text: string): bigint | undefined {
  if (!isIPv6(text) || text.includes('%')) return undefined;
  let groups = text.toLowerCase();
  // The text may contain the last 32 bits in the form of an IPv4 address.
  const dotted = groups.match(/^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/);
  if (dotted) {
    const [a = 0, b = 0, c = 0, d = 0] = dotted.slice(2).map(Number);
    groups = `${dotted[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const [head = '', tail] = groups.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : 8 - left.length - right.length;
  let value = 0n;
  for (const group of [...left, ...Array<string>(zeros).fill('0'), ...right]) {
    value = (value << 16n) | BigInt(Number.parseInt(group, 16));
  }
  return value;
}

/** Returns the text of RFC 5952: lower case, no leading zeros, `::` for the first longest run of two or more zero groups. */
export function formatAddress(value: bigint): string {
  const groups = Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(112 - 16 * i)) & 0xffffn));
  let start = -1;
  let length = 1;
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > length) {
      start = i;
      length = end - i;
    }
  }
  const hex = groups.map((group) => group.toString(16));
  if (start < 0) return hex.join(':');
  return `${hex.slice(0, start).join(':')}::${hex.slice(start + length).join(':')}`;
}

export const normalAddress = (text: string): string | undefined => {
  const value = parseAddress(text);
  return value === undefined ? undefined : formatAddress(value);
};

export interface Prefix {
  readonly network: bigint;
  readonly length: number;
}

/** Parses CIDR notation (`2001:db8::/32`); undefined for other texts. The result keeps bits after the prefix length. */
export function parsePrefix(text: string): Prefix | undefined {
  const match = text.match(/^([^/]+)\/(0|[1-9]\d{0,2})$/);
  const network = match?.[1] === undefined ? undefined : parseAddress(match[1]);
  const length = Number(match?.[2]);
  return network === undefined || length > 128 ? undefined : { network, length };
}

export const hostBits = ({ network, length }: Prefix): bigint => network & ((1n << BigInt(128 - length)) - 1n);

export const formatPrefix = ({ network, length }: Prefix): string => `${formatAddress(network)}/${length}`;

export const normalPrefix = (text: string): string | undefined => {
  const prefix = parsePrefix(text);
  return prefix && formatPrefix(prefix);
};

/** Returns true if `inner` lies in `outer`. */
export const contains = (outer: Prefix, inner: Prefix): boolean =>
  inner.length >= outer.length &&
  inner.network >> BigInt(128 - outer.length) === outer.network >> BigInt(128 - outer.length);

/** Returns the subnet of the length with the index, from 0; undefined if the prefix has no such subnet. */
export function subnet(prefix: Prefix, length: number, index: bigint): Prefix | undefined {
  if (length < prefix.length || length > 128 || index < 0n || index >= 1n << BigInt(length - prefix.length)) {
    return undefined;
  }
  return { network: prefix.network | (index << BigInt(128 - length)), length };
}

/** Returns the DNS name of an address (RFC 3596): its 32 hex digits from last to first, under `ip6.arpa`. */
export const reverseName = (address: bigint): string =>
  `${[...address.toString(16).padStart(32, '0')].reverse().join('.')}.ip6.arpa`;
