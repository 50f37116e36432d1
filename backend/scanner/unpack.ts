/**
 * Unpacks a compressed source. The program runs in confinement and opens no file: it reads the source as its input, and
 * writes the result as its output.
 */
import { open, readFile, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Compression } from '../model/image/file-format.ts';
import { describeSize } from '../model/text/sizes.ts';
import { lowest, type Outcome, runConfined, type SizeLimit } from './confined.ts';
import { ImageRejected, notEnoughSpace } from './failures.ts';
import { expansionLimit, type ImportLimits } from './limits.ts';

/** The files of the work, with their sizes. */
export interface Unpacking {
  /** The paths of both files, in a directory of the scanner. The target does not exist. */
  readonly source: string;
  readonly target: string;
  readonly compression: Compression;
  /** The size of the source, in bytes. */
  readonly sourceSize: number;
  /** The free space that the target may take, in bytes. */
  readonly maxTargetBytes: number;
}

/** The memory for the dictionary. It suffices for `xz -9` and `zstd --ultra -22`. */
const memory = 128 * 1024 ** 2;
/** The time between two readings of the progress, in milliseconds. */
const progressMs = 500;

const programs: Readonly<Record<Compression, { readonly command: readonly string[]; readonly debianPackage: string }>> =
  {
    gzip: { command: ['gzip', '-dc'], debianPackage: 'gzip' },
    xz: { command: ['xz', '-dc', '-T1', '--format=xz', `--memlimit-decompress=${memory}`], debianPackage: 'xz-utils' },
    zstd: { command: ['zstd', '-dc', '-q', `--memory=${memory}`], debianPackage: 'zstd' },
  };

/** The programs, each with its Debian package. */
export const unpackPrograms = Object.values(programs).map(({ command: [program = ''], debianPackage }) => {
  return [program, debianPackage] as const;
});

/** Returns the lowest of the limits on the size of the unpacked file. */
const targetLimit = ({ sourceSize, maxTargetBytes }: Unpacking, limits: ImportLimits): SizeLimit =>
  lowest([
    {
      // A file of any format may be larger than its disk by its tables.
      size: limits.maxVirtualBytes + Math.ceil(limits.maxVirtualBytes / 1024) + 16 * 1024 ** 2,
      exceeded: () =>
        new ImageRejected(`Unpacked, it is larger than a disk of ${describeSize(limits.maxVirtualBytes)}, the limit.`),
    },
    expansionLimit(sourceSize, limits),
    { size: maxTargetBytes, exceeded: notEnoughSpace },
  ]);

/** Returns the position in an open file, which a program shares that has the descriptor. */
async function positionOf(descriptor: number): Promise<number> {
  const info = await readFile(`/proc/self/fdinfo/${descriptor}`, 'utf8').catch(() => '');
  return Number(/^pos:\s*(\d+)/m.exec(info)?.[1] ?? 0);
}

/**
 * Unpacks the source into the target.
 * @param progress gets the bytes of the source that are read
 * @throws ImageRejected if the source cannot be unpacked within the limits
 * @throws SourceUnavailable if the image store is full
 * @throws the reason of `signal` after its abort
 */
export async function unpack(
  unpacking: Unpacking,
  limits: ImportLimits,
  signal: AbortSignal,
  progress: (bytes: number) => void = () => undefined,
): Promise<void> {
  const { source, target, compression, sourceSize } = unpacking;
  const { command, debianPackage } = programs[compression];
  const from = await open(source, 'r');
  const to = await open(target, 'wx', 0o600);
  const timer = setInterval(() => {
    void positionOf(from.fd).then((position) => progress(position));
  }, progressMs);
  let failure: Outcome | undefined;
  try {
    failure = await runConfined(
      {
        command,
        channels: { stdin: from.fd, stdout: to.fd },
        debianPackage,
        verb: 'Unpacking',
        sourceSize,
        fileSize: targetLimit(unpacking, limits),
      },
      limits,
      signal,
    );
  } finally {
    clearInterval(timer);
    await from.close();
    await to.close();
  }
  if (failure) throw await unpackError(failure, unpacking);
}

/** Returns the error of a failed program. Every failure is a fault of the file, except a full disk. */
async function unpackError({ signal, stderr }: Outcome, { compression, target }: Unpacking): Promise<Error> {
  const { bavail, bsize } = await statfs(dirname(target));
  if (/No space left/.test(stderr) && bavail * bsize < 2 ** 30) return notEnoughSpace();
  if (/Memory usage limit reached|too much memory|Window size larger/.test(stderr))
    return new ImageRejected(
      `Unpacking it needs a dictionary of more than ${describeSize(memory)}. Compress it with xz -9, or with zstd without --long.`,
    );
  const output = stderr
    .replaceAll(/\/\*stdin\*\\|\(stdin\)|stdin/g, 'the file')
    .replaceAll(/\s+/g, ' ')
    .trim();
  return new ImageRejected(`It cannot be unpacked with ${compression}: ${output || `the program ended by ${signal}`}`);
}
