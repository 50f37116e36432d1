/** MAC addresses: the default address of an interface, and the IPv6 address of a MAC address. */
import { createHash } from 'node:crypto';
import type { Prefix } from './ipv6.ts';

/** Parses `42:00:5e:10:00:01` or `42-00-…`, in upper or lower case, to a number; undefined for other texts. */
export function parseMac(text: string): bigint | undefined {
  const digits = text
    .toLowerCase()
    .match(
      /^([0-9a-f]{2})([:-])([0-9a-f]{2})(?:\2([0-9a-f]{2}))(?:\2([0-9a-f]{2}))(?:\2([0-9a-f]{2}))(?:\2([0-9a-f]{2}))$/,
    );
  return digits ? BigInt(`0x${[1, 3, 4, 5, 6, 7].map((group) => digits[group]).join('')}`) : undefined;
}

export const normalMac = (text: string): string | undefined => {
  const mac = parseMac(text);
  return mac?.toString(16).padStart(12, '0').match(/../g)?.join(':');
};

/**
 * Returns the default MAC address of an interface, as in openapi.yaml: `42` and five octets of a hash of project, name and
 * index. The provider computes it for the plan. It uses attempt 0; if another VM has that address, the API refuses it.
 */
export function defaultMac(project: string, vm: string, index: number, attempt = 0): string {
  const hash = createHash('sha256').update([project, vm, index, attempt].join('\0')).digest('hex');
  return ['42', ...(hash.slice(0, 10).match(/../g) ?? [])].join(':');
}

/** Returns the SLAAC address of an interface: the /64 and the modified EUI-64 of its MAC address (RFC 4291, appendix A). */
export function eui64Address(prefix: Prefix, mac: bigint): bigint {
  const high = mac >> 24n;
  const low = mac & 0xffffffn;
  const identifier = ((high << 40n) | (0xfffen << 24n) | low) ^ (1n << 57n);
  return ((prefix.network >> 64n) << 64n) | identifier;
}
