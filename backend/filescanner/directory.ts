/**
 * Access to a directory whose content users control. All paths go through the open directory (`/proc/self/fd`), and the
 * last part of a path is one name that is never followed if it is a link. So no rename and no link leads out of the
 * directory, not even between two steps.
 */
import type { BigIntStats, Dirent } from 'node:fs';
import { constants } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, opendir, unlink } from 'node:fs/promises';

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;

/** Returns undefined if the work fails with one of the codes. */
async function unless<T>(work: Promise<T>, ...codes: readonly string[]): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (codes.includes(codeOf(error) ?? '')) return undefined;
    throw error;
  }
}

/** An open directory. */
export class Directory {
  readonly #handle: FileHandle;

  private constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  /** Opens the directory at a path of the operator, which may contain links. Returns undefined if there is none. */
  static async open(path: string): Promise<Directory | undefined> {
    const handle = await unless(open(path, O_RDONLY | O_DIRECTORY), 'ENOENT', 'ENOTDIR');
    return handle && new Directory(handle);
  }

  #path(name: Uint8Array | string): Buffer {
    return Buffer.concat([Buffer.from(`/proc/self/fd/${this.#handle.fd}/`), Buffer.from(name)]);
  }

  /** Opens a directory in this one. Returns undefined if there is none, or a link. */
  async directory(name: string): Promise<Directory | undefined> {
    const handle = await unless(
      open(this.#path(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW),
      'ENOENT',
      'ENOTDIR',
      'ELOOP',
    );
    return handle && new Directory(handle);
  }

  /** Creates a directory in this one, unless something has this name. */
  async make(name: string): Promise<void> {
    await unless(mkdir(this.#path(name)), 'EEXIST');
  }

  /** Returns the inode. */
  async inode(): Promise<string> {
    return String((await this.#handle.stat({ bigint: true })).ino);
  }

  /** Iterates over the names, in no order, with constant memory. */
  async *names(): AsyncGenerator<Buffer, void> {
    // The types of Node lack the encoding `buffer` for this function.
    const entries = await opendir(this.#path(''), { encoding: 'buffer' as BufferEncoding, bufferSize: 256 });
    for await (const { name } of entries as unknown as AsyncIterable<Dirent<Buffer>>) yield name;
  }

  /** Returns the state of an entry; undefined if there is none. */
  lstat(name: Uint8Array): Promise<BigIntStats | undefined> {
    return unless(lstat(this.#path(name), { bigint: true }), 'ENOENT');
  }

  /** Opens a file to read. Returns undefined if there is none, or something that cannot be read as a file. */
  file(name: Uint8Array | string): Promise<FileHandle | undefined> {
    const opened = open(this.#path(name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    return unless(opened, 'ENOENT', 'ELOOP', 'ENXIO', 'ENODEV', 'EISDIR');
  }

  /** Removes a file or link. Returns false if a directory has the name. */
  async unlink(name: Uint8Array): Promise<boolean> {
    try {
      await unlink(this.#path(name));
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return true;
      if (codeOf(error) === 'EISDIR' || codeOf(error) === 'EPERM') return false;
      throw error;
    }
    await this.#handle.sync();
    return true;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

/** Tells whether the entry is a file that may be offered. Another hard link may be a file of somebody else. */
export const isPlainFile = (stats: BigIntStats): boolean => stats.isFile() && stats.nlink === 1n;

const latest = Date.parse('9999-12-31T23:59:59.999Z');

/** Returns the time of the last change, within the years that RFC 3339 can write. */
export const modifiedAt = ({ mtimeMs }: BigIntStats): string =>
  new Date(Math.min(Math.max(Number(mtimeMs), 0), latest)).toISOString();

/** Tells whether a call of the system has failed for one entry only, such as a damaged inode. */
export const isOfEntry = (error: unknown): boolean => error instanceof Error && 'syscall' in error;
