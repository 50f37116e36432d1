/** Moves a complete upload to its place in the directory of the project, without following links of users. */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Id } from '../../contract/fields.ts';
import { serverMarker } from '../../model/file/names.ts';

/** The directory in the root of a file server for unfinished uploads. */
const stagingName = '.uploads';

const missing = (error: unknown): undefined => {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
  throw error;
};

/** The part of a file server that uploads use. */
export class UploadDirectory {
  readonly root: string;
  readonly staging: string;

  constructor(root: string) {
    this.root = root;
    this.staging = join(root, stagingName);
  }

  /** Returns the id of the file server; undefined if the directory is not mounted or has no scanner yet. */
  async serverId(): Promise<Id<'file_server'> | undefined> {
    const text = (await readFile(join(this.root, serverMarker), 'latin1').catch(missing))?.trim();
    return text !== undefined && /^fsrv-[0-9a-z]{16}$/.test(text) ? (text as Id<'file_server'>) : undefined;
  }

  path(upload: string): string {
    return join(this.staging, upload);
  }

  /** Returns the received bytes; undefined if there is no file. */
  async received(upload: string): Promise<number | undefined> {
    return (await stat(this.path(upload)).catch(missing))?.size;
  }

  async remove(upload: string): Promise<void> {
    await rm(this.path(upload), { force: true });
  }

  /** Syncs the file to disk and returns its SHA-256; undefined if there is no file. */
  async sha256(upload: string, signal: AbortSignal): Promise<string | undefined> {
    const file = await open(this.path(upload), constants.O_RDWR).catch(missing);
    if (!file) return undefined;
    try {
      await file.sync();
      const hash = createHash('sha256');
      for await (const chunk of file.createReadStream({ autoClose: false, highWaterMark: 2 ** 20 })) {
        signal.throwIfAborted();
        hash.update(chunk as Buffer);
      }
      return hash.digest('hex');
    } finally {
      await file.close();
    }
  }

  /**
   * Moves the file to its place. A missing file has been moved before. Returns a reason if the name cannot be taken.
   */
  async place(upload: string, project: Id<'project'>, name: string): Promise<string | undefined> {
    const directory = await this.#open(project);
    try {
      const target = `/proc/self/fd/${directory.fd}/${name}`;
      if ((await lstat(target).catch(missing))?.isDirectory()) return `a directory has the name ${name}`;
      await rename(this.path(upload), target).catch(missing);
      await directory.sync();
    } finally {
      await directory.close();
    }
    return undefined;
  }

  async #open(project: Id<'project'>): Promise<FileHandle> {
    const path = join(this.root, project);
    const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
    await mkdir(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    return open(path, flags);
  }
}
