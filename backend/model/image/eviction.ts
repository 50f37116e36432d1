/** The choice of the copies of images that a host removes. */

/** A copy of an image on a host. */
export interface HeldCopy {
  readonly image: string;
  readonly bytes: number;
  /** The time of the last use, in milliseconds since 1970. */
  readonly usedAtMs: number;
}

/** The largest amount of space that a host keeps free, in bytes. */
const maxKeptFreeBytes = 16 * 1024 ** 3;

/**
 * Returns the space that a host keeps free by the removal of unused copies: a tenth of the file system, at most 16 GiB.
 */
export const keptFreeBytes = (fileSystemBytes: number): number =>
  Math.min(Math.floor(fileSystemBytes / 10), maxKeptFreeBytes);

/**
 * Returns the space that a fetch leaves free: a quarter of `keptFreeBytes`. A host rather starts a VM than keeps all of
 * that space, but disks of running VMs must be able to grow.
 */
export const leftFreeBytes = (fileSystemBytes: number): number => Math.floor(keptFreeBytes(fileSystemBytes) / 4);

/**
 * Returns the copies to remove, the least recently used first, until so many bytes are free. It never returns a needed
 * copy, and nothing if enough is free.
 */
export function copiesToEvict(
  copies: readonly HeldCopy[],
  isNeeded: (image: string) => boolean,
  freeBytes: number,
  wantedFreeBytes: number,
): HeldCopy[] {
  const unneeded = copies.filter(({ image }) => !isNeeded(image)).sort((a, b) => a.usedAtMs - b.usedAtMs);
  const evicted: HeldCopy[] = [];
  let free = freeBytes;
  for (const copy of unneeded) {
    if (free >= wantedFreeBytes) break;
    evicted.push(copy);
    free += copy.bytes;
  }
  return evicted;
}
