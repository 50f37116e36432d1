/** The bill of an account as a document, as far as its facts permit it. Pure. */
import type { BillingAccountRecord, LegalEntityRecord } from '../records/index.ts';
import type { BillDocument, BillLine, BillParty, BillSeller, ComputedTotals } from './bill-document.ts';
import { billProblem, totalsOf } from './bill-document.ts';
import type { NetLine } from './bills.ts';
import { type Amount, amountOf, formatAmount } from './money.ts';
import { dayText } from './months.ts';
import type { Month } from './rating.ts';
import { type VatTreatment, type VatVerification, vatTreatment } from './vat.ts';
import { decidedVat } from './vat-decision.ts';
import { parseVatNumber } from './vat-numbers.ts';
import type { VatRate } from './vat-rates.ts';

type Party = Pick<LegalEntityRecord, 'legal_name' | 'address' | 'vat_number' | 'email'>;

const vatNumberOf = ({ vat_number }: Party) => {
  const parsed = vat_number === undefined ? undefined : parseVatNumber(vat_number);
  return parsed?.ok ? parsed.number : undefined;
};

function partyOf(record: Party): BillParty {
  const { legal_name, address, email } = record;
  const { street, city, postcode, country } = address;
  const number = vatNumberOf(record);
  return { legal_name, street, city, postcode, country, email, ...(number && { vat_number: number.text }) };
}

function sellerOf(entity: LegalEntityRecord): BillSeller {
  const { phone, iban, bic, registration } = entity;
  return {
    ...partyOf(entity),
    ...(phone !== undefined && { phone }),
    ...(iban !== undefined && { iban: iban.replaceAll(' ', '') }),
    ...(bic !== undefined && { bic }),
    ...(registration !== undefined && { registration }),
  };
}

/** The facts of a bill beside its lines. */
export interface PreviewFacts {
  readonly account: BillingAccountRecord;
  readonly entity: LegalEntityRecord;
  readonly lines: readonly NetLine[];
  readonly month: Month;
  /** The instant of the bill, in milliseconds since 1970. */
  readonly at: number;
  readonly rates: readonly VatRate[];
  /** The state of the verification of the customer's VAT number. */
  readonly verification: VatVerification;
  /** The money of a prepaid account that can pay the bill. Default: none. */
  readonly money?: Amount;
}

/** Returns the VAT of the bill, or why it is not known yet. */
export function vatOfBill({ account, entity, month, rates, verification }: PreviewFacts): VatTreatment {
  const number = vatNumberOf(account);
  const { country, postcode } = account.address;
  return vatTreatment({
    issuer: { country: entity.address.country, oss: entity.oss ?? false },
    customer: {
      ...{ country, postcode, kind: account.customer_kind },
      ...(number && { vat_number: { country: number.country, verification: verification } }),
      ...(account.vat_decision && { decision: decidedVat(account.vat_decision) }),
    },
    day: dayText(month.to - 1),
    rates,
  });
}

/** Returns the totals. The money pays the bill as far as it lasts. */
function paidTotals(lines: readonly BillLine[], currency: string, money: Amount): ComputedTotals {
  const unpaid = totalsOf(lines, currency);
  const gross = amountOf(unpaid.totals.gross);
  const paid = money < gross ? money : gross;
  return paid > 0n ? totalsOf(lines, currency, formatAmount(paid, currency)) : unpaid;
}

/** A bill without its number, or the reason why it waits. */
export type BillPreview =
  | { readonly ok: true; readonly bill: Omit<BillDocument, 'number'> }
  | { readonly ok: false; readonly waits: string };

/** Returns the bill. It needs at least one line. */
export function previewBill(facts: PreviewFacts): BillPreview {
  const { account, entity, lines, month, at, money = 0n } = facts;
  const vat = vatOfBill(facts);
  if ('waits' in vat) return { ok: false, waits: vat.waits };
  const { category, rate, reason } = vat;
  const taxed: BillLine[] = lines.map((line) => ({
    ...line,
    vat: { category, rate, ...(reason !== undefined && { reason }) },
  }));
  const issue_date = dayText(at);
  const bill: Omit<BillDocument, 'number'> = {
    kind: 'bill',
    issue_date,
    due_date: dayText(at + account.payment_days * 24 * 3_600_000),
    period: { from: dayText(month.from), to: dayText(month.to - 1) },
    currency: account.currency,
    seller: sellerOf(entity),
    buyer: { ...partyOf(account), ...(account.reference !== undefined && { reference: account.reference }) },
    lines: taxed,
    ...paidTotals(taxed, account.currency, money),
    notes: reason === undefined ? [] : [reason],
  };
  // The number comes with the commit of the bill. Any other text stands for it here.
  const problem = lines.length === 0 ? undefined : billProblem({ number: '-', ...bill });
  return problem === undefined ? { ok: true, bill } : { ok: false, waits: problem };
}
