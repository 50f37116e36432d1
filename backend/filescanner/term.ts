/** The work of a file scanner while it leads: it chooses the directory that is due, scans it, and writes the results. */
import { type FSWatcher, watch } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { UcloudError } from '../contract/errors.ts';
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { idFrom } from '../model/ids.ts';
import {
  type FileServerRecord,
  fileDeletions,
  fileServers,
  projects,
  type UploadRecord,
  uploads,
} from '../model/records/index.ts';
import { put } from '../store/collection.ts';
import type { Mirror } from '../store/mirror.ts';
import type { Condition, Store } from '../store/store.ts';
import { Directory } from './directory.ts';
import { KnownFiles } from './known-files.ts';
import { type ProjectScan, scanProject, type UnquietFiles } from './project-scan.ts';
import { recordFiles } from './reading.ts';
import { maxBatch, Recorder } from './recorder.ts';
import { readServerId } from './server-id.ts';
import type { FileScannerLimits } from './start.ts';
import { Turns } from './turns.ts';

/** The pause after a scan, as a multiple of its duration. So a large directory takes a quarter of one processor. */
const restShare = 3;

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
  watcher?: FSWatcher | undefined;
  /** The time of the next scan. */
  dueAt: number;
  /** The earliest time of the next scan. */
  restUntil: number;
  /** The files that the last reading has refused. */
  refused: number;
}

type ProjectId = Id<'project'>;

/** One term of leadership. */
export class ScanTerm {
  readonly #options: TermOptions;
  readonly #turns: Turns;
  readonly #states = new Map<ProjectId, ProjectState>();
  #known = new KnownFiles();
  #recorder: Recorder;
  #wake = (): void => undefined;

