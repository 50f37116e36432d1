/**
 * The common part of all mirrors: the records in memory, their listeners and waiters. mirror.ts fills it from prefixes, and
 * scoped-mirror.ts from a scope that may change.
 */
import type { Static, TSchema } from '@sinclair/typebox';
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
import type { Entry, Revision, Store } from './store.ts';

/** Options of all mirrors. */
export interface BaseMirrorOptions {
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

/**
 * After this time without a batch, a mirror assumes that the awaited revision changed only keys outside of it.
 */
export const quietMs = 1000;

/** A key with its new entry; undefined if the key was deleted. */
export type KeyChange = readonly [key: string, entry: Entry | undefined];

/** The records of a mirror. */
export abstract class BaseMirror implements Mirror {
  protected readonly store: Store;
  protected readonly logger: StoreLogger | undefined;
  readonly #options: BaseMirrorOptions;
  readonly #kinds = new Map<string, RecordKind>();
  readonly #tables = new Map<string, MirrorTable<unknown>>();
  readonly #listeners = new Set<(batch: MirrorBatch) => void>();
  readonly #revisionWaiters = new RevisionWaiters();
  #changeWaiters = new ChangeWaiters(0);
  protected readonly closing = new AbortController();
  /** The revisions of the invalid records that were reported, by key. */
  readonly #reportedInvalid = new Map<string, Revision>();
  #revision: Revision = 0;

  constructor(store: Store, options: BaseMirrorOptions) {
    this.store = store;
    this.#options = options;
    this.logger = options.logger;
    for (const kind of options.kinds) {
      if (kind.prefix.indexOf('/') !== kind.prefix.length - 1)
        throw new RangeError(`prefix ${kind.prefix} of a kind must be one word and a slash`);
      this.#kinds.set(kind.prefix, kind);
      this.#tables.set(kind.prefix, new MirrorTable());
    }
  }

  /** A prefix that the process may read. */
  protected abstract readonly anyPrefix: string;
  /** Makes the mirror find out whether it has reached the revision. Called again after each quiet time. */
  protected abstract hurry(revision: Revision): void;
  abstract close(): Promise<void>;

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
    if (this.closing.signal.aborted) return false;
    this.hurry(revision);
    const repeat = setInterval(() => this.hurry(revision), quietMs).unref();
    try {
      return await this.#revisionWaiters.wait(revision, options);
    } finally {
      clearInterval(repeat);
    }
  }

  async catchUp(options?: WaitOptions): Promise<boolean> {
    const { revision } = await this.store.list(this.anyPrefix, { limit: 1 });
    return this.waitFor(revision, options);
  }

  async waitForChange(options: ChangeWaitOptions): Promise<boolean> {
    for (const { kind } of options.of) this.#table(kind);
    if (this.closing.signal.aborted) return false;
    return this.#changeWaiters.wait(options, (kind, id) => this.get(kind, id));
  }

  subscribe(listener: (batch: MirrorBatch) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Ends all waits. */
  protected end(): void {
    this.closing.abort();
    this.#revisionWaiters.end();
    this.#changeWaiters.end();
  }

  /** Begins the log of changes. Earlier changes are those of the opening. */
  protected beginLog(): void {
    this.#changeWaiters = new ChangeWaiters(this.#revision);
  }

  /** Parses an entry. Returns undefined if it does not match the schema of its kind. */
  #parse(kind: RecordKind, entry: Entry): Stored<unknown> | undefined {
    try {
      return parseRecord(kind, entry);
    } catch (error) {
      if (!(error instanceof InvalidRecordError)) throw error;
      if (this.#reportedInvalid.get(entry.key) === entry.revision) return undefined;
      this.#reportedInvalid.set(entry.key, entry.revision);
      this.logger?.error(
        { err: error, key: error.key },
        'the mirror leaves out a record that does not match the schema of its kind',
      );
      this.#options.onInvalid?.(error);
      return undefined;
    }
  }

  /** Returns the record of the key. */
  protected mirrored(key: string): Stored<unknown> | undefined {
    const cut = key.indexOf('/') + 1;
    return this.#tables.get(key.slice(0, cut))?.get(key.slice(cut));
  }

  /** Returns the keys of the records below the prefix. */
  protected *keysBelow(prefix: string): Generator<string> {
    for (const kind of this.#kinds.values()) {
      const idPrefix = prefix.startsWith(kind.prefix) ? prefix.slice(kind.prefix.length) : '';
      if (!kind.prefix.startsWith(prefix) && !prefix.startsWith(kind.prefix)) continue;
      for (const { key } of this.#table(kind).list(idPrefix, '')) yield key;
    }
  }

  /** Drops a record without a change: the mirror does not tell whether it exists. */
  protected drop(key: string): void {
    const cut = key.indexOf('/') + 1;
    this.#reportedInvalid.delete(key);
    this.#tables.get(key.slice(0, cut))?.replace(key.slice(cut), undefined);
  }

  /** Changes the records to those of the revision, and returns the changes. */
  protected change(keyChanges: Iterable<KeyChange>): RecordChange[] {
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
    return changes;
  }

  /** Tells the changes of a revision. The mirror has then reached the revision `shown`. */
  protected tell(revision: Revision, changes: readonly RecordChange[], shown: Revision): void {
    this.#revision = shown;
    this.#changeWaiters.changed(revision, changes);
    this.#revisionWaiters.reached(shown);
    if (changes.length > 0) for (const listener of this.#listeners) this.#notify(listener, { revision, changes });
  }

  /** An exception of one listener must not keep the batch from the other listeners. */
  #notify(listener: (batch: MirrorBatch) => void, batch: MirrorBatch): void {
    try {
      listener(batch);
    } catch (err) {
      if (this.logger === undefined)
        queueMicrotask(() => {
          throw err;
        });
      else this.logger.error({ err }, 'a listener of the mirror failed');
    }
  }
}
