/**
 * The steps of one import: copy the source, examine it, unpack it if it is compressed, convert it, examine the result,
 * and put it into the image store.
 */
import { constants } from 'node:fs';
import { chmod, chown, mkdir, open, rename, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Id } from '../contract/fields.ts';
import { type DiskImage, imageFileName } from '../model/image/disk-image.ts';
import type { ImageRecord } from '../model/records/index.ts';
import { describeSize } from '../model/text/sizes.ts';
import { convert } from './convert.ts';
import type { Deliveries } from './deliveries.ts';
import { type Examined, examine } from './examine.ts';
import { ImageRejected } from './failures.ts';
import type { FairSlots } from './fair-slots.ts';
import type { ImportLimits } from './limits.ts';
import type { ReportProgress } from './progress.ts';
import { type Fetched, fetchSource, type SourceOptions } from './source.ts';
import { unpack } from './unpack.ts';

/** Options of `importImage`. */
export interface ImportOptions extends SourceOptions {
  readonly imageStore: string;
  /** The leader's directory for incomplete files, in the file system of the image store. */
  readonly staging: string;
  /** If false, the source is only examined. The image store gets no file, because simulated hosts read no images. */
  readonly storeImage: boolean;
  readonly limits: ImportLimits;
  /** Copies the disk of the image's snapshot to a path, as in `Deliveries.fetch`. */
  readonly fetchSnapshot?: Deliveries['fetch'];
  /** The slots for unpackings and conversions. */
  readonly conversions: FairSlots;
  /** Default: reports nothing. */
  readonly progress?: ReportProgress;
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

function checkDigests(image: ImageRecord, { sha256, sha512 }: Fetched): void {
  if (image.sha256 !== undefined && image.sha256 !== sha256)
    throw new ImageRejected(`The source has the SHA-256 ${sha256}, not the one that was declared.`);
  if (image.sha512 !== undefined && image.sha512 !== sha512)
    throw new ImageRejected(`The source has the SHA-512 ${sha512}, not the one that was declared.`);
}

/** Copies the source of the image to the path `target`. */
function fetch(
  image: ImageRecord,
  target: string,
  options: ImportOptions,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Fetched> {
  const { progress = () => undefined, fetchSnapshot } = options;
  const copied = (bytes: number, total: number) => progress('downloading', bytes, total);
  const { source } = image;
  if (source !== undefined) return fetchSource({ ...image, source }, target, options, maxBytes, signal, copied);
  if (fetchSnapshot) return fetchSnapshot(image, target, maxBytes, signal, copied);
  throw new ImageRejected('This image scanner cannot import snapshots.');
}

interface Arrived {
  readonly image: ImageRecord;
  /** The path of the source as it arrived, and its size in bytes. */
  readonly arrived: string;
  readonly size: number;
  readonly directory: string;
}

/** Returns the file with the disk. A compressed source is unpacked once and removed. */
async function unpackIfNeeded(
  { image, arrived, size, directory }: Arrived,
  { conversions, limits, progress = () => undefined }: ImportOptions,
  signal: AbortSignal,
): Promise<{ readonly source: string; readonly found: DiskImage }> {
  const first = await examine(arrived, signal);
  if (!('compression' in first)) return { source: arrived, found: first };
  const { compression } = first;
  const target = join(directory, 'unpacked');
  await conversions.use(image.project, signal, async () => {
    progress('unpacking', 0, size);
    const maxTargetBytes = await spaceFor(directory, limits);
    const files = { source: arrived, target, compression, sourceSize: size, maxTargetBytes };
    await unpack(files, limits, signal, (bytes) => progress('unpacking', bytes, size));
  });
  await rm(arrived);
  const found: Examined = await examine(target, signal).catch((error: unknown) => {
    throw error instanceof ImageRejected ? new ImageRejected(`Unpacked with ${compression}: ${error.message}`) : error;
  });
  if ('compression' in found)
    throw new ImageRejected(`It is compressed twice, with ${compression} and ${found.compression}. Unpack it once.`);
  return { source: target, found };
}

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
    const { limits, progress = () => undefined } = options;
    const arrived = join(directory, 'source');
    const maxBytes = await spaceFor(directory, limits);
    const fetched = await fetch(image, arrived, options, maxBytes, signal);
    checkDigests(image, fetched);
    const { sha256, size } = fetched;
    // A guest has written the disk of a snapshot. Its beginning may look like any format, so nothing looks at it.
    const raw = { source: arrived, found: { format: 'raw', virtualSize: size } as const };
    const { source, found } =
      image.source === undefined ? raw : await unpackIfNeeded({ image, arrived, size, directory }, options, signal);
    const { format, virtualSize } = found;
    if (virtualSize > limits.maxVirtualBytes)
      throw new ImageRejected(
        `It describes a disk of ${describeSize(virtualSize)}; the limit is ${describeSize(limits.maxVirtualBytes)}.`,
      );
    if (!options.storeImage) return { sha256, virtualSize };

    const target = join(directory, 'image.qcow2');
    await options.conversions.use(image.project, signal, async () => {
      progress('converting', 0, virtualSize);
      const maxTargetBytes = await spaceFor(directory, limits);
      const files = { source, target, format, virtualSize, sourceSize: size, maxTargetBytes };
      await convert(files, limits, signal, (share) => progress('converting', share * virtualSize, virtualSize));
    });
    progress('checking', 0, 0);
    const made = await examine(target, signal);
    if (!('format' in made) || made.format !== 'qcow2' || made.virtualSize !== virtualSize)
      throw new Error(`qemu-img made ${JSON.stringify(made)}, not qcow2 of ${virtualSize} bytes`);
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
