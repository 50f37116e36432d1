/**
 * The steps of one import: copy the source, examine it, convert it, examine the result, and put it into the image
 * store.
 */
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

/** Options of `importImage`. */
export interface ImportOptions extends SourceOptions {
  readonly imageStore: string;
  /** The leader's directory for incomplete files, in the file system of the image store. */
  readonly staging: string;
  /** If false, the source is only examined. The image store gets no file, because simulated hosts read no images. */
  readonly storeImage: boolean;
  readonly limits: ImportLimits;
  /** The slots for conversions. */
  readonly conversions: FairSlots;
}

/** The result of an import. */
export interface Imported {
  /** The SHA-256 of the source, in lower-case hex. */
  readonly sha256: string;
  /** The size of the disk, in bytes. */
  readonly virtualSize: number;
}

/** Returns the path of the image in the image store. */
export const imageFile = (imageStore: string, id: Id<'image'>): string => join(imageStore, imageFileName(id));

/** Returns the space that one import may take, in bytes. All imports together never fill the image store. */
async function spaceFor(directory: string, { maxFreeShare, maxImports }: ImportLimits): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return Math.floor((bavail * bsize * maxFreeShare) / maxImports);
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
 * Imports the image.
 * @param stillLeads tells whether this scanner still leads; called just before the file appears in the image store
 * @throws ImageRejected, FileMissing or SourceUnavailable
 * @throws the reason of `signal` after its abort
 */
export async function importImage(
  image: ImageRecord,
  options: ImportOptions,
  signal: AbortSignal,
  stillLeads: () => boolean,
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
    if (virtualSize > limits.maxVirtualBytes)
      throw new ImageRejected(
        `It describes a disk of ${describeSize(virtualSize)}; the limit is ${describeSize(limits.maxVirtualBytes)}.`,
      );
    if (!options.storeImage) return { sha256, virtualSize };

    const target = join(directory, 'image.qcow2');
    await options.conversions.use(image.project, signal, async () => {
      const maxTargetBytes = await spaceFor(directory, limits);
      await convert({ source, target, format, virtualSize, sourceSize: size, maxTargetBytes }, limits, signal);
    });
    const made = await examine(target, signal);
    if (made.format !== 'qcow2' || made.virtualSize !== virtualSize)
      throw new Error(`qemu-img made ${made.format} of ${made.virtualSize} bytes, not qcow2 of ${virtualSize}`);
    // No process writes to the file again, because VMs share it.
    if (process.getuid?.() === 0) await chown(target, 0, 0);
    await chmod(target, 0o444);
    await sync(target);
    signal.throwIfAborted();
    if (!stillLeads()) throw new Error('this scanner no longer leads, so it does not write to the image store');
    await rename(target, imageFile(options.imageStore, image.id));
    await sync(options.imageStore);
    return { sha256, virtualSize };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
