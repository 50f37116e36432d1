/** What one import may take, however hostile its source. */
export interface ImportLimits {
  /** Bytes of the source. */
  readonly sourceSize: number;
  /** Bytes of the disk that the image describes. */
  readonly virtualSize: number;
  /** Milliseconds for fetching the source. */
  readonly fetchTime: number;
  /** Bytes a second that a server must send on the average of each `rateWindow` milliseconds. */
  readonly leastRate: number;
  readonly rateWindow: number;
  /** Bytes of the copy for each byte of the source, beside the first `expansionBase`: compressed data becomes more. */
  readonly expansion: number;
  readonly expansionBase: number;
  /** Part of the free space of the image store that all imports at the same time may take. */
  readonly freeShare: number;
  /** Seconds of processor time, and bytes of address space, for the conversion. */
  readonly convertCpuSeconds: number;
  readonly convertMemory: number;
  /** Milliseconds for the conversion, by the clock. */
  readonly convertTime: number;
  /** Imports at the same time, and those of them that are of one project. */
  readonly concurrency: number;
  readonly projectConcurrency: number;
  /** Conversions at the same time, which take a processor each; one of a project while others wait. */
  readonly conversions: number;
  /**
   * Attempts at what may pass by itself, and milliseconds before the second; doubled before each further one. As often
   * is looked for files that are missing, and as long must one that has come be left in peace to be taken.
   */
  readonly attempts: number;
  readonly retryAfter: number;
}

const GiB = 1024 ** 3;

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
  // Measured: 512 MiB suffices; at 256 MiB qemu-img aborts.
  convertMemory: GiB,
  convertTime: 7_200_000,
  concurrency: 8,
  projectConcurrency: 2,
  conversions: 2,
  attempts: 4,
  retryAfter: 1000,
};
