/** Amounts of money: texts, decimals of currencies, rounding. */
import fc from 'fast-check';
import t from 'tap';
import {
  amountOf,
  currencies,
  formatAmount,
  isCurrency,
  minorUnits,
  multiply,
  multiplyToMinor,
  oneMinor,
  parseAmount,
  roundHalfUp,
  roundToMinor,
  sum,
} from '../../backend/model/billing/money.ts';

const limit = 10n ** 20n - 1n;
const anAmount = fc.bigInt({ min: -limit, max: limit });
const aCurrency = fc.constantFrom(...currencies);
const aRatio = fc.record({
  numerator: fc.bigInt({ min: -(10n ** 18n), max: 10n ** 18n }),
  denominator: fc.bigInt({ min: 1n, max: 10n ** 18n }),
});
const absolute = (value: bigint) => (value < 0n ? -value : value);

t.test('texts of amounts', async (t) => {
  for (const [text, amount] of [
    ['0', 0n],
    ['-0.00', 0n],
    ['42.10', 4_210_000_000n],
    ['-42.1', -4_210_000_000n],
    ['0.00000001', 1n],
    ['999999999999.99999999', limit],
  ] as const) {
    t.same(parseAmount(text), { ok: true, amount }, text);
    t.equal(amountOf(text), amount, text);
  }
  const decimal = /must be a decimal number such as 42\.10/;
  for (const [text, problem] of [
    ['', decimal],
    ['+1', decimal],
    ['1e3', decimal],
    ['1,5', decimal],
    ["1'000", decimal],
    ['.5', decimal],
    ['5.', decimal],
    ['00.5', decimal],
    ['01', decimal],
    [' 1', decimal],
    ['1\n', decimal],
    ['--1', decimal],
    ['NaN', decimal],
    ['0x10', decimal],
    ['٣', decimal],
    ['0.000000001', /must have at most 8 decimals/],
    ['1000000000000', /must have at most 12 digits before the point/],
    ['9'.repeat(100_000), /must have at most 12 digits before the point/],
  ] as const) {
    const parsed = parseAmount(text);
    t.match(parsed.ok ? '' : parsed.problem, problem, JSON.stringify(text.slice(0, 20)));
    t.throws(() => amountOf(text), RangeError, JSON.stringify(text.slice(0, 20)));
  }
  for (const [amount, currency, text] of [
    [4_210_000_000n, undefined, '42.1'],
    [4_210_000_000n, 'CHF', '42.10'],
    [-4_200_000_000n, 'CHF', '-42.00'],
    [1_250_000n, 'CHF', '0.0125'],
    [4_200_000_000n, 'JPY', '42'],
    [4_200_000_000n, 'KWD', '42.000'],
    [0n, 'EUR', '0.00'],
    [-1n, 'EUR', '-0.00000001'],
  ] as const)
    t.equal(formatAmount(amount, currency), text);
  fc.assert(fc.property(anAmount, (amount) => amountOf(formatAmount(amount)) === amount));
  fc.assert(
    fc.property(anAmount, aCurrency, (amount, currency) => amountOf(formatAmount(amount, currency)) === amount),
  );
  fc.assert(
    fc.property(fc.string(), (text) => {
      const parsed = parseAmount(text);
      return !parsed.ok || amountOf(formatAmount(parsed.amount)) === parsed.amount;
    }),
  );
});

t.test('currencies', async (t) => {
  for (const [currency, decimals] of [
    ['CHF', 2],
    ['EUR', 2],
    ['JPY', 0],
    ['ISK', 0],
    ['KWD', 3],
    ['RSD', 2],
  ] as const)
    t.equal(minorUnits(currency), decimals, currency);
  for (const text of ['chf', 'XXX', 'DEM', 'XAU', 'CH', '', 'constructor', 'EUR ']) {
    t.notOk(isCurrency(text), text);
    t.throws(() => minorUnits(text), /is no currency of ISO 4217/, text);
    t.throws(() => roundToMinor(1n, text), /is no currency of ISO 4217/, text);
  }
  t.same(currencies.toSorted(), currencies, 'sorted');
  t.equal(new Set(currencies).size, currencies.length, 'without duplicates');
  const known = new Set(Intl.supportedValuesOf('currency'));
  // The two newest currencies may be missing in an older Node.
  t.same(
    currencies.filter((code) => !known.has(code) && code !== 'XCG' && code !== 'ZWG'),
    [],
    'Node knows them too',
  );
});

t.test('rounding', async (t) => {
  for (const [numerator, denominator, rounded] of [
    [1n, 2n, 1n],
    [-1n, 2n, -1n],
    [3n, 2n, 2n],
    [5n, 2n, 3n],
    [-5n, 2n, -3n],
    [1n, 3n, 0n],
    [2n, 3n, 1n],
    [-2n, 3n, -1n],
    [0n, 7n, 0n],
  ] as const)
    t.equal(roundHalfUp(numerator, denominator), rounded, `${numerator}/${denominator}`);
  t.throws(() => roundHalfUp(1n, 0n), /a denominator must be positive/);
  t.throws(() => roundHalfUp(1n, -1n), /a denominator must be positive/);
  t.equal(roundToMinor(amountOf('0.005'), 'CHF'), amountOf('0.01'));
  t.equal(roundToMinor(amountOf('-0.005'), 'CHF'), amountOf('-0.01'));
  t.equal(roundToMinor(amountOf('0.00499999'), 'CHF'), 0n);
  t.equal(roundToMinor(amountOf('0.5'), 'JPY'), amountOf('1'));
  const third = { numerator: 1n, denominator: 3n };
  t.equal(multiply(amountOf('1'), third), amountOf('0.33333333'));
  t.equal(multiplyToMinor(amountOf('1'), third, 'CHF'), amountOf('0.33'));
  const justBelowHalf = { numerator: 4_999_999_999n, denominator: 10n ** 12n };
  t.equal(roundToMinor(multiply(amountOf('1'), justBelowHalf), 'CHF'), amountOf('0.01'), 'rounded twice');
  t.equal(multiplyToMinor(amountOf('1'), justBelowHalf, 'CHF'), 0n, 'rounded once');
});

t.test('rounding never moves an amount by more than a half, and mirrors negative amounts', async () => {
  fc.assert(
    fc.property(anAmount, fc.bigInt({ min: 1n, max: 10n ** 18n }), (numerator, denominator) => {
      const rounded = roundHalfUp(numerator, denominator);
      return (
        2n * absolute(numerator - rounded * denominator) <= denominator &&
        roundHalfUp(-numerator, denominator) === -rounded
      );
    }),
  );
  fc.assert(
    fc.property(anAmount, aRatio, aCurrency, (amount, ratio, currency) => {
      const minor = oneMinor(currency);
      const paid = multiplyToMinor(amount, ratio, currency);
      const error = absolute(amount * ratio.numerator - paid * ratio.denominator);
      return (
        paid % minor === 0n &&
        2n * error <= minor * ratio.denominator &&
        multiplyToMinor(-amount, ratio, currency) === -paid &&
        roundToMinor(paid, currency) === paid
      );
    }),
  );
  fc.assert(
    fc.property(fc.array(anAmount, { maxLength: 20 }), (amounts) => sum(amounts) === -sum(amounts.map((a) => -a))),
  );
});
