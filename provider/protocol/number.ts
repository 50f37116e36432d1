/**
 * Terraform's numbers are decimal fractions of any length. The provider must return them exactly, because otherwise
 * Terraform refuses the plan ("does not match config value"). So the provider represents a number
 * - as `number` if its shortest decimal notation is the same value (all integers up to 2^53, 0.1, 1.5e-7),
 * - else as `bigint` if it is an integer,
 * - else as `Decimal`.
 * Each value has exactly one such form, so comparisons are simple.
 */
import { Decimal } from './values.ts';

export type ExactNumber = number | bigint | Decimal;

/** The number digits · 10^exponent, whose digits have no trailing zeros. */
interface Canonical {
  digits: bigint;
  exponent: number;
}

const DECIMAL = /^([+-]?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/;
/** Limits against hostile input. Terraform's numbers have 512 bits, which are 155 digits. */
const MAX_DIGITS = 10_000;
const MAX_EXPONENT = 10_000;

function canonical(text: string): Canonical | undefined {
  const match = text.length > MAX_DIGITS ? null : DECIMAL.exec(text);
  if (!match) return undefined;
  const [, sign = '', whole = '', fraction = '', power = '0'] = match;
  let digits = `${whole}${fraction}`.replace(/^0+/, '');
  let exponent = Number(power) - fraction.length;
  const significant = digits.replace(/0+$/, '');
  exponent += digits.length - significant.length;
  digits = significant;
  if (digits === '') return { digits: 0n, exponent: 0 };
  return { digits: BigInt(sign === '-' ? `-${digits}` : digits), exponent };
}

/** Returns the exact value of a decimal notation; undefined for other texts. */
export function parseNumber(text: string): ExactNumber | undefined {
  const value = canonical(text);
  if (!value || Math.abs(value.exponent) > MAX_EXPONENT) return undefined;
  if (value.exponent >= 0) {
    const integer = value.digits * 10n ** BigInt(value.exponent);
    return isSafe(integer) ? Number(integer) : integer;
  }
  const near = Number(text);
  const shortest = canonical(String(near));
  return shortest?.digits === value.digits && shortest.exponent === value.exponent ? near : new Decimal(text);
}

/** Returns the exact value of a binary floating-point number; undefined for NaN. */
export function fromFloat(float: number): ExactNumber | undefined {
  if (Number.isNaN(float)) return undefined;
  if (!Number.isFinite(float)) return float;
  if (Number.isSafeInteger(float)) return float + 0; // -0 is 0
  if (Number.isInteger(float)) return BigInt(float);
  // float = mantissa / 2^k = mantissa · 5^k / 10^k
  let mantissa = float;
  let k = 0;
  while (!Number.isInteger(mantissa)) {
    mantissa *= 2;
    k++;
  }
  const digits = BigInt(mantissa) * 5n ** BigInt(k);
  const magnitude = (digits < 0n ? -digits : digits).toString().padStart(k + 1, '0');
  return parseNumber(`${digits < 0n ? '-' : ''}${magnitude.slice(0, -k)}.${magnitude.slice(-k)}`);
}

function isSafe(integer: bigint): boolean {
  return integer >= BigInt(Number.MIN_SAFE_INTEGER) && integer <= BigInt(Number.MAX_SAFE_INTEGER);
}

/** Returns the normal form of a number; undefined for NaN. */
export function normalizeNumber(value: ExactNumber): ExactNumber | undefined {
  if (typeof value === 'bigint') return isSafe(value) ? Number(value) : value;
  if (value instanceof Decimal) return parseNumber(value.text);
  if (Number.isInteger(value)) return fromFloat(value);
  return Number.isNaN(value) ? undefined : value;
}

export function equalNumbers(a: ExactNumber, b: ExactNumber): boolean {
  const [x, y] = [normalizeNumber(a), normalizeNumber(b)];
  if (x === undefined || y === undefined) return false;
  if (x instanceof Decimal && y instanceof Decimal) {
    const [p, q] = [canonical(x.text), canonical(y.text)];
    return p !== undefined && p.digits === q?.digits && p.exponent === q.exponent;
  }
  return x === y;
}
