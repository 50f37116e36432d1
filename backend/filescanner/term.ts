/** The work of a file scanner while it leads: it chooses the directory that is due, scans it, and writes the results. */
import { type FSWatcher, watch } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { bytesOfName, isHidden } from '../model/file/name-text.ts';
import { QuietSince } from '../model/file/quiet-since.ts';
import { idFrom } from '../model/ids.ts';
import { fileDeletions, files, projects, type UploadRecord, uploads } from '../model/records/index.ts';
import { read } from '../store/collection.ts';
import type { Mirror } from '../store/mirror.ts';
import type { Condition, Store } from '../store/store.ts';
import { Candidates } from './candidates.ts';
import { ChangedNames } from './changed-names.ts';
import type { Directory } from './directory.ts';
import { KnownFiles } from './known-files.ts';
import { type NamesScanOptions, scanNames, scanProject, UnquietFiles } from './project-scan.ts';
import { recordFiles } from './reading.ts';
import { maxBatch, Recorder } from './recorder.ts';
import { removeDoomed, removeGone } from './removals.ts';
import { ServerRoot } from './server-root.ts';
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

/** When work is due, on the clock of `performance.now()`. */
interface Schedule {
  /** The time of the next work. */
  dueAt: number;
  /** The earliest time of the next work. */
  restUntil: number;
}

/** The state of the scans of one project. */
interface ProjectState {
  readonly unquiet: UnquietFiles;
  readonly quietSince: QuietSince;
  /** The files that scans of the whole directory give to reading. */
  readonly candidates: Candidates;
  readonly scan: Schedule;
  /** Whether the directory had more than `maxSmallEntries` entries, or files with a record. */
  large: boolean;
  /** The changes in a large directory, the files that looks at them give to reading, and when the next look is due. */
  readonly changed: ChangedNames;
  readonly changedCandidates: Candidates;
  readonly look: Schedule;
  watch?: { readonly inode: string; readonly watcher: FSWatcher } | undefined;
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
  readonly #looks: Turns;
  readonly #root: ServerRoot;
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
    this.#looks = new Turns({ logger, signal, maxOpen: maxScans });
    this.#root = new ServerRoot(options);
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
        if (kind.prefix === uploads.prefix && stored) {
          const { project, file_name: name } = stored.value as UploadRecord;
          this.#note(project, (changed) => changed.add(Buffer.from(name)));
        }
        if (kind.prefix === fileDeletions.prefix && stored) this.#noteDeletion(idFrom('file', id));
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
      for (const { watch } of this.#states.values()) watch?.watcher.close();
      const turns = [this.#smallScans, this.#largeScans, this.#looks, this.#readings];
      await Promise.all(turns.map((each) => each.end()));
    }
  }

  async #pause(until: number, woken: Promise<void>): Promise<void> {
    const timer = new AbortController();
    const signal = AbortSignal.any([timer.signal, this.#options.termEnd]);
    const time = delay(Math.max(until - performance.now(), 0), undefined, { signal }).catch(() => undefined);
    await Promise.race([woken, time]);
    timer.abort();
  }

  /** Makes work due, after its rest. */
  #hasten(schedule: Schedule): void {
    const dueAt = Math.max(performance.now(), schedule.restUntil);
    // A user causes thousands of notifications a second. Only the first one after a scan changes anything.
    if (schedule.dueAt <= dueAt) return;
    schedule.dueAt = dueAt;
    this.#wake();
  }

