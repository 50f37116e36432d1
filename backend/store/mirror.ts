/**
 * A part of the database in memory, kept up by watching: the source of nearly all reads. Every process has one.
 *
 * A mirror first lists its prefixes at one revision and then applies each commit whole and in order, so what it shows
 * is the database as it was a moment ago, never a mixture. When the watch cannot go on because the history was
 * compacted in the meantime, it lists anew and applies the difference as one batch. While the database is away it keeps
 * showing what it has.
 *
 * `['']` mirrors everything. With several prefixes there are as many watches: a commit that touches two of them then
 * arrives as two batches, and `revision` is the one up to which all of them have come.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Static, TSchema } from '@sinclair/typebox';
import { UcloudError } from '../contract/errors.ts';
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
import type { RecordKind, Stored } from './records.ts';
import { CompactedError, type Entry, type Revision, type Store } from './store.ts';

export type { MirrorIndex } from './mirror-table.ts';
export type { ChangeWaitOptions, RecordChange, WaitOptions } from './mirror-waiters.ts';

export interface MirrorOptions {
  readonly prefixes: readonly string[];
  /** Records of other kinds are not kept. */
  readonly kinds: readonly RecordKind[];
  readonly logger?: StoreLogger;
  /** Called once for each version of a record that does not have the form of its kind. It is left out of the mirror. */
  readonly onInvalid?: (error: InvalidRecordError) => void;
}

export interface MirrorBatch {
  readonly revision: Revision;
  readonly changes: readonly RecordChange[];
}

export interface Mirror {
  /** Revision that the mirror shows. */
  readonly revision: Revision;
  get<S extends TSchema>(kind: RecordKind<S>, id: string): Stored<Static<S>> | undefined;
  /** In the order of ids; only those that start with `idPrefix` and come after `after`. Shows one moment throughout. */
  list<S extends TSchema>(kind: RecordKind<S>, idPrefix?: string, after?: string): Iterable<Stored<Static<S>>>;
  /** The last id first; only ids before `before`. */
  listBackwards<S extends TSchema>(kind: RecordKind<S>, before?: string): Iterable<Stored<Static<S>>>;
  size(kind: RecordKind, idPrefix?: string): number;
  /** A new index; make it once, it is kept up until the mirror is closed. */
  index<S extends TSchema>(kind: RecordKind<S>, keysOf: IndexKeys<Static<S>>): MirrorIndex<Static<S>>;
  /** Resolves when the mirror shows `revision` or later; false on time-out, abort or close. */
  waitFor(revision: Revision, options?: WaitOptions): Promise<boolean>;
  /**
   * Resolves when a record has changed after the given revision, at once if one has already; false on time-out, abort
   * or close. May also resolve true without a change when `after` lies thousands of changes back: look again.
   */
  waitForChange(options: ChangeWaitOptions): Promise<boolean>;
  /** The listener is called after each batch with at least one change, when the mirror shows it. Answers how to stop. */
  subscribe(listener: (batch: MirrorBatch) => void): () => void;
  close(): Promise<void>;
}

/** Narrows a change to the kind that it is of. */
export const isChangeOf = <S extends TSchema>(
  kind: RecordKind<S>,
  change: RecordChange,
): change is RecordChange<Static<S>> => change.kind.prefix === kind.prefix;

const pageSize = 1000;
/** Waits between tries while the database is away: the first, and the longest. */
const retryMilliseconds = { first: 20, longest: 1000 };
/** With so long no batch, a revision that is waited for is taken to be somebody else's: outside the mirrored prefixes. */
const quietMilliseconds = 1000;

