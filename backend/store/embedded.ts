/**
 * The store inside the process, on SQLite.
 *
 * Group commit: the commits that arrive in one turn of the event loop are evaluated one after the other, each with a
 * revision of its own, in one SQLite transaction. Only when its COMMIT has reached the disk (WAL, synchronous=FULL) are
 * they acknowledged and shown to watchers; reads see only what is durable, because a whole group is one synchronous
 * step. Were the disk to fail, all of the group fail with store_unavailable and nothing of it stays.
 *
 * One process: the file is locked exclusively as long as it is open; the kernel drops the lock with the process. Within
 * the process `session()` gives further handles with watches and leases of their own.
 *
 * Leases are kept in the file, their deadlines in memory: after a restart each has its whole ttl again, as the time
 * that the database was not there cannot be held against its holder.
 *
 * Growth is bounded: once a minute, and every 10,000 revisions, history that is older than five minutes, or more than
 * 50,000 revisions back, is compacted away.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { UcloudError } from '../contract/errors.ts';
import { BatchQueue } from './batch-queue.ts';
import { History, type RevisionChanges } from './embedded-history.ts';
import { checkCommit, checkKey, checkLimit, checkPrefix, checkRevision, checkTtl } from './limits.ts';
import { ensurePrivateFile } from './private-files.ts';
import {
  type Batch,
  type Commit,
  type CommitResult,
  type Entry,
  type Lease,
  LeaseEndedError,
  type LeaseId,
  type ListOptions,
  type Page,
  type Revision,
  type Store,
} from './store.ts';

/** The options of the embedded store. */
export interface EmbeddedStoreOptions {
  /** File, made with its directory if absent; `:memory:` for a database that is never written to disk. */
  readonly path: string;
}

/** The embedded store. */
export interface EmbeddedStore extends Store {
  /** Another handle on the same database. Closing it ends its watches and renewals, and not the database. */
  session(): Store;
}

const historyMilliseconds = 5 * 60_000;
const historyRevisions = 50_000;
const compactEveryRevisions = 10_000;
const compactEveryMilliseconds = 60_000;
/** Commits of one transaction at most, so that the event loop is never held for long. */
const groupSize = 1024;
/** Revisions read for a late watcher in one step. */
const sliceSize = 500;
/** Revisions collected in one step; each may hold a hundred deletions. */
const collectSize = 64;
/** Batches kept in memory for a watcher; one that is further behind reads from history. */
const queueLimit = 1024;

/** A step of the database thread of work: runs inside the group's transaction, then is settled. */
interface Job {
  run(): RevisionChanges | undefined;
  done(): void;
  fail(error: unknown): void;
}

interface Watcher {
  readonly prefix: string;
  readonly queue: BatchQueue;
  /** First revision not yet queued. */
  next: Revision;
}

class Database {
  readonly history: History;
  readonly watchers = new Set<Watcher>();
  readonly #deadlines = new Map<LeaseId, { ttl: number; timer: NodeJS.Timeout }>();
  /** Times at which revisions were reached, oldest first: what "five minutes old" means. */
  readonly #marks: { revision: Revision; at: number }[] = [];
  readonly #compactor: NodeJS.Timeout;
  #jobs: Job[] = [];
  #flushing = false;
  #closed = false;
  #compactedAt: Revision;

