/** What one import may take, however hostile its source. */
export interface ImportLimits {
  /** Bytes of the source. */
  readonly sourceSize: number;
  /** Bytes of the disk that the image describes. */
  readonly virtualSize: number;
  /** Milliseconds for fetching the source. */
  readonly fetchTime: number;
  /** Seconds of processor time, and bytes of address space, for the conversion. */
  readonly convertCpuSeconds: number;
  readonly convertMemory: number;
  /** Imports at the same time. */
  readonly concurrency: number;
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
  convertCpuSeconds: 1800,
  // Measured: 512 MiB suffices; at 256 MiB qemu-img aborts.
  convertMemory: GiB,
  concurrency: 2,
  attempts: 4,
  retryAfter: 1000,
};

/** `12 MiB`, for messages. */
export const inWords = (bytes: number): string => {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(Math.max(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), 0), units.length - 1);
  return `${Math.ceil(bytes / 1024 ** power)} ${units[power]}`;
};
