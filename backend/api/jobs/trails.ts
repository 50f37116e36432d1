/**
 * Limits the records that changes leave in each project (backend/model/quota/trails.ts). Every server has events and
 * operations in memory, so it counts them on arrival and removes the oldest at once. All other kinds are examined at
 * intervals.
 */
import type { TSchema } from '@sinclair/typebox';
import type { Component } from '../../model/component.ts';
import {
  type AuditTrail,
  beyond,
  beyondAudit,
  keptAnswerBytes,
  keptAnswers,
  keptAuditRecords,
  keptEvents,
  keptOperations,
  type Trail,
} from '../../model/quota/trails.ts';
import * as records from '../../model/records/index.ts';
import { parseRecord } from '../../store/record-codec.ts';
import type { RecordKind } from '../../store/record-kind.ts';
import type { Entry, Store } from '../../store/store.ts';
import type { ApiContext } from '../requests/context.ts';

const batchSize = 100;
const pageSize = 500;

/** Removes records that never change. Some of them may be removed already. */
async function removeKeys(store: Store, keys: readonly string[], signal: AbortSignal): Promise<void> {
  for (let start = 0; start < keys.length && !signal.aborted; start += batchSize) {
    await store.commit({ write: keys.slice(start, start + batchSize).map((key) => ({ delete: key })) });
  }
}

interface Watched {
  readonly kind: RecordKind;
  readonly most: number;
  /** Tells whether the record may be removed: an operation only after its end. */
  readonly ended: (value: unknown) => boolean;
}

const watched: readonly Watched[] = [
  { kind: records.events, most: keptEvents, ended: () => true },
  {
    kind: records.operations,
    most: keptOperations,
    ended: (value) => (value as records.OperationRecord).finished_at !== undefined,
  },
];

const projectOf = (value: unknown): string => (value as { readonly project?: string }).project ?? '';

/** The share above the limit at which the removal begins, so that not every new record causes a transaction. */
const slack = 0.1;

/** Starts the removal of the oldest events and operations of each project. */
export function startTrails({ mirror, store, logger }: ApiContext, limits: readonly Watched[] = watched): Component {
  const closing = new AbortController();
  const counts = new Map<string, number>();
  const due = new Map<string, { readonly limit: Watched; readonly project: string }>();
  let working: Promise<void> | undefined;

  const count = (limit: Watched, project: string, step: 1 | -1) => {
    const place = `${limit.kind.prefix}${project}`;
    const now = (counts.get(place) ?? 0) + step;
    if (now === 0) counts.delete(place);
    else counts.set(place, now);
    if (step < 0 || now <= limit.most * (1 + slack)) return;
    due.set(place, { limit, project });
  };

  async function trim({ kind, most, ended }: Watched, project: string): Promise<void> {
    const all =
      project === ''
        ? [...mirror.list(kind)].filter(({ value }) => projectOf(value) === '')
        : [...mirror.by(kind, 'project').list(project, '')];
    // The ids of events are in the order of time. Operations end roughly in the order of their start.
    const trails = all
      .filter(({ value }) => ended(value))
      .map(({ key, value }): Trail => {
        const { at, created_at } = value as { readonly at?: string; readonly created_at?: string };
        return { key, project, at: at ?? created_at ?? '', bytes: 0 };
      });
    const going = beyond(trails, most).map(({ key }) => key);
    await removeKeys(store, going, closing.signal);
  }

  async function work(): Promise<void> {
    while (due.size > 0 && !closing.signal.aborted) {
      const batch = [...due.values()];
      due.clear();
      for (const { limit, project } of batch) {
        await trim(limit, project).catch((err: unknown) =>
          logger.warn({ err, project }, 'old records of a project could not be removed, it will be tried again'),
        );
      }
    }
  }

  const begin = () => {
    if (due.size === 0 || closing.signal.aborted) return;
    working ??= work().finally(() => {
      working = undefined;
    });
  };

  for (const limit of limits) for (const { value } of mirror.list(limit.kind)) count(limit, projectOf(value), 1);
  const stop = mirror.subscribe(({ changes }) => {
    for (const { kind, previous, stored } of changes) {
      const limit = limits.find((each) => each.kind.prefix === kind.prefix);
      if (!limit) continue;
      if (previous) count(limit, projectOf(previous.value), -1);
      if (stored) count(limit, projectOf(stored.value), 1);
    }
    begin();
  });
  begin();

  return {
    async close() {
      closing.abort();
      stop();
      await working;
    },
  };
}

async function scan<T extends Trail>(
  store: Store,
  kind: RecordKind,
  signal: AbortSignal,
  read: (entry: Entry) => T | undefined,
): Promise<T[]> {
  const trails: T[] = [];
  for (let after: string | undefined; !signal.aborted; ) {
    const page = await store.list(kind.prefix, { limit: pageSize, ...(after === undefined ? {} : { after }) });
    for (const entry of page.entries) {
      const trail = read(entry);
      if (trail) trails.push(trail);
    }
    after = page.entries.at(-1)?.key;
    if (!page.more || after === undefined) break;
  }
  return trails;
}

/** Returns the value; undefined for an unreadable record, which stays and does not stop the others. */
function readable<S extends TSchema>(kind: RecordKind<S>, entry: Entry): S['static'] | undefined {
  try {
    return parseRecord(kind, entry).value;
  } catch {
    return undefined;
  }
}

/**
 * Removes once the oldest records of the kinds that no server has in memory: answers for an Idempotency-Key, and the
 * audit.
 */
export async function boundTrails(
  { store, mirror, logger }: Pick<ApiContext, 'store' | 'mirror' | 'logger'>,
  signal: AbortSignal,
  maxAuditRecords = keptAuditRecords,
): Promise<void> {
  const answers = await scan(store, records.idempotency, signal, (entry) => {
    const value = readable(records.idempotency, entry);
    const token = entry.key.split('/')[1] ?? '';
    const project = mirror.get(records.tokens, token)?.value.project ?? token;
    return value && { key: entry.key, project, at: value.at, bytes: entry.value.length };
  });
  const audit = await scan(store, records.auditRecords, signal, (entry): AuditTrail | undefined => {
    const value = readable(records.auditRecords, entry);
    if (!value) return undefined;
    const { project = '', at, token, operation } = value;
    return { key: entry.key, project, at, bytes: entry.value.length, token, operation };
  });
  const thinned = beyondAudit(audit, maxAuditRecords);
  for (const [project, { length: removed }] of Map.groupBy(thinned, (each) => each.project)) {
    logger.warn(
      { project, removed },
      'the audit of a project exceeds its limit, so its most frequent records are removed',
    );
  }
  const going = [...beyond(answers, keptAnswers, keptAnswerBytes), ...thinned];
  await removeKeys(
    store,
    going.map(({ key }) => key),
    signal,
  );
}
