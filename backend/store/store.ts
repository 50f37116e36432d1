/**
 * The shared database. Components meet only here. Two drivers, `etcd.ts` and `embedded.ts`, obey this file and one
 * conformance suite (test/store).
 *
 * Semantics, those of etcd v3:
 * - One revision counter for the whole database; every commit that writes raises it by one, and all its writes carry
 *   the new revision.
 * - A commit is atomic: all its conditions hold and all its writes happen, or nothing does.
 * - An acknowledged commit is durable. One that failed with `store_unavailable` may or may not have happened.
 * - A watch sees every commit from its first revision on, in order, each commit whole, or ends with CompactedError.
 * - Keys belong to at most one lease; when it ends they are deleted in one commit.
 *
 * Keys are paths of printable ASCII without a leading slash; values are UTF-8 text of at most 1 MiB.
 * Every method rejects with UcloudError('store_unavailable') when the database does not answer in time.
 */
export type Revision = number;

export interface Entry {
  readonly key: string;
  readonly value: string;
  /** Revision of the commit that last wrote the key. */
  readonly revision: Revision;
  /** Revision of the commit that created it (since its last deletion). */
  readonly created: Revision;
}

export type Condition =
  | { readonly key: string; readonly exists: boolean }
  /** The key was last written at exactly this revision. */
  | { readonly key: string; readonly revision: Revision }
  /** No key starts with the prefix. */
  | { readonly prefix: string; readonly empty: true };

export type Write =
  | { readonly put: string; readonly value: string; readonly lease?: LeaseId }
  /** Deleting what is not there is allowed and does nothing. */
  | { readonly delete: string }
  | { readonly deletePrefix: string };

export type LeaseId = string;

export interface Lease {
  readonly id: LeaseId;
  /** Aborted when the lease has ended or may have ended: whoever relies on it must stop at once. */
  readonly lost: AbortSignal;
  /**
   * Time on the clock of `performance.now()` until which the lease is sure to live. Moves on with each successful
   * renewal; counted from when the renewal was sent, so it errs on the safe side.
   */
  readonly validUntil: number;
  /** Ends the lease and deletes its keys. */
  revoke(): Promise<void>;
}

export interface ListOptions {
  readonly limit?: number;
  /** Only keys after this one. */
  readonly after?: string;
  /** As the database was at this revision. Rejects with CompactedError if that is gone. */
  readonly revision?: Revision;
}

export interface Page {
  /** In byte order of the keys. */
  readonly entries: readonly Entry[];
  readonly more: boolean;
  /** Revision that the page shows: for the next page, or to watch from `revision + 1`. */
  readonly revision: Revision;
}

export type Change =
  | { readonly type: 'put'; readonly entry: Entry }
  | { readonly type: 'delete'; readonly key: string };

/** All changes of one commit below the watched prefix. */
export interface Batch {
  readonly revision: Revision;
  readonly changes: readonly Change[];
}

export type CommitResult = { readonly ok: true; readonly revision: Revision } | { readonly ok: false };

export interface Commit {
  readonly require?: readonly Condition[];
  /** At most one write per key. */
  readonly write: readonly Write[];
}

export interface Store {
  get(key: string): Promise<Entry | undefined>;
  list(prefix: string, options?: ListOptions): Promise<Page>;
  /** `ok: false`: a condition did not hold, nothing was written. */
  commit(commit: Commit): Promise<CommitResult>;
  /** From `fromRevision` on, which may lie in the past or the future. Ends without error when `signal` aborts. */
  watch(prefix: string, fromRevision: Revision, signal?: AbortSignal): AsyncIterable<Batch>;
  /** Renewed by itself about three times per `ttl` (seconds, at least 1) until revoked, lost, or the store is closed. */
  lease(ttl: number): Promise<Lease>;
  /** Drops history older than `revision`. */
  compact(revision: Revision): Promise<void>;
  /** Ends watches and stops renewing leases (without revoking them). */
  close(): Promise<void>;
}

/** The revisions asked for have been compacted away: list anew and go on from there. */
export class CompactedError extends Error {
  constructor(oldest?: Revision) {
    super(oldest === undefined ? 'history was compacted' : `history before ${oldest} was compacted`);
    this.name = 'CompactedError';
  }
}

/** A write names a lease that has ended or never was. Nothing was written. */
export class LeaseEndedError extends Error {
  constructor(lease: LeaseId) {
    super(`lease ${lease} has ended`);
    this.name = 'LeaseEndedError';
  }
}
