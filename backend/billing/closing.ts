/**
 * The closing of months. The leader makes the final bills of months that have ended. A bill, its number and the mark of the month
 * are one commit, so a closing may be interrupted and repeated at any point: numbers have neither gaps nor duplicates.
 */
import { createHash } from 'node:crypto';
import { type BillDocument, condensed } from '../model/billing/bill-document.ts';
import { previewBill } from '../model/billing/bill-preview.ts';
import { monthsBetween, monthText, parseMonth } from '../model/billing/months.ts';
import type { Month } from '../model/billing/rating.ts';
import { knownVatRates } from '../model/billing/vat-rates.ts';
import type { Logger } from '../model/component.ts';
import { newId } from '../model/ids.ts';
import * as records from '../model/records/index.ts';
import { absent, put, read, rewrite, unchanged } from '../store/collection.ts';
import type { Stored } from '../store/record-kind.ts';
import type { Condition } from '../store/store.ts';
import { accountLines, type Ledger, paidProjects } from './ledger/account-bill.ts';
import { verificationOf } from './ledger/vat-state.ts';

/** The digits of the number of a bill, after its series. */
const numberDigits = 6;

/** Returns the number of a bill. */
export const billNumber = (series: string, last: number): string =>
  `${series}${String(last).padStart(numberDigits, '0')}`;

/** The outcome for one month of an account. */
export type ClosingResult =
  | { readonly outcome: 'closed' | 'already' | 'conflict' }
  | { readonly outcome: 'waits'; readonly why: string };

/** The maximum length of a document as JSON text, which the database stores as one value. */
const maxDocumentBytes = 900_000;

/** Returns the document with as many lines as fit into the database. */
function fitting(document: BillDocument): { document: BillDocument; json: string } {
  for (let lines = 2_000; ; lines = Math.floor(lines / 2)) {
    const short = condensed(document, lines);
    const json = JSON.stringify(short);
    if (Buffer.byteLength(json) <= maxDocumentBytes || lines <= 1) return { document: short, json };
  }
}

/** The parts of a closing. */
export interface ClosingParts extends Ledger {
  readonly logger: Logger;
  /** The conditions of each commit of the leader. */
  readonly holds: readonly Condition[];
  readonly now: () => Date;
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

/** Closes a month of an account. @throws CompactedError, UcloudError `store_unavailable` */
export async function closeMonth(
  parts: ClosingParts,
  stored: Stored<records.BillingAccountRecord>,
  month: Month,
): Promise<ClosingResult> {
  const { store, mirror, logger, holds, now } = parts;
  const account = stored.value;
  const entity = mirror.get(records.legalEntities, account.legal_entity);
  if (!entity) return { outcome: 'waits', why: 'its legal entity is missing' };
  const text = monthText(month.from);
  const closedKey = `${account.id}/${text}`;
  if (await read(store, records.closedMonths, closedKey)) return { outcome: 'already' };
  const lines = await accountLines(parts, account, month, month, now().getTime());
  const at = now();
  const common = [...holds, absent(records.closedMonths, closedKey), unchanged(stored)];
  if (lines.length === 0) {
    const write = [put(records.closedMonths, closedKey, { at: at.toISOString() })];
    return { outcome: (await store.commit({ require: common, write })).ok ? 'closed' : 'conflict' };
  }
  const preview = previewBill({
    ...{ account, entity: entity.value, lines, month, at: at.getTime(), rates: knownVatRates },
    verification: verificationOf(mirror, account),
  });
  if (!preview.ok) {
    logger.warn({ account: account.id, month: text, why: preview.waits }, 'a bill waits');
    return { outcome: 'waits', why: preview.waits };
  }
  const { number_series: series } = entity.value;
  const before = await read(store, records.billNumbers, series);
  const last = (before?.value.last ?? 0) + 1;
  const number = billNumber(series, last);
  const { document, json } = fitting({ number, ...preview.bill });
  const id = newId('bill');
  const { issue_date, due_date, currency, totals } = document;
  const record: records.BillRecord = {
    ...{ id, labels: {}, number, billing_account: account.id, legal_entity: entity.value.id, month: text },
    ...{ issue_date, due_date, currency, net: totals.net, vat: totals.vat, gross: totals.gross },
    sha256: createHash('sha256').update(json).digest('hex'),
    ...{ created_at: at.toISOString(), updated_at: at.toISOString() },
  };
  const { ok } = await store.commit({
    require: [...common, unchanged(entity), before ? unchanged(before) : absent(records.billNumbers, series)],
    write: [
      before ? rewrite(records.billNumbers, before, { last }) : put(records.billNumbers, series, { last }),
      put(records.bills, id, record),
      put(records.billDocuments, id, { json }),
      put(records.closedMonths, closedKey, { bill: id, at: at.toISOString() }),
      // The account stays, because the bill names it.
      put(records.uses, `${account.id}/${id}`, {}),
      put(records.uses, `${entity.value.id}/${id}`, {}),
    ],
  });
  return { outcome: ok ? 'closed' : 'conflict' };
}
