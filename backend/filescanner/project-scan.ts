/** One scan of the directory of a project: compares the files with their records. */
import type { Id } from '../contract/fields.ts';
import { fingerprintOf } from '../model/file/fingerprint.ts';
import { isHidden } from '../model/file/name-text.ts';
import { fileId } from '../model/file/names.ts';
import { type Directory, isPlainFile } from './directory.ts';
import type { KnownProject } from './known-files.ts';
import type { Candidate } from './reading.ts';
import { openForWriting } from './writers.ts';

/** The maximum number of files that one scan gives to reading. The next scan follows at once. */
const maxCandidates = 10_000;
/** The maximum number of files that are watched for changes until they are quiet. Further files wait. */
const maxUnquiet = 100_000;

/** A new or changed file that is not yet known to be complete. */
interface Unquiet {
  readonly fingerprint: string;
  /** The time when the scanner first saw this fingerprint, on the clock of `performance.now()`. */
  readonly since: number;
}

/** The new and changed files of a project, which may still be written. */
export type UnquietFiles = Map<Id<'file'>, Unquiet>;

/** The result of a scan. */
export interface ProjectScan {
  /** The complete files to read. */
  readonly candidates: readonly Candidate[];
  /** The known files that are gone, or that are no longer offered. */
  readonly gone: readonly Id<'file'>[];
  /** Further files that may be complete soon. */
  readonly waiting: boolean;
  /** The files whose deletion is requested, by id. */
  readonly doomed: ReadonlyMap<Id<'file'>, Buffer>;
  /** Whether the directory has any entry. */
  readonly empty: boolean;
}

interface ScanOptions {
  readonly server: Id<'file_server'>;
  readonly project: Id<'project'>;
  readonly known: KnownProject;
  readonly unquiet: UnquietFiles;
  /** The time for which a file must be unchanged, in milliseconds. */
  readonly quietMs: number;
  /** The files that uploads have put there: they are complete. */
  readonly uploaded: ReadonlySet<Id<'file'>>;
  readonly isDoomed: (id: Id<'file'>) => boolean;
  readonly signal: AbortSignal;
}

/** Scans the directory. It reads no content. */
export async function scanProject(directory: Directory, options: ScanOptions): Promise<ProjectScan> {
  const { server, project, known, unquiet, quietMs, uploaded, isDoomed, signal } = options;
  const seen = new Set<Id<'file'>>();
  const doomed = new Map<Id<'file'>, Buffer>();
  const quiet: (Candidate & { readonly inode: string })[] = [];
  const still = new Set<Id<'file'>>();
  let waiting = false;
  let empty = true;
  for await (const name of directory.names()) {
    signal.throwIfAborted();
    empty = false;
    if (isHidden(name)) continue;
    const stats = await directory.lstat(name);
    if (!stats || !isPlainFile(stats)) continue;
    const id = fileId(server, project, name);
    // Two names with the same id need 2^40 tries of their owner. The first one counts.
    if (seen.has(id)) continue;
    if (isDoomed(id)) {
      doomed.set(id, name);
      seen.add(id);
      continue;
    }
    const fingerprint = fingerprintOf(stats);
    seen.add(id);
    if (known.files.get(id)?.fingerprint === fingerprint) continue;
    const now = performance.now();
    let seenBefore = unquiet.get(id);
    if (seenBefore?.fingerprint !== fingerprint) {
      if (seenBefore === undefined && unquiet.size >= maxUnquiet) {
        waiting = true;
        continue;
      }
      seenBefore = { fingerprint, since: now };
      unquiet.set(id, seenBefore);
    }
    still.add(id);
    if ((now - seenBefore.since < quietMs && !uploaded.has(id)) || quiet.length >= maxCandidates) waiting = true;
    else quiet.push({ name, fingerprint, inode: `${stats.dev}:${stats.ino}` });
  }
  for (const id of unquiet.keys()) if (!still.has(id)) unquiet.delete(id);
  const written = quiet.length === 0 ? new Set() : await openForWriting(new Set(quiet.map(({ inode }) => inode)));
  const candidates = quiet.filter(({ inode }) => !written.has(inode));
  const gone: Id<'file'>[] = [];
  for (const id of known.files.keys()) if (!seen.has(id)) gone.push(id);
  return { candidates, gone, waiting: waiting || candidates.length < quiet.length, doomed, empty };
}
