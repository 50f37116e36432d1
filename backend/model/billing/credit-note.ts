/** Credit notes: a part of a bill, or all of it, goes back to the customer. Pure. */
import { type BillDocument, type BillLine, billProblem, totalsOf } from './bill-document.ts';
import { amountOf, formatAmount, roundToMinor, sum } from './money.ts';
import { dayText } from './months.ts';

/** An amount before VAT that goes back, of a line of the bill. */
export interface Credit {
  readonly line: string;
  readonly net: string;
}

/** The amounts that credit notes have given back already, by the id of the line. */
export type Credited = Readonly<Record<string, string>>;

/** The facts of a credit note. */
export interface CreditFacts {
  readonly bill: BillDocument;
  readonly credited: Credited;
  /** Undefined: all that is left of the bill. */
  readonly asked: readonly Credit[] | undefined;
  /** The reason, which the credit note shows. */
  readonly reason: string;
  /** The instant of the credit note, in milliseconds since 1970. */
  readonly at: number;
}

/** A credit note without its number, with all credited amounts of the bill; or the field and the rule of a problem. */
export type CreditResult =
  | { readonly ok: true; readonly note: Omit<BillDocument, 'number'>; readonly credited: Credited }
  | { readonly ok: false; readonly pointer: string; readonly rule: string };

const problem = (pointer: string, rule: string): CreditResult => ({ ok: false, pointer, rule });

const restOf = (line: BillLine, credited: Credited): bigint => amountOf(line.net) - amountOf(credited[line.id] ?? '0');

/** Returns the line of the credit note. A part of a line has the quantity 1, because its quantity is not known. */
function creditLine(line: BillLine, net: bigint, index: number, currency: string): BillLine {
  const id = String(index + 1);
  if (net === amountOf(line.net)) return { ...line, id };
  return {
    ...line,
    id,
    description: `${line.description} (part)`,
    quantity: net < 0n ? '-1' : '1',
    unit: { code: 'C62', label: 'lump sum' },
    unit_price: formatAmount(net < 0n ? -net : net, currency),
    net: formatAmount(net, currency),
  };
}

/** Checks the amounts that are asked for. Returns them by the id of the line, or the problem. */
function checkAsked({ bill, credited, asked = [] }: CreditFacts): Map<string, bigint> | CreditResult {
  const amounts = new Map<string, bigint>();
  for (const [index, { line: id, net: text }] of asked.entries()) {
    const at = `/lines/${index}`;
    const line = bill.lines.find((each) => each.id === id);
    if (!line) return problem(`${at}/line`, `must be the id of a line of the bill: there is no ${id}`);
    if (amounts.has(id)) return problem(`${at}/line`, 'must occur once');
    const net = amountOf(text);
    const rest = restOf(line, credited);
    if (net <= 0n) return problem(`${at}/net`, 'must be more than 0');
    if (roundToMinor(net, bill.currency) !== net) return problem(`${at}/net`, `must be rounded to ${bill.currency}`);
    if (net > rest) {
      const left = formatAmount(rest < 0n ? 0n : rest, bill.currency);
      return problem(`${at}/net`, `must be at most ${left}, which is left of the line`);
    }
    amounts.set(id, net);
  }
  return amounts;
}

/** Returns the credit note of a bill. Its amounts are positive (EN 16931, document type 381). */
export function creditNote(facts: CreditFacts): CreditResult {
  const { bill, credited, asked, reason, at } = facts;
  const { currency } = bill;
  const amounts = asked === undefined ? undefined : checkAsked(facts);
  if (amounts !== undefined && !(amounts instanceof Map)) return amounts;
  const parts = bill.lines.flatMap((line) => {
    const net = amounts === undefined ? restOf(line, credited) : (amounts.get(line.id) ?? 0n);
    return net === 0n ? [] : [{ line, net }];
  });
  if (parts.length === 0) return problem('', 'credits nothing: credit notes have given back the whole bill already');
  if (sum(parts.map(({ net }) => net)) <= 0n) return problem('', 'must credit more than 0');
  const lines = parts.map(({ line, net }, index) => creditLine(line, net, index, currency));
  const day = dayText(at);
  const note: Omit<BillDocument, 'number'> = {
    ...bill,
    kind: 'credit_note',
    corrects: { number: bill.number, issue_date: bill.issue_date },
    issue_date: day,
    due_date: day,
    lines,
    ...totalsOf(lines, currency),
    notes: [reason, ...new Set(lines.flatMap(({ vat }) => (vat.reason === undefined ? [] : [vat.reason])))],
  };
  const wrong = billProblem({ ...note, number: '-' });
  if (wrong !== undefined) return problem('', `gives no correct credit note: ${wrong}`);
  const after = { ...credited };
  for (const { line, net } of parts) after[line.id] = formatAmount(amountOf(after[line.id] ?? '0') + net, currency);
  return { ok: true, note, credited: after };
}
