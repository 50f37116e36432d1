/**
 * The data of volumes: one sparse raw file each, `volumes/<id>.raw` in the data directory. A raw file has no structure, so
 * no program interprets what guests have written. Only root has access; a QEMU process gets the open descriptor.
 */
import { mkdir, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Id } from '../../contract/fields.ts';
import { isIdOf } from '../../model/ids.ts';
import { isMissing } from '../system/files.ts';
import { allocatedSize } from './disks.ts';

const ending = '.raw';

/** The files of all volumes of one host. */
export class VolumeFiles {
  readonly #directory: string;

  constructor(dataDir: string) {
    this.#directory = join(dataDir, 'volumes');
  }

  /** Returns the path of the volume's file. @throws Error if the text is no id of a volume */
  path(volume: Id<'volume'>): string {
    if (!/^vol-[0-9a-z]{16}$/.test(volume)) throw new Error(`not the id of a volume: ${JSON.stringify(volume)}`);
    return join(this.#directory, `${volume}${ending}`);
  }

  /** Creates the file, or grows it to `size` bytes. Never shrinks it. */
  async ensure(volume: Id<'volume'>, size: number): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const file = await open(this.path(volume), 'a', 0o600);
    try {
      if ((await file.stat()).size >= size) return;
      await file.truncate(size);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  /** Returns the volumes that have a file. */
  async list(): Promise<Id<'volume'>[]> {
    try {
      const names = (await readdir(this.#directory)).filter((name) => name.endsWith(ending));
      return names.map((name) => name.slice(0, -ending.length)).filter((name) => isIdOf('volume', name));
    } catch (error) {
      if (isMissing(error)) return [];
      throw error;
    }
  }

  /** Returns the space that all files take on the file system, in bytes. */
  async allocated(): Promise<number> {
    let total = 0;
    for (const volume of await this.list()) total += await allocatedSize(this.path(volume));
    return total;
  }

  /** Removes the data of the volume. */
  async remove(volume: Id<'volume'>): Promise<void> {
    await rm(this.path(volume), { force: true });
  }

  /** Removes the data of all volumes. */
  async clean(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
  }
}