/** A key with its new entry, or without one when it is gone. */
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
  /** By prefix, the revision up to which its watch has come. */
  readonly #seen = new Map<string, Revision>();
  /** Invalid records that have been reported, with their revisions. */
  readonly #reported = new Map<string, Revision>();
  #revision: Revision = 0;
  #lastBatchAt = performance.now();
  /** Ends the watches, for the prefixes to be listed anew. */
  #again = new AbortController();
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
    // Filled by #apply with records that have passed the schema of this kind.
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
    const repeat = setInterval(() => this.#listIfQuiet(), quietMilliseconds).unref();
    try {
      return await this.#revisionWaiters.wait(revision, options);
    } finally {
      clearInterval(repeat);
    }
  }

  /**
   * Revisions count the whole database, and a watch tells only of its prefix: what others write there (another program
   * in the same etcd, a prefix that this mirror has not) raises the revision without a batch. A list shows how far the
   * mirror really is.
   */
  #listIfQuiet(): void {
    if (performance.now() - this.#lastBatchAt < quietMilliseconds) return;
    this.#lastBatchAt = performance.now();
    this.#again.abort();
    this.#again = new AbortController();
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

  /** The record that an entry holds, or nothing if it is not of its kind. */
  #parse(kind: RecordKind, entry: Entry): Stored<unknown> | undefined {
    try {
      return parseRecord(kind, entry);
    } catch (error) {
      if (!(error instanceof InvalidRecordError)) throw error;
      if (this.#reported.get(entry.key) === entry.revision) return undefined;
      this.#reported.set(entry.key, entry.revision);
      this.#options.logger?.error({ err: error, key: error.key }, 'left out a record that is not of its kind');
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
      if (entry === undefined) this.#reported.delete(key);
      const stored = entry === undefined ? undefined : this.#parse(kind, entry);
      const previous = this.#table(kind).replace(id, stored);
      if (stored !== undefined || previous !== undefined) changes.push({ kind, id, stored, previous });
    }
    this.#lastBatchAt = performance.now();
    this.#seen.set(prefix, revision);
    this.#revision =
      this.#seen.size === this.#options.prefixes.length ? Math.min(...this.#seen.values()) : this.#revision;
    this.#changeWaiters.changed(revision, changes);
    this.#revisionWaiters.reached(this.#revision);
    if (changes.length > 0) for (const listener of this.#listeners) this.#tell(listener, { revision, changes });
  }

  /** A listener that throws has a fault of its own, which must not keep the others from the batch. */
  #tell(listener: (batch: MirrorBatch) => void, batch: MirrorBatch): void {
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

  /** All entries below the prefix as of one revision. */
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
        // Compacted between two pages: begin again.
        if (!(error instanceof CompactedError)) throw error;
      }
    }
  }

  /** Brings the tables to what the database holds below the prefix, as one batch. */
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

  /** Keeps up with the prefix until the mirror or the store is closed. */
  async #follow(prefix: string): Promise<void> {
    const { signal } = this.#closing;
    let away = false;
    let anew = false;
    let wait = retryMilliseconds.first;
    while (!signal.aborted) {
      try {
        if (anew) await this.#list(prefix);
        anew = false;
        if (away) this.#options.logger?.info({ prefix }, 'the mirror follows the database again');
        away = false;
        const from = (this.#seen.get(prefix) ?? 0) + 1;
        const again = this.#again.signal;
        const ending = AbortSignal.any([signal, again]);
        for await (const { revision, changes } of this.#store.watch(prefix, from, ending)) {
          wait = retryMilliseconds.first;
          this.#apply(
            prefix,
            revision,
            changes.map((change) =>
              change.type === 'put' ? [change.entry.key, change.entry] : [change.key, undefined],
            ),
          );
        }
        // A watch ends without an error only when it is told to, or when the store is closed.
        if (again.aborted && !signal.aborted) anew = true;
        else this.#end();
      } catch (err) {
        if (err instanceof CompactedError) {
          anew = true;
          continue;
        }
        if (!(err instanceof UcloudError)) anew = true;
        if (!away) this.#options.logger?.warn({ err, prefix }, 'the mirror cannot follow the database, it will try on');
        away = true;
        await delay(wait, undefined, { signal, ref: false }).catch(() => undefined);
        wait = Math.min(wait * 2, retryMilliseconds.longest);
      }
    }
  }
}

/** Resolves when everything is listed. Rejects with store_unavailable if that fails. */
export async function openMirror(store: Store, options: MirrorOptions): Promise<Mirror> {
  const mirror = new StoreMirror(store, options);
  await mirror.open();
  return mirror;
}
