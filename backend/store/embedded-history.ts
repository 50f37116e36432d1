/**
 * The tables of the embedded store: every version of every key, in SQLite. This file is synchronous and knows nothing
 * of time, groups and watchers. embedded.ts calls it inside the transactions that it opens.
 *
 * `history` contains one row per key and revision; a deletion is a row without a value. The current state is the newest
 * row of each key. Compaction to revision C removes the rows that neither lists at C or later nor watches from C + 1
 * need. For each key, these are the rows before its newest row up to C, and that row too if it is a deletion.
 * Compaction first stores C and later deletes the rows in small steps, in the order of revisions. So a step is cheap,
 * and a crash between two steps does no harm.
 */
import { DatabaseSync } from 'node:sqlite';
import { prefixEnd } from './limits.ts';
import {
  type Change,
  type Commit,
  CompactedError,
  type Condition,
  type Entry,
  LeaseEndedError,
  type LeaseId,
  type Page,
  type Revision,
  type Write,
} from './store.ts';

const applicationId = 0x75636c64; // "ucld"
const schemaVersion = 1;
const schema = `
  CREATE TABLE history (
    key TEXT NOT NULL, revision INTEGER NOT NULL, created INTEGER NOT NULL, lease TEXT, value TEXT,
    PRIMARY KEY (key, revision)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX history_by_revision ON history (revision);
  CREATE INDEX history_by_lease ON history (lease) WHERE lease IS NOT NULL;
  CREATE TABLE leases (id TEXT PRIMARY KEY, ttl REAL NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL, compacted INTEGER NOT NULL, collected INTEGER NOT NULL
  ) STRICT;
  INSERT INTO state VALUES (1, 1, 0, 0);
  PRAGMA application_id = ${applicationId};
  PRAGMA user_version = ${schemaVersion};
`;

/** The changes of one revision. */
export interface RevisionChanges {
  readonly revision: Revision;
  readonly changes: readonly Change[];
}

/** The result of a commit. `changes` is empty if the commit wrote nothing or a condition failed. */
export interface CommitOutcome extends RevisionChanges {
  readonly ok: boolean;
}

interface Row {
  readonly key: string;
  readonly revision: number;
  readonly created: number;
  readonly value: string | null;
}

/** Gives a row of `history` its type. */
const asRow = (row: Record<string, unknown>): Row => row as unknown as Row;
const asEntry = ({ key, value, revision, created }: Row): Entry => ({ key, value: value ?? '', revision, created });

