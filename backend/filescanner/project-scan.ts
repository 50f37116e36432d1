/**
 * One scan of the directory of a project, or of some names in it: compares the files with their records. It holds no list of
 * all files in memory, and gives new and changed files to reading in batches while it goes on.
 */
import type { BigIntStats } from 'node:fs';
import type { Id } from '../contract/fields.ts';
import { fingerprintOf } from '../model/file/fingerprint.ts';
import { isHidden } from '../model/file/name-text.ts';
import { fileId } from '../model/file/names.ts';
import type { QuietSince } from '../model/file/quiet-since.ts';
import { type Candidate, type Candidates, maxCandidates } from './candidates.ts';
import { type Directory, isOfEntry, isPlainFile } from './directory.ts';
import type { KnownProject } from './known-files.ts';
import { fits } from './recorder.ts';
import type { Work } from './turns.ts';
import { openForWriting } from './writers.ts';

/** The entries after which another project has its turn. */
const sliceEntries = 1024;
/** The files whose state is asked for at the same time. */
const groupSize = 8;
/** The maximum number of files of a project that are watched one by one until they are quiet. Further files wait. */
const maxUnquiet = 10_000;
/** The maximum number of files that one scan deletes. */
const maxDoomed = 10_000;

/** A new or changed file that is not yet known to be complete. */
interface Unquiet {
  fingerprint: string;
  /** The time when the scanner first saw this fingerprint, on the clock of `performance.now()`. */
  since: number;
  /** The number of the last scan that saw it. */
  seen: number;
}

/** The new and changed files of a project that may still be written. */
export class UnquietFiles {
  readonly #files = new Map<Id<'file'>, Unquiet>();
  #scan = 0;

  beginScan(): void {
    this.#scan++;
  }

  /** Notes a file, and returns the time since when it is unchanged; undefined if there are too many files. */
  since(id: Id<'file'>, fingerprint: string, now: number): number | undefined {
    let file = this.#files.get(id);
    if (file === undefined) {
      if (this.#files.size >= maxUnquiet) return undefined;
      file = { fingerprint, since: now, seen: 0 };
      this.#files.set(id, file);
    }
    if (file.fingerprint !== fingerprint) Object.assign(file, { fingerprint, since: now });
    file.seen = this.#scan;
    return file.since;
  }

  /** Forgets the files that the scan has not seen. */
  endScan(): void {
    for (const [id, { seen }] of this.#files) if (seen !== this.#scan) this.#files.delete(id);
  }
}

/** The result of a scan of a whole directory. */
export interface ProjectScan {
  /** Further files that may be complete soon. */
  readonly waiting: boolean;
  /** The number of new files that have no record, because they exceed a limit. */
  readonly refused: number;
  /** The files whose deletion is requested, by id. */
  readonly doomed: ReadonlyMap<Id<'file'>, Buffer>;
  /** The number of entries of the directory. */
  readonly entries: number;
}

/** The result of a look at some names of a directory. */
export interface NamesScan {
  /** The names of files that may be complete soon. */
  readonly again: readonly Buffer[];
  /** The files that have a record, and no longer their name. */
  readonly gone: readonly Id<'file'>[];
  /** The files whose deletion is requested, by id. */
  readonly doomed: ReadonlyMap<Id<'file'>, Buffer>;
}

/** Options of a look at some names. */
export interface NamesScanOptions {
  readonly server: Id<'file_server'>;
  readonly project: Id<'project'>;
  readonly known: KnownProject;
  readonly unquiet: UnquietFiles;
  readonly quietSince: QuietSince;
  /** The time for which a file must be unchanged, in milliseconds. */
  readonly quietMs: number;
  readonly maxFileBytes: number;
  /** The files that uploads have put there: they are complete. */
  readonly uploaded: ReadonlySet<Id<'file'>>;
  readonly isDoomed: (id: Id<'file'>) => boolean;
  /** Returns the files and bytes that the project may have in addition. */
  readonly room: () => { readonly files: number; readonly bytes: number };
  readonly candidates: Candidates;
  /** Reads the files of a new batch. */
  readonly read: () => void;
  readonly signal: AbortSignal;
}

/** Options of a scan of a whole directory. */
export interface ScanOptions extends NamesScanOptions {
  /** The time for which the scan waits for the reading of a batch. It then goes on without further files. */
  readonly maxReadingMs: number;
  /** The scan ends without a result when the directory has more entries. */
  readonly maxEntries: number;
}

type Found = Candidate & { readonly id: Id<'file'>; readonly inode: string };

class Scan {
  readonly #directory: Directory;
  readonly #options: NamesScanOptions;
  readonly #maxReadingMs: number;
  /** Only for a look at some names, which does not mark each file as seen once. */
  readonly #byName: { readonly again: Buffer[]; readonly gone: Id<'file'>[] } | undefined;
  readonly doomed = new Map<Id<'file'>, Buffer>();
  waiting = false;
  refused = 0;
  #found: Found[] = [];
  #foundBytes = 0;
  #foundNew = 0;
  #collects = true;
  #room: ReturnType<ScanOptions['room']>;

  constructor(
    directory: Directory,
    options: NamesScanOptions,
    maxReadingMs: number,
    byName?: { readonly again: Buffer[]; readonly gone: Id<'file'>[] },
  ) {
    this.#directory = directory;
    this.#options = options;
    this.#maxReadingMs = maxReadingMs;
    this.#byName = byName;
    this.#room = options.room();
  }

  get full(): boolean {
    return this.#found.length >= maxCandidates;
  }

  async look(names: readonly Buffer[]): Promise<void> {
    const { quietSince, server, project, known } = this.#options;
    const states = await Promise.all(
      names.map((name) =>
        this.#directory.lstat(name).catch((error: unknown) => {
          if (!isOfEntry(error)) throw error;
          // The file is there, and nothing is known of it. It keeps its record.
          known.see(fileId(server, project, name));
          return 'unknown' as const;
        }),
      ),
    );
    const now = performance.now();
    quietSince.tick(now);
    const wallNs = BigInt(Date.now()) * 1_000_000n;
    for (const [i, stats] of states.entries()) {
      const name = names[i] as Buffer;
      if (stats === 'unknown') continue;
      if (!stats || !isPlainFile(stats)) {
        const id = fileId(server, project, name);
        if (this.#byName && known.get(id)) this.#byName.gone.push(id);
        continue;
      }
      quietSince.note(stats.ctimeNs, wallNs);
      this.#compare(name, stats, now, wallNs);
    }
  }

  /** Leaves a file to a later scan. */
  #leave(name: Buffer): void {
    this.waiting = true;
    this.#byName?.again.push(name);
  }

