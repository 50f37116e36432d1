/** The work of a file scanner while it leads: it chooses the directory that is due, scans it, and writes the results. */
import { type FSWatcher, watch } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay, setImmediate as immediate } from 'node:timers/promises';
import { UcloudError } from '../contract/errors.ts';
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { bytesOfName } from '../model/file/name-text.ts';
import { QuietSince } from '../model/file/quiet-since.ts';
import { idFrom } from '../model/ids.ts';
import {
  type FileServerRecord,
  fileDeletions,
  fileServers,
  files,
  projects,
  type UploadRecord,
  uploads,
} from '../model/records/index.ts';
import { put, read } from '../store/collection.ts';
import type { Mirror } from '../store/mirror.ts';
import type { Condition, Store } from '../store/store.ts';
import { Candidates } from './candidates.ts';
import { Directory, isOfEntry, isPlainFile } from './directory.ts';
import { KnownFiles, type KnownProject } from './known-files.ts';
import { type ProjectScan, scanProject, UnquietFiles } from './project-scan.ts';
import { recordFiles } from './reading.ts';
import { maxBatch, Recorder } from './recorder.ts';
import { readServerId } from './server-id.ts';
import type { FileScannerLimits } from './start.ts';
import { Turns, type Work } from './turns.ts';

/** The pause after a scan, as a multiple of its work. So a large directory takes a quarter of one processor. */
const restShare = 3;
/**
 * The maximum number of entries of a small directory. Small and large directories have turns of their own, so a small one
 * waits only for other small ones.
 */
const maxSmallEntries = 5000;
/** The maximum number of scans in progress, of each size. Each has a directory open. */
const maxScans = 32;
/** The time for which a scan of a large directory waits for the reading of a batch. */
const maxReadingMs = 60_000;
/** The known files that are compared in one step. */
const sliceFiles = 10_000;

interface TermOptions {
  readonly store: Store;
  readonly mirror: Mirror;
  readonly logger: Logger;
  readonly root: string;
  readonly name: string;
  readonly server: Id<'file_server'>;
  readonly limits: FileScannerLimits;
  readonly holds: Condition;
  readonly termEnd: AbortSignal;
}

/** The state of the scans of one project. Times are on the clock of `performance.now()`. */
interface ProjectState {
  readonly unquiet: UnquietFiles;
  readonly quietSince: QuietSince;
  readonly candidates: Candidates;
  /** Whether the directory had more than `maxSmallEntries` entries, or files with a record. */
  large: boolean;
  watcher?: FSWatcher | undefined;
  /** The time of the next scan. */
  dueAt: number;
  /** The earliest time of the next scan. */
  restUntil: number;
}

type ProjectId = Id<'project'>;
/** Work that tells at its end whether the next scan should come soon. */
type ScanWork = Work<boolean>;

/** One term of leadership. */
export class ScanTerm {
  readonly #options: TermOptions;
  readonly #readings: Turns;
  readonly #smallScans: Turns;
  readonly #largeScans: Turns;
  readonly #states = new Map<ProjectId, ProjectState>();
  #known = new KnownFiles();
  #recorder: Recorder;
  #wake = (): void => undefined;

  constructor(options: TermOptions) {
    this.#options = options;
    const { logger, termEnd: signal } = options;
    this.#readings = new Turns({ logger, signal });
    this.#smallScans = new Turns({ logger, signal, maxOpen: maxScans });
    this.#largeScans = new Turns({ logger, signal, maxOpen: maxScans });
    this.#recorder = this.#newRecorder();
  }

