/**
 * A bill as a document: the input of JSON, XML and PDF. All amounts are decimal texts with at least the decimals of the
 * currency, and dates are days such as `2026-03-31`. A credit note has positive amounts, as EN 16931 demands: its kind says that
 * they go back to the customer.
 */
import { isCountry } from './country-codes.ts';
import { amountOf, formatAmount, isCurrency, multiplyToMinor, parseAmount, roundToMinor, sum } from './money.ts';
import type { VatCategory } from './vat.ts';
import { isDay, isRate } from './vat-rates.ts';

/** A legal entity or a customer, as bills name it. */
export interface BillParty {
  readonly legal_name: string;
  readonly street: string;
  readonly city: string;
  readonly postcode: string;
  readonly country: string;
  /** In capitals and without separators, as `parseVatNumber` returns it. */
  readonly vat_number?: string;
  readonly email: string;
}

/** The legal entity that issues the bill. */
export interface BillSeller extends BillParty {
  readonly phone?: string;
  readonly iban?: string;
  readonly bic?: string;
  /** The number in a register of companies. */
  readonly registration?: string;
}

/** The customer. */
export interface BillBuyer extends BillParty {
  /** The reference that the customer wants to read on its bills, such as a cost centre or a Leitweg-ID. */
  readonly reference?: string;
}

/** The VAT of a line. */
export interface BillVat {
  readonly category: VatCategory;
  /** In percent: `8.1`; `0` without VAT. */
  readonly rate: string;
  /** The legal text why there is no VAT. */
  readonly reason?: string;
}

/** A line of a bill. */
export interface BillLine {
  readonly id: string;
  readonly description: string;
  readonly project?: string;
  /** Negative for a reduction. */
  readonly quantity: string;
  /** The code of UN/ECE recommendation 20, such as `HUR`, and the word that people read, such as `hours`. */
  readonly unit: { readonly code: string; readonly label: string };
  /** Never negative. */
  readonly unit_price: string;
  /** The amount without VAT, rounded to the decimals of the currency. */
  readonly net: string;
  readonly vat: BillVat;
}

/** The VAT of all lines with one category and rate. */
export interface VatGroup {
  readonly category: VatCategory;
  readonly rate: string;
  readonly base: string;
  readonly amount: string;
  readonly reason?: string;
}

/** The totals of a bill. */
export interface BillTotals {
  readonly net: string;
  readonly vat: string;
  readonly gross: string;
  readonly prepaid?: string;
  readonly due: string;
}

/** A bill or a credit note. */
export interface BillDocument {
  readonly number: string;
  readonly kind: 'bill' | 'credit_note';
  /** The bill that a credit note corrects. */
  readonly corrects?: { readonly number: string; readonly issue_date: string };
  readonly issue_date: string;
  readonly due_date: string;
  /** The first and the last day of the period. */
  readonly period: { readonly from: string; readonly to: string };
  readonly currency: string;
  readonly seller: BillSeller;
  readonly buyer: BillBuyer;
  readonly lines: readonly BillLine[];
  readonly vat_groups: readonly VatGroup[];
  readonly totals: BillTotals;
  readonly notes: readonly string[];
}

/** The parts of a line that determine the totals. */
export type ChargedLine = Pick<BillLine, 'net' | 'vat'>;

/** The computed parts of a bill. */
export type ComputedTotals = Pick<BillDocument, 'vat_groups' | 'totals'>;

const wholeInPercent = amountOf('100');

/**
 * Returns VAT groups and totals. The VAT of a group is the rate of the sum of its lines, rounded once, half up. All other totals
 * are exact sums, so they satisfy the rules BR-CO-10 to BR-CO-17 of EN 16931.
 * @param prepaid what the customer has paid already
 * @throws RangeError for an unknown currency, a line with more decimals than the currency, or no rate
 */
