/** Credit notes: they give back the whole bill or amounts of its lines, and never more than the bill. */
import fc from 'fast-check';
import t from 'tap';
import { type BillDocument, billProblem } from '../../backend/model/billing/bill-document.ts';
import { type Credit, type CreditResult, creditNote } from '../../backend/model/billing/credit-note.ts';
import { amountOf, formatAmount, sum } from '../../backend/model/billing/money.ts';
import { sampleBill, sampleLines } from '../support/sample-bills.ts';

const at = Date.parse('2026-05-04T12:00:00Z');
const bill = sampleBill(sampleLines(3));
const credit = (asked?: readonly Credit[], credited = {}, of: BillDocument = bill): CreditResult =>
  creditNote({ bill: of, credited, asked, reason: 'A wrong booking.', at });
const right = (result: CreditResult) => {
  if (!result.ok) throw new Error(`${result.pointer} ${result.rule}`);
  const problem = billProblem({ number: '1', ...result.note });
  if (problem !== undefined) throw new Error(problem);
  return result;
};

t.test('the credit note of a whole bill has its lines and totals', async (t) => {
  const { note, credited } = right(credit());
  t.match(note, {
    kind: 'credit_note',
    corrects: { number: bill.number, issue_date: bill.issue_date },
    issue_date: '2026-05-04',
    due_date: '2026-05-04',
    totals: bill.totals,
    vat_groups: bill.vat_groups,
    buyer: bill.buyer,
  });
  t.equal(note.notes[0], 'A wrong booking.');
  t.strictSame(
    note.lines.map(({ net, quantity }) => [net, quantity]),
    bill.lines.map(({ net, quantity }) => [net, quantity]),
  );
  t.match(credit(undefined, credited), { ok: false, rule: /has given back|have given back/ });
});

t.test('each wrong amount has a pointer and a rule', async (t) => {
  const [first] = bill.lines;
  const net = first?.net ?? '';
  const more = formatAmount(amountOf(net) + amountOf('0.01'));
  const cases: readonly [readonly Credit[], string, RegExp][] = [
    [[{ line: '9', net: '1' }], '/lines/0/line', /there is no 9/],
    [
      [
        { line: '1', net: '0.01' },
        { line: '1', net: '0.01' },
      ],
      '/lines/1/line',
      /once/,
    ],
    [[{ line: '1', net: '0' }], '/lines/0/net', /more than 0/],
    [[{ line: '1', net: '-1' }], '/lines/0/net', /more than 0/],
    [[{ line: '1', net: '0.001' }], '/lines/0/net', /rounded to/],
    [[{ line: '1', net: more }], '/lines/0/net', new RegExp(`at most ${net.replace('.', '\\.')}`)],
  ];
  for (const [asked, pointer, rule] of cases) t.match(credit(asked), { ok: false, pointer, rule }, pointer);
  const { credited } = right(credit([{ line: '1', net: '0.01' }]));
  t.match(credit([{ line: '1', net }], credited), { ok: false, pointer: '/lines/0/net' }, 'a second time');
});

t.test('any credit notes of a bill give back its lines exactly, and no cent more', async () => {
  const parts = fc.array(
    fc.record({ line: fc.integer({ min: 1, max: 3 }), cents: fc.integer({ min: 1, max: 9_000 }) }),
  );
  fc.assert(
    fc.property(parts, (wishes) => {
      let credited = {};
      const back: bigint[] = [];
      for (const { line, cents } of wishes) {
        const result = credit([{ line: String(line), net: formatAmount(BigInt(cents) * 1_000_000n) }], credited);
        if (!result.ok) continue;
        back.push(amountOf(right(result).note.totals.net));
        credited = result.credited;
      }
      const rest = credit(undefined, credited);
      if (rest.ok) back.push(amountOf(right(rest).note.totals.net));
      return sum(back) === amountOf(bill.totals.net);
    }),
    { numRuns: 300 },
  );
});
