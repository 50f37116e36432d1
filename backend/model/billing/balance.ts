/**
 * The balance of an account: payments against bills. Pure. The result depends on the sums only, never on the order in which
 * payments arrive, so a refund may be recorded before its receipt.
 */
import type { PaymentKind } from '../../contract/resources/payments.ts';
import { type Amount, sum } from './money.ts';

/** The sum of a final bill. */
export interface BilledSum {
  readonly id: string;
  readonly number: string;
  /** The days on which the bill was issued, and until which it must be paid. */
  readonly issue_date: string;
  readonly due_date: string;
  /** The amount with VAT. Negative if the operator owes it to the customer. */
  readonly gross: Amount;
  /** The bill that a credit note corrects. */
  readonly corrects?: string | undefined;
}

/** A payment, whose amount is never negative. */
export interface PaidSum {
  readonly kind: PaymentKind;
  readonly amount: Amount;
  /** The bill that the payment pays first. */
  readonly bill?: string | undefined;
}

/** A bill with the part that is not paid. */
export interface OpenBill<B extends BilledSum = BilledSum> {
  readonly bill: B;
  /** More than zero, and at most the amount of the bill. */
  readonly open: Amount;
  readonly isOverdue: boolean;
}

/** The balance of an account. `balance` is `received` − `refunded` − `billed`, and also `credit` − the sum of all `open`. */
export interface Balance<B extends BilledSum = BilledSum> {
  readonly received: Amount;
  readonly refunded: Amount;
  /** The bills minus the credit notes. */
  readonly billed: Amount;
  /** Negative if the customer owes money. */
  readonly balance: Amount;
  /** Payments that no bill needs. Negative if more went back to the customer than ever came. */
  readonly credit: Amount;
  /** The oldest first. */
  readonly open: readonly OpenBill<B>[];
  readonly overdue: Amount;
}

const least = (a: Amount, b: Amount): Amount => (a < b ? a : b);
const isOlder = (a: BilledSum, b: BilledSum): number =>
  a.issue_date === b.issue_date ? (a.number < b.number ? -1 : 1) : a.issue_date < b.issue_date ? -1 : 1;

/**
 * Returns the balance of an account on a day such as `2026-03-31`. A payment pays the bill that it names, and the rest of all
 * payments pays the oldest bills. A refund takes back in the reverse order: from the bill that it names, then from the rest, then
 * from the newest bills. A credit note is a payment for the bill that it corrects.
 */
export function balanceOf<B extends BilledSum>(
  bills: readonly B[],
  payments: readonly PaidSum[],
  day: string,
): Balance<B> {
  const owed = bills.filter(({ gross }) => gross > 0n).toSorted(isOlder);
  const known = new Set(owed.map(({ id }) => id));
  const named = new Map<string, Amount>();
  let rest = 0n;
  const count = (amount: Amount, bill: string | undefined) => {
    if (bill !== undefined && known.has(bill)) named.set(bill, (named.get(bill) ?? 0n) + amount);
    else rest += amount;
  };
  for (const { kind, amount, bill } of payments) count(kind === 'received' ? amount : -amount, bill);
  for (const { gross, corrects } of bills) if (gross <= 0n) count(-gross, corrects);

  const paid = new Map<string, Amount>();
  for (const { id, gross } of owed) {
    const own = named.get(id) ?? 0n;
    const used = least(own < 0n ? 0n : own, gross);
    paid.set(id, used);
    // More than the bill needs pays others. Less than nothing is taken from others.
    rest += own - used;
  }
  for (const { id, gross } of owed) {
    if (rest <= 0n) break;
    const used = least(rest, gross - (paid.get(id) ?? 0n));
    paid.set(id, (paid.get(id) ?? 0n) + used);
    rest -= used;
  }
  for (const { id } of owed.toReversed()) {
    if (rest >= 0n) break;
    const back = least(-rest, paid.get(id) ?? 0n);
    paid.set(id, (paid.get(id) ?? 0n) - back);
    rest += back;
  }

  const open = owed.flatMap((bill): OpenBill<B>[] => {
    const left = bill.gross - (paid.get(bill.id) ?? 0n);
    return left === 0n ? [] : [{ bill, open: left, isOverdue: bill.due_date < day }];
  });
  const total = (of: PaymentKind) => sum(payments.filter(({ kind }) => kind === of).map(({ amount }) => amount));
  const [received, refunded, billed] = [total('received'), total('refunded'), sum(bills.map(({ gross }) => gross))];
  return {
    ...{ received, refunded, billed, balance: received - refunded - billed, credit: rest, open },
    overdue: sum(open.filter(({ isOverdue }) => isOverdue).map((each) => each.open)),
  };
}