export function totalsOf(lines: readonly ChargedLine[], currency: string, prepaid?: string): ComputedTotals {
  const groups = new Map<string, { vat: BillVat; base: bigint; reasons: Set<string> }>();
  for (const { net, vat } of lines) {
    const amount = amountOf(net);
    if (roundToMinor(amount, currency) !== amount)
      throw new RangeError(`the net amount ${net} of a line is not rounded`);
    if (!isRate(vat.rate)) throw new RangeError(`${vat.rate} is no rate in percent`);
    const key = `${vat.category} ${vat.rate}`;
    const group = groups.get(key) ?? { vat, base: 0n, reasons: new Set() };
    groups.set(key, group);
    group.base += amount;
    if (vat.reason !== undefined) group.reasons.add(vat.reason);
  }
  const taxed = [...groups.entries()]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, { vat, base, reasons }]) => ({ vat, base, reasons, amount: vatOf(base, vat.rate, currency) }));
  const [net, vat] = [sum(taxed.map(({ base }) => base)), sum(taxed.map(({ amount }) => amount))];
  const gross = net + vat;
  const text = (amount: bigint) => formatAmount(amount, currency);
  return {
    vat_groups: taxed.map(({ vat, base, reasons, amount }) => ({
      category: vat.category,
      rate: vat.rate,
      base: text(base),
      amount: text(amount),
      ...(reasons.size > 0 && { reason: [...reasons].sort().join(' ') }),
    })),
    totals: {
      net: text(net),
      vat: text(vat),
      gross: text(gross),
      ...(prepaid !== undefined && { prepaid: text(amountOf(prepaid)) }),
      due: text(gross - (prepaid === undefined ? 0n : amountOf(prepaid))),
    },
  };
}

function vatOf(base: bigint, rate: string, currency: string): bigint {
  return multiplyToMinor(base, { numerator: amountOf(rate), denominator: wholeInPercent }, currency);
}

/** Codes of the reasons for no VAT, by category. */
export const reasonCodes: Readonly<Record<VatCategory, string | undefined>> = {
  S: undefined,
  AE: 'VATEX-EU-AE',
  O: 'VATEX-EU-O',
  G: 'VATEX-EU-G',
};

/**
 * Returns why the document is no correct bill, with the name of the field; undefined for a correct one. Renderers ask it, so
 * that no document with wrong totals leaves the house.
 */
export function billProblem(bill: BillDocument): string | undefined {
  const days = {
    issue_date: bill.issue_date,
    due_date: bill.due_date,
    'period.from': bill.period.from,
    'period.to': bill.period.to,
  };
  for (const [field, day] of Object.entries(days)) if (!isDay(day)) return `${field} must be a day such as 2026-03-31`;
  if (bill.number.trim() === '') return 'number must not be empty';
  if (bill.period.from > bill.period.to) return 'period.to must not be before period.from';
  if (!isCurrency(bill.currency)) return 'currency must be a code of ISO 4217 such as CHF';
  if ((bill.kind === 'credit_note') !== (bill.corrects !== undefined))
    return 'corrects must name the bill of a credit note, and only of a credit note';
  if (bill.corrects !== undefined && !isDay(bill.corrects.issue_date)) return 'corrects.issue_date must be a day';
  return (
    partyProblem('seller', bill.seller) ?? partyProblem('buyer', bill.buyer) ?? amountsProblem(bill) ?? vatProblem(bill)
  );
}

function partyProblem(field: string, party: BillParty): string | undefined {
  for (const name of ['legal_name', 'street', 'city', 'postcode', 'email'] as const)
    if (party[name].trim() === '') return `${field}.${name} must not be empty`;
  return isCountry(party.country) ? undefined : `${field}.country must be a code of ISO 3166-1 such as CH`;
}

