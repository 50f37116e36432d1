/** The string formats of the API contract: the rule of each format and its error message. */
import { isUsableMac, parseIpv6, parseMac } from './addresses.ts';
import { parsePrefix } from './prefixes.ts';
import { parseSize } from './sizes.ts';

/** Returns the error message for a text; undefined if the text has the format. */
export type FormatRule = (text: string) => string | undefined;

/** A timestamp with a time zone (RFC 3339). */
const timestamp =
  /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$/;

/** The rule of each format, by its name. */
export const formats: Readonly<Record<string, FormatRule>> = {
  size: (text) =>
    parseSize(text) === undefined ? 'must be an amount such as 512MiB or 20GiB, at most 512TiB' : undefined,
  ipv6: (text) => (parseIpv6(text) === undefined ? 'must be an IPv6 address such as 2001:db8::1' : undefined),
  'ipv6-prefix': (text) => {
    const parsed = parsePrefix(text);
    return parsed.ok ? undefined : parsed.problem;
  },
  mac: (text) => {
    if (parseMac(text) === undefined) return 'must be a MAC address such as 42:00:5e:10:00:01, in lower case';
    return isUsableMac(text)
      ? undefined
      : 'must be unicast and locally administered: the second digit is 2, 6, a or e, as in 42:00:5e:10:00:01';
  },
  'date-time': (text) =>
    timestamp.test(text) && !Number.isNaN(Date.parse(text))
      ? undefined
      : 'must be a time such as 2026-01-31T12:00:00Z (RFC 3339)',
};
