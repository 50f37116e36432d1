/**
 * Writes the records of files, within the quota of the project. An increase is committed as the API commits one: on the
 * condition that the project is unchanged, and with a rewrite of its quota guard. So no other change of the usage can
 * come between decision and commit.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { UcloudError } from '../contract/errors.ts';
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { newEvent } from '../model/events.ts';
import {
  events,
  type FileDirectoryRecord,
  type FileRecord,
  fileDeletions,
  fileDirectories,
  files,
  projects,
  quotaGuards,
  uploads,
} from '../model/records/index.ts';
import { absent, present, put, remove, rewrite, unchanged } from '../store/collection.ts';
import type { Mirror } from '../store/mirror.ts';
import type { Condition, Revision, Store, Write } from '../store/store.ts';
import type { KnownFiles } from './known-files.ts';

/** The maximum number of files in one commit. A removal needs two writes. */
export const maxBatch = 50;
/** The maximum number of files of one project on one server, whatever its quota is. */
export const maxFilesPerProject = 1_000_000;
const retryMs = 500;

/** Changes of the files of one project, at most `maxBatch`. */
export interface FileChanges {
  readonly put?: readonly FileRecord[];
  readonly remove?: readonly Id<'file'>[];
  /** Changes of the record of the directory. */
  readonly directory?: Partial<Pick<FileDirectoryRecord, 'inode' | 'message' | 'refused'>>;
}

/** Tells whether there is room for the growth. A project that exceeds its quota may still shrink. */
export const fits = (room: { readonly files: number; readonly bytes: number }, files: number, bytes: number): boolean =>
  (files <= 0 || files <= room.files) && (bytes <= 0 || bytes <= room.bytes);

interface RecorderOptions {
  readonly store: Store;
  readonly mirror: Mirror;
  readonly logger: Logger;
  readonly server: Id<'file_server'>;
  readonly known: KnownFiles;
  /** The condition that this scanner leads. */
  readonly holds: Condition;
  readonly termEnd: AbortSignal;
}

/** Writes the records of one server. */
export class Recorder {
  readonly #options: RecorderOptions;
  /** The last commit of each project. */
  readonly #last = new Map<Id<'project'>, Promise<number>>();

  constructor(options: RecorderOptions) {
    this.#options = options;
  }

  /** Returns the record of the project's directory on this server. */
  directory(project: Id<'project'>): FileDirectoryRecord | undefined {
    return this.#options.mirror.get(fileDirectories, `${this.#options.server}/${project}`)?.value;
  }

  /** Returns the files and bytes that the project may have in addition. */
  room(project: Id<'project'>): { readonly files: number; readonly bytes: number } {
    const { mirror, server, known } = this.#options;
    const own = known.of(project);
    const here = maxFilesPerProject - own.count;
    const { quota } = mirror.get(projects, project)?.value ?? {};
    if (!quota) return { files: here, bytes: Number.POSITIVE_INFINITY };
    let files = own.count;
    let { bytes } = own;
    for (const { id, value } of mirror.list(fileDirectories)) {
      if (id.startsWith(`${server}/`) || !id.endsWith(`/${project}`)) continue;
      files += value.files;
      bytes += value.bytes;
    }
    for (const { value } of mirror.list(uploads)) {
      // The file of a complete upload takes the place of the upload.
      if (value.project !== project || value.phase === 'recorded') continue;
      if (value.server === server && value.phase !== 'receiving') continue;
      files++;
      bytes += value.size;
    }
    return {
      files: Math.min(here, (quota.files ?? Number.POSITIVE_INFINITY) - files),
      bytes: (quota.file_bytes ?? Number.POSITIVE_INFINITY) - bytes,
    };
  }

  /**
   * Commits the changes. Files beyond the quota are left out, and those that have a record lose it. Returns the number of
   * files that were left out.
   */
  async commit(project: Id<'project'>, changes: FileChanges): Promise<number> {
    // Each commit writes the number of all files, so two commits of a project come one after the other.
    const before = this.#last.get(project);
    const own = (async () => {
      await before?.catch(() => undefined);
      return this.#commit(project, changes);
    })();
    this.#last.set(project, own);
    try {
      return await own;
    } finally {
      if (this.#last.get(project) === own) this.#last.delete(project);
    }
  }

  async #commit(project: Id<'project'>, changes: FileChanges): Promise<number> {
    const { store, mirror, logger, termEnd } = this.#options;
    while (!termEnd.aborted) {
      const { accepted, refused, removed } = this.#withinQuota(project, changes);
      const commit = this.#commitOf(project, { ...changes, put: accepted, remove: removed });
      try {
        const result = await store.commit(commit);
        if (result.ok) {
          this.#follow(project, accepted, removed);
          await this.#seen(project, result.revision, commit.write);
          return refused;
        }
        // The project is gone: nothing of it is recorded any more.
        await mirror.catchUp({ timeoutMs: 5000, signal: termEnd });
        if (!mirror.get(projects, project) && accepted.length > 0) return 0;
      } catch (err) {
        if (termEnd.aborted) return 0;
        if (!(err instanceof UcloudError) || err.code !== 'store_unavailable') throw err;
        logger.warn({ err }, 'the store does not answer the file scanner, which tries again');
        await delay(retryMs, undefined, { signal: termEnd }).catch(() => undefined);
      }
    }
    return 0;
  }

