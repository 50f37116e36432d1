/** The limits of imports. They hold for hostile sources. */
export interface ImportLimits {
  /** The maximum size of the source. */
  readonly sourceSize: number;
  /** The maximum size of the disk that the image describes. */
  readonly virtualSize: number;
  /** The maximum time for the download of the source. */
  readonly fetchTime: number;
  /** The minimum rate of a server, as the average over each window of `rateWindow` milliseconds. */
  readonly leastRate: number;
  readonly rateWindow: number;
  /**
   * The maximum size of the converted file for each byte of the source, in addition to `expansionBase`. The file is
   * larger than a compressed source.
   */
  readonly expansion: number;
  readonly expansionBase: number;
  /** The maximum share of the image store's free space that all concurrent imports may take, from 0 to 1. */
  readonly freeShare: number;
  /** The maximum processor time of a conversion. */
  readonly convertCpuSeconds: number;
  /** The maximum address space of a conversion. */
  readonly convertMemory: number;
  /** The maximum duration of a conversion. */
  readonly convertTime: number;
  /** The maximum number of concurrent imports. */
  readonly concurrency: number;
  /** The maximum number of concurrent imports of one project. */
  readonly projectConcurrency: number;
  /** The maximum number of concurrent conversions. A conversion keeps one processor busy. */
  readonly conversions: number;
  /** The maximum number of attempts after failures that may pass. */
  readonly attempts: number;
  /**
   * The delay before the second attempt. It doubles with each further attempt. It is also the interval between checks
   * for a missing file. A new file must be unchanged for so long before its import.
   */
  readonly retryAfter: number;
}

const GiB = 1024 ** 3;

/** The limits of a cloud without settings of its own. */
export const defaultLimits: ImportLimits = {
  sourceSize: 64 * GiB,
  virtualSize: 2048 * GiB,
  fetchTime: 3_600_000,
  leastRate: 64 * 1024,
  rateWindow: 60_000,
  expansion: 64,
  expansionBase: 64 * 1024 ** 2,
  freeShare: 0.5,
  convertCpuSeconds: 1800,
  // In measurements, qemu-img succeeded with 512 MiB and aborted with 256 MiB.
  convertMemory: GiB,
  convertTime: 7_200_000,
  concurrency: 8,
  projectConcurrency: 2,
  conversions: 2,
  attempts: 4,
  retryAfter: 1000,
};
