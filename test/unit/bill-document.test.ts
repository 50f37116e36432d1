/** The totals of a bill always add up, and a document with a mistake is named as one. */
import fc from 'fast-check';
import t from 'tap';
import {
  type BillDocument,
  type BillLine,
  type BillVat,
  billProblem,
  condensed,
  totalsOf,
} from '../../backend/model/billing/bill-document.ts';
import { amountOf, formatAmount, oneMinor, sum } from '../../backend/model/billing/money.ts';
import { sampleBill, sampleBills, sampleLines } from '../support/sample-bills.ts';

const nineteen: BillVat = { category: 'S', rate: '19' };
const line = (net: string, vat: BillVat) => ({ net, vat });

t.test('totals', async (t) => {
  t.same(
    totalsOf([line('0.13', nineteen), line('0.13', nineteen), line('0.13', nineteen)], 'EUR'),
    {
      vat_groups: [{ category: 'S', rate: '19', base: '0.39', amount: '0.07' }],
      totals: { net: '0.39', vat: '0.07', gross: '0.46', due: '0.46' },
    },
    'rounded once for the rate: 0.0247 rounded three times would be 0.06',
  );
  t.same(totalsOf([line('0.50', { category: 'S', rate: '1' }), line('-0.10', nineteen)], 'CHF', '0.10'), {
    vat_groups: [
      { category: 'S', rate: '1', base: '0.50', amount: '0.01' },
      { category: 'S', rate: '19', base: '-0.10', amount: '-0.02' },
    ],
    totals: { net: '0.40', vat: '-0.01', gross: '0.39', prepaid: '0.10', due: '0.29' },
  });
  t.same(totalsOf([line('100', { category: 'S', rate: '10' })], 'JPY').totals, {
    net: '100',
    vat: '10',
    gross: '110',
    due: '110',
  });
  t.same(totalsOf([], 'CHF'), { vat_groups: [], totals: { net: '0.00', vat: '0.00', gross: '0.00', due: '0.00' } });
  t.throws(() => totalsOf([line('0.001', nineteen)], 'EUR'), /0\.001 of a line is not rounded/);
  t.throws(() => totalsOf([line('1', nineteen)], 'XXX'), /no currency/);
  t.throws(() => totalsOf([line('1', { category: 'S', rate: 'x' })], 'EUR'), /no rate in percent/);
});

const aVat = fc.constantFrom<BillVat>(
  nineteen,
  { category: 'S', rate: '8.1' },
  { category: 'S', rate: '25.5' },
  { category: 'AE', rate: '0', reason: 'reverse' },
);
const aCurrency = fc.constantFrom('CHF', 'EUR', 'JPY', 'KWD');
const aLine = (currency: string) =>
  fc.record({
    net: fc.bigInt({ min: -(10n ** 9n), max: 10n ** 9n }).map((minors) => formatAmount(minors * oneMinor(currency))),
    vat: aVat,
  });

t.test('sums always add up, and a group has its VAT to half a cent', async () => {
  const bill = aCurrency.chain((currency) =>
    fc.record({ currency: fc.constant(currency), lines: fc.array(aLine(currency), { maxLength: 50 }) }),
  );
  fc.assert(
    fc.property(bill, ({ currency, lines }) => {
      const { vat_groups: groups, totals } = totalsOf(lines, currency);
      const [net, vat, gross, due] = [totals.net, totals.vat, totals.gross, totals.due].map(amountOf);
      const bases = groups.map(({ base }) => amountOf(base));
      const amounts = groups.map(({ amount }) => amountOf(amount));
      const isRounded = groups.every(({ base, rate, amount }) => {
        const error = amountOf(amount) * amountOf('100') - amountOf(base) * amountOf(rate);
        return 2n * (error < 0n ? -error : error) <= oneMinor(currency) * amountOf('100');
      });
      const mirrored = totalsOf(
        lines.map(({ net, vat }) => ({ net: formatAmount(-amountOf(net)), vat })),
        currency,
      );
      return (
        net === sum(lines.map((line) => amountOf(line.net))) &&
        net === sum(bases) &&
        vat === sum(amounts) &&
        gross === (net ?? 0n) + (vat ?? 0n) &&
        due === gross &&
        isRounded &&
        amountOf(mirrored.totals.gross) === -(gross ?? 0n)
      );
    }),
  );
  fc.assert(
    fc.property(bill, fc.infiniteStream(fc.nat()), ({ currency, lines }, random) => {
      const order = lines.map((line) => [random.next().value ?? 0, line] as const);
      const shuffled = order.sort(([a], [b]) => a - b).map(([, line]) => line);
      return JSON.stringify(totalsOf(shuffled, currency)) === JSON.stringify(totalsOf(lines, currency));
    }),
  );
});

