/** The part of the state of a file that changes with its content. */
export interface FileState {
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

/** Returns the fingerprint of a file. A user cannot set the time of the last status change, which is a part of it. */
export const fingerprintOf = ({ ino, size, mtimeNs, ctimeNs }: FileState): string =>
  `${ino}:${size}:${mtimeNs}:${ctimeNs}`;

/** Returns the size in a fingerprint. */
export const sizeIn = (fingerprint: string): number => Number(fingerprint.split(':')[1]);
