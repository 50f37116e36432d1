/**
 * A pool in a directory: one sparse raw file for each volume. A raw file has no structure, so no program interprets what
 * guests have written. Only root has access; a QEMU process gets the open descriptor.
 *
 * The directory may lie on a file server that hangs. Short-lived programs therefore do all the work, each until a
 * deadline: a call of this process could block one of its few threads for ever.
 */
import { randomBytes } from 'node:crypto';
import { basename, join } from 'node:path';
import type { Id } from '../../../contract/fields.ts';
import type { PoolUsage } from '../../../model/storage/pool.ts';
import { CommandError, type Run } from '../../system/command.ts';
import { Mutex } from '../../system/mutex.ts';
import { Deadline } from './deadline.ts';
import { DirectoryCopies } from './directory-copies.ts';
import { type PoolDriver, PoolFault, type VolumeContent, type VolumeSource } from './pool-driver.ts';

const ending = '.raw';
const idPattern = /^vol-[0-9a-z]{16}$/;
/** The file that marks the directory of a pool. */
export const markerFile = '.ucloud-pool';
const markerPattern = /^stp-[0-9a-z]{16} [0-9a-f]{32}\n?$/;
const defaultDeadlineMs = 10_000;
/** The time in milliseconds until the content of a new volume is on the disks of a file server. */
const syncDeadlineMs = 600_000;

/** Options of `DirectoryPool`. */
export interface DirectoryPoolOptions {
  readonly path: string;
  readonly run: Run;
  /** The expected text of the marker; `none` for the data directory of the host, which has no marker. */
  readonly marker: string | undefined | 'none';
  /** The time for one step, in milliseconds. Default: 10,000. */
  readonly deadlineMs?: number;
}

const isMissingFile = (error: unknown): boolean =>
  error instanceof CommandError && error.stderr.includes('No such file or directory');

/** A directory of volumes. */
export class DirectoryPool implements PoolDriver {
  readonly #options: DirectoryPoolOptions;
  readonly #deadline: Deadline;
  readonly #syncDeadline = new Deadline(syncDeadlineMs);
  readonly copies: DirectoryCopies;
  /** Two calls must not create one file at the same time. */
  readonly #changes = new Mutex();
  /** The copies that fill volumes. They end before their volume is removed. */
  readonly #fills = new Map<Id<'volume'>, { readonly abort: AbortController; readonly ended: Promise<void> }>();

  constructor(options: DirectoryPoolOptions) {
    this.#options = options;
    this.#deadline = new Deadline(options.deadlineMs ?? defaultDeadlineMs);
    this.copies = new DirectoryCopies({
      path: options.path,
      run: (program, args) => this.#run(program, args),
      runLong: (program, args) => this.#syncDeadline.run(() => options.run(program, args)),
      check: () => this.#check(),
    });
  }

