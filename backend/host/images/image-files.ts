/**
 * The files of images on a host. There are two directories. The image store is that of the image scanner, if this host
 * sees it. The copies belong to this host: `<image>.qcow2` is complete and never changes, and `<image>.<sha256>.part` is
 * the beginning of a file.
 */
import { chmod, mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import type { Id } from '../../contract/fields.ts';
import { imageFileName } from '../../model/image/disk-image.ts';
import type { HeldCopy } from '../../model/image/eviction.ts';
import { stagingName } from '../../model/image/transfer.ts';
import { exists } from '../storage/disks.ts';
import { isMissing } from '../system/files.ts';

/** The beginning of a file. */
export interface PartialCopy {
  readonly name: string;
  readonly image: string;
}

const copyName = /^(img-[0-9a-z]{16})\.qcow2$/;
const partName = /^(img-[0-9a-z]{16})\.[0-9a-f]{64}\.part$/;

/** The files of images on a host. */
export class ImageFiles {
  readonly #store: string;
  /** The directory of the copies; undefined if the host makes none. */
  readonly copies: string | undefined;

  /**
   * @param store the image store of the scanner; it need not exist
   * @param copies the directory of the copies. Without it, the host uses the image store only.
   */
  constructor(store: string, copies?: string) {
    this.#store = store;
    this.copies = copies;
  }

  #copy(image: string): string | undefined {
    return this.copies === undefined ? undefined : join(this.copies, imageFileName(image as Id<'image'>));
  }

  /** Returns the path of the image: in the image store if it is there, else that of the copy. */
  async path(image: string): Promise<string> {
    const stored = join(this.#store, imageFileName(image as Id<'image'>));
    return (await exists(stored)) ? stored : (this.#copy(image) ?? stored);
  }

  /** Tells whether VMs can use the image. */
  async has(image: string): Promise<boolean> {
    return exists(await this.path(image));
  }

  /** Tells whether this host sees the image store of this name. */
  seesStore(name: string): Promise<boolean> {
    return exists(join(this.#store, stagingName(name)));
  }

  /** Records that a VM uses the image now. */
  async touch(image: string): Promise<void> {
    const copy = this.#copy(image);
    if (copy === undefined) return;
    const now = new Date();
    try {
      await utimes(copy, now, now);
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }

  /** Returns the path for the beginning of the file with this digest. */
  async part(image: string, sha256: string): Promise<string> {
    if (this.copies === undefined) throw new Error('this host has no directory for copies of images');
    await mkdir(this.copies, { recursive: true, mode: 0o700 });
    return join(this.copies, `${image}.${sha256}.part`);
  }

  /** Makes the complete and synced file the copy of the image. */
  async complete(image: string, part: string): Promise<void> {
    const copy = this.#copy(image);
    if (this.copies === undefined || copy === undefined) throw new Error('this host has no directory for copies');
    // Only the agent opens the file. Processes of VMs get it open.
    await chmod(part, 0o400);
    await rename(part, copy);
    await this.touch(image);
    const directory = await open(this.copies, 'r');
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  }

  async #names(): Promise<string[]> {
    try {
      return this.copies === undefined ? [] : await readdir(this.copies);
    } catch (error) {
      if (isMissing(error)) return [];
      throw error;
    }
  }

  /** Returns the complete copies. */
  async list(): Promise<HeldCopy[]> {
    const found: HeldCopy[] = [];
    for (const name of await this.#names()) {
      const image = copyName.exec(name)?.[1];
      if (image === undefined || this.copies === undefined) continue;
      const { blocks, mtimeMs } = await stat(join(this.copies, name));
      found.push({ image, bytes: blocks * 512, usedAtMs: mtimeMs });
    }
    return found;
  }

  /** Returns the incomplete copies. */
  async parts(): Promise<PartialCopy[]> {
    return (await this.#names()).flatMap((name) => {
      const image = partName.exec(name)?.[1];
      return image === undefined ? [] : [{ name, image }];
    });
  }

  /** Removes the copy of the image. The file of the image store stays. */
  async remove(image: string): Promise<void> {
    const copy = this.#copy(image);
    if (copy !== undefined) await rm(copy, { force: true });
  }

  /** Removes an incomplete copy. */
  async removePart({ name }: PartialCopy): Promise<void> {
    if (this.copies !== undefined) await rm(join(this.copies, name), { force: true });
  }

  /** Removes all copies. Returns the number of removed files. */
  async clean(): Promise<number> {
    const { length } = await this.#names();
    if (this.copies !== undefined) await rm(this.copies, { recursive: true, force: true });
    return length;
  }
}
