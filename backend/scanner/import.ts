/** One import: source → private copy → examined → converted → examined again → in place. */
import { constants } from 'node:fs';
import { chmod, chown, mkdir, open, rename, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Id } from '../contract/fields.ts';
import { imageFileName } from '../model/image/disk-image.ts';
import type { ImageRecord } from '../model/records/index.ts';
import { describeSize } from '../model/text/sizes.ts';
import { convert } from './convert.ts';
import { examine } from './examine.ts';
import { ImageRejected } from './failures.ts';
import type { FairSlots } from './fair-slots.ts';
import type { ImportLimits } from './limits.ts';
import { fetchSource, type SourceOptions } from './source.ts';

export interface ImportOptions extends SourceOptions {
  readonly imageStore: string;
  /** Directory of ours in the image store's file system. */
  readonly staging: string;
  /** false: everything but the conversion; nothing is put in place (for simulated hosts, which read no images). */
  readonly keep: boolean;
  readonly limits: ImportLimits;
  /** Conversions at the same time, by project. */
  readonly conversions: FairSlots;
}

export interface Imported {
  readonly sha256: string;
  /** Bytes of the disk. */
  readonly virtualSize: number;
}

export const imageFile = (imageStore: string, id: Id<'image'>): string => join(imageStore, imageFileName(id));

/** Bytes that an import may add to the image store: its part of the free space, so that all together never fill it. */
async function spaceFor(directory: string, { freeShare, concurrency }: ImportLimits): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return Math.floor((bavail * bsize * freeShare) / concurrency);
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
    const { limits } = options;
    const { sha256, size } = await fetchSource(image, source, options, await spaceFor(directory, limits), signal);
    if (image.sha256 !== undefined && image.sha256 !== sha256)
      throw new ImageRejected(`The source has the SHA-256 ${sha256}, not the one that was declared.`);
    const { format, virtualSize } = await examine(source, signal);
    if (virtualSize > limits.virtualSize)
      throw new ImageRejected(
        `It describes a disk of ${describeSize(virtualSize)}; the limit is ${describeSize(limits.virtualSize)}.`,
      );
    if (!options.keep) return { sha256, virtualSize };

    const target = join(directory, 'image.qcow2');
    await options.conversions.use(image.project, signal, async () => {
      const room = await spaceFor(directory, limits);
      await convert({ source, target, format, virtualSize, sourceSize: size, room }, limits, signal);
    });
    const made = await examine(target, signal);
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
