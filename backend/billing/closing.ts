/**
 * The closing of months. The leader makes the final bills of months that have ended. A bill, its number and the mark of the month
 * are one commit, so a closing may be interrupted and repeated at any point: numbers have neither gaps nor duplicates.
 */
import { previewBill } from '../model/billing/bill-preview.ts';
import { billText, mailRecord } from '../model/billing/mail-texts.ts';
import { monthsBetween, monthText, parseMonth } from '../model/billing/months.ts';
import type { Month } from '../model/billing/rating.ts';
import type { Logger } from '../model/component.ts';
import * as records from '../model/records/index.ts';
import { absent, put, read, unchanged } from '../store/collection.ts';
import type { MirrorIndex } from '../store/mirror.ts';
import type { Stored } from '../store/record-kind.ts';
import type { Condition } from '../store/store.ts';
import { accountBalance } from './ledger/account-balance.ts';
import { accountLines, type Ledger, paidProjects } from './ledger/account-bill.ts';
import { finalBill } from './ledger/final-bill.ts';
import { vatCheckOf, vatRatesOf, verificationOf } from './ledger/vat-state.ts';
import { queued } from './mail/outbox.ts';

/** The outcome for one month of an account. */
export type ClosingResult =
  | { readonly outcome: 'closed' | 'already' | 'conflict' }
  | { readonly outcome: 'waits'; readonly why: string };

/** The parts of a closing. */
export interface ClosingParts extends Ledger {
  readonly logger: Logger;
  /** The conditions of each commit of the leader. */
  readonly holds: readonly Condition[];
  readonly now: () => Date;
  /** The bills and the payments by their account. */
  readonly bills: MirrorIndex<records.BillRecord>;
  readonly payments: MirrorIndex<records.PaymentRecord>;
  /** A mail server is set. */
  readonly sendsMails?: boolean;
}

/** Returns the ended months of an account that are not closed yet, the oldest first. */
export function openMonths({ mirror, now }: ClosingParts, account: string, graceMs: number): Month[] {
  const until = now().getTime() - graceMs;
  const first = paidProjects(mirror, account, { from: 0, to: until })
    .flatMap(({ paid }) => paid.map(({ from }) => from))
    .toSorted((a, b) => a - b)[0];
  if (first === undefined) return [];
  return monthsBetween(first, until).flatMap((text) => {
    const month = parseMonth(text);
    const isOpen = month !== undefined && month.to <= until && !mirror.get(records.closedMonths, `${account}/${text}`);
    return isOpen ? [month] : [];
  });
}

/** Milliseconds in which the mirror must show the database. */
const catchUpMs = 10_000;

/** Closes a month of an account. @throws CompactedError, UcloudError `store_unavailable` */
export async function closeMonth(
  parts: ClosingParts,
  stored: Stored<records.BillingAccountRecord>,
  month: Month,
): Promise<ClosingResult> {
  const { store, mirror, logger, holds, now } = parts;
  const account = stored.value;
  const isPrepaid = account.payment === 'prepaid';
  // The bill of the month before has spent money, and the mirror may lack it.
  if (isPrepaid && !(await mirror.catchUp({ timeoutMs: catchUpMs }))) return { outcome: 'conflict' };
  const entity = mirror.get(records.legalEntities, account.legal_entity);
  if (!entity) return { outcome: 'waits', why: 'its legal entity is missing' };
  const text = monthText(month.from);
  const closedKey = `${account.id}/${text}`;
  if (await read(store, records.closedMonths, closedKey)) return { outcome: 'already' };
  // The guard is that of the revision at which the lines are read.
  const guard = mirror.get(records.billGuards, account.id);
  const lines = await accountLines(parts, account, month, month, now().getTime());
  const at = now();
  const common = [
    ...holds,
    absent(records.closedMonths, closedKey),
    unchanged(stored),
    guard ? unchanged(guard) : absent(records.billGuards, account.id),
  ];
  if (lines.length === 0) {
    const write = [put(records.closedMonths, closedKey, { at: at.toISOString() })];
    return { outcome: (await store.commit({ require: common, write })).ok ? 'closed' : 'conflict' };
  }
  const vatCheck = vatCheckOf(mirror, account);
  const preview = previewBill({
    ...{ account, entity: entity.value, lines, month, at: at.getTime(), rates: vatRatesOf(mirror) },
    verification: verificationOf(mirror, account),
    ...(isPrepaid && {
      money: accountBalance(parts.bills.list(account.id), parts.payments.list(account.id), at).balance,
    }),
  });
  if (!preview.ok) {
    logger.warn({ account: account.id, month: text, why: preview.waits }, 'a bill waits');
    return { outcome: 'waits', why: preview.waits };
  }
  const final = await finalBill(store, {
    ...{ bill: preview.bill, account, entity, month: text, at },
    ...(vatCheck && { vatCheck }),
  });
  const { id } = final.record;
  const mail = await queued(
    parts,
    `bill/${id}`,
    mailRecord({ account, entity: entity.value }, billText(final.record, preview.bill.totals), at.toISOString(), id),
  );
  const { ok } = await store.commit({
    require: [...common, ...final.require, ...mail.require],
    write: [...final.write, put(records.closedMonths, closedKey, { bill: id, at: at.toISOString() }), ...mail.write],
  });
  return { outcome: ok ? 'closed' : 'conflict' };
}
