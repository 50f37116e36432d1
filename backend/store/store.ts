/**
 * The interface of the shared database, through which all components communicate. There are two drivers, `etcd.ts` and
 * `embedded.ts`, with one conformance suite (test/store).
 *
 * The semantics are those of etcd v3:
 * - The database has one revision counter. Every commit with a write raises it by 1, and all writes of the commit have
 *   the new revision.
 * - A commit is atomic: either all conditions hold and all writes happen, or nothing happens.
 * - An acknowledged commit is durable. A commit that failed with `store_unavailable` may or may not have happened.
 * - A watch delivers every commit from its first revision on, in order and as a whole, or ends with CompactedError.
 * - A key belongs to at most one lease. The end of a lease deletes its keys in one commit.
 *
 * Keys are paths of printable ASCII characters without a leading slash. Values are UTF-8 text of at most 1 MiB. Every
 * method rejects with UcloudError `store_unavailable` when the database does not answer in time.
 */
export type Revision = number;

/** A key with its value. */
export interface Entry {
  readonly key: string;
  readonly value: string;
  /** The revision of the last write. */
  readonly revision: Revision;
  /** The revision of the creation (since the last deletion). */
  readonly created: Revision;
}

/** A condition of a commit. */
export type Condition =
  | { readonly key: string; readonly exists: boolean }
  /** The last write of the key has exactly this revision. */
  | { readonly key: string; readonly revision: Revision }
  /** No key has the prefix. */
  | { readonly prefix: string; readonly empty: true };

/** A write of a commit. */
export type Write =
  | { readonly put: string; readonly value: string; readonly lease?: LeaseId }
  /** A deletion of an absent key does nothing. */
  | { readonly delete: string }
  | { readonly deletePrefix: string };

export type LeaseId = string;

/** A lease: a time limit for keys. The driver renews it. */
export interface Lease {
  readonly id: LeaseId;
  /** Aborted when the lease has ended or may have ended. The holder must then stop at once. */
  readonly lost: AbortSignal;
  /**
   * The time until which the lease certainly exists, on the clock of `performance.now()`. Each renewal extends it. It
   * counts from the sending of the renewal, so it is never too late.
   */
  readonly validUntil: number;
  /** Ends the lease and deletes its keys. */
  revoke(): Promise<void>;
}

/** Options of `list`. */
export interface ListOptions {
  readonly limit?: number;
  /** Only keys after this key. */
  readonly after?: string;
  /** Lists the database at this revision. Rejects with CompactedError if the revision is compacted. */
  readonly revision?: Revision;
}

/** A part of a list. */
export interface Page {
  /** The entries in the byte order of their keys. */
  readonly entries: readonly Entry[];
  /** True if the list has further entries. */
  readonly more: boolean;
  /** The revision that the page shows. Use it for the next page, or watch from `revision + 1`. */
  readonly revision: Revision;
}

/** A change of one key. */
export type Change =
  | { readonly type: 'put'; readonly entry: Entry }
  | { readonly type: 'delete'; readonly key: string };

/** All changes of one commit below the watched prefix. */
export interface Batch {
  readonly revision: Revision;
  readonly changes: readonly Change[];
}

/** The result of a commit. `ok` is false if a condition failed; nothing was written then. */
export type CommitResult = { readonly ok: true; readonly revision: Revision } | { readonly ok: false };

/** A transaction: conditions and writes. */
export interface Commit {
  readonly require?: readonly Condition[];
  /** The writes, at most one per key. */
  readonly write: readonly Write[];
}

/** The events of a `RangeWatch`. */
export interface RangeListener {
  /** A commit has changed these keys. A commit may come in several calls, and a late call may come after `reached`. */
  changed(batch: Batch): void;
  /** The listener has got all changes of the ranges up to the revision. */
  reached(revision: Revision): void;
  /** The watch has ended: with the error, or because the store is closed. */
  ended(error?: unknown): void;
}

/** A watch of several ranges, whose set may change. A range is a key, or a prefix that ends with `/`. */
export interface RangeWatch {
  /**
   * Adds a range. Resolves to a revision: the listener gets the later changes of the range.
   * @throws UcloudError `store_unavailable` if the watch has ended
   */
  add(range: string): Promise<Revision>;
  /** Removes a range. Changes that are on their way may still come. */
  remove(range: string): void;
  /** Asks for `reached` with this revision or a later one, as soon as possible. */
  expect(revision: Revision): void;
  close(): void;
}

/** The database. Every method may reject with UcloudError `store_unavailable`. */
export interface Store {
  /** Returns the current entry of the key; undefined if there is none. */
  get(key: string): Promise<Entry | undefined>;
  /** Lists the entries below the prefix. */
  list(prefix: string, options?: ListOptions): Promise<Page>;
  /** Commits a transaction. A commit without a result may or may not have happened. */
  commit(commit: Commit): Promise<CommitResult>;
  /**
   * Watches the changes below the prefix from `fromRevision` on. The revision may be in the past or in the future. The
   * watch ends without an error when `signal` aborts.
   */
  watch(prefix: string, fromRevision: Revision, signal?: AbortSignal): AsyncIterable<Batch>;
  /**
   * Watches several ranges together. A driver has it if this costs less than a watch of everything; see range-watch.ts. The
   * result is undefined if the database cannot tell when a commit is complete.
   */
  watchRanges?(listener: RangeListener): Promise<RangeWatch | undefined>;
  /**
   * Creates a lease. The driver renews it about three times per time to live until it is revoked or lost, or the store
   * is closed.
   * @param ttlSeconds the time to live in seconds, at least 1
   */
  lease(ttlSeconds: number): Promise<Lease>;
  /** Deletes the history before `revision`. */
  compact(revision: Revision): Promise<void>;
  /** Ends the watches and stops the renewal of leases. Does not revoke the leases. */
  close(): Promise<void>;
}

/** The requested revisions are compacted. The caller must list again and continue from there. */
export class CompactedError extends Error {
  constructor(oldest?: Revision) {
    super(oldest === undefined ? 'history was compacted' : `history before ${oldest} was compacted`);
    this.name = 'CompactedError';
  }
}

/** A write names a lease that has ended or never existed. Nothing was written. */
export class LeaseEndedError extends Error {
  constructor(lease: LeaseId) {
    super(`lease ${lease} has ended`);
    this.name = 'LeaseEndedError';
  }
}
