/** The string formats of the API contract: the rule of each format and its error message. */
import { electronicFormatIBAN, isValidBIC, isValidIBAN } from 'ibantools';
import { isCountry } from '../billing/country-codes.ts';
import { isCurrency } from '../billing/currencies.ts';
import { parseVatNumber } from '../billing/vat-numbers.ts';
import { isUsableMac, parseIpv6, parseMac } from '../network/addresses.ts';
import { parsePeerAddress } from '../network/peer-address.ts';
import { parsePrefix } from '../network/prefixes.ts';
import { parseSelector } from './selectors.ts';
import { parseSize } from './sizes.ts';
import { sshPublicKeyProblem } from './ssh-public-key.ts';
import { parseTimestamp } from './timestamps.ts';

/** Returns the error message for a text; undefined if the text has the format. */
export type FormatRule = (text: string) => string | undefined;

/** The rule of each format, by its name. */
export const formats: Readonly<Record<string, FormatRule>> = {
  size: (text) =>
    parseSize(text) === undefined ? 'must be an amount such as 512MiB or 20GiB, at most 512TiB' : undefined,
  ipv6: (text) => (parseIpv6(text) === undefined ? 'must be an IPv6 address such as 2001:db8::1' : undefined),
  'ipv6-prefix': (text) => {
    const parsed = parsePrefix(text);
    return parsed.ok ? undefined : parsed.problem;
  },
  'peer-address': (text) => {
    const parsed = parsePeerAddress(text);
    return parsed.ok ? undefined : parsed.problem;
  },
  mac: (text) => {
    if (parseMac(text) === undefined) return 'must be a MAC address such as 02:00:5e:10:00:01, in lower case';
    return isUsableMac(text)
      ? undefined
      : 'must be unicast and locally administered: the second digit is 2, 6, a or e, as in 02:00:5e:10:00:01';
  },
  'label-selector': (text) => {
    const parsed = parseSelector(text);
    return typeof parsed === 'string' ? `must be a label selector: ${parsed}` : undefined;
  },
  currency: (text) => (isCurrency(text) ? undefined : 'must be a currency of ISO 4217, such as EUR'),
  country: (text) => (isCountry(text) ? undefined : 'must be a country of ISO 3166-1, such as CH'),
  'vat-number': (text) => {
    const parsed = parseVatNumber(text);
    return parsed.ok ? undefined : parsed.problem;
  },
  iban: (text) =>
    isValidIBAN(electronicFormatIBAN(text) ?? '')
      ? undefined
      : 'must be an IBAN with right check digits, such as CH93 0076 2011 6238 5295 7',
  bic: (text) => (isValidBIC(text) ? undefined : 'must be a BIC of 8 or 11 characters, such as POFICHBEXXX'),
  'ssh-public-key': sshPublicKeyProblem,
  // Every text is valid. The format only determines the comparison.
  'user-data': () => undefined,
  'date-time': (text) =>
    parseTimestamp(text) === undefined
      ? 'must be a time that exists, such as 2026-01-31T12:00:00Z (RFC 3339), its year in UTC of four digits'
      : undefined,
};