  #newRecorder(): Recorder {
    return new Recorder({ ...this.#options, known: this.#known });
  }

  /** Scans until the term is over. */
  async run(): Promise<void> {
    const { store, mirror, server, termEnd } = this.#options;
    this.#known = await KnownFiles.read(store, server);
    this.#recorder = this.#newRecorder();
    const unsubscribe = mirror.subscribe(({ changes }) => {
      for (const { kind, id, stored } of changes) {
        if (kind.prefix === projects.prefix) this.#prompt(idFrom('project', id));
        if (kind.prefix === uploads.prefix && stored) this.#prompt((stored.value as UploadRecord).project);
        if (kind.prefix === fileDeletions.prefix) this.#promptOwner(idFrom('file', id));
      }
      this.#wake();
    });
    try {
      while (!termEnd.aborted) {
        const woken = new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        const nextAt = this.#round();
        await this.#pause(nextAt, woken);
      }
    } finally {
      unsubscribe();
      for (const { watcher } of this.#states.values()) watcher?.close();
      await Promise.all([this.#smallScans.end(), this.#largeScans.end(), this.#readings.end()]);
    }
  }

  async #pause(until: number, woken: Promise<void>): Promise<void> {
    const timer = new AbortController();
    const signal = AbortSignal.any([timer.signal, this.#options.termEnd]);
    const time = delay(Math.max(until - performance.now(), 0), undefined, { signal }).catch(() => undefined);
    await Promise.race([woken, time]);
    timer.abort();
  }

  /** Makes a project due, after its rest. */
  #prompt(project: ProjectId): void {
    const state = this.#states.get(project);
    if (!state) return;
    const dueAt = Math.max(performance.now(), state.restUntil);
    // A user causes thousands of notifications a second. Only the first one after a scan changes anything.
    if (state.dueAt <= dueAt) return;
    state.dueAt = dueAt;
    this.#wake();
  }

  #promptOwner(file: Id<'file'>): void {
    for (const [project, known] of this.#known.projects) if (known.get(file)) this.#prompt(project);
  }

  /** Begins the scans of the due projects, and returns the time of the next one. */
  #round(): number {
    const { mirror, limits } = this.#options;
    const wanted = new Set<ProjectId>(this.#known.projects.keys());
    for (const { id } of mirror.list(projects)) wanted.add(idFrom('project', id));
    for (const project of wanted) if (!this.#states.has(project)) this.#states.set(project, this.#newState(project));
    for (const [project, state] of this.#states) {
      if (wanted.has(project)) continue;
      state.watcher?.close();
      this.#states.delete(project);
    }
    const now = performance.now();
    let next = now + limits.intervalMs;
    for (const [project, state] of this.#states) {
      if (this.#smallScans.has(project) || this.#largeScans.has(project)) continue;
      if (state.dueAt > now) next = Math.min(next, state.dueAt);
      else (state.large ? this.#largeScans : this.#smallScans).add(project, () => this.#work(project, state));
    }
    return next;
  }

  #newState(project: ProjectId): ProjectState {
    const { quietMs } = this.#options.limits;
    return {
      unquiet: new UnquietFiles(),
      quietSince: new QuietSince(quietMs),
      candidates: new Candidates(),
      large: this.#known.of(project).count > maxSmallEntries,
      dueAt: 0,
      restUntil: 0,
    };
  }

  /** Scans one project, and determines the time of its next scan. */
  async *#work(project: ProjectId, state: ProjectState): Work {
    const { logger, limits, termEnd } = this.#options;
    // A notification during the scan must make the project due again.
    state.dueAt = Number.POSITIVE_INFINITY;
    const scan = this.#scan(project, state);
    let soon = false;
    let workMs = 0;
    try {
      for (;;) {
        const resumed = performance.now();
        const step = await scan.next();
        workMs += performance.now() - resumed;
        if (step.done) {
          soon = step.value;
          break;
        }
        yield step.value;
      }
    } catch (err) {
      if (!termEnd.aborted) logger.error({ err, project }, 'the directory of a project could not be scanned');
    } finally {
      await scan.return(false);
      const now = performance.now();
      state.restUntil = now + Math.max(limits.pauseMs, restShare * workMs);
      const next = soon ? Math.min(limits.quietMs, limits.intervalMs) : limits.intervalMs;
      state.dueAt = Math.max(state.restUntil, Math.min(state.dueAt, now + next));
      this.#wake();
    }
  }

  /** Scans one project. Returns true if the next scan should come soon. */
  async *#scan(project: ProjectId, state: ProjectState): ScanWork {
    const { mirror, root: path } = this.#options;
    if (!mirror.get(projects, project)) return yield* this.#forget(project, state);
    const directory = await this.#open(project, true);
    if (!directory) return false;
    try {
      this.#watch(state, project, join(path, project));
      return yield* this.#compare(project, state, directory);
    } finally {
      await directory.close();
    }
  }

  /** Opens the directory of a project, and reports it if there is none. */
  async #open(project: ProjectId, reports: boolean): Promise<Directory | undefined> {
    const root = await this.#openRoot();
    if (!root) return undefined;
    try {
      const directory = await root.directory(project);
      if (directory || !reports) return directory;
      if (this.#known.of(project).count > 0) {
        await this.#reportMissing(project, 'The directory of the project is missing.');
        return undefined;
      }
      await root.make(project);
      const made = await root.directory(project);
      if (!made) await this.#reportMissing(project, 'The directory of the project is not a directory.');
      return made;
    } finally {
      await root.close();
    }
  }

  async *#compare(project: ProjectId, state: ProjectState, directory: Directory): ScanWork {
    const { mirror, server, limits, termEnd } = this.#options;
    const known = this.#known.of(project);
    const scan = yield* scanProject(directory, {
      server,
      project,
      known,
      unquiet: state.unquiet,
      quietSince: state.quietSince,
      quietMs: limits.quietMs,
      maxFileBytes: limits.maxFileBytes,
      // A small directory has one batch, at its end, and the next scan of it comes soon.
      maxReadingMs: state.large ? maxReadingMs : 0,
      maxEntries: state.large ? Number.POSITIVE_INFINITY : maxSmallEntries,
      uploaded: this.#uploaded(project),
      isDoomed: (id) => mirror.get(fileDeletions, id) !== undefined,
      room: () => this.#recorder.room(project),
      candidates: state.candidates,
      read: () => this.#read(project, state),
      signal: termEnd,
    });
    if (!scan) {
      state.large = true;
      this.#prompt(project);
      return true;
    }
    const inode = await directory.inode();
    const before = this.#recorder.directory(project);
    if (scan.entries === 0 && known.count > 0 && before?.inode !== undefined && before.inode !== inode) {
      await this.#reportMissing(
        project,
        'The directory of the project is another one, and empty. It may not be mounted.',
      );
      return false;
    }
    state.large = scan.entries > maxSmallEntries || known.count > maxSmallEntries;
    const { refused } = scan;
    if (before?.inode !== inode || before.message !== undefined || (before.refused ?? 0) !== refused)
      await this.#recorder.commit(project, { directory: { inode, refused } });
    if (!(await this.#isStill(project, inode))) return true;
    yield* this.#removeDoomed(project, scan, directory);
    yield* this.#removeGone(project, known, directory);
    return scan.waiting;
  }

  /** Tells whether the directory of the project is the one with this inode. */
  async #isStill(project: ProjectId, inode: string): Promise<boolean> {
    const directory = await this.#open(project, false);
    try {
      return (await directory?.inode()) === inode;
    } finally {
      await directory?.close();
    }
  }

  #uploaded(project: ProjectId): Set<Id<'file'>> {
    const found = new Set<Id<'file'>>();
    for (const { value } of this.#options.mirror.list(uploads))
      if (value.project === project && (value.phase === 'verified' || value.phase === 'complete'))
        found.add(value.file);
    return found;
  }

  /** Removes the files and records of requested deletions. */
  async *#removeDoomed(project: ProjectId, { doomed }: ProjectScan, directory: Directory): Work {
    const { logger } = this.#options;
    let removed: Id<'file'>[] = [];
    let failed = 0;
    for (const [id, name] of doomed) {
      if (await directory.unlink(name)) removed.push(id);
      else failed++;
      if (removed.length < maxBatch) continue;
      await this.#recorder.commit(project, { remove: removed });
      removed = [];
      yield;
    }
    if (removed.length > 0) await this.#recorder.commit(project, { remove: removed });
    if (failed > 0) logger.warn({ project, files: failed }, 'files that are to be deleted cannot be removed');
  }

  /** Removes the records of files that are gone. */
  async *#removeGone(project: ProjectId, known: KnownProject, directory: Directory): Work {
    let unseen: Id<'file'>[] = [];
    let compared = 0;
    for (const id of known.unseen()) {
      if (id !== undefined) unseen.push(id);
      if (unseen.length >= maxBatch) {
        await this.#removeIfGone(project, unseen, directory);
        unseen = [];
        yield;
      }
      if (++compared % sliceFiles === 0) {
        await immediate();
        yield;
      }
    }
    await this.#removeIfGone(project, unseen, directory);
  }

