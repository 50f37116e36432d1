/** Conditions, writes and reads in terms of kinds of records, to make commits from. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Static, TSchema } from '@sinclair/typebox';
import { UcloudError } from '../contract/errors.ts';
import { parseRecord, serializeRecord } from './record-codec.ts';
import type { RecordKind, Stored } from './records.ts';
import type { Condition, LeaseId, Revision, Store, Write } from './store.ts';

/**
 * A record that is made anew, whatever was there. Throws InvalidRecordError if the value is not of the kind. With a lease,
 * the record ends when the lease does.
 */
export function put<S extends TSchema>(kind: RecordKind<S>, id: string, value: Static<S>, lease?: LeaseId): Write {
  const write = { put: kind.prefix + id, value: serializeRecord(kind, id, value) };
  return lease === undefined ? write : { ...write, lease };
}

/**
 * A change of a record that was read: keeps the fields of it that only a newer version knows. Goes with `unchanged`.
 * Throws InvalidRecordError.
 */
export const rewrite = <S extends TSchema>(
  kind: RecordKind<S>,
  before: Stored<Static<S>>,
  value: Static<S>,
): Write => ({ put: before.key, value: serializeRecord(kind, before.id, value, before) });

export const remove = (kind: RecordKind, id: string): Write => ({ delete: kind.prefix + id });

/** Removes all records whose ids start with `idPrefix`. */
export const removeAll = (kind: RecordKind, idPrefix: string): Write => ({ deletePrefix: kind.prefix + idPrefix });

export const absent = (kind: RecordKind, id: string): Condition => ({ key: kind.prefix + id, exists: false });

export const present = (kind: RecordKind, id: string): Condition => ({ key: kind.prefix + id, exists: true });

/** No record's id starts with `idPrefix`. */
export const noneBelow = (kind: RecordKind, idPrefix: string): Condition => ({
  prefix: kind.prefix + idPrefix,
  empty: true,
});

/** The record is still as it was read. */
export const unchanged = ({ key, revision }: Pick<Stored<unknown>, 'key' | 'revision'>): Condition => ({
  key,
  revision,
});

/** The record as it is now in the database, not in a mirror. Throws InvalidRecordError. */
export async function read<S extends TSchema>(
  store: Store,
  kind: RecordKind<S>,
  id: string,
): Promise<Stored<Static<S>> | undefined> {
  const entry = await store.get(kind.prefix + id);
  return entry === undefined ? undefined : parseRecord(kind, entry);
}

/** All records whose ids start with `idPrefix`, in order, as of one revision. Throws InvalidRecordError. */
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

/** What an attempt answers when its commit's conditions did not hold. */
export const conflict: unique symbol = Symbol('conflict');

/**
 * Runs `attempt`, which reads, decides and commits, until it answers something else than `conflict`. Waits a random
 * time between attempts, up to 5 ms, 10 ms, 20 ms … 320 ms, so that rivals part. Gives up with UcloudError('conflict').
 * Errors of an attempt pass through: after store_unavailable nobody knows what happened, so it is not for us to retry.
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
    const wait = Math.random() * 5 * 2 ** Math.min(number - 1, 6);
    await delay(wait, undefined, options.signal === undefined ? {} : { signal: options.signal });
  }
}
