/** One import: source → private copy → examined → converted → examined again → in place. */
import { constants } from 'node:fs';
import { chmod, chown, mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type DiskImage, headSize, imageFileName, recognizeDiskImage } from '../model/disk-image.ts';
import type { Id, ImageRecord } from '../model/records.ts';
import { convert } from './convert.ts';
import { ImageRejected } from './failures.ts';
import { type ImportLimits, inWords } from './limits.ts';
import { fetchSource, type SourceOptions } from './source.ts';

export interface ImportOptions extends SourceOptions {
  readonly imageStore: string;
  /** Directory of ours in the image store's file system. */
  readonly staging: string;
  /** false: everything but the conversion; nothing is put in place (for simulated hosts, which read no images). */
  readonly keep: boolean;
  readonly limits: ImportLimits;
}

export interface Imported {
  readonly sha256: string;
  /** Bytes of the disk. */
  readonly virtualSize: number;
}

export const imageFile = (imageStore: string, id: Id<'image'>): string => join(imageStore, imageFileName(id));

async function examine(path: string): Promise<DiskImage> {
  const file = await open(path, constants.O_RDONLY);
  try {
    const { size } = await file.stat();
    const head = Buffer.alloc(Math.min(size, headSize));
    await file.read(head, 0, head.length, 0);
    const result = recognizeDiskImage(head, size);
    if (!result.ok) throw new ImageRejected(result.problem);
    return result.image;
  } finally {
    await file.close();
  }
}

const sync = async (path: string): Promise<void> => {
  const file = await open(path, constants.O_RDONLY);
  try {
    await file.sync();
  } finally {
    await file.close();
  }
};

/**
 * @param mayPlace asked at the last moment before the file appears in the image store
 * @throws ImageRejected, FileMissing, SourceUnavailable, or what `signal` was aborted with
 */
export async function importImage(
  image: ImageRecord,
  options: ImportOptions,
  signal: AbortSignal,
  mayPlace: () => boolean,
): Promise<Imported> {
  const directory = join(options.staging, image.id);
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { mode: 0o700 });
  try {
    const source = join(directory, 'source');
    const { sha256 } = await fetchSource(image, source, options, signal);
    if (image.sha256 !== undefined && image.sha256 !== sha256)
      throw new ImageRejected(`The source has the SHA-256 ${sha256}, not the one that was declared.`);
    const { format, virtualSize } = await examine(source);
    if (virtualSize > options.limits.virtualSize)
      throw new ImageRejected(
        `It describes a disk of ${inWords(virtualSize)}; the limit is ${inWords(options.limits.virtualSize)}.`,
      );
    if (!options.keep) return { sha256, virtualSize };

    const target = join(directory, 'image.qcow2');
    await convert({ source, target, format, virtualSize }, options.limits, signal);
    const made = await examine(target);
    if (made.format !== 'qcow2' || made.virtualSize !== virtualSize)
      throw new Error(`qemu-img made ${made.format} of ${made.virtualSize} bytes, not qcow2 of ${virtualSize}`);
    // Nobody writes to it again: VMs share it.
    if (process.getuid?.() === 0) await chown(target, 0, 0);
    await chmod(target, 0o444);
    await sync(target);
    signal.throwIfAborted();
    if (!mayPlace()) throw new Error('no longer the one that writes to the image store');
    await rename(target, imageFile(options.imageStore, image.id));
    await sync(options.imageStore);
    return { sha256, virtualSize };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
