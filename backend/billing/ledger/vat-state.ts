/** The state of the verification of VAT numbers, from the answers in the database. */
import type { VatVerification } from '../../model/billing/vat.ts';
import { parseVatNumber, type VatNumber } from '../../model/billing/vat-numbers.ts';
import * as records from '../../model/records/index.ts';
import type { Mirror } from '../../store/mirror.ts';

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
