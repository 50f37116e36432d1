/**
 * Formats whose values have more than one spelling: the equality of spellings, the rules for a value, and the normal
 * spelling, which the provider sends to the API.
 */

import { formatPrefix, hostBits, normalAddress, parsePrefix } from '../net/ipv6.ts';
import { normalMac, parseMac } from '../net/mac.ts';
import { normalSshPublicKey, sshPublicKeyProblem, sshPublicKeyRule } from '../net/ssh-public-key.gen.ts';
import { normalSelector } from './selectors.gen.ts';
import { normalUserData } from './user-data.ts';

/** A format of openapi.yaml. */
export interface Format {
  /** Returns the normal spelling; undefined if the text is not a value of the format. */
  normal(text: string): string | undefined;
  /** The rule, as a clause after "must be". */
  readonly rule: string;
  /** Returns a further violation of a value that has a normal spelling: a clause after the value. */
  flaw?(text: string): string | undefined;
}

const units = { MiB: 1n, GiB: 1n << 10n, TiB: 1n << 20n } as const;

/** The maximum size that the API accepts, in MiB: 512 TiB. */
const maxSizeMib = 512n * units.TiB;

/** Returns a size in MiB; undefined if the text is not a size. */
export function mebibytes(text: string): bigint | undefined {
  const match = text.match(/^([1-9]\d{0,8})(MiB|GiB|TiB)$/);
  return match ? BigInt(match[1] ?? '0') * units[match[2] as keyof typeof units] : undefined;
}

/** Returns the size in the largest unit without a remainder, which is the spelling of the API. */
function normalSize(text: string): string | undefined {
  const amount = mebibytes(text);
  if (amount === undefined || amount > maxSizeMib) return undefined;
  const unit = amount % units.TiB === 0n ? 'TiB' : amount % units.GiB === 0n ? 'GiB' : 'MiB';
  return `${amount / units[unit]}${unit}`;
}

const time =
  /^(\d{4}-\d\d-\d\d)[Tt](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/;

/** Returns the time in UTC, which is the spelling of the API. JavaScript accepts 30 February; this function does not. */
function normalTime(text: string): string | undefined {
  const day = text.match(time)?.[1];
  if (day === undefined) return undefined;
  const midnight = new Date(`${day}T00:00:00Z`);
  if (Number.isNaN(midnight.getTime()) || !midnight.toISOString().startsWith(day)) return undefined;
  const normal = new Date(text).toISOString();
  return /^\d{4}-/.test(normal) ? normal : undefined;
}

/** Returns the address of a BGP peer with its interface, in the spelling of the API. The API checks the rest. */
function normalPeerAddress(text: string): string | undefined {
  const [address = '', ...name] = text.split('%');
  const normal = normalAddress(address);
  return normal === undefined ? undefined : [normal, ...name].join('%');
}

/** The formats by their name in openapi.yaml. */
export const formats: Readonly<Record<string, Format>> = {
  size: {
    normal: normalSize,
    rule: 'a whole number with its unit, MiB, GiB or TiB, such as `512MiB` or `2GiB`, at most 512TiB',
  },
  ipv6: { normal: normalAddress, rule: 'an IPv6 address such as `2001:db8::1`' },
  'ipv6-prefix': {
    normal: (text) => {
      const prefix = parsePrefix(text);
      return prefix && formatPrefix(prefix);
    },
    rule: 'an IPv6 prefix such as `2001:db8::/32`',
    flaw: (text) => {
      const prefix = parsePrefix(text);
      if (!prefix || hostBits(prefix) === 0n) return undefined;
      const network = formatPrefix({ ...prefix, network: prefix.network - hostBits(prefix) });
      return `has bits set after /${prefix.length}: the prefix is ${network}`;
    },
  },
  'peer-address': {
    normal: normalPeerAddress,
    rule: 'an IPv6 address such as `2001:db8::1`, or a link-local one with its interface: `fe80::a%eth0`',
  },
  mac: {
    normal: normalMac,
    rule: 'six octets in hex, such as `02:00:5e:10:00:01`',
    flaw: (text) => {
      const mac = parseMac(text);
      if (mac === undefined || ((mac >> 40n) & 0b11n) === 0b10n) return undefined;
      return 'is not unicast and locally administered: the second digit must be 2, 6, a or e';
    },
  },
  'ssh-public-key': { normal: normalSshPublicKey, rule: sshPublicKeyRule, flaw: sshPublicKeyProblem },
  'label-selector': { normal: normalSelector, rule: 'a label selector such as `zone=a,disk in (ssd,nvme),!gpu`' },
  'user-data': { normal: normalUserData, rule: 'text' },
  'date-time': {
    normal: normalTime,
    rule: 'a time that exists, with its zone as in RFC 3339, such as `2030-01-31T12:00:00Z`',
  },
};

/** Returns true if two texts of a format mean the same. */
export const sameMeaning = (format: Format, a: string, b: string): boolean =>
  a === b || (format.normal(a) !== undefined && format.normal(a) === format.normal(b));
