/**
 * Amounts of money: integers of 10⁻⁸ units of a currency inside ucloud, and decimal texts such as `42.10` in the API. No
 * amount is ever a JavaScript number, so sums are exact, and each rounding is visible in the code.
 */
import { minorUnits } from './currencies.ts';

export { currencies, isCurrency, minorUnits } from './currencies.ts';

/** An amount of money, or a price, in 10⁻⁸ units of a currency. */
export type Amount = bigint;

/** A positive denominator and any numerator: the share of a month, a count of GiB. */
export interface Ratio {
  readonly numerator: bigint;
  readonly denominator: bigint;
}

/** The decimals of an amount. */
export const maxDecimals = 8;
/** The maximum digits before the point in a text. */
export const maxWholeDigits = 12;
/** One unit of any currency: one franc, one yen. */
export const oneUnit: Amount = 10n ** BigInt(maxDecimals);

const form = new RegExp(`^(-?)(0|[1-9][0-9]{0,${maxWholeDigits - 1}})(?:\\.([0-9]{1,${maxDecimals}}))?$`);

/** The result of `parseAmount`. */
export type ParsedAmount =
  | { readonly ok: true; readonly amount: Amount }
  | { readonly ok: false; readonly problem: string };

/** Parses a decimal text such as `42.10`. Spaces, a plus sign, exponents and separators are refused. */
export function parseAmount(text: string): ParsedAmount {
  const match = form.exec(text);
  if (match === null) return { ok: false, problem: problemOf(text) };
  const [, sign, whole = '', fraction = ''] = match;
  const amount = BigInt(whole + fraction.padEnd(maxDecimals, '0'));
  return { ok: true, amount: sign === '-' ? -amount : amount };
}

function problemOf(text: string): string {
  if (/^-?[0-9]+\.[0-9]{9,}$/.test(text)) return `must have at most ${maxDecimals} decimals`;
  if (/^-?[1-9][0-9]{12,}(\.[0-9]+)?$/.test(text)) return `must have at most ${maxWholeDigits} digits before the point`;
  return 'must be a decimal number such as 42.10, with a point and without spaces, leading zeros or exponent';
}

/** Returns the amount of a valid text. @throws RangeError for other texts */
export function amountOf(text: string): Amount {
  const parsed = parseAmount(text);
  if (!parsed.ok) throw new RangeError(`an amount ${parsed.problem}`);
  return parsed.amount;
}

/**
 * Returns the text of an amount without needless zeros: `0.0125`, `3`. With a currency, it has at least the decimals of the
 * currency: `42.10`, `3.00`, `0.0125`.
 */
export function formatAmount(amount: Amount, currency?: string): string {
  const digits = (amount < 0n ? -amount : amount).toString().padStart(maxDecimals + 1, '0');
  const whole = digits.slice(0, -maxDecimals);
  const needed = currency === undefined ? 0 : minorUnits(currency);
  const fraction = digits.slice(-maxDecimals).replace(/0+$/, '').padEnd(needed, '0');
  return `${amount < 0n ? '-' : ''}${whole}${fraction === '' ? '' : `.${fraction}`}`;
}

/**
 * Returns the integer nearest to the quotient. A half goes away from zero, so that a credit note has exactly the amounts of
 * its bill with the other sign. @throws RangeError unless the denominator is positive
 */
export function roundHalfUp(numerator: bigint, denominator: bigint): bigint {
  if (denominator <= 0n) throw new RangeError('a denominator must be positive');
  const size = numerator < 0n ? -numerator : numerator;
  const rounded = (2n * size + denominator) / (2n * denominator);
  return numerator < 0n ? -rounded : rounded;
}

/** The smallest amount that a person can pay: a cent, a yen. @throws RangeError for an unknown currency */
export const oneMinor = (currency: string): Amount => 10n ** BigInt(maxDecimals - minorUnits(currency));

/** Rounds an amount to the decimals of its currency. @throws RangeError for an unknown currency */
export function roundToMinor(amount: Amount, currency: string): Amount {
  const minor = oneMinor(currency);
  return roundHalfUp(amount, minor) * minor;
}

/** Multiplies and rounds to 10⁻⁸. An amount to be paid needs `multiplyToMinor`, which rounds once. */
export const multiply = (amount: Amount, ratio: Ratio): Amount =>
  roundHalfUp(amount * ratio.numerator, ratio.denominator);

/**
 * Multiplies and rounds once, to the decimals of the currency. Two roundings, first to 10⁻⁸ and then to a cent, would make
 * 0.01 of 0.004999999999.
 */
export function multiplyToMinor(amount: Amount, ratio: Ratio, currency: string): Amount {
  const minor = oneMinor(currency);
  return roundHalfUp(amount * ratio.numerator, ratio.denominator * minor) * minor;
}

/** Returns the sum, which is exact. */
export const sum = (amounts: Iterable<Amount>): Amount => {
  let total = 0n;
  for (const amount of amounts) total += amount;
  return total;
};
