/**
 * The dunning of overdue bills. A bill reaches a level in one commit with its event and its e-mail, so no level happens twice,
 * whichever process is killed when.
 */
import { setImmediate } from 'node:timers/promises';
import type { BilledSum, OpenBill } from '../model/billing/balance.ts';
import { nextLevel } from '../model/billing/dunning.ts';
import { dunningText, mailRecord } from '../model/billing/mail-texts.ts';
import { formatAmount } from '../model/billing/money.ts';
import { dayText } from '../model/billing/months.ts';
import { newEvent } from '../model/events.ts';
import * as records from '../model/records/index.ts';
import { absent, put, rewrite, unchanged } from '../store/collection.ts';
import type { ClosingParts } from './closing.ts';
import { accountBalance } from './ledger/account-balance.ts';
import { queued } from './mail/outbox.ts';

/** The kinds of records that the mirror must contain, beside those of the ledger. */
export const dunningKinds = [records.bills, records.payments, records.dunning] as const;

/** Milliseconds in which the mirror must show the database. */
const catchUpMs = 10_000;

/** Moves each overdue bill to its level. */
export async function dunAll(parts: ClosingParts, over: AbortSignal): Promise<void> {
  // A mirror that is behind may lack the last payments.
  if (!(await parts.mirror.catchUp({ timeoutMs: catchUpMs, signal: over }))) return;
  for (const { id, value: account } of [...parts.mirror.list(records.billingAccounts)]) {
    if (over.aborted) return;
    const { open } = accountBalance(parts.bills.list(id), parts.payments.list(id), parts.now());
    for (const each of open) if (each.isOverdue) await dun(parts, account, each);
    // Other work of the process goes on between two accounts.
    await setImmediate();
  }
}

async function dun(
  parts: ClosingParts,
  account: records.BillingAccountRecord,
  { bill: { id }, open }: OpenBill<BilledSum>,
): Promise<void> {
  const { store, mirror, holds, now } = parts;
  const bill = mirror.get(records.bills, id)?.value;
  const entity = bill && mirror.get(records.legalEntities, bill.legal_entity)?.value;
  const levels = entity?.dunning_levels ?? [];
  if (!bill || !entity || levels.length === 0) return;
  const before = mirror.get(records.dunning, id);
  const at = now().toISOString();
  const dunned = { level: before?.value.level ?? 0, day: before?.value.at.slice(0, 10) };
  const level = nextLevel(levels, dunned, { due: bill.due_date, today: dayText(now().getTime()) });
  const reminder = level === undefined ? undefined : levels[level - 1];
  if (level === undefined || !reminder) return;
  const left = formatAmount(open, bill.currency);
  const mail = await queued(
    parts,
    `dunning/${id}/${level}`,
    mailRecord({ account, entity }, dunningText(bill, reminder, left), at, bill.id),
  );
  const message = `The bill ${bill.number} of ${bill.due_date} is overdue: ${bill.currency} ${left} are open. ${reminder.title}.`;
  const event = newEvent(now(), { id: account.id }, { severity: 'warning', reason: 'bill_overdue', message });
  const next = { account: account.id, level, at };
  await store.commit({
    require: [...holds, ...mail.require, before ? unchanged(before) : absent(records.dunning, id)],
    write: [
      before ? rewrite(records.dunning, before, next) : put(records.dunning, id, next),
      put(records.events, ...event),
      ...mail.write,
    ],
  });
}
