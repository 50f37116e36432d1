/**
 * A mirror: a part of the database in memory, kept up to date by watching. Nearly all reads use it, and every process
 * has one.
 *
 * A mirror first lists its prefixes at one revision. It then applies each commit as a whole and in order. So it always
 * shows one recent state of the database, never a mixture of two. If the history is compacted before the watch can
 * continue, the mirror lists again and applies the difference as one batch. While the database is unreachable, the
 * mirror keeps its last state.
 *
 * The prefix `''` mirrors everything. A mirror of several prefixes has one watch for each. A commit below two prefixes
 * then arrives as two batches, and `revision` is the revision that all watches have reached.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Static, TSchema } from '@sinclair/typebox';
import { UcloudError } from '../contract/errors.ts';
import { type Backoff, backoffMs } from './backoff.ts';
import type { StoreLogger } from './logger.ts';
import { type IndexKeys, type MirrorIndex, MirrorTable } from './mirror-table.ts';
import {
  ChangeWaiters,
  type ChangeWaitOptions,
  type RecordChange,
  RevisionWaiters,
  type WaitOptions,
} from './mirror-waiters.ts';
import { InvalidRecordError, parseRecord } from './record-codec.ts';
import type { RecordKind, Stored } from './record-kind.ts';
import { CompactedError, type Entry, type Revision, type Store } from './store.ts';

export type { MirrorIndex } from './mirror-table.ts';
export type { ChangeWaitOptions, RecordChange, WaitOptions } from './mirror-waiters.ts';

/** Options of `openMirror`. */
export interface MirrorOptions {
  readonly prefixes: readonly [string, ...string[]];
  /** The kinds of records to keep. */
  readonly kinds: readonly RecordKind[];
  readonly logger?: StoreLogger;
  /**
   * Called once for each version of a record that does not match the schema of its kind. The mirror leaves this record
   * out.
   */
  readonly onInvalid?: (error: InvalidRecordError) => void;
}

/** The changes of one commit, or of one new list. */
export interface MirrorBatch {
  readonly revision: Revision;
  readonly changes: readonly RecordChange[];
}

/** A mirror of the database. */
export interface Mirror {
  /** The revision that the mirror shows. */
  readonly revision: Revision;
  /** Returns the record; undefined if the mirror does not contain it. */
  get<S extends TSchema>(kind: RecordKind<S>, id: string): Stored<Static<S>> | undefined;
  /**
   * Lists records in the order of their ids, only ids with the prefix and after `after`. The result shows one revision,
   * however slowly the caller reads it.
   */
  list<S extends TSchema>(kind: RecordKind<S>, idPrefix?: string, after?: string): Iterable<Stored<Static<S>>>;
  /** Lists records in the reverse order of their ids, only ids before `before`. */
  listBackwards<S extends TSchema>(kind: RecordKind<S>, before?: string): Iterable<Stored<Static<S>>>;
  /** Returns the number of records whose id has the prefix. */
  size(kind: RecordKind, idPrefix?: string): number;
  /** Creates an index. The mirror updates it until it is closed, so create each index once. */
  index<S extends TSchema>(kind: RecordKind<S>, keysOf: IndexKeys<Static<S>>): MirrorIndex<Static<S>>;
  /** Resolves to true when the mirror shows `revision` or a later one; to false on timeout, abort or close. */
  waitFor(revision: Revision, options?: WaitOptions): Promise<boolean>;
  /**
   * Reads the current revision of the database and waits for it, as `waitFor` does.
   * @throws UcloudError `store_unavailable` if the database does not answer
   */
  catchUp(options?: WaitOptions): Promise<boolean>;
  /**
   * Resolves to true when a matching record has changed after the given revision, immediately if it already has; to
   * false on timeout, abort or close. If `after` is thousands of changes old, it may resolve to true without a change,
   * so the caller must check the record.
   */
  waitForChange(options: ChangeWaitOptions): Promise<boolean>;
  /**
   * Registers a listener. The mirror calls it after each batch with at least one change, when the mirror already shows
   * the batch. Returns a function that removes it.
   */
  subscribe(listener: (batch: MirrorBatch) => void): () => void;
  /** Stops the watches and ends all waits. */
  close(): Promise<void>;
}

/** Tells whether the change is of this kind, and narrows its type. */
export const isChangeOf = <S extends TSchema>(
  kind: RecordKind<S>,
  change: RecordChange,
): change is RecordChange<Static<S>> => change.kind.prefix === kind.prefix;

const pageSize = 1000;
/** The first and the maximum delay between two tries while the database is unreachable. */
const retry: Backoff = { firstMs: 20, maxMs: 1000 };
/**
 * After this time without a batch, the mirror assumes that the awaited revision changed only keys outside its prefixes.
 */
const quietMs = 1000;

/** A key with its new entry; undefined if the key was deleted. */
type KeyChange = readonly [key: string, entry: Entry | undefined];