t.test('a document with a mistake is named', async (t) => {
  for (const [story, bill] of Object.entries(sampleBills)) t.equal(billProblem(bill), undefined, story);
  const good = sampleBill(sampleLines(2));
  const [first, second] = good.lines as readonly [BillLine, BillLine];
  const outside = { category: 'O', rate: '0', reason: 'abroad' } as const;
  const { vat_number: _number, ...unregistered } = good.seller;
  const { vat_number: _customer, ...consumer } = good.buyer;
  const reverse = sampleLines(1, { category: 'AE', rate: '0', reason: 'reverse' });
  for (const [change, problem] of [
    [{ number: ' ' }, /^number/],
    [{ issue_date: '2026-02-29' }, /^issue_date must be a day/],
    [{ period: { from: '2026-03-31', to: '2026-03-01' } }, /^period\.to/],
    [{ currency: 'XXX' }, /^currency/],
    [{ kind: 'credit_note' }, /^corrects must name the bill/],
    [{ corrects: { number: '1', issue_date: '2026-01-01' } }, /only of a credit note/],
    [{ seller: { ...good.seller, city: '' } }, /^seller\.city must not be empty/],
    [{ buyer: { ...good.buyer, country: 'EL' } }, /^buyer\.country/],
    [{ lines: [] }, /^lines must not be empty/],
    [{ lines: [first, first] }, /the id 1 occurs twice/],
    [{ lines: [first, { ...second, net: '9.3e0' }] }, /^lines\[2\]\.net must be a decimal number/],
    [{ lines: [first, { ...second, net: '9.295' }] }, /^lines\[2\]\.net must be rounded to CHF/],
    [{ lines: [first, { ...second, unit_price: '-1' }] }, /^lines\[2\]\.unit_price must not be negative/],
    [{ lines: [first, { ...second, vat: { category: 'S', rate: '0' } }] }, /^lines\[2\]\.vat\.rate/],
    [{ lines: [first, { ...second, net: '9.30' }] }, /^vat_groups must be those of the lines/],
    [{ totals: { ...good.totals, gross: '20.07' } }, /^totals\.gross must be 20\.0/],
    [{ totals: { ...good.totals, due: '0.00' } }, /^totals\.due must be/],
    [{ totals: { ...good.totals, prepaid: '1,00' } }, /^totals\.prepaid must be a decimal number/],
    [sampleBill([first, { ...second, vat: outside }]), /needs a bill of its own/],
    [sampleBill(sampleLines(1, { category: 'AE', rate: '0' })), /the category AE needs a reason/],
    [{ seller: unregistered }, /^seller\.vat_number/],
    [{ ...sampleBill(reverse), buyer: consumer }, /^buyer\.vat_number must be present for reverse charge/],
  ] as const satisfies readonly (readonly [Partial<BillDocument>, RegExp])[])
    t.match(billProblem({ ...good, ...change }) ?? 'none', problem);
});

t.test('a long bill is summed up, and stays correct', async (t) => {
  const bill = sampleBill(sampleLines(2001));
  const short = condensed(bill);
  t.equal(billProblem(short), undefined);
  t.same(short.totals, bill.totals);
  t.same(
    short.lines.map(({ description }) => description),
    ['1001 lines of the project shop', '1000 lines of the project intranet'],
  );
  t.match(short.notes.at(-1), /The 2001 lines .* are summed up/);
  const manyProjects = sampleBill(sampleLines(2001).map((line) => ({ ...line, project: `p${line.id}` })));
  t.same(
    condensed(manyProjects).lines.map(({ description }) => description),
    ['2001 lines'],
  );
  t.equal(billProblem(condensed(manyProjects)), undefined);
  t.equal(condensed(sampleBill(sampleLines(2000))).lines.length, 2000);
  fc.assert(
    fc.property(fc.array(aLine('CHF'), { minLength: 3, maxLength: 30 }), (charged) => {
      const lines = charged.map(
        (line, index): BillLine => ({
          ...line,
          id: `${index}`,
          description: 'VM',
          project: `p${index % 3}`,
          quantity: line.net.startsWith('-') ? '-1' : '1',
          unit: { code: 'C62', label: 'pieces' },
          unit_price: line.net.replace('-', ''),
        }),
      );
      const bill = sampleBill(lines);
      const short = condensed(bill, 2);
      return billProblem(short) === undefined && JSON.stringify(short.totals) === JSON.stringify(bill.totals);
    }),
  );
});
