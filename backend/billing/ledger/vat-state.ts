/** The facts of VAT in the database: the rates of operators, and the answers about VAT numbers. */
import type { VatVerification } from '../../model/billing/vat.ts';
import { parseVatNumber, type VatNumber } from '../../model/billing/vat-numbers.ts';
import { knownVatRates, type VatRate } from '../../model/billing/vat-rates.ts';
import * as records from '../../model/records/index.ts';
import type { Mirror } from '../../store/mirror.ts';

/** Returns the rates of VAT: those that ucloud knows, then those of operators, which precede known ones of the same day. */
export const vatRatesOf = (mirror: Mirror): readonly VatRate[] => [
  ...knownVatRates,
  ...[...mirror.list(records.vatRates)].map(({ value }) => value),
];

/** Returns the number of an account that VIES knows; undefined if it has none. */
export function viesNumber({ vat_number }: Pick<records.BillingAccountRecord, 'vat_number'>): VatNumber | undefined {
  const parsed = vat_number === undefined ? undefined : parseVatNumber(vat_number);
  return parsed?.ok && parsed.number.inVies ? parsed.number : undefined;
}

/** Returns the state of the verification of the number of an account. Without an answer, it is not verified. */
export function verificationOf(mirror: Mirror, account: records.BillingAccountRecord): VatVerification {
  const number = viesNumber(account);
  const answer = number === undefined ? undefined : mirror.get(records.vatChecks, number.text)?.value.answer;
  return answer === 'valid' || answer === 'invalid' ? answer : 'pending';
}

/** Returns the last answer about the number of an account, as bills keep it. */
export function vatCheckOf(
  mirror: Mirror,
  account: records.BillingAccountRecord,
): records.BillRecord['vat_check'] | undefined {
  const number = viesNumber(account);
  const check = number === undefined ? undefined : mirror.get(records.vatChecks, number.text)?.value;
  if (number === undefined || check === undefined) return undefined;
  const { answer, at, consultation_number } = check;
  return { vat_number: number.text, answer, at, ...(consultation_number !== undefined && { consultation_number }) };
}