  constructor(path: string) {
    this.history = new History(path);
    this.#compactedAt = this.history.revision;
    for (const { id, ttl } of this.history.leases()) this.startDeadline(id, ttl);
    this.#compactor = setInterval(() => this.#compactOld(), compactEveryMilliseconds);
    this.#compactOld();
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Runs `work` in the next group and resolves when it is durable. */
  async submit<T>(work: () => { result: T; changes?: RevisionChanges }): Promise<T> {
    if (this.#closed) throw new UcloudError('store_unavailable', 'the embedded store is closed');
    return new Promise<T>((resolve, reject) => {
      let result: { value: T } | undefined;
      this.#jobs.push({
        run: () => {
          const outcome = work();
          result = { value: outcome.result };
          return outcome.changes;
        },
        done: () => (result === undefined ? undefined : resolve(result.value)),
        fail: reject,
      });
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#flushing || this.#jobs.length === 0) return;
    this.#flushing = true;
    setImmediate(() => {
      this.#flushing = false;
      this.#flush();
      this.#schedule();
    });
  }

  #flush(): void {
    const group = this.#jobs.splice(0, groupSize);
    if (group.length === 0) return;
    const settle: (() => void)[] = [];
    const changes: RevisionChanges[] = [];
    try {
      this.history.transaction(() => {
        for (const job of group) {
          try {
            const made = job.run();
            if (made !== undefined && made.changes.length > 0) changes.push(made);
            settle.push(() => job.done());
          } catch (error) {
            if (!(error instanceof LeaseEndedError || error instanceof RangeError)) throw error;
            // The job itself was refused, before it wrote anything; the others go on.
            settle.push(() => job.fail(error));
          }
        }
      });
    } catch (cause) {
      const error = unavailable(cause);
      for (const job of group) job.fail(error);
      return;
    }
    for (const one of changes) this.#publish(one);
    for (const one of settle) one();
    if (this.history.revision - this.#compactedAt >= compactEveryRevisions) this.#compactOld();
  }

  #publish({ revision, changes }: RevisionChanges): void {
    for (const watcher of this.watchers) {
      // One that starts later, or is behind and reads from history, is only woken.
      if (watcher.next !== revision) {
        watcher.queue.wake();
        continue;
      }
      const { prefix, queue } = watcher;
      const own = changes.filter((change) =>
        (change.type === 'put' ? change.entry.key : change.key).startsWith(prefix),
      );
      if (own.length === 0 || queue.push({ revision, changes: own })) watcher.next = revision + 1;
    }
  }

  startDeadline(id: LeaseId, ttl: number): void {
    const timer = setTimeout(() => {
      this.endLease(id).catch(() => {
        // The disk failed; the lease has still run out, so try again after another ttl.
        if (this.#deadlines.has(id) || this.#closed) return;
        this.startDeadline(id, ttl);
      });
    }, ttl * 1000).unref();
    this.#deadlines.set(id, { ttl, timer });
  }

  /** Gives the lease its whole ttl again; false if it has ended. */
  renew(id: LeaseId): boolean {
    const deadline = this.#deadlines.get(id);
    if (deadline === undefined || this.#closed) return false;
    deadline.timer.refresh();
    return true;
  }

  async endLease(id: LeaseId): Promise<void> {
    clearTimeout(this.#deadlines.get(id)?.timer);
    this.#deadlines.delete(id);
    await this.submit(() => ({ result: undefined, changes: this.history.endLease(id) }));
  }

  #compactOld(): void {
    const now = performance.now();
    const { revision } = this.history;
    this.#compactedAt = revision;
    this.#marks.push({ revision, at: now });
    let target = revision - historyRevisions;
    while (this.#marks[0] !== undefined && now - this.#marks[0].at >= historyMilliseconds)
      target = Math.max(target, this.#marks.shift()?.revision ?? 0);
    if (target <= this.history.compacted && !this.history.hasGarbage) return;
    // A failure of the disk is told to whoever writes next; here the next round tries again.
    this.compact(Math.max(target, this.history.compacted)).catch(() => undefined);
  }

  async compact(revision: Revision): Promise<void> {
    await this.submit(() => ({ result: this.history.markCompacted(revision) }));
    while (this.history.hasGarbage && !this.#closed)
      await this.submit(() => ({ result: this.history.collect(collectSize) }));
  }

  close(): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    clearInterval(this.#compactor);
    for (const { timer } of this.#deadlines.values()) clearTimeout(timer);
    for (const job of this.#jobs) job.fail(new UcloudError('store_unavailable', 'the embedded store is closed'));
    this.#jobs = [];
    this.history.close();
  }
}

const isDatabaseError = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'ERR_SQLITE_ERROR';

const unavailable = (cause: unknown): UcloudError =>
  new UcloudError('store_unavailable', `the embedded store failed: ${cause instanceof Error ? cause.message : cause}`, {
    cause,
  });

class HeldLease implements Lease {
  readonly id: LeaseId;
  readonly #database: Database;
  readonly #lost = new AbortController();
  readonly #ttl: number;
  #validUntil: number;
  #timer: NodeJS.Timeout;

  constructor(database: Database, id: LeaseId, ttl: number, grantedAt: number) {
    this.id = id;
    this.#database = database;
    this.#ttl = ttl;
    this.#validUntil = grantedAt + ttl * 1000;
    this.#timer = setInterval(() => this.#renew(), (ttl * 1000) / 3).unref();
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }
  get validUntil(): number {
    return this.#validUntil;
  }

  #renew(): void {
    const sent = performance.now();
    if (this.#database.renew(this.id)) this.#validUntil = sent + this.#ttl * 1000;
    else this.#end();
  }

  #end(): void {
    clearInterval(this.#timer);
    this.#lost.abort(new Error(`lease ${this.id} has ended`));
  }

  /** No more renewals: the store is closing. The holder must count the lease as lost. */
  abandon(): void {
    this.#end();
  }

  async revoke(): Promise<void> {
    this.#end();
    await this.#database.endLease(this.id);
  }
}

class Session implements EmbeddedStore {
  readonly #database: Database;
  readonly #owner: boolean;
  readonly #sessions: Set<Session>;
  readonly #leases = new Set<HeldLease>();
  readonly #watchers = new Set<Watcher>();
  #closed = false;

  constructor(database: Database, sessions: Set<Session>, owner: boolean) {
    this.#database = database;
    this.#sessions = sessions;
    this.#owner = owner;
    sessions.add(this);
  }

  session(): Store {
    this.#check();
    return new Session(this.#database, this.#sessions, false);
  }

  #check(): void {
    if (this.#closed || this.#database.closed)
      throw new UcloudError('store_unavailable', 'the embedded store is closed');
  }

  async #read<T>(read: () => T): Promise<T> {
    this.#check();
    try {
      return read();
    } catch (error) {
      throw isDatabaseError(error) ? unavailable(error) : error;
    }
  }

  async get(key: string): Promise<Entry | undefined> {
    checkKey(key);
    return this.#read(() => this.#database.history.get(key));
  }

  async list(prefix: string, { limit, after, revision }: ListOptions = {}): Promise<Page> {
    checkPrefix(prefix);
    if (revision !== undefined) checkRevision(revision);
    if (limit !== undefined) checkLimit(limit);
    return this.#read(() => this.#database.history.list(prefix, after, limit, revision));
  }

  async commit(commit: Commit): Promise<CommitResult> {
    checkCommit(commit);
    this.#check();
    return this.#database.submit((): { result: CommitResult; changes: RevisionChanges } => {
      const { ok, revision, changes } = this.#database.history.apply(commit);
      return { result: ok ? { ok, revision } : { ok }, changes: { revision, changes } };
    });
  }

  async *watch(prefix: string, fromRevision: Revision, signal?: AbortSignal): AsyncGenerator<Batch, void> {
    checkPrefix(prefix);
    checkRevision(fromRevision);
    this.#check();
    const { history, watchers } = this.#database;
    // Revision 1 is the empty database.
    const watcher: Watcher = { prefix, queue: new BatchQueue(queueLimit), next: Math.max(2, fromRevision) };
    const { queue } = watcher;
    const end = (): void => queue.end();
    signal?.addEventListener('abort', end, { once: true });
    watchers.add(watcher);
    this.#watchers.add(watcher);
    try {
      while (!queue.ended && !signal?.aborted) {
        for (const batch of queue.take()) {
          if (signal?.aborted || this.#closed) return;
          yield batch;
        }
        if (queue.ended) return;
        if (watcher.next > history.revision) {
          await queue.changed();
        } else if (!queue.pending) {
          // Behind: read a slice of history. It is queued before anything newer, since nothing runs in between.
          const to = Math.min(history.revision, watcher.next + sliceSize - 1);
          for (const batch of history.since(prefix, watcher.next, to)) queue.push(batch);
          watcher.next = to + 1;
        }
      }
    } catch (error) {
      throw isDatabaseError(error) ? unavailable(error) : error;
    } finally {
      signal?.removeEventListener('abort', end);
      watchers.delete(watcher);
      this.#watchers.delete(watcher);
    }
  }

  async lease(ttl: number): Promise<Lease> {
    checkTtl(ttl);
    this.#check();
    const database = this.#database;
    const id = randomBytes(8).toString('hex');
    const sent = performance.now();
    await database.submit(() => ({ result: database.history.addLease(id, ttl) }));
    database.startDeadline(id, ttl);
    const lease = new HeldLease(database, id, ttl, sent);
    if (this.#closed) lease.abandon();
    else this.#leases.add(lease);
    lease.lost.addEventListener('abort', () => this.#leases.delete(lease), { once: true });
    return lease;
  }

  async compact(revision: Revision): Promise<void> {
    checkRevision(revision);
    this.#check();
    await this.#database.compact(revision);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#sessions.delete(this);
    for (const watcher of this.#watchers) watcher.queue.end();
    for (const lease of this.#leases) lease.abandon();
    if (!this.#owner) return;
    for (const session of this.#sessions) await session.close();
    this.#database.close();
  }
}

/**
 * Opens, and makes if absent, the embedded store. Rejects with store_unavailable if another process has the file open, or if
 * it is not a database of this program and version.
 */
export async function openEmbeddedStore({ path }: EmbeddedStoreOptions): Promise<EmbeddedStore> {
  try {
    // Only the last directory: a mistyped path is to fail, not to be made.
    if (path !== ':memory:') {
      if (!existsSync(dirname(path))) mkdirSync(dirname(path), { mode: 0o700 });
      ensurePrivateFile(path);
      // SQLite makes its other files as this one is; those of a process that has crashed may be older.
      for (const other of [`${path}-wal`, `${path}-shm`, `${path}-journal`])
        if (existsSync(other)) ensurePrivateFile(other);
    }
    return new Session(new Database(path), new Set(), true);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    const detail = /database is locked/.test(message)
      ? `the embedded store ${path} is in use by another process`
      : `cannot open the embedded store ${path}: ${message}`;
    throw new UcloudError('store_unavailable', detail, { cause });
  }
}