  /**
   * A listing may miss a file that another one replaces meanwhile: on tmpfs and btrfs the new file has another place in the
   * directory. So the name of each file decides.
   */
  async #removeIfGone(project: ProjectId, unseen: readonly Id<'file'>[], directory: Directory): Promise<void> {
    const gone: Id<'file'>[] = [];
    for (const id of unseen) {
      const record = await read(this.#options.store, files, id);
      const stats =
        record &&
        (await directory.lstat(bytesOfName(record.value.name)).catch((error: unknown) => {
          if (isOfEntry(error)) return 'unknown' as const;
          throw error;
        }));
      if (stats === 'unknown') continue;
      if (!stats || !isPlainFile(stats)) gone.push(id);
    }
    if (gone.length > 0) await this.#recorder.commit(project, { remove: gone });
  }

  /** Reads the files of a new batch. */
  #read(project: ProjectId, { candidates }: ProjectState): void {
    const { server, logger, limits, root: path, termEnd } = this.#options;
    const open = async () => {
      const root = await Directory.open(path);
      try {
        return await root?.directory(project);
      } finally {
        await root?.close();
      }
    };
    const reading = {
      server,
      project,
      open,
      logger,
      known: this.#known,
      recorder: this.#recorder,
      maxFileBytes: limits.maxFileBytes,
      signal: termEnd,
    };
    const prompt = () => this.#prompt(project);
    this.#readings.add(project, async function* () {
      try {
        if (yield* recordFiles(reading, candidates)) prompt();
      } finally {
        candidates.done();
      }
    });
  }

  /** Removes the records of a project that is gone. Its directory is left to the operator. */
  async *#forget(project: ProjectId, state: ProjectState): ScanWork {
    const known = this.#known.of(project);
    if (known.count === 0) await this.#recorder.commit(project, {});
    let ids: Id<'file'>[] = [];
    for (const id of known.ids()) {
      ids.push(id);
      if (ids.length < maxBatch) continue;
      await this.#recorder.commit(project, { remove: ids });
      ids = [];
      yield;
    }
    if (ids.length > 0) await this.#recorder.commit(project, { remove: ids });
    state.watcher?.close();
    if (known.count === 0) this.#known.projects.delete(project);
    return false;
  }

  async #reportMissing(project: ProjectId, message: string): Promise<void> {
    const before = this.#recorder.directory(project);
    if (before?.message !== message) await this.#recorder.commit(project, { directory: { message } });
  }

  #watch(state: ProjectState, project: ProjectId, path: string): void {
    if (state.watcher) return;
    const end = () => {
      state.watcher?.close();
      state.watcher = undefined;
    };
    try {
      state.watcher = watch(path, { persistent: false }, () => this.#prompt(project));
      state.watcher.on('error', end);
    } catch (err) {
      // The periodic scan works without notifications, which are limited by the kernel.
      this.#options.logger.debug({ err, project }, 'the directory of a project cannot be watched');
    }
  }

  /** Opens the root if it is the directory of this server, and reports whether it is. */
  async #openRoot(): Promise<Directory | undefined> {
    const { root: path, server, logger } = this.#options;
    let root: Directory | undefined;
    let message: string | undefined;
    try {
      root = await Directory.open(path);
      const id = root && (await readServerId(root));
      if (!root) message = 'The directory of the file server is missing.';
      else if (id === undefined) message = 'The directory of the file server contains no id. It may not be mounted.';
      else if (id !== server) message = `The directory belongs to another file server, ${id}.`;
    } catch (err) {
      logger.warn({ err }, 'the directory of the file server cannot be read');
      message = 'The directory of the file server cannot be read.';
    }
    await this.#reportServer(message);
    if (message === undefined) return root;
    await root?.close();
    return undefined;
  }

  async #reportServer(message: string | undefined): Promise<void> {
    const { store, mirror, logger, server, name, holds } = this.#options;
    const before = mirror.get(fileServers, server)?.value;
    const phase = message === undefined ? 'available' : 'unavailable';
    if (before && before.phase === phase && before.message === message && before.name === name) return;
    const at = new Date().toISOString();
    const record: FileServerRecord = {
      id: server,
      name,
      phase,
      ...(message === undefined ? {} : { message }),
      at,
      created_at: before?.created_at ?? at,
    };
    if (message !== undefined) logger.warn({ server, message }, 'the file server is not available');
    try {
      const result = await store.commit({ require: [holds], write: [put(fileServers, server, record)] });
      if (!result.ok) return;
      const of = [{ kind: fileServers, id: server }];
      await mirror.waitForChange({ of, after: result.revision - 1, timeoutMs: 5000, signal: this.#options.termEnd });
    } catch (err) {
      // The next scan reports it.
      if (!(err instanceof UcloudError) || err.code !== 'store_unavailable') throw err;
      logger.warn({ err, server }, 'could not report the state of the file server');
    }
  }
}