  /**
   * Waits until the mirror shows the commit. It waits for the written records, because a watch of a prefix without changes
   * does not tell the revision.
   */
  async #seen(project: Id<'project'>, revision: Revision, writes: readonly Write[]): Promise<void> {
    const { mirror, server, termEnd } = this.#options;
    const written = (key: string) => writes.some((write) => 'put' in write && write.put === key);
    const records = [
      { kind: fileDirectories, id: `${server}/${project}` },
      { kind: quotaGuards, id: project },
    ];
    for (const { kind, id } of records)
      if (written(kind.prefix + id))
        await mirror.waitForChange({ of: [{ kind, id }], after: revision - 1, timeoutMs: 5000, signal: termEnd });
  }

  #withinQuota(project: Id<'project'>, { put: wanted = [], remove: unwanted = [] }: FileChanges) {
    const known = this.#options.known.of(project);
    const accepted: FileRecord[] = [];
    const removed = [...unwanted];
    const room = this.room(project);
    let [moreFiles, moreBytes, refused] = [0, 0, 0];
    for (const record of wanted) {
      const before = known.get(record.id);
      const files = moreFiles + (before ? 0 : 1);
      const bytes = moreBytes + record.size - (before?.size ?? 0);
      if (fits(room, files, bytes)) {
        accepted.push(record);
        [moreFiles, moreBytes] = [files, bytes];
      } else {
        refused++;
        if (before) removed.push(record.id);
      }
    }
    return { accepted, refused, removed };
  }

  #commitOf(project: Id<'project'>, { put: added = [], remove: removed = [], directory = {} }: FileChanges) {
    const { mirror, server, known, holds } = this.#options;
    const own = known.of(project);
    const id = `${server}/${project}`;
    const stored = mirror.get(projects, project);
    const require: Condition[] = [holds];
    const write: Write[] = [
      ...added.map((record) => put(files, record.id, record)),
      ...removed.flatMap((file) => [remove(files, file), remove(fileDeletions, file)]),
    ];
    let bytes = own.bytes;
    let count = own.count;
    for (const record of added) {
      bytes += record.size - (own.get(record.id)?.size ?? 0);
      if (!own.get(record.id)) count++;
    }
    for (const file of removed) {
      bytes -= own.get(file)?.size ?? 0;
      if (own.get(file)) count--;
    }
    if (added.length > 0) {
      require.push(stored ? unchanged(stored) : present(projects, project));
      if (stored?.value.quota) {
        const guard = mirror.get(quotaGuards, project);
        require.push(guard ? unchanged(guard) : absent(quotaGuards, project));
        write.push(
          guard
            ? rewrite(quotaGuards, guard, { count: guard.value.count + 1 })
            : put(quotaGuards, project, { count: 1 }),
        );
      }
    }
    const before = this.directory(project);
    if (!stored && count === 0) return { require, write: [...write, remove(fileDirectories, id)] };
    const { message: _message, ...kept } = before ?? {};
    write.push(put(fileDirectories, id, { ...kept, ...directory, files: count, bytes }));
    if (directory.refused !== undefined && directory.refused > 0 && !before?.refused) {
      const message = `${directory.refused} files in the directory of the project are not offered, because they exceed the quota.`;
      write.push(
        put(
          events,
          ...newEvent(new Date(), { id: project, project }, { severity: 'warning', reason: 'files_refused', message }),
        ),
      );
    }
    return { require, write };
  }

  #follow(project: Id<'project'>, added: readonly FileRecord[], removed: readonly Id<'file'>[]): void {
    const own = this.#options.known.of(project);
    for (const { id, fingerprint, size, created_at: createdAt } of added) own.set(id, { fingerprint, size, createdAt });
    for (const id of removed) own.delete(id);
  }
}
