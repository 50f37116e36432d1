/** The balance of an account: no cent is lost, whichever payments arrive in which order. */
import fc from 'fast-check';
import t from 'tap';
import { type BilledSum, balanceOf, type PaidSum } from '../../backend/model/billing/balance.ts';
import { amountOf, formatAmount, sum } from '../../backend/model/billing/money.ts';

const bill = (id: string, gross: string, issued = '2026-02-01', corrects?: string): BilledSum => ({
  ...{ id, number: id.toUpperCase(), issue_date: issued, due_date: `${issued.slice(0, 7)}-28`, corrects },
  gross: amountOf(gross),
});
const received = (amount: string, of?: string): PaidSum => ({ kind: 'received', amount: amountOf(amount), bill: of });
const refunded = (amount: string, of?: string): PaidSum => ({ kind: 'refunded', amount: amountOf(amount), bill: of });

const [a, b] = [bill('a', '100'), bill('b', '50', '2026-03-01')];

t.test('a table by hand', async (t) => {
  const rows: readonly (readonly [
    what: string,
    bills: readonly BilledSum[],
    payments: readonly PaidSum[],
    open: Readonly<Record<string, string>>,
    credit: string,
    balance: string,
  ])[] = [
    ['nothing at all', [], [], {}, '0', '0'],
    ['no payment', [b, a], [], { a: '100', b: '50' }, '0', '-150'],
    ['the oldest is paid first', [b, a], [received('120')], { b: '30' }, '0', '-30'],
    ['the named one is paid first', [a, b], [received('50', 'b')], { a: '100' }, '0', '-100'],
    ['the rest of a named payment pays the oldest', [a, b], [received('70', 'b')], { a: '80' }, '0', '-80'],
    ['too much is credit', [a, b], [received('160')], {}, '10', '10'],
    ['a payment in advance', [], [received('30')], {}, '30', '30'],
    ['a refund of the credit', [a], [received('130'), refunded('30')], {}, '0', '0'],
    [
      'a refund of a named payment',
      [a, b],
      [received('100', 'a'), refunded('40', 'a')],
      { a: '40', b: '50' },
      '0',
      '-90',
    ],
    ['a refund takes from the newest', [a, b], [received('150'), refunded('60')], { a: '10', b: '50' }, '0', '-60'],
    ['a refund opens a paid bill', [a], [received('100', 'a'), refunded('100')], { a: '100' }, '0', '-100'],
    ['a refund without a payment', [], [refunded('5')], {}, '-5', '-5'],
    ['a refund before its receipt', [a], [refunded('100', 'a'), received('100', 'a')], { a: '100' }, '0', '-100'],
    ['a payment for an unknown bill', [a], [received('100', 'x')], {}, '0', '0'],
    ['a credit note', [a, b, bill('c', '-100', '2026-03-02', 'a')], [], { b: '50' }, '0', '-50'],
    [
      'a credit note for a paid bill',
      [a, b, bill('c', '-100', '2026-03-02', 'a')],
      [received('150')],
      {},
      '100',
      '100',
    ],
  ];
  for (const [what, bills, payments, open, credit, balance] of rows) {
    const result = balanceOf(bills, payments, '2026-02-15');
    t.strictSame(Object.fromEntries(result.open.map((each) => [each.bill.id, formatAmount(each.open)])), open, what);
    t.equal(formatAmount(result.credit), credit, what);
    t.equal(formatAmount(result.balance), balance, what);
  }
});

t.test('a bill is overdue on the day after its due date', async (t) => {
  for (const [day, overdue] of [
    ['2026-02-28', '0'],
    ['2026-03-01', '100'],
    ['2026-03-29', '150'],
  ] as const) {
    t.equal(formatAmount(balanceOf([a, b], [], day).overdue), overdue, day);
  }
  t.strictSame(
    balanceOf([b, a], [], '2026-03-01').open.map(({ bill: { id }, isOverdue }) => [id, isOverdue]),
    [
      ['a', true],
      ['b', false],
    ],
  );
});

const amounts = fc.bigInt({ min: 0n, max: 10n ** 20n });
const ids = fc.constantFrom('a', 'b', 'c', 'd', 'unknown');
const histories = fc.record({
  bills: fc.uniqueArray(
    fc.record({
      id: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'),
      gross: fc.bigInt({ min: -(10n ** 20n), max: 10n ** 20n }),
      month: fc.integer({ min: 1, max: 9 }),
      corrects: fc.option(ids, { nil: undefined }),
    }),
    { selector: ({ id }) => id, maxLength: 6 },
  ),
  payments: fc.array(
    fc.record({
      kind: fc.constantFrom('received' as const, 'refunded' as const),
      amount: amounts,
      bill: fc.option(ids, { nil: undefined }),
    }),
    { maxLength: 8 },
  ),
});

t.test('the parts sum up, and the order of the arrival does not matter', async () => {
  fc.assert(
    fc.property(histories, fc.infiniteStream(fc.nat()), ({ bills, payments }, random) => {
      const sums: BilledSum[] = bills.map(({ month, ...each }) => ({
        ...{ ...each, number: each.id, issue_date: `2026-0${month}-01`, due_date: `2026-0${month}-28` },
      }));
      const result = balanceOf(sums, payments, '2026-05-01');
      const open = sum(result.open.map((each) => each.open));
      const shuffled = <T>(list: readonly T[]): T[] =>
        list
          .map((each) => [random.next().value as number, each] as const)
          .toSorted(([x], [y]) => x - y)
          .map(([, each]) => each);
      const again = balanceOf(shuffled(sums), shuffled(payments), '2026-05-01');
      const texts = (value: unknown) =>
        JSON.stringify(value, (_key, each) => (typeof each === 'bigint' ? `${each}` : each));
      return (
        result.balance === result.received - result.refunded - result.billed &&
        result.balance === result.credit - open &&
        result.open.every((each) => each.open > 0n && each.open <= each.bill.gross) &&
        // Nobody owes and has credit at once, and nobody has less than nothing while a bill counts as paid.
        (result.credit <= 0n || open === 0n) &&
        (result.credit >= 0n || open === sum(sums.filter(({ gross }) => gross > 0n).map(({ gross }) => gross))) &&
        result.overdue === sum(result.open.filter(({ isOverdue }) => isOverdue).map((each) => each.open)) &&
        texts(again) === texts(result)
      );
    }),
    { numRuns: 5_000 },
  );
});