  #run(program: string, args: readonly string[], input?: string): Promise<string> {
    return this.#deadline.run(() => this.#options.run(program, args, input));
  }

  /** Returns the path of the volume's file. @throws Error if the text is no id of a volume */
  #path(volume: Id<'volume'>): string {
    if (!idPattern.test(volume)) throw new Error(`not the id of a volume: ${JSON.stringify(volume)}`);
    return join(this.#options.path, `${volume}${ending}`);
  }

  get #markerPath(): string {
    return join(this.#options.path, markerFile);
  }

  /** Returns the text of the marker; undefined if there is none. An interrupted write leaves an empty file. */
  async readMarker(): Promise<string | undefined> {
    try {
      const text = await this.#run('head', ['--bytes=64', '--', this.#markerPath]);
      if (text === '') return undefined;
      if (markerPattern.test(text)) return text.trim();
      throw new PoolFault(`The file ${markerFile} in the directory is not that of a storage pool.`);
    } catch (error) {
      if (!isMissingFile(error)) throw error;
      await this.#checkDirectory();
      return undefined;
    }
  }

  /** Marks the directory. Does not replace a marker. */
  async writeMarker(text: string): Promise<void> {
    const temporary = `${this.#markerPath}.${randomBytes(8).toString('hex')}`;
    try {
      await this.#run('dd', [`of=${temporary}`, 'conv=excl,fsync', 'status=none'], `${text}\n`);
      await this.#run('find', ['-H', this.#options.path, '-maxdepth', '1', '-name', markerFile, '-empty', '-delete']);
      await this.#run('ln', ['--no-target-directory', '--', temporary, this.#markerPath]);
    } finally {
      await this.#run('rm', ['--force', '--', temporary]);
    }
  }

  async #checkDirectory(): Promise<void> {
    try {
      const type = await this.#run('stat', ['--dereference', '--format=%F', '--', this.#options.path]);
      if (type.trim() === 'directory') return;
    } catch (error) {
      if (!isMissingFile(error)) throw error;
    }
    throw new PoolFault(`There is no directory ${this.#options.path}.`);
  }

  /** Checks that the directory is that of the pool. Its file system may not be mounted. */
  async #check(): Promise<void> {
    const { marker, path, run } = this.#options;
    if (marker === 'none') {
      await this.#deadline.run(() => run('mkdir', ['--parents', '--mode=0700', '--', path]));
      return;
    }
    if (marker === undefined) throw new PoolFault('The host has not examined the directory yet.');
    const found = await this.readMarker();
    if (found === marker) return;
    const reason =
      found === undefined
        ? `lacks the file ${markerFile} of the storage pool. Its file system may not be mounted.`
        : `has the file ${markerFile} of another storage pool, or of another directory.`;
    throw new PoolFault(`The directory ${path} ${reason}`);
  }

  /** Prints the format for each file of a volume or snapshot. The path may be a link, and files may vanish meanwhile. */
  #find(format: string): Promise<string> {
    const { path } = this.#options;
    const names = ['(', '-name', `vol-*${ending}`, '-o', '-name', `snap-*${ending}`, ')'];
    const files = ['-maxdepth', '1', '-type', 'f', ...names];
    return this.#run('find', ['-H', path, '-ignore_readdir_race', ...files, '-printf', format]);
  }

  async usage(): Promise<PoolUsage> {
    await this.#check();
    const { path } = this.#options;
    const blocks = await this.#find('%b\n');
    const allocated = blocks.split('\n').reduce((sum, line) => sum + Number(line) * 512, 0);
    const [blockSize = 0, available = 0] = (await this.#run('stat', ['--file-system', '--format=%S %a', '--', path]))
      .split(' ')
      .map(Number);
    const free = blockSize * available;
    return { size: free + allocated, free };
  }

  async sizeOf(volume: Id<'volume'>): Promise<number | undefined> {
    const path = this.#path(volume);
    await this.#check();
    try {
      const [size = '', type = ''] = (await this.#run('stat', ['--format=%s %F', '--', path])).split(/ (.*)/s);
      // Another host with access to the directory may have put a link there.
      if (!type.startsWith('regular')) throw new PoolFault(`The file of ${volume} is a ${type.trim()}.`);
      return Number(size);
    } catch (error) {
      if (isMissingFile(error)) return undefined;
      throw error;
    }
  }

  async ensure(volume: Id<'volume'>, size: number): Promise<void> {
    const path = this.#path(volume);
    if (!Number.isSafeInteger(size) || size <= 0) throw new Error(`not the size of a volume: ${size}`);
    await this.#changes.run(async () => {
      const present = await this.sizeOf(volume);
      if (present !== undefined && present >= size) return;
      const file = present === undefined ? `${path}.new` : path;
      // A link with this name must not be followed, so `install` replaces it.
      if (present === undefined) await this.#run('install', ['--mode=0600', '/dev/null', file]);
      await this.#grow(file, size);
      if (present !== undefined) return;
      await this.#run('mv', ['--no-clobber', '--no-target-directory', '--', file, path]);
      await this.#run('sync', ['--', this.#options.path]);
    });
  }

  /** Grows a file, which exists: `truncate` would create it. */
  async #grow(file: string, size: number): Promise<void> {
    await this.#run('truncate', ['--no-create', `--size=>${size}`, '--', file]);
    await this.#run('sync', ['--', file]);
  }

  fill(volume: Id<'volume'>, size: number, content: VolumeContent, signal: AbortSignal): Promise<void> {
    return this.#fill(volume, size, content, signal, false);
  }

  replace(volume: Id<'volume'>, size: number, content: VolumeContent, signal: AbortSignal): Promise<void> {
    return this.#fill(volume, size, content, signal, true);
  }

  async #fill(
    volume: Id<'volume'>,
    size: number,
    content: VolumeContent,
    given: AbortSignal,
    replaces: boolean,
  ): Promise<void> {
    const path = this.#path(volume);
    const abort = new AbortController();
    const signal = AbortSignal.any([given, abort.signal]);
    const ended = Promise.withResolvers<void>();
    this.#fills.set(volume, { abort, ended: ended.promise });
    try {
      if (content.size > size) throw new PoolFault(`The content of ${volume} is larger than the volume.`);
      if (replaces || (await this.sizeOf(volume)) === undefined) await this.#write(path, content, signal, replaces);
      signal.throwIfAborted();
      const present = await this.sizeOf(volume);
      // A missing file must not become an empty volume.
      if (present === undefined) throw new PoolFault(`The file of ${volume} has vanished.`);
      if (present < size) await this.#changes.run(() => this.#grow(path, size));
    } finally {
      this.#fills.delete(volume);
      ended.resolve();
    }
  }

  /** Writes the content to a file with a temporary name. The complete file then gets the name of the volume. */
  async #write(path: string, content: VolumeContent, signal: AbortSignal, replaces: boolean): Promise<void> {
    const temporary = `${path}.${randomBytes(8).toString('hex')}.new`;
    await this.#removeTemporary(basename(path));
    try {
      await this.#run('install', ['--mode=0600', '/dev/null', temporary]);
      await this.#run('truncate', [`--size=${content.size}`, '--', temporary]);
      signal.throwIfAborted();
      await content.write({ kind: 'file', path: temporary }, signal);
      signal.throwIfAborted();
      await this.#syncDeadline.run(() => this.#options.run('sync', ['--', temporary]));
      const size = Number(await this.#run('stat', ['--format=%s', '--', temporary]));
      // A program that its content has taken over may have made the file larger.
      if (size !== content.size) throw new Error('the content of a volume has another size');
      signal.throwIfAborted();
      const name = replaces ? ['mv', '--force'] : ['ln'];
      await this.#run(name[0] ?? '', [...name.slice(1), '--no-target-directory', '--', temporary, path]);
      await this.#run('sync', ['--', this.#options.path]);
    } catch (error) {
      // Another host has filled the volume first.
      if (!(error instanceof CommandError && error.stderr.includes('File exists'))) throw error;
    } finally {
      await this.#run('rm', ['--force', '--', temporary]).catch(() => undefined);
    }
  }

  /** Removes the files with temporary names of a volume; `names` is a pattern for the name of its file. */
  async #removeTemporary(names: string): Promise<void> {
    const files = ['-maxdepth', '1', '-type', 'f', '-name', `${names}*.new`, '-delete'];
    await this.#run('find', ['-H', this.#options.path, '-ignore_readdir_race', ...files]);
  }

  async removeIncomplete(volume?: Id<'volume'>): Promise<void> {
    await this.#check();
    await this.#removeTemporary(volume === undefined ? `vol-*${ending}` : basename(this.#path(volume)));
  }

  async remove(volume: Id<'volume'>): Promise<void> {
    const path = this.#path(volume);
    const fill = this.#fills.get(volume);
    fill?.abort.abort();
    await fill?.ended;
    await this.#check();
    await this.#run('rm', ['--force', '--', path]);
    await this.#removeTemporary(basename(path));
  }

  async list(): Promise<Id<'volume'>[]> {
    await this.#check();
    const names = await this.#find('%f\n');
    return names
      .split('\n')
      .map((name) => name.slice(0, -ending.length))
      .filter((name): name is Id<'volume'> => idPattern.test(name));
  }

  async source(volume: Id<'volume'>): Promise<VolumeSource> {
    return { kind: 'file', path: this.#path(volume) };
  }
}