  #compare(name: Buffer, stats: BigIntStats, now: number, wallNs: bigint): void {
    const { server, project, known, isDoomed } = this.#options;
    const id = fileId(server, project, name);
    const before = known.get(id);
    // Two names with the same id need 2^40 tries of their owner. The first one counts.
    if (before && !known.see(id) && !this.#byName) return;
    if (isDoomed(id)) {
      if (this.doomed.size < maxDoomed) this.doomed.set(id, name);
      else this.#leave(name);
      return;
    }
    const fingerprint = fingerprintOf(stats);
    if (before?.fingerprint === fingerprint) return;
    const size = Number(stats.size);
    const room = { files: this.#room.files - this.#foundNew, bytes: this.#room.bytes - this.#foundBytes };
    // A file with a record goes to reading, which removes the record.
    if (!before && (size > this.#options.maxFileBytes || !fits(room, 1, size))) {
      this.refused++;
      return;
    }
    if (!this.#collects || this.full || !this.#isComplete(id, fingerprint, stats.ctimeNs, now, wallNs)) {
      this.#leave(name);
      return;
    }
    this.#found.push({ id, name, fingerprint, inode: `${stats.dev}:${stats.ino}` });
    this.#foundBytes += size - (before?.size ?? 0);
    if (!before) this.#foundNew++;
  }

  #isComplete(id: Id<'file'>, fingerprint: string, changedNs: bigint, now: number, wallNs: bigint): boolean {
    const { quietMs, quietSince, uploaded, unquiet } = this.#options;
    if (uploaded.has(id)) return true;
    // Both clocks must agree, so that no wrong clock makes a file complete.
    if (quietSince.isQuiet(changedNs) && changedNs <= wallNs - BigInt(quietMs) * 1_000_000n) return true;
    const since = unquiet.since(id, fingerprint, now);
    return since !== undefined && now - since >= quietMs;
  }

  /** Gives the complete files to reading. Yields while an earlier batch is being read. */
  async *flush(): Work {
    const { candidates, known, read, signal, room } = this.#options;
    if (this.#found.length === 0) return;
    if (candidates.busy && this.#maxReadingMs > 0) yield { until: candidates.idle(this.#maxReadingMs, signal) };
    // The earlier batch may have recorded some of these files.
    const found = this.#found.filter(({ id, fingerprint }) => known.get(id)?.fingerprint !== fingerprint);
    const written = await openForWriting(new Set(found.map(({ inode }) => inode)));
    const batch: Found[] = [];
    for (const file of found) {
      if (written.has(file.inode)) this.#leave(file.name);
      else batch.push(file);
    }
    if (candidates.busy) {
      // A large file may take hours, and the next scan finds the rest again.
      candidates.fillUrgent(batch);
      this.#collects = false;
      for (const { name } of batch) this.#leave(name);
    } else if (batch.length > 0) {
      candidates.fill(batch);
      read();
    }
    const { files, bytes } = room();
    // The batch is not recorded yet, and takes room.
    this.#room = { files: files - this.#foundNew, bytes: bytes - this.#foundBytes };
    this.#found = [];
    this.#foundBytes = 0;
    this.#foundNew = 0;
  }
}

/** Scans the directory. It reads no content. Returns undefined if the directory has more than `maxEntries` entries. */
export async function* scanProject(directory: Directory, options: ScanOptions): Work<ProjectScan | undefined> {
  const { known, unquiet, maxEntries, maxReadingMs, signal } = options;
  known.beginScan();
  unquiet.beginScan();
  const scan = new Scan(directory, options, maxReadingMs);
  let entries = 0;
  let group: Buffer[] = [];
  for await (const name of directory.names()) {
    signal.throwIfAborted();
    entries++;
    if (entries > maxEntries) return undefined;
    if (!isHidden(name)) group.push(name);
    if (group.length >= groupSize) {
      await scan.look(group);
      group = [];
      if (scan.full) yield* scan.flush();
    }
    if (entries % sliceEntries === 0) yield;
  }
  await scan.look(group);
  yield* scan.flush();
  unquiet.endScan();
  return { waiting: scan.waiting, refused: scan.refused, doomed: scan.doomed, entries };
}

/** Looks at some names of the directory only. It reads no content, and waits for no reading. */
export async function* scanNames(
  directory: Directory,
  names: readonly Buffer[],
  options: NamesScanOptions,
): Work<NamesScan> {
  const again: Buffer[] = [];
  const gone: Id<'file'>[] = [];
  const scan = new Scan(directory, options, 0, { again, gone });
  for (let from = 0; from < names.length; from += groupSize) {
    options.signal.throwIfAborted();
    await scan.look(names.slice(from, from + groupSize));
    if (scan.full) yield* scan.flush();
    if ((from + groupSize) % sliceEntries === 0) yield;
  }
  yield* scan.flush();
  return { again, gone, doomed: scan.doomed };
}
