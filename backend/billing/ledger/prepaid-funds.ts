/** The money of prepaid accounts, from the records. The API and the billing component compute it in the same way. */
import type { Balance } from '../../model/billing/balance.ts';
import { previewBill } from '../../model/billing/bill-preview.ts';
import { amountOf, sum } from '../../model/billing/money.ts';
import { monthsBetween, parseMonth } from '../../model/billing/months.ts';
import * as records from '../../model/records/index.ts';
import { accountLines, type Ledger, paidProjects } from './account-bill.ts';
import { vatRatesOf, verificationOf } from './vat-state.ts';

/** The money of an account. */
export interface PrepaidFunds {
  /** The balance minus the preliminary bills of all open months, with VAT as far as it is known. */
  readonly available: bigint;
  /** The VAT in these bills as a ratio: `gross` / `net`. Equal if there is no bill, or the VAT is not known. */
  readonly net: bigint;
  readonly gross: bigint;
}

/**
 * Returns the money of an account. The balance must be of the present revision of the mirror. @throws CompactedError, UcloudError `store_unavailable`
 */
export async function prepaidFunds(
  ledger: Ledger,
  account: records.BillingAccountRecord,
  { balance }: Pick<Balance, 'balance'>,
  now: number,
): Promise<PrepaidFunds> {
  const { mirror } = ledger;
  const entity = mirror.get(records.legalEntities, account.legal_entity)?.value;
  const [first] = paidProjects(mirror, account.id, { from: 0, to: now })
    .flatMap(({ paid }) => paid.map(({ from }) => from))
    .toSorted((a, b) => a - b);
  // The balance and the open months show one revision of the mirror. So a bill that is made meanwhile does not count as both.
  const open = (first === undefined ? [] : monthsBetween(first, now)).flatMap((text) => {
    const month = parseMonth(text);
    return month && !mirror.get(records.closedMonths, `${account.id}/${text}`) ? [month] : [];
  });
  let [net, gross] = [0n, 0n];
  for (const month of open) {
    const period = { from: month.from, to: Math.min(month.to, now) };
    const lines = await accountLines(ledger, account, month, period, now);
    if (lines.length === 0) continue;
    const before = sum(lines.map((line) => amountOf(line.net)));
    const preview =
      entity &&
      previewBill({
        ...{ account, entity, lines, month, at: period.to, rates: vatRatesOf(mirror) },
        verification: verificationOf(mirror, account),
      });
    net += before;
    gross += preview?.ok ? amountOf(preview.bill.totals.gross) : before;
  }
  return { available: balance - gross, net, gross };
}