  /** Makes a scan of the whole directory due. */
  #prompt(project: ProjectId): void {
    const state = this.#states.get(project);
    if (state) this.#hasten(state.scan);
  }

  /** Notes a change. A small directory is scanned whole, which takes no longer. */
  #note(project: ProjectId, add: (changed: ChangedNames) => boolean): void {
    const state = this.#states.get(project);
    if (state) this.#hasten(state.large && add(state.changed) ? state.look : state.scan);
  }

  #noteDeletion(file: Id<'file'>): void {
    for (const [project, known] of this.#known.projects)
      if (known.get(file)) this.#note(project, (changed) => changed.addFile(file));
  }

  /** Begins the scans of the due projects, and returns the time of the next one. */
  #round(): number {
    const { mirror, limits } = this.#options;
    const wanted = new Set<ProjectId>(this.#known.projects.keys());
    for (const { id } of mirror.list(projects)) wanted.add(idFrom('project', id));
    for (const project of wanted) if (!this.#states.has(project)) this.#states.set(project, this.#newState(project));
    for (const [project, state] of this.#states) {
      if (wanted.has(project)) continue;
      state.watch?.watcher.close();
      this.#states.delete(project);
    }
    const now = performance.now();
    let next = now + limits.intervalMs;
    for (const [project, state] of this.#states) {
      const { scan, look, large } = state;
      if (look.dueAt > now) next = Math.min(next, look.dueAt);
      else if (!this.#looks.has(project)) this.#looks.add(project, () => this.#lookWork(project, state));
      if (this.#smallScans.has(project) || this.#largeScans.has(project)) continue;
      if (scan.dueAt > now) next = Math.min(next, scan.dueAt);
      else (large ? this.#largeScans : this.#smallScans).add(project, () => this.#scanWork(project, state));
    }
    return next;
  }

  #newState(project: ProjectId): ProjectState {
    const { quietMs } = this.#options.limits;
    return {
      unquiet: new UnquietFiles(),
      quietSince: new QuietSince(quietMs),
      candidates: new Candidates(),
      scan: { dueAt: 0, restUntil: 0 },
      large: this.#known.of(project).count > maxSmallEntries,
      changed: new ChangedNames(),
      changedCandidates: new Candidates(),
      look: { dueAt: Number.POSITIVE_INFINITY, restUntil: 0 },
    };
  }

  /** Scans one project, and determines the time of its next scan. */
  #scanWork(project: ProjectId, state: ProjectState): Work {
    const { quietMs, intervalMs } = this.#options.limits;
    return this.#work(project, state.scan, this.#scan(project, state), (soon) =>
      soon ? Math.min(quietMs, intervalMs) : intervalMs,
    );
  }

  /** Looks at the changed files of one project, and determines the time of the next look. */
  #lookWork(project: ProjectId, state: ProjectState): Work {
    const { quietMs } = this.#options.limits;
    return this.#work(project, state.look, this.#look(project, state), (soon) =>
      soon ? quietMs : Number.POSITIVE_INFINITY,
    );
  }

  /** Does the work, and sets the time of the next one. `next` returns it in milliseconds after the end of this one. */
  async *#work(project: ProjectId, schedule: Schedule, work: ScanWork, next: (soon: boolean) => number): Work {
    const { logger, limits, termEnd } = this.#options;
    // A notification during the work must make the project due again.
    schedule.dueAt = Number.POSITIVE_INFINITY;
    let soon = false;
    let workMs = 0;
    try {
      for (;;) {
        const resumed = performance.now();
        const step = await work.next();
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
      await work.return(false);
      const now = performance.now();
      schedule.restUntil = now + Math.max(limits.pauseMs, restShare * workMs);
      schedule.dueAt = Math.max(schedule.restUntil, Math.min(schedule.dueAt, now + next(soon)));
      this.#wake();
    }
  }

  /** Scans one project. Returns true if the next scan should come soon. */
  async *#scan(project: ProjectId, state: ProjectState): ScanWork {
    if (!this.#options.mirror.get(projects, project)) return yield* this.#forget(project, state);
    const directory = await this.#open(project);
    if (!directory) return false;
    try {
      this.#watch(state, project, await directory.inode());
      return yield* this.#compare(project, state, directory);
    } finally {
      await directory.close();
    }
  }

  /** Opens the directory of a project, and reports it if there is none. */
  async #open(project: ProjectId): Promise<Directory | undefined> {
    const root = await this.#root.open();
    if (!root) return undefined;
    try {
      const directory = await root.directory(project);
      if (directory) return directory;
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
    const known = this.#known.of(project);
    const scan = yield* scanProject(directory, {
      ...this.#scanOptions(project, state),
      // A small directory has one batch, at its end, and the next scan of it comes soon.
      maxReadingMs: state.large ? maxReadingMs : 0,
      maxEntries: state.large ? Number.POSITIVE_INFINITY : maxSmallEntries,
      candidates: state.candidates,
      read: () => this.#read(project, state.candidates, project, () => this.#prompt(project)),
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
    if (!(await this.#root.isStill(project, inode))) return true;
    const removal = { ...this.#options, recorder: this.#recorder, project, directory };
    yield* removeDoomed(removal, scan.doomed);
    yield* removeGone(removal, known.unseen());
    return scan.waiting;
  }

  /** Looks at the changed files of a project. Returns true if some of them may be complete soon. */
  async *#look(project: ProjectId, state: ProjectState): ScanWork {
    const { store, mirror } = this.#options;
    const { changed, changedCandidates: candidates } = state;
    const names = changed.takeNames();
    for (const id of changed.takeFiles()) {
      const record = await read(store, files, id);
      if (record) names.push(bytesOfName(record.value.name));
      yield;
    }
    const directory = mirror.get(projects, project) && (await this.#root.directory(project));
    if (!directory) return false;
    try {
      const inode = await directory.inode();
      // Only a scan of the whole directory decides whether another directory is the right one.
      if (this.#recorder.directory(project)?.inode !== inode) return false;
      const { again, gone, doomed } = yield* scanNames(directory, names, {
        ...this.#scanOptions(project, state),
        candidates,
        read: () => {
          const left = () => this.#note(project, (changed) => names.every((name) => changed.add(name)));
          this.#read(project, candidates, `${project} changed`, left);
        },
      });
      if (!(await this.#root.isStill(project, inode))) return false;
      const removal = { ...this.#options, recorder: this.#recorder, project, directory };
      yield* removeDoomed(removal, doomed);
      yield* removeGone(removal, gone);
      if (!again.every((name) => changed.add(name))) this.#prompt(project);
      return again.length > 0;
    } finally {
      await directory.close();
    }
  }

  #scanOptions(project: ProjectId, state: ProjectState): Omit<NamesScanOptions, 'candidates' | 'read'> {
    const { mirror, server, limits, termEnd } = this.#options;
    return {
      server,
      project,
      known: this.#known.of(project),
      unquiet: state.unquiet,
      quietSince: state.quietSince,
      quietMs: limits.quietMs,
      maxFileBytes: limits.maxFileBytes,
      uploaded: this.#uploaded(project),
      isDoomed: (id) => mirror.get(fileDeletions, id) !== undefined,
      room: () => this.#recorder.room(project),
      signal: termEnd,
    };
  }

  #uploaded(project: ProjectId): Set<Id<'file'>> {
    const found = new Set<Id<'file'>>();
    for (const { value } of this.#options.mirror.list(uploads))
      if (value.project === project && (value.phase === 'verified' || value.phase === 'complete'))
        found.add(value.file);
    return found;
  }

  /** Reads the files of a new batch. `left` is called if some of them are left for later. */
  #read(project: ProjectId, candidates: Candidates, turn: string, left: () => void): void {
    const { server, logger, limits, termEnd } = this.#options;
    const reading = {
      server,
      project,
      open: () => this.#root.directory(project),
      logger,
      known: this.#known,
      recorder: this.#recorder,
      maxFileBytes: limits.maxFileBytes,
      signal: termEnd,
    };
    this.#readings.add(turn, async function* () {
      try {
        if (yield* recordFiles(reading, candidates)) left();
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
    state.watch?.watcher.close();
    state.watch = undefined;
    if (known.count === 0) this.#known.projects.delete(project);
    return false;
  }

  async #reportMissing(project: ProjectId, message: string): Promise<void> {
    const before = this.#recorder.directory(project);
    if (before?.message !== message) await this.#recorder.commit(project, { directory: { message } });
  }

  /** Watches the directory with this inode. */
  #watch(state: ProjectState, project: ProjectId, inode: string): void {
    if (state.watch?.inode === inode) return;
    state.watch?.watcher.close();
    state.watch = undefined;
    try {
      const options = { persistent: false, encoding: 'buffer' as const };
      const watcher = watch(join(this.#options.root, project), options, (_event, name) => {
        if (name === null) this.#prompt(project);
        else if (!isHidden(name)) this.#note(project, (changed) => changed.add(name));
      });
      state.watch = { inode, watcher };
      watcher.on('error', () => {
        watcher.close();
        if (state.watch?.watcher === watcher) state.watch = undefined;
      });
    } catch (err) {
      // The periodic scan works without notifications, which are limited by the kernel.
      this.#options.logger.debug({ err, project }, 'the directory of a project cannot be watched');
    }
  }
}
