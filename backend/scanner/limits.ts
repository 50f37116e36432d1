import { ImageRejected } from './failures.ts';

/** The limits of imports. They hold for hostile sources. */
export interface ImportLimits {
  /** The maximum size of the source. */
  readonly maxSourceBytes: number;
  /** The maximum size of the disk that the image describes. */
  readonly maxVirtualBytes: number;
  /** The maximum time for the download of the source. */
  readonly maxFetchMs: number;
  /** The maximum time until the host of a snapshot begins to deliver it. */
  readonly maxDeliveryWaitMs: number;
  /** The minimum rate of a server, as the average over each window of `rateWindowMs`. */
  readonly minBytesPerSecond: number;
  readonly rateWindowMs: number;
  /**
   * The maximum size of the unpacked and of the converted file for each byte of the source, in addition to
   * `expansionBaseBytes`. The files are larger than a compressed source.
   */
  readonly maxExpansion: number;
  readonly expansionBaseBytes: number;
  /** The maximum share of the image store's free space that all concurrent imports may take, from 0 to 1. */
  readonly maxFreeShare: number;
  /** The maximum processor time of an unpacking or a conversion. */
  readonly maxConvertCpuSeconds: number;
  /** The processor time for any source, and for each MiB of it. So a small source cannot keep a processor for long. */
  readonly baseCpuSeconds: number;
  readonly cpuSecondsPerMiB: number;
  /** The maximum address space of an unpacking or a conversion. */
  readonly maxConvertMemoryBytes: number;
  /** The maximum duration of an unpacking or a conversion. */
  readonly maxConvertMs: number;
  /** The maximum number of concurrent imports. */
  readonly maxImports: number;
  /** The maximum number of concurrent imports of one project. */
  readonly maxImportsPerProject: number;
  /** The maximum number of concurrent unpackings and conversions. Each keeps one processor busy. */
  readonly maxConversions: number;
  /** The maximum number of attempts after failures that may pass. */
  readonly maxAttempts: number;
  /**
   * The delay before the second attempt. It doubles with each further attempt. It is also the interval between checks
   * for a missing file. A new file must be unchanged for so long before its import.
   */
  readonly retryAfterMs: number;
}

const GiB = 1024 ** 3;

/** The limits of a cloud without settings of its own. */
export const defaultLimits: ImportLimits = {
  maxSourceBytes: 64 * GiB,
  maxVirtualBytes: 2048 * GiB,
  maxFetchMs: 3_600_000,
  maxDeliveryWaitMs: 30_000,
  minBytesPerSecond: 64 * 1024,
  rateWindowMs: 60_000,
  maxExpansion: 64,
  expansionBaseBytes: 64 * 1024 ** 2,
  maxFreeShare: 0.5,
  maxConvertCpuSeconds: 1800,
  // In measurements, xz wrote 30 MiB a second, and the conversion of an empty VHDX disk of 2 TiB took 60 s.
  baseCpuSeconds: 300,
  cpuSecondsPerMiB: 4,
  // In measurements, qemu-img succeeded with 512 MiB and aborted with 256 MiB.
  maxConvertMemoryBytes: GiB,
  maxConvertMs: 7_200_000,
  maxImports: 8,
  maxImportsPerProject: 2,
  maxConversions: 2,
  maxAttempts: 4,
  retryAfterMs: 1000,
};

/** Returns the limit on the size of a file that is made of a source of so many bytes. */
export const expansionLimit = (sourceSize: number, { maxExpansion, expansionBaseBytes }: ImportLimits) => ({
  size: expansionBaseBytes + maxExpansion * sourceSize,
  exceeded: () =>
    new ImageRejected(
      `Unpacked, it takes more than ${maxExpansion} times its size. Upload it unpacked, as a qcow2 file: qemu-img convert -O qcow2 old new.qcow2`,
    ),
});