function open(path: string): DatabaseSync {
  const db = new DatabaseSync(path, { timeout: 0 });
  try {
    // EXCLUSIVE comes before WAL: SQLite then holds the lock from the first access until the file is closed, and the
    // kernel releases it when the process dies.
    db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
    db.exec('PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -65536; BEGIN EXCLUSIVE');
    const pragma = (name: string): unknown => Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0];
    const tables = db.prepare('SELECT count(*) AS count FROM sqlite_schema').get();
    if (tables?.count === 0) db.exec(schema);
    else if (pragma('application_id') !== applicationId) throw new Error('the file is a database of another program');
    else if (pragma('user_version') !== schemaVersion)
      throw new Error(
        `the file has version ${pragma('user_version')}, but this program reads version ${schemaVersion}`,
      );
    db.exec('COMMIT');
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** The history of all keys in one SQLite file. */
export class History {
  readonly #db: DatabaseSync;
  readonly #sql;
  #revision: Revision;
  #compacted: Revision;
  #collected: Revision;

  constructor(path: string) {
    const db = open(path);
    this.#db = db;
    this.#sql = {
      begin: db.prepare('BEGIN IMMEDIATE'),
      commit: db.prepare('COMMIT'),
      rollback: db.prepare('ROLLBACK'),
      state: db.prepare('SELECT revision, compacted, collected FROM state'),
      saveState: db.prepare('UPDATE state SET revision = ?, compacted = ?, collected = ?'),
      newest: db.prepare(
        'SELECT key, revision, created, value FROM history WHERE key = ? ORDER BY revision DESC LIMIT 1',
      ),
      // With max(), SQLite takes the other columns from the row with the maximum ("Bare columns in an aggregate
      // query").
      range: db.prepare(
        `SELECT key, max(revision) AS revision, created, value FROM history
         WHERE key >= ? AND key < ? AND revision <= ? GROUP BY key HAVING value IS NOT NULL ORDER BY key LIMIT ?`,
      ),
      since: db.prepare(
        `SELECT key, revision, created, value FROM history
         WHERE revision BETWEEN ? AND ? AND key >= ? AND key < ? ORDER BY revision, key`,
      ),
      insert: db.prepare('INSERT INTO history (key, revision, created, lease, value) VALUES (?, ?, ?, ?, ?)'),
      leaseKeys: db.prepare(
        `SELECT key FROM history AS h WHERE lease = ?
         AND NOT EXISTS (SELECT 1 FROM history AS n WHERE n.key = h.key AND n.revision > h.revision) ORDER BY key`,
      ),
      leases: db.prepare('SELECT id, ttl FROM leases'),
      hasLease: db.prepare('SELECT 1 FROM leases WHERE id = ?'),
      addLease: db.prepare('INSERT INTO leases (id, ttl) VALUES (?, ?)'),
      dropLease: db.prepare('DELETE FROM leases WHERE id = ?'),
      dropOlder: db.prepare(
        `DELETE FROM history WHERE (key, revision) IN (
           SELECT old.key, old.revision FROM history AS newer JOIN history AS old
           ON old.key = newer.key AND old.revision < newer.revision WHERE newer.revision > ? AND newer.revision <= ?)`,
      ),
      dropDeletions: db.prepare('DELETE FROM history WHERE revision > ? AND revision <= ? AND value IS NULL'),
    };
    const { revision, compacted, collected } = this.#loadState();
    this.#revision = revision;
    this.#compacted = compacted;
    this.#collected = collected;
  }

  /** The current revision. */
  get revision(): Revision {
    return this.#revision;
  }
  /** The revision that the history is compacted to. */
  get compacted(): Revision {
    return this.#compacted;
  }
  /** True while compacted rows still exist. */
  get hasGarbage(): boolean {
    return this.#collected < this.#compacted;
  }

  #loadState(): { revision: number; compacted: number; collected: number } {
    return this.#sql.state.get() as unknown as { revision: number; compacted: number; collected: number };
  }

  /** Runs `work` in one durable transaction. If `work` or the COMMIT throws, the transaction changes nothing. */
  transaction<T>(work: () => T): T {
    const before = { revision: this.#revision, compacted: this.#compacted, collected: this.#collected };
    try {
      this.#sql.begin.run();
      const result = work();
      if (
        before.revision !== this.#revision ||
        before.compacted !== this.#compacted ||
        before.collected !== this.#collected
      )
        this.#sql.saveState.run(this.#revision, this.#compacted, this.#collected);
      this.#sql.commit.run();
      return result;
    } catch (error) {
      if (this.#db.isTransaction) this.#sql.rollback.run();
      this.#revision = before.revision;
      this.#compacted = before.compacted;
      this.#collected = before.collected;
      throw error;
    }
  }

  /** Returns the current entry of the key. */
  get(key: string): Entry | undefined {
    const row = this.#sql.newest.get(key);
    return row === undefined || row.value === null ? undefined : asEntry(asRow(row));
  }

  /**
   * Lists the entries below the prefix at a revision.
   * @throws CompactedError if the revision is compacted
   * @throws RangeError if the revision is in the future
   */
  list(prefix: string, after: string | undefined, limit: number | undefined, at: Revision | undefined): Page {
    const revision = at ?? this.#revision;
    if (revision < this.#compacted) throw new CompactedError(this.#compacted);
    if (revision > this.#revision) throw new RangeError(`revision ${revision} is in the future`);
    // No key contains \x01, so the bound is the first key after `after`.
    const lower = after !== undefined && after >= prefix ? `${after}\x01` : prefix;
    const rows = this.#sql.range.all(lower, prefixEnd(prefix), revision, limit === undefined ? -1 : limit + 1);
    const more = limit !== undefined && rows.length > limit;
    if (more) rows.pop();
    return { entries: rows.map((row) => asEntry(asRow(row))), more, revision };
  }

  /**
   * Returns the commits from `from` to `to` (both inclusive) that changed a key below the prefix.
   * @throws CompactedError if `from` is compacted
   */
  since(prefix: string, from: Revision, to: Revision): RevisionChanges[] {
    if (from <= this.#compacted) throw new CompactedError(this.#compacted);
    const batches: { revision: Revision; changes: Change[] }[] = [];
    for (const raw of this.#sql.since.iterate(from, to, prefix, prefixEnd(prefix))) {
      const row = asRow(raw);
      const change: Change =
        row.value === null ? { type: 'delete', key: row.key } : { type: 'put', entry: asEntry(row) };
      const last = batches.at(-1);
      if (last?.revision === row.revision) last.changes.push(change);
      else batches.push({ revision: row.revision, changes: [change] });
    }
    return batches;
  }

  #holds(condition: Condition): boolean {
    if ('prefix' in condition) {
      const { prefix } = condition;
      return this.#sql.range.get(prefix, prefixEnd(prefix), this.#revision, 1) === undefined;
    }
    const entry = this.get(condition.key);
    return 'exists' in condition
      ? (entry !== undefined) === condition.exists
      : entry !== undefined && entry.revision === condition.revision;
  }

  #delete(key: string, revision: Revision, changes: Change[]): void {
    if (this.get(key) === undefined) return;
    this.#sql.insert.run(key, revision, 0, null, null);
    changes.push({ type: 'delete', key });
  }

  #write(write: Write, revision: Revision, changes: Change[]): void {
    if ('delete' in write) {
      this.#delete(write.delete, revision, changes);
      return;
    }
    if ('deletePrefix' in write) {
      const prefix = write.deletePrefix;
      for (const row of this.#sql.range.all(prefix, prefixEnd(prefix), this.#revision, -1))
        this.#delete(asRow(row).key, revision, changes);
      return;
    }
    const created = this.get(write.put)?.created ?? revision;
    this.#sql.insert.run(write.put, revision, created, write.lease ?? null, write.value);
    changes.push({ type: 'put', entry: { key: write.put, value: write.value, revision, created } });
  }

  /**
   * Checks the conditions of a commit and applies its writes. It must run inside `transaction`, and the commit must be
   * within the limits.
   * @throws LeaseEndedError if a write names a lease that does not exist
   */
  apply({ require = [], write }: Commit): CommitOutcome {
    if (!require.every((condition) => this.#holds(condition)))
      return { ok: false, revision: this.#revision, changes: [] };
    for (const one of write)
      if ('put' in one && one.lease !== undefined && this.#sql.hasLease.get(one.lease) === undefined)
        throw new LeaseEndedError(one.lease);
    const changes: Change[] = [];
    for (const one of write) this.#write(one, this.#revision + 1, changes);
    if (changes.length > 0) this.#revision += 1;
    return { ok: true, revision: this.#revision, changes };
  }

  /** Returns all leases with their time to live in seconds. */
  leases(): { id: LeaseId; ttl: number }[] {
    return this.#sql.leases.all() as unknown as { id: LeaseId; ttl: number }[];
  }

  /** Adds a lease with its time to live in seconds. */
  addLease(id: LeaseId, ttl: number): void {
    this.#sql.addLease.run(id, ttl);
  }

  /** Ends the lease and deletes its keys, in one commit. */
  endLease(id: LeaseId): CommitOutcome {
    const changes: Change[] = [];
    for (const row of this.#sql.leaseKeys.all(id)) this.#delete(String(row.key), this.#revision + 1, changes);
    this.#sql.dropLease.run(id);
    if (changes.length > 0) this.#revision += 1;
    return { ok: true, revision: this.#revision, changes };
  }

  /**
   * Marks the history as compacted to the revision. `collect` deletes the rows.
   * @throws RangeError if the revision is in the future
   */
  markCompacted(revision: Revision): void {
    if (revision > this.#revision) throw new RangeError(`revision ${revision} is in the future`);
    this.#compacted = Math.max(this.#compacted, revision);
  }

  /** Deletes the compacted rows of at most `maxRevisions` revisions. */
  collect(maxRevisions: number): void {
    const to = Math.min(this.#compacted, this.#collected + maxRevisions);
    this.#sql.dropOlder.run(this.#collected, to);
    this.#sql.dropDeletions.run(this.#collected, to);
    this.#collected = to;
  }

  close(): void {
    this.#db.close();
  }
}
