/** Conditions, writes and reads by record kind, for building commits. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Static, TSchema } from '@sinclair/typebox';
import { UcloudError } from '../contract/errors.ts';
import { type Backoff, randomBackoffMs } from './backoff.ts';
import { parseRecord, serializeRecord } from './record-codec.ts';
import type { RecordKind, Stored } from './record-kind.ts';
import type { Condition, LeaseId, Revision, Store, Write } from './store.ts';

/**
 * Returns a write that creates or replaces a record. With a lease, the record ends with the lease.
 * @throws InvalidRecordError if the value does not match the schema of the kind
 */
export function put<S extends TSchema>(kind: RecordKind<S>, id: string, value: Static<S>, lease?: LeaseId): Write {
  const write = { put: kind.prefix + id, value: serializeRecord(kind, id, value) };
  return lease === undefined ? write : { ...write, lease };
}

/**
 * Returns a write that changes a record. It keeps the fields that only a newer version knows. Use it together with the
 * condition `unchanged`.
 * @throws InvalidRecordError if the value does not match the schema of the kind
 */
export const rewrite = <S extends TSchema>(
  kind: RecordKind<S>,
  before: Stored<Static<S>>,
  value: Static<S>,
): Write => ({ put: before.key, value: serializeRecord(kind, before.id, value, before) });

/** Returns a write that removes a record. */
export const remove = (kind: RecordKind, id: string): Write => ({ delete: kind.prefix + id });

/** Returns a write that removes all records with the id prefix. */
export const removeAll = (kind: RecordKind, idPrefix: string): Write => ({ deletePrefix: kind.prefix + idPrefix });

/** Returns the condition that the record does not exist. */
export const absent = (kind: RecordKind, id: string): Condition => ({ key: kind.prefix + id, exists: false });

/** Returns the condition that the record exists. */
export const present = (kind: RecordKind, id: string): Condition => ({ key: kind.prefix + id, exists: true });

/** Returns the condition that no record has the id prefix. */
export const noneBelow = (kind: RecordKind, idPrefix: string): Condition => ({
  prefix: kind.prefix + idPrefix,
  empty: true,
});

/** Returns the condition that the record has not changed since it was read. */
export const unchanged = ({ key, revision }: Pick<Stored<unknown>, 'key' | 'revision'>): Condition => ({
  key,
  revision,
});

/**
 * Reads a record from the database, not from a mirror.
 * @throws InvalidRecordError if the record does not match the schema of the kind
 */
export async function read<S extends TSchema>(
  store: Store,
  kind: RecordKind<S>,
  id: string,
): Promise<Stored<Static<S>> | undefined> {
  const entry = await store.get(kind.prefix + id);
  return entry === undefined ? undefined : parseRecord(kind, entry);
}

/**
 * Reads all records with the id prefix, in the order of their ids, at one revision.
 * @throws InvalidRecordError if a record does not match the schema of the kind
 */
export async function* readAll<S extends TSchema>(
  store: Store,
  kind: RecordKind<S>,
  idPrefix = '',
): AsyncGenerator<Stored<Static<S>>, void> {
  let after: string | undefined;
  let revision: Revision | undefined;
  for (;;) {
    const page = await store.list(kind.prefix + idPrefix, {
      limit: 500,
      ...(after === undefined ? {} : { after }),
      ...(revision === undefined ? {} : { revision }),
    });
    for (const entry of page.entries) yield parseRecord(kind, entry);
    after = page.entries.at(-1)?.key;
    revision = page.revision;
    if (!page.more) return;
  }
}

const backoff: Backoff = { firstMs: 5, maxMs: 320 };

/** The result of an attempt whose commit failed its conditions. */
export const conflict: unique symbol = Symbol('conflict');

/**
 * Runs `attempt` (read, decide, commit) until it returns a result other than `conflict`. It waits a random time between
 * two attempts, up to 5 ms, 10 ms, 20 ms … 320 ms, so that competing callers separate. An error of an attempt ends the
 * loop: after `store_unavailable` the result of the commit is unknown, so only the caller may retry.
 * @throws UcloudError `conflict` after the last attempt
 */
export async function retryOnConflict<T>(
  attempt: (number: number) => Promise<T | typeof conflict>,
  options: { readonly attempts?: number; readonly signal?: AbortSignal } = {},
): Promise<T> {
  const attempts = options.attempts ?? 10;
  for (let number = 1; ; number++) {
    const result = await attempt(number);
    if (result !== conflict) return result;
    if (number >= attempts)
      throw new UcloudError('conflict', `the objects kept changing during ${attempts} attempts; nothing was changed`);
    await delay(
      randomBackoffMs(number, backoff),
      undefined,
      options.signal === undefined ? {} : { signal: options.signal },
    );
  }
}
