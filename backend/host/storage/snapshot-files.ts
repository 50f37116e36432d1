/**
 * The data of snapshots: a directory each, `snapshots/<id>/`, with a sparse raw file for each disk: `root.raw` for the disk
 * of a VM, and `<volume>.raw`. An incomplete copy is in `snapshots/<id>.new/`, and the rename completes it. Only root has
 * access. No program interprets the files.
 */
import { constants } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Id } from '../../contract/fields.ts';
import { isIdOf } from '../../model/ids.ts';
import type { Run } from '../system/command.ts';
import { isMissing, syncPath } from '../system/files.ts';
import { allocatedSize, exists } from './disks.ts';
import type { CopyContent } from './pools/pool-driver.ts';
import { punchHoles } from './punch-holes.ts';

const incomplete = '.new';

/** The files of all snapshots of one host. */
export class SnapshotFiles {
  readonly #directory: string;
  readonly #run: Run;
  /** The sizes of the copies that were begun, by disk. */
  readonly #begun = new Map<string, ReadonlyMap<string, number>>();

  constructor(dataDir: string, run: Run) {
    this.#directory = join(dataDir, 'snapshots');
    this.#run = run;
  }

  /** @throws Error if the text is no id of a snapshot */
  #of(snapshot: Id<'snapshot'>): string {
    if (!/^snap-[0-9a-z]{16}$/.test(snapshot)) throw new Error(`not the id of a snapshot: ${JSON.stringify(snapshot)}`);
    return join(this.#directory, snapshot);
  }

  /** Returns the name of a disk's file. @throws Error if the text is neither `root` nor the id of a volume */
  #name(disk: string): string {
    if (!/^(root|vol-[0-9a-z]{16})$/.test(disk)) throw new Error(`not a disk of a snapshot: ${JSON.stringify(disk)}`);
    return `${disk}.raw`;
  }

  /** Returns the path of a disk in a complete snapshot. */
  path(snapshot: Id<'snapshot'>, disk: string): string {
    return join(this.#of(snapshot), this.#name(disk));
  }

  /** Opens a disk of a complete snapshot for reading. */
  async read(snapshot: Id<'snapshot'>, disk: string): Promise<CopyContent> {
    const file = await open(this.path(snapshot, disk), constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const { size: bytes } = await file.stat();
      // A process that still has the file may make it longer.
      return { bytes, content: file.createReadStream({ end: bytes - 1, highWaterMark: 2 ** 20 }) };
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Tells whether the complete copy exists. */
  has(snapshot: Id<'snapshot'>): Promise<boolean> {
    return exists(this.#of(snapshot));
  }

  /** Begins a copy: removes an incomplete one, and creates empty files of these sizes in bytes. Returns their paths. */
  async begin(snapshot: Id<'snapshot'>, sizes: ReadonlyMap<string, number>): Promise<Map<string, string>> {
    const directory = `${this.#of(snapshot)}${incomplete}`;
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const paths = new Map<string, string>();
    this.#begun.set(snapshot, sizes);
    for (const [disk, size] of sizes) {
      const path = join(directory, this.#name(disk));
      const file = await open(path, 'wx', 0o600);
      try {
        await file.truncate(size);
      } finally {
        await file.close();
      }
      paths.set(disk, path);
    }
    return paths;
  }

  /** Completes a copy of this instant, which this object has begun. It survives a crash of the machine from here on. */
  async complete(snapshot: Id<'snapshot'>, takenAt: Date): Promise<void> {
    const directory = this.#of(snapshot);
    await utimes(`${directory}${incomplete}`, takenAt, takenAt);
    const sizes = this.#begun.get(snapshot) ?? new Map<string, number>();
    for (const [disk, size] of sizes) {
      const path = join(`${directory}${incomplete}`, this.#name(disk));
      // A process that its guest has taken over may have made the file larger than the space that it was granted.
      if ((await stat(path)).size !== size) throw new Error(`the copy of ${disk} has another size`);
      await syncPath(path);
      await punchHoles(this.#run, path);
    }
    await syncPath(`${directory}${incomplete}`);
    await rename(`${directory}${incomplete}`, directory);
    await syncPath(dirname(directory));
    this.#begun.delete(snapshot);
  }

  /** Returns the instant that a complete copy shows. */
  async takenAt(snapshot: Id<'snapshot'>): Promise<Date> {
    return (await stat(this.#of(snapshot))).mtime;
  }

  /** Removes an incomplete copy. */
  async abandon(snapshot: Id<'snapshot'>): Promise<void> {
    this.#begun.delete(snapshot);
    await rm(`${this.#of(snapshot)}${incomplete}`, { recursive: true, force: true });
  }

  /** Removes the data of the snapshot, complete or not. */
  async remove(snapshot: Id<'snapshot'>): Promise<void> {
    await this.abandon(snapshot);
    // The new name marks the rest as incomplete, in case of a crash.
    if (await this.has(snapshot)) await rename(this.#of(snapshot), `${this.#of(snapshot)}${incomplete}`);
    await this.abandon(snapshot);
  }

  /** Returns the complete snapshots. */
  async list(): Promise<Id<'snapshot'>[]> {
    const complete = (await this.#names()).filter((name) => !name.endsWith(incomplete));
    return complete.filter((name) => isIdOf('snapshot', name));
  }

  /** Removes the incomplete copies of an earlier agent. */
  async removeIncomplete(): Promise<void> {
    for (const name of await this.#names()) {
      if (name.endsWith(incomplete)) await rm(join(this.#directory, name), { recursive: true, force: true });
    }
  }

  async #names(): Promise<string[]> {
    try {
      return await readdir(this.#directory);
    } catch (error) {
      if (isMissing(error)) return [];
      throw error;
    }
  }

  /** Returns the space that all files take on the file system, in bytes. */
  async allocated(): Promise<number> {
    let total = 0;
    for (const snapshot of await this.list()) {
      const directory = this.#of(snapshot);
      for (const name of await readdir(directory)) total += await allocatedSize(join(directory, name));
    }
    return total;
  }

  /** Removes the data of all snapshots. */
  async clean(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
  }
}