function amountsProblem({ lines, currency, totals, vat_groups }: BillDocument): string | undefined {
  if (lines.length === 0) return 'lines must not be empty';
  const ids = new Set<string>();
  for (const { id, quantity, unit_price, net, description } of lines) {
    if (ids.has(id)) return `lines: the id ${id} occurs twice`;
    ids.add(id);
    if (description.trim() === '') return `lines[${id}].description must not be empty`;
    for (const [field, text] of Object.entries({ quantity, unit_price, net })) {
      const parsed = parseAmount(text);
      if (!parsed.ok) return `lines[${id}].${field} ${parsed.problem}`;
    }
    if (amountOf(unit_price) < 0n)
      return `lines[${id}].unit_price must not be negative; a reduction has a negative quantity`;
    if (roundToMinor(amountOf(net), currency) !== amountOf(net))
      return `lines[${id}].net must be rounded to ${currency}`;
  }
  for (const { id, vat } of lines)
    if (!isRate(vat.rate) || (vat.category === 'S') === (vat.rate === '0'))
      return `lines[${id}].vat.rate must be percent above 0 for the category S, and 0 for all others`;
  const prepaid = totals.prepaid === undefined ? undefined : parseAmount(totals.prepaid);
  if (prepaid?.ok === false) return `totals.prepaid ${prepaid.problem}`;
  const right = totalsOf(lines, currency, totals.prepaid);
  if (JSON.stringify(right.vat_groups) !== JSON.stringify(vat_groups.map(inOrder)))
    return 'vat_groups must be those of the lines';
  for (const name of ['net', 'vat', 'gross', 'due'] as const)
    if (right.totals[name] !== totals[name]) return `totals.${name} must be ${right.totals[name]}`;
  return undefined;
}

/** Returns the group with its fields in the order of `totalsOf`. A store may keep another order. */
const inOrder = ({ category, rate, base, amount, reason }: VatGroup) => ({
  category,
  rate,
  base,
  amount,
  ...(reason !== undefined && { reason }),
});

function vatProblem({ vat_groups, seller, buyer }: BillDocument): string | undefined {
  const has = (category: VatCategory) => vat_groups.some((group) => group.category === category);
  if (has('O') && vat_groups.length > 1) return 'vat_groups: what is outside the scope of VAT needs a bill of its own';
  for (const { category, reason } of vat_groups)
    if ((category === 'S') === (reason !== undefined))
      return `vat_groups: the category ${category} ${reason === undefined ? 'needs a' : 'has no'} reason`;
  if (!has('O') && seller.vat_number === undefined) return 'seller.vat_number must be present on a bill with VAT';
  if (has('O') && seller.vat_number === undefined && seller.registration === undefined)
    return 'seller.registration or seller.vat_number must be present';
  if (has('AE') && buyer.vat_number === undefined) return 'buyer.vat_number must be present for reverse charge';
  return undefined;
}

/** The maximum number of lines in XML and PDF. */
export const maxDocumentLines = 2000;

/**
 * Returns a document with at most `maxDocumentLines` lines. A longer one gets one line for each project and VAT, or for each
 * VAT if there are too many projects. Sums stay the same.
 */
export function condensed(bill: BillDocument, maxLines: number = maxDocumentLines): BillDocument {
  if (bill.lines.length <= maxLines) return bill;
  const byProject = summed(bill, ({ project }) => project);
  const lines = byProject.length <= maxLines ? byProject : summed(bill, () => undefined);
  const note = `The ${bill.lines.length} lines of this document are summed up.`;
  return { ...bill, lines, notes: [...bill.notes, note] };
}

function summed({ lines, currency }: BillDocument, projectOf: (line: BillLine) => string | undefined): BillLine[] {
  const groups = new Map<string, { first: BillLine; project: string | undefined; net: bigint; count: number }>();
  for (const line of lines) {
    const project = projectOf(line);
    const { category, rate, reason } = line.vat;
    const key = JSON.stringify([project, category, rate, reason]);
    const group = groups.get(key) ?? { first: line, project, net: 0n, count: 0 };
    groups.set(key, group);
    group.net += amountOf(line.net);
    group.count++;
  }
  return [...groups.values()].map(({ first, project, net, count }, index) => ({
    id: `${index + 1}`,
    description:
      count === 1 ? first.description : `${count} lines${project === undefined ? '' : ` of the project ${project}`}`,
    ...(project !== undefined && { project }),
    quantity: net < 0n ? '-1' : '1',
    unit: { code: 'C62', label: 'sum' },
    unit_price: formatAmount(net < 0n ? -net : net, currency),
    net: formatAmount(net, currency),
    vat: first.vat,
  }));
}
