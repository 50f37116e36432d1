/** The choices of EN 16931 that both syntaxes, UBL and CII, share. */
import {
  type BillDocument,
  type BillVat,
  billProblem,
  condensed,
  reasonCodes,
} from '../../model/billing/bill-document.ts';

/** The identifier of EN 16931 without additional rules. */
export const plainProfile = 'urn:cen.eu:en16931:2017';
/** The identifier of XRechnung. */
export const xrechnungProfile = `${plainProfile}#compliant#urn:xeinkauf.de:kosit:xrechnung_3.0`;

/**
 * Returns the document as it is rendered: with a bounded number of lines.
 * @throws RangeError for a document that is no correct bill
 */
export function renderable(bill: BillDocument): BillDocument {
  const problem = billProblem(bill);
  if (problem !== undefined) throw new RangeError(`${bill.number} is no correct bill: ${problem}`);
  return condensed(bill);
}

/** The code of UNTDID 1001: commercial invoice, credit note. */
export const typeCode = ({ kind }: BillDocument): string => (kind === 'bill' ? '380' : '381');

/** Says whether the bill is outside the scope of VAT. Such a bill must not contain VAT numbers (BR-O-02). */
export const isOutsideScope = ({ vat_groups }: BillDocument): boolean =>
  vat_groups.some(({ category }) => category === 'O');

/** The rate of a line; outside the scope it has none (BR-O-05). Its VAT group has the rate 0 (BR-DE-14). */
export const percentOf = ({ category, rate }: BillVat): string | undefined => (category === 'O' ? undefined : rate);

/** The code of the reason for no VAT. */
export const reasonCodeOf = ({ category }: BillVat): string | undefined => reasonCodes[category];

/** The code of UNTDID 4461: SEPA credit transfer, credit transfer, or not defined without an account. */
export const paymentCode = ({ seller, currency }: BillDocument): string =>
  seller.iban === undefined ? '1' : currency === 'EUR' ? '58' : '30';

/** The identifier of the seller where its VAT number must not stand. */
export const registrationOf = (bill: BillDocument): string | undefined =>
  bill.seller.registration ?? (isOutsideScope(bill) ? bill.seller.vat_number : undefined);

/** The reference of the buyer. XRechnung demands one, so the number of the bill stands in. */
export const referenceOf = ({ buyer, number }: BillDocument): string => buyer.reference ?? number;

/** Says whether the bill has the facts that XRechnung demands beyond EN 16931. */
export const isXrechnung = ({ seller }: BillDocument): boolean => seller.phone !== undefined;

/** Tells whether the customer has nothing to pay. */
export const isPaid = ({ totals }: BillDocument): boolean => /^-|^0+(\.0+)?$/.test(totals.due);

/** The line in which people read when and how to pay. */
export const paymentTerms = (bill: BillDocument): string => {
  const { kind, due_date } = bill;
  if (kind === 'credit_note') return 'The amount is credited to your account.';
  return isPaid(bill) ? 'Nothing is to be paid.' : `Payable without deduction until ${due_date}.`;
};

/** The name and the details of a line. A project is part of the details. */
export const lineNote = ({ project }: { readonly project?: string }): string | undefined =>
  project === undefined ? undefined : `Project ${project}`;
