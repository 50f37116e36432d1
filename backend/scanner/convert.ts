/**
 * Converts an examined source with qemu-img into a qcow2 file that refers to no other file. qemu-img runs in confinement.
 * The scanner gives it the format, because qemu-img must not guess, and forbids a backing file. The target exists before.
 * So qemu-img needs only two files, and gets them as open descriptors.
 */
import { open, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { DiskFormat } from '../model/image/file-format.ts';
import { describeSize } from '../model/text/sizes.ts';
import { confinedUid, isPrivileged, lowest, type Outcome, run, runConfined, type SizeLimit } from './confined.ts';
import { ImageRejected, notEnoughSpace } from './failures.ts';
import { expansionLimit, type ImportLimits } from './limits.ts';

/** The files of a conversion, with their sizes. */
export interface Conversion {
  /** The paths of both files, in a directory of the scanner. */
  readonly source: string;
  readonly target: string;
  readonly format: DiskFormat;
  /** The size of the disk, in bytes. */
  readonly virtualSize: number;
  /** The size of the source as it arrived, in bytes. */
  readonly sourceSize: number;
  /** The free space that the target may take, in bytes. */
  readonly maxTargetBytes: number;
}

/** Creates the empty target. A failure is no fault of the image. */
async function create(target: string, virtualSize: number, signal: AbortSignal): Promise<void> {
  const options = 'compat=1.1,cluster_size=64k,lazy_refcounts=off';
  const { code, stderr } = await run(
    ['qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, target, `${virtualSize}`],
    signal,
  );
  if (code !== 0) throw new Error(`qemu-img create: ${stderr.trim()}`);
}

/** Returns the lowest of the limits on the size of the target. */
const targetLimit = ({ virtualSize, sourceSize, maxTargetBytes }: Conversion, limits: ImportLimits): SizeLimit =>
  lowest([
    {
      // A fully used disk has two tables with 8 bytes for each cluster of 64 KiB, and a header.
      size: virtualSize + Math.ceil(virtualSize / 4096) + 1024 * 1024,
      exceeded: () =>
        new ImageRejected(`Its data takes more than the ${describeSize(virtualSize)} of the disk that it describes.`),
    },
    expansionLimit(sourceSize, limits),
    { size: maxTargetBytes, exceeded: notEnoughSpace },
  ]);

/** Returns the source for qemu-img. Without a backing file in its options, QEMU opens that of the header. */
const sourceOf = (format: DiskFormat): string =>
  `json:${JSON.stringify({
    driver: format,
    ...(format !== 'raw' && { backing: null }),
    file: { driver: 'file', filename: '/proc/self/fd/3' },
  })}`;

/** Returns a reader of the progress that qemu-img prints as `(12.34/100%)`. */
const progressReader =
  (progress: (share: number) => void) =>
  (text: string): void => {
    const percent = /\((\d{1,3}\.\d{2})\/100%\)\s*$/.exec(text.slice(-32))?.[1];
    if (percent !== undefined) progress(Number(percent) / 100);
  };

/**
 * Converts the source into the target.
 * @param progress gets the share that is done, from 0 to 1
 * @throws ImageRejected if the source cannot be converted within the limits
 * @throws SourceUnavailable if the image store is full
 * @throws the reason of `signal` after its abort
 */
export async function convert(
  conversion: Conversion,
  limits: ImportLimits,
  signal: AbortSignal,
  progress: (share: number) => void = () => undefined,
): Promise<void> {
  const { source, target, format, virtualSize, sourceSize } = conversion;
  await create(target, virtualSize, signal);
  const from = await open(source, 'r');
  const to = await open(target, 'r+');
  let failure: Outcome | undefined;
  try {
    if (isPrivileged()) {
      await from.chown(confinedUid, confinedUid);
      await to.chown(confinedUid, confinedUid);
    }
    const files = [sourceOf(format), '/proc/self/fd/4'];
    failure = await runConfined(
      {
        command: ['qemu-img', 'convert', '-p', '-n', '-f', format, '-O', 'qcow2', ...files],
        channels: { stdout: progressReader(progress), others: [from.fd, to.fd] },
        debianPackage: 'qemu-utils',
        verb: 'Converting',
        sourceSize,
        fileSize: targetLimit(conversion, limits),
      },
      limits,
      signal,
    );
  } finally {
    await from.close();
    await to.close();
  }
  if (failure) throw await conversionError(failure, conversion);
}

/** Returns the error for a failed qemu-img. Every failure is a fault of the image, except a full disk. */
async function conversionError({ signal, stderr }: Outcome, { target, format }: Conversion): Promise<Error> {
  const { bavail, bsize } = await statfs(dirname(target));
  // A full disk is a fault of the machine. The image may have caused the message, so the free space counts too.
  if (/No space left/.test(stderr) && bavail * bsize < 2 ** 30) return notEnoughSpace();
  const output = stderr
    .replaceAll(sourceOf(format), 'the image')
    .replaceAll('/proc/self/fd/3', 'the image')
    .replaceAll('/proc/self/fd/4', 'the copy')
    .trim();
  return new ImageRejected(`It cannot be read as ${format}: ${output || `qemu-img ended by ${signal}`}`);
}
