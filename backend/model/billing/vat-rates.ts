/**
 * Standard rates of VAT by country and date. An operator extends the list by rows of his own. The list begins in 2024: before, and for
 * countries without a row, the rate is unknown, and a bill waits.
 */
import { isCountry, specialArea, vatCountry } from './country-codes.ts';

/** The standard rate of a country from a day on, until a later row of the country. */
export interface VatRate {
  /** The country, by ISO 3166-1: `GR` for Greece. */
  readonly country: string;
  /** In percent, as a decimal text such as `8.1`. */
  readonly rate: string;
  /** The first day of the rate, such as `2024-01-01`. */
  readonly valid_from: string;
}

/** A field of a row and the rule that it violates. */
export interface VatRateProblem {
  readonly field: keyof VatRate;
  readonly rule: string;
}

const start = '2024-01-01';

const unchanged: Readonly<Record<string, string>> = {
  AT: '20',
  BE: '21',
  BG: '20',
  CY: '19',
  CZ: '21',
  DE: '19',
  DK: '25',
  EE: '22',
  ES: '21',
  FI: '24',
  FR: '20',
  GB: '20',
  GR: '24',
  HR: '25',
  HU: '27',
  IE: '23',
  IT: '22',
  LT: '21',
  LU: '17',
  LV: '21',
  MT: '18',
  NL: '21',
  NO: '25',
  PL: '23',
  PT: '23',
  RO: '19',
  SE: '25',
  SI: '22',
  SK: '20',
};

/** The rates that ucloud knows. */
export const knownVatRates: readonly VatRate[] = [
  ...Object.entries(unchanged).map(([country, rate]) => ({ country, rate, valid_from: start })),
  { country: 'CH', rate: '7.7', valid_from: '2018-01-01' },
  { country: 'CH', rate: '8.1', valid_from: '2024-01-01' },
  { country: 'LI', rate: '7.7', valid_from: '2018-01-01' },
  { country: 'LI', rate: '8.1', valid_from: '2024-01-01' },
  { country: 'FI', rate: '25.5', valid_from: '2024-09-01' },
  { country: 'SK', rate: '23', valid_from: '2025-01-01' },
  { country: 'EE', rate: '24', valid_from: '2025-07-01' },
  { country: 'RO', rate: '21', valid_from: '2025-08-01' },
];

/** Returns the rate of the country on the day; undefined if it is unknown. The last of equal rows counts. */
export function vatRateOn(rates: readonly VatRate[], country: string, day: string): string | undefined {
  let found: VatRate | undefined;
  for (const row of rates) {
    if (row.country !== country || row.valid_from > day) continue;
    if (found === undefined || row.valid_from >= found.valid_from) found = row;
  }
  return found?.rate;
}

/** Says whether the text is a day that exists, such as `2026-02-28`. */
export function isDay(text: string): boolean {
  const time = /^[0-9]{4}-[0-9]{2}-[0-9]{2}$/.test(text) ? Date.parse(`${text}T00:00:00Z`) : Number.NaN;
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(text);
}

/** Says whether the text is a rate in percent: at most 100, at most two decimals, without needless zeros. */
export const isRate = (text: string): boolean => /^(100|[1-9]?[0-9](\.[0-9]?[1-9])?)$/.test(text);

/** Returns the field of a row that violates a rule, and the rule; undefined for a valid row. */
export function vatRateProblem({ country, rate, valid_from }: VatRate): VatRateProblem | undefined {
  if (!isCountry(country)) return { field: 'country', rule: 'must be a code of ISO 3166-1 such as CH; Greece is GR' };
  // The VAT of such a country never looks for a row of it.
  const of = vatCountry(country);
  if (of !== country) return { field: 'country', rule: `must be ${of}: ${country} has the VAT of ${of}` };
  const area = specialArea(country, '');
  if (area !== undefined) {
    const rule = `must not be ${country}: ${area} has VAT rules of its own. Set \`vat_decision\` of its customers`;
    return { field: 'country', rule };
  }
  if (!isRate(rate) || rate === '0')
    return { field: 'rate', rule: 'must be percent above 0 and up to 100 such as 8.1, with at most two decimals' };
  if (!isDay(valid_from)) return { field: 'valid_from', rule: 'must be a day that exists, such as 2026-01-01' };
  return undefined;
}
