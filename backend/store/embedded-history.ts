/**
 * The tables of the embedded store: every version of every key, in SQLite. Synchronous and unaware of time, groups and
 * watchers; embedded.ts calls it within transactions that it opens.
 *
 * `history` holds one row per key and revision; a deletion is a row without value. The present state is the newest row
 * of each key. Compaction to C forgets what lists at C and later, and watches from C + 1 on, do not need: of each key
 * all rows older than its newest up to C, and that one too if it is a deletion. It is marked first and collected in
 * slices later, in the order of revisions, so a slice costs little and a crash between two leaves nothing wrong.
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

export interface RevisionChanges {
  readonly revision: Revision;
  readonly changes: readonly Change[];
}

/** What a commit did. `changes` is empty if nothing had to be written, or a condition did not hold. */
export interface Outcome extends RevisionChanges {
  readonly ok: boolean;
}

interface Row {
  readonly key: string;
  readonly revision: number;
  readonly created: number;
  readonly value: string | null;
}

/** Rows of `history` as the statements below select them. */
const asRow = (row: Record<string, unknown>): Row => row as unknown as Row;
const asEntry = ({ key, value, revision, created }: Row): Entry => ({ key, value: value ?? '', revision, created });

function open(path: string): DatabaseSync {
  const db = new DatabaseSync(path, { timeout: 0 });
  try {
    // EXCLUSIVE before WAL: the lock is held from the first access until closing, and dies with the process.
    db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
    db.exec('PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -65536; BEGIN EXCLUSIVE');
    const pragma = (name: string): unknown => Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0];
    const tables = db.prepare('SELECT count(*) AS count FROM sqlite_schema').get();
    if (tables?.count === 0) db.exec(schema);
    else if (pragma('application_id') !== applicationId) throw new Error('it is a database of another program');
    else if (pragma('user_version') !== schemaVersion)
      throw new Error(`it has version ${pragma('user_version')}, this program reads version ${schemaVersion}`);
    db.exec('COMMIT');
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

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
      // With max() the bare columns come from the row that holds the maximum (SQLite, "Bare columns in an aggregate").
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

  get revision(): Revision {
    return this.#revision;
  }
  get compacted(): Revision {
    return this.#compacted;
  }
  /** Whether compacted history is still to be collected. */
  get hasGarbage(): boolean {
    return this.#collected < this.#compacted;
  }

  #loadState(): { revision: number; compacted: number; collected: number } {
    return this.#sql.state.get() as unknown as { revision: number; compacted: number; collected: number };
  }

  /** Runs `work` in one durable transaction. If it or the COMMIT throws, nothing of it has happened. */
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

  get(key: string): Entry | undefined {
    const row = this.#sql.newest.get(key);
    return row === undefined || row.value === null ? undefined : asEntry(asRow(row));
  }

  list(prefix: string, after: string | undefined, limit: number | undefined, at: Revision | undefined): Page {
    const revision = at ?? this.#revision;
    if (revision < this.#compacted) throw new CompactedError(this.#compacted);
    if (revision > this.#revision) throw new RangeError(`revision ${revision} lies in the future`);
    // No key contains \x01, so this bound means "after".
    const lower = after !== undefined && after >= prefix ? `${after}\x01` : prefix;
    const rows = this.#sql.range.all(lower, prefixEnd(prefix), revision, limit === undefined ? -1 : limit + 1);
    const more = limit !== undefined && rows.length > limit;
    if (more) rows.pop();
    return { entries: rows.map((row) => asEntry(asRow(row))), more, revision };
  }

  /** The commits from `from` to `to` (both included) that touched the prefix. */
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

  /** Evaluates and applies one commit, which must be within the limits, inside `transaction`. */
  apply({ require = [], write }: Commit): Outcome {
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

  leases(): { id: LeaseId; ttl: number }[] {
    return this.#sql.leases.all() as unknown as { id: LeaseId; ttl: number }[];
  }

  addLease(id: LeaseId, ttl: number): void {
    this.#sql.addLease.run(id, ttl);
  }

  /** Ends the lease and deletes its keys in one commit. */
  endLease(id: LeaseId): Outcome {
    const changes: Change[] = [];
    for (const row of this.#sql.leaseKeys.all(id)) this.#delete(String(row.key), this.#revision + 1, changes);
    this.#sql.dropLease.run(id);
    if (changes.length > 0) this.#revision += 1;
    return { ok: true, revision: this.#revision, changes };
  }

  markCompacted(revision: Revision): void {
    if (revision > this.#revision) throw new RangeError(`revision ${revision} lies in the future`);
    this.#compacted = Math.max(this.#compacted, revision);
  }

  /** Collects at most `revisions` revisions of compacted history. */
  collect(revisions: number): void {
    const to = Math.min(this.#compacted, this.#collected + revisions);
    this.#sql.dropOlder.run(this.#collected, to);
    this.#sql.dropDeletions.run(this.#collected, to);
    this.#collected = to;
  }

  close(): void {
    this.#db.close();
  }
}