class StoreMirror implements Mirror {
  readonly #store: Store;
  readonly #options: MirrorOptions;
  readonly #kinds = new Map<string, RecordKind>();
  readonly #tables = new Map<string, MirrorTable<unknown>>();
  readonly #listeners = new Set<(batch: MirrorBatch) => void>();
  readonly #revisionWaiters = new RevisionWaiters();
  #changeWaiters = new ChangeWaiters(0);
  readonly #closing = new AbortController();
  /** The revision that the watch of each prefix has reached. */
  readonly #watchedRevision = new Map<string, Revision>();
  /** The revisions of the invalid records that were reported, by key. */
  readonly #reportedInvalid = new Map<string, Revision>();
  #revision: Revision = 0;
  #lastBatchAt = performance.now();
  /** Ends the watches, so that the mirror lists the prefixes again. */
  #relist = new AbortController();
  #following: Promise<unknown> = Promise.resolve();

  constructor(store: Store, options: MirrorOptions) {
    this.#store = store;
    this.#options = options;
    for (const kind of options.kinds) {
      if (kind.prefix.indexOf('/') !== kind.prefix.length - 1)
        throw new RangeError(`prefix ${kind.prefix} of a kind must be one word and a slash`);
      this.#kinds.set(kind.prefix, kind);
      this.#tables.set(kind.prefix, new MirrorTable());
    }
  }

  async open(): Promise<void> {
    const { prefixes } = this.#options;
    for (const prefix of prefixes) await this.#list(prefix);
    this.#changeWaiters = new ChangeWaiters(this.#revision);
    this.#following = Promise.all(prefixes.map((prefix) => this.#follow(prefix)));
  }

  get revision(): Revision {
    return this.#revision;
  }

