/**
 * Removes records that are kept for a limited time. Each deletion requires the version that was read, so any server may
 * run it.
 */
import type { TSchema } from '@sinclair/typebox';
import { newEvent } from '../../model/events.ts';
import * as records from '../../model/records/index.ts';
import { put } from '../../store/collection.ts';
import { InvalidRecordError, parseRecord } from '../../store/record-codec.ts';
import type { RecordKind } from '../../store/record-kind.ts';
import type { Entry, Store, Write } from '../../store/store.ts';
import { discardAbandoned } from '../terraform-state/content.ts';
import { releaseName } from '../transaction/declarations.ts';

const hours = 3600_000;
const pageSize = 500;
/** The number of deletions in one transaction. */
const batchSize = 30;

interface Rule {
  readonly kind: RecordKind;
  readonly keptMs: number;
  /** Returns the time at which the record's use ended; undefined while it is in use. */
  readonly since: (entry: Entry) => string | undefined;
  /** The ids are in the order of time, so the first young record ends the search. */
  readonly ordered: boolean;
  /** Returns the further writes of the deletion, such as an event. */
  readonly more: (entry: Entry, now: Date) => readonly Write[];
}

const rule = <S extends TSchema>(
  kind: RecordKind<S>,
  keptMs: number,
  ordered: boolean,
  since: (value: S['static']) => string | undefined,
  more: (value: S['static'], now: Date) => readonly Write[] = () => [],
): Rule => ({
  kind,
  keptMs,
  ordered,
  since: (entry) => since(parseRecord(kind, entry).value),
  more: (entry, now) => more(parseRecord(kind, entry).value, now),
});

/**
 * The token's record is a condition of the transaction, and a change of the name changes it. So the name is still that
 * of this token.
 */
function afterToken(token: records.TokenRecord, now: Date): Write[] {
  const message = `${token.name} expired at ${token.expires_at} and was removed.`;
  return [
    releaseName('token', token.project, token.name),
    put(records.events, ...newEvent(now, token, { severity: 'info', reason: 'deleted', message })),
  ];
}

/** The e-mails about states of prepaid accounts, which come again and again. Each key has a time of its own. */
const sentPrepaidMails = { ...records.sentMails, prefix: `${records.sentMails.prefix}prepaid/` };

const rules: readonly Rule[] = [
  rule(records.idempotency, 24 * hours, false, ({ at }) => at),
  rule(records.events, 7 * 24 * hours, true, ({ at }) => at),
  rule(records.auditRecords, 90 * 24 * hours, true, ({ at }) => at),
  rule(records.operations, 7 * 24 * hours, false, ({ finished_at }) => finished_at),
  rule(sentPrepaidMails, 90 * 24 * hours, false, ({ at }) => at),
  rule(records.tokens, 30 * 24 * hours, false, ({ expires_at }) => expires_at, afterToken),
];

async function remove(store: Store, { more }: Rule, entries: readonly Entry[], now: Date): Promise<void> {
  for (let start = 0; start < entries.length; start += batchSize) {
    const batch = entries.slice(start, start + batchSize);
    // If one record has changed, the transaction removes none, and the next round reads them again.
    await store.commit({
      require: batch.map(({ key, revision }) => ({ key, revision })),
      write: batch.flatMap((entry) => [{ delete: entry.key }, ...more(entry, now)]),
    });
  }
}

/**
 * Tells whether the record is old enough. Returns the error of an unreadable record, which stays and does not stop the
 * others.
 */
function isOld({ since, keptMs }: Rule, entry: Entry, now: Date): boolean | InvalidRecordError {
  try {
    const at = since(entry);
    return at !== undefined && Date.parse(at) + keptMs <= now.getTime();
  } catch (error) {
    if (error instanceof InvalidRecordError) return error;
    throw error;
  }
}

async function apply(store: Store, rule: Rule, now: Date, signal: AbortSignal) {
  let fault: InvalidRecordError | undefined;
  let after: string | undefined;
  while (!signal.aborted) {
    const page = await store.list(rule.kind.prefix, { limit: pageSize, ...(after === undefined ? {} : { after }) });
    const old: Entry[] = [];
    let young = false;
    for (const entry of page.entries) {
      const verdict = isOld(rule, entry, now);
      if (verdict instanceof InvalidRecordError) fault ??= verdict;
      else if (verdict) old.push(entry);
      else young = true;
    }
    await remove(store, rule, old, now);
    after = page.entries.at(-1)?.key;
    if (!page.more || after === undefined || (rule.ordered && young)) break;
  }
  return fault;
}

/**
 * Removes all expired records once: idempotency keys after a day, events and ended operations after a week, audit
 * records after 90 days, tokens 30 days after their expiry, and incomplete uploads of states after an hour. @throws
 * InvalidRecordError at the end, of the first unreadable record
 */
export async function expire(store: Store, now: Date, signal: AbortSignal): Promise<void> {
  const faults = [];
  for (const one of rules) faults.push(await apply(store, one, now, signal));
  await discardAbandoned(store, now, signal);
  const fault = faults.find((one) => one !== undefined);
  if (fault) throw fault;
}
