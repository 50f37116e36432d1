/** The balance of an account, from the records. The API and the billing component compute it in the same way. */
import { type Balance, type BilledSum, balanceOf } from '../../model/billing/balance.ts';
import { amountOf } from '../../model/billing/money.ts';
import { dayText } from '../../model/billing/months.ts';
import type * as records from '../../model/records/index.ts';
import type { Stored } from '../../store/record-kind.ts';

/** Returns the sum of a bill. Credit notes have positive amounts, which count the other way. */
const billedSum = ({ id, kind, corrects, number, issue_date, due_date, gross }: records.BillRecord): BilledSum => ({
  ...{ id, number, issue_date, due_date, corrects },
  gross: kind === 'credit_note' ? -amountOf(gross) : amountOf(gross),
});

/** Returns the balance of an account, from its bills and payments. */
export const accountBalance = (
  bills: Iterable<Stored<records.BillRecord>>,
  payments: Iterable<Stored<records.PaymentRecord>>,
  now: Date,
): Balance =>
  balanceOf(
    [...bills].map(({ value }) => billedSum(value)),
    [...payments].map(({ value: { kind, amount, bill } }) => ({ kind, amount: amountOf(amount), bill })),
    dayText(now.getTime()),
  );