  constructor(options: TermOptions) {
    this.#options = options;
    this.#turns = new Turns(options.logger, options.termEnd);
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
        const nextAt = await this.#round();
        await this.#pause(nextAt, woken);
      }
    } finally {
      unsubscribe();
      for (const { watcher } of this.#states.values()) watcher?.close();
      await this.#turns.end();
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
    state.dueAt = Math.min(state.dueAt, Math.max(performance.now(), state.restUntil));
    this.#wake();
  }

  #promptOwner(file: Id<'file'>): void {
    for (const [project, { files }] of this.#known.projects) if (files.has(file)) this.#prompt(project);
  }

  /** Scans the due projects, and returns the time of the next scan. */
  async #round(): Promise<number> {
    const { mirror, logger, limits, termEnd } = this.#options;
    const wanted = new Set<ProjectId>(this.#known.projects.keys());
    for (const { id } of mirror.list(projects)) wanted.add(idFrom('project', id));
    for (const project of wanted)
      if (!this.#states.has(project))
        this.#states.set(project, { unquiet: new Map(), dueAt: 0, restUntil: 0, refused: 0 });
    for (const [project, state] of this.#states) {
      if (wanted.has(project)) continue;
      state.watcher?.close();
      this.#states.delete(project);
    }
    for (const [project, state] of this.#states) {
      if (termEnd.aborted) return 0;
      if (state.dueAt > performance.now()) continue;
      const started = performance.now();
      // A notification during the scan must make the project due again.
      state.dueAt = Number.POSITIVE_INFINITY;
      let soon = false;
      try {
        soon = await this.#scan(project, state);
      } catch (err) {
        if (termEnd.aborted) return 0;
        logger.error({ err, project }, 'the directory of a project could not be scanned');
      }
      const now = performance.now();
      state.restUntil = now + Math.max(limits.pauseMs, restShare * (now - started));
      const next = soon ? Math.min(limits.quietMs, limits.intervalMs) : limits.intervalMs;
      state.dueAt = Math.max(state.restUntil, Math.min(state.dueAt, now + next));
    }
    const due = [...this.#states.values()].reduce(
      (first, { dueAt }) => Math.min(first, dueAt),
      Number.POSITIVE_INFINITY,
    );
    return Math.min(due, performance.now() + limits.intervalMs);
  }

  /** Scans one project. Returns true if the next scan should come soon. */
  async #scan(project: ProjectId, state: ProjectState): Promise<boolean> {
    const { mirror, root: path } = this.#options;
    if (!mirror.get(projects, project)) return this.#forget(project, state);
    const root = await this.#openRoot();
    if (!root) return false;
    let directory: Directory | undefined;
    try {
      directory = await root.directory(project);
      const known = this.#known.of(project);
      if (!directory) {
        if (known.files.size > 0) return await this.#reportMissing(project, 'The directory of the project is missing.');
        await root.make(project);
        directory = await root.directory(project);
        if (!directory) return await this.#reportMissing(project, 'The directory of the project is not a directory.');
      }
      this.#watch(state, project, join(path, project));
      return await this.#compare(project, state, directory);
    } finally {
      await directory?.close();
      await root.close();
    }
  }

  async #compare(project: ProjectId, state: ProjectState, directory: Directory): Promise<boolean> {
    const { mirror, server, limits, termEnd } = this.#options;
    const known = this.#known.of(project);
    const scan = await scanProject(directory, {
      server,
      project,
      known,
      unquiet: state.unquiet,
      quietMs: limits.quietMs,
      uploaded: this.#uploaded(project),
      isDoomed: (id) => mirror.get(fileDeletions, id) !== undefined,
      signal: termEnd,
    });
    const inode = await directory.inode();
    const before = this.#recorder.directory(project);
    if (scan.empty && known.files.size > 0 && before?.inode !== undefined && before.inode !== inode)
      return this.#reportMissing(
        project,
        'The directory of the project is another one, and empty. It may not be mounted.',
      );
    if (before?.inode !== inode || before.message !== undefined)
      await this.#recorder.commit(project, { directory: { inode } });
    await this.#remove(project, scan, directory);
    return this.#read(project, state, scan);
  }

  #uploaded(project: ProjectId): Set<Id<'file'>> {
    const found = new Set<Id<'file'>>();
    for (const { value } of this.#options.mirror.list(uploads))
      if (value.project === project && (value.phase === 'verified' || value.phase === 'complete'))
        found.add(value.file);
    return found;
  }

  /** Removes the records of files that are gone, and the files and records of requested deletions. */
  async #remove(project: ProjectId, { gone, doomed }: ProjectScan, directory: Directory): Promise<void> {
    const { logger } = this.#options;
    const removed = [...gone];
    for (const [id, name] of doomed) {
      if (await directory.unlink(name)) removed.push(id);
      else logger.warn({ project, file: id }, 'a file that is to be deleted cannot be removed');
    }
    for (let i = 0; i < removed.length; i += maxBatch)
      await this.#recorder.commit(project, { remove: removed.slice(i, i + maxBatch) });
  }

  /** Gives the complete files to reading, unless an earlier reading is in progress. */
  async #read(project: ProjectId, state: ProjectState, { candidates, waiting }: ProjectScan): Promise<boolean> {
    const { server, limits, root: path, termEnd } = this.#options;
    if (this.#turns.has(project)) return true;
    const { refused } = state;
    if ((this.#recorder.directory(project)?.refused ?? 0) !== refused)
      await this.#recorder.commit(project, { directory: { refused } });
    if (candidates.length === 0) {
      state.refused = 0;
      return waiting;
    }
    state.refused = 0;
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
      known: this.#known,
      recorder: this.#recorder,
      maxFileBytes: limits.maxFileBytes,
      signal: termEnd,
      refused: (count: number) => {
        state.refused += count;
      },
    };
    const prompt = () => this.#prompt(project);
    this.#turns.add(project, async function* () {
      yield* recordFiles(reading, candidates);
      prompt();
    });
    return false;
  }

  /** Removes the records of a project that is gone. Its directory is left to the operator. */
  async #forget(project: ProjectId, state: ProjectState): Promise<boolean> {
    const ids = [...this.#known.of(project).files.keys()];
    for (let i = 0; i < ids.length; i += maxBatch)
      await this.#recorder.commit(project, { remove: ids.slice(i, i + maxBatch) });
    if (ids.length === 0) await this.#recorder.commit(project, {});
    state.watcher?.close();
    if (this.#known.of(project).files.size === 0) this.#known.projects.delete(project);
    return false;
  }

  async #reportMissing(project: ProjectId, message: string): Promise<boolean> {
    const before = this.#recorder.directory(project);
    if (before?.message !== message) await this.#recorder.commit(project, { directory: { message } });
    return false;
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