  #table<S extends TSchema>(kind: RecordKind<S>): MirrorTable<Static<S>> {
    const table = this.#tables.get(kind.prefix);
    if (table === undefined) throw new RangeError(`records of ${kind.prefix} are not in this mirror`);
    // #apply fills the table only with records that match the schema of this kind.
    return table as MirrorTable<Static<S>>;
  }

  get<S extends TSchema>(kind: RecordKind<S>, id: string): Stored<Static<S>> | undefined {
    return this.#table(kind).get(id);
  }

  list<S extends TSchema>(kind: RecordKind<S>, idPrefix = '', after = ''): Iterable<Stored<Static<S>>> {
    return this.#table(kind).list(idPrefix, after);
  }

  listBackwards<S extends TSchema>(kind: RecordKind<S>, before = ''): Iterable<Stored<Static<S>>> {
    return this.#table(kind).listBackwards(before);
  }

  size(kind: RecordKind, idPrefix = ''): number {
    return this.#table(kind).size(idPrefix);
  }

  index<S extends TSchema>(kind: RecordKind<S>, keysOf: IndexKeys<Static<S>>): MirrorIndex<Static<S>> {
    return this.#table(kind).index(keysOf);
  }

  async waitFor(revision: Revision, options: WaitOptions = {}): Promise<boolean> {
    if (this.#revision >= revision) return true;
    if (this.#closing.signal.aborted) return false;
    const repeat = setInterval(() => this.#relistIfQuiet(), quietMs).unref();
    try {
      return await this.#revisionWaiters.wait(revision, options);
    } finally {
      clearInterval(repeat);
    }
  }

  async catchUp(options?: WaitOptions): Promise<boolean> {
    const { revision } = await this.#store.list(this.#options.prefixes[0], { limit: 1 });
    return this.waitFor(revision, options);
  }

  /**
   * Lists again after a quiet time. Revisions count all writes of the database, but a watch shows only its prefix. A
   * write outside the prefix (another program in the same etcd, a prefix that this mirror lacks) raises the revision
   * without a batch. A list returns the current revision.
   */
  #relistIfQuiet(): void {
    if (performance.now() - this.#lastBatchAt < quietMs) return;
    this.#lastBatchAt = performance.now();
    this.#relist.abort();
    this.#relist = new AbortController();
  }

  async waitForChange(options: ChangeWaitOptions): Promise<boolean> {
    for (const { kind } of options.of) this.#table(kind);
    if (this.#closing.signal.aborted) return false;
    return this.#changeWaiters.wait(options, (kind, id) => this.get(kind, id));
  }

  subscribe(listener: (batch: MirrorBatch) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#end();
    await this.#following;
  }

  #end(): void {
    this.#closing.abort();
    this.#revisionWaiters.end();
    this.#changeWaiters.end();
  }

  /** Parses an entry. Returns undefined if it does not match the schema of its kind. */
  #parse(kind: RecordKind, entry: Entry): Stored<unknown> | undefined {
    try {
      return parseRecord(kind, entry);
    } catch (error) {
      if (!(error instanceof InvalidRecordError)) throw error;
      if (this.#reportedInvalid.get(entry.key) === entry.revision) return undefined;
      this.#reportedInvalid.set(entry.key, entry.revision);
      this.#options.logger?.error(
        { err: error, key: error.key },
        'the mirror leaves out a record that does not match the schema of its kind',
      );
      this.#options.onInvalid?.(error);
      return undefined;
    }
  }

  #apply(prefix: string, revision: Revision, keyChanges: Iterable<KeyChange>): void {
    const changes: RecordChange[] = [];
    for (const [key, entry] of keyChanges) {
      const cut = key.indexOf('/') + 1;
      const kind = this.#kinds.get(key.slice(0, cut));
      if (kind === undefined) continue;
      const id = key.slice(cut);
      if (entry === undefined) this.#reportedInvalid.delete(key);
      const stored = entry === undefined ? undefined : this.#parse(kind, entry);
      const previous = this.#table(kind).replace(id, stored);
      if (stored !== undefined || previous !== undefined) changes.push({ kind, id, stored, previous });
    }
    this.#lastBatchAt = performance.now();
    this.#watchedRevision.set(prefix, revision);
    this.#revision =
      this.#watchedRevision.size === this.#options.prefixes.length
        ? Math.min(...this.#watchedRevision.values())
        : this.#revision;
    this.#changeWaiters.changed(revision, changes);
    this.#revisionWaiters.reached(this.#revision);
    if (changes.length > 0) for (const listener of this.#listeners) this.#notify(listener, { revision, changes });
  }

  /** An exception of one listener must not keep the batch from the other listeners. */
  #notify(listener: (batch: MirrorBatch) => void, batch: MirrorBatch): void {
    try {
      listener(batch);
    } catch (err) {
      if (this.#options.logger === undefined)
        queueMicrotask(() => {
          throw err;
        });
      else this.#options.logger.error({ err }, 'a listener of the mirror failed');
    }
  }

  /** Reads all entries below the prefix at one revision. */
  async #readAll(prefix: string): Promise<{ revision: Revision; entries: Map<string, Entry> }> {
    for (;;) {
      try {
        const first = await this.#store.list(prefix, { limit: pageSize });
        const { revision } = first;
        const entries = new Map<string, Entry>();
        for (let page = first; ; ) {
          for (const entry of page.entries) entries.set(entry.key, entry);
          const after = page.entries.at(-1)?.key;
          if (!page.more || after === undefined) return { revision, entries };
          page = await this.#store.list(prefix, { limit: pageSize, after, revision });
        }
      } catch (error) {
        // The history was compacted between two pages: start again.
        if (!(error instanceof CompactedError)) throw error;
      }
    }
  }

  /** Updates the tables to the current state of the database below the prefix, as one batch. */
  async #list(prefix: string): Promise<void> {
    const { revision, entries } = await this.#readAll(prefix);
    const difference: KeyChange[] = [];
    for (const kind of this.#kinds.values()) {
      const idPrefix = prefix.startsWith(kind.prefix) ? prefix.slice(kind.prefix.length) : '';
      if (!kind.prefix.startsWith(prefix) && !prefix.startsWith(kind.prefix)) continue;
      for (const { key } of this.#table(kind).list(idPrefix, ''))
        if (!entries.has(key)) difference.push([key, undefined]);
    }
    for (const [key, entry] of entries)
      if (this.#mirrored(key)?.revision !== entry.revision) difference.push([key, entry]);
    this.#apply(prefix, revision, difference);
  }

  #mirrored(key: string): Stored<unknown> | undefined {
    const cut = key.indexOf('/') + 1;
    return this.#tables.get(key.slice(0, cut))?.get(key.slice(cut));
  }

  /** Follows the prefix until the mirror or the store is closed. */
  async #follow(prefix: string): Promise<void> {
    const { signal } = this.#closing;
    let unreachable = false;
    let mustList = false;
    let failures = 0;
    while (!signal.aborted) {
      try {
        if (mustList) await this.#list(prefix);
        mustList = false;
        if (unreachable) this.#options.logger?.info({ prefix }, 'the mirror follows the database again');
        unreachable = false;
        const from = (this.#watchedRevision.get(prefix) ?? 0) + 1;
        const again = this.#relist.signal;
        const ending = AbortSignal.any([signal, again]);
        for await (const { revision, changes } of this.#store.watch(prefix, from, ending)) {
          failures = 0;
          this.#apply(
            prefix,
            revision,
            changes.map((change) =>
              change.type === 'put' ? [change.entry.key, change.entry] : [change.key, undefined],
            ),
          );
        }
        // A watch ends without an error only after an abort, or when the store is closed.
        if (again.aborted && !signal.aborted) mustList = true;
        else this.#end();
      } catch (err) {
        if (err instanceof CompactedError) {
          mustList = true;
          continue;
        }
        if (!(err instanceof UcloudError)) mustList = true;
        if (!unreachable)
          this.#options.logger?.warn({ err, prefix }, 'the mirror cannot follow the database; it retries');
        unreachable = true;
        failures++;
        await delay(backoffMs(failures, retry), undefined, { signal, ref: false }).catch(() => undefined);
      }
    }
  }
}

/**
 * Opens a mirror. Resolves when it has listed all prefixes.
 * @throws UcloudError `store_unavailable` if the database does not answer
 */
export async function openMirror(store: Store, options: MirrorOptions): Promise<Mirror> {
  const mirror = new StoreMirror(store, options);
  await mirror.open();
  return mirror;
}
