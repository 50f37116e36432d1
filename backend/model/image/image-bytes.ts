/** The bytes of an untrusted file, as the readers of image formats see them. */
export interface ImageBytes {
  /** The size of the file in bytes. */
  readonly size: number;
  /** Returns `length` bytes from the offset `at`. Bytes behind the end of the file are zeros, as for QEMU. */
  readonly read: (at: number, length: number) => Promise<DataView>;
}

/** The size of the described disk, or the problem of a refused file. */
export type DiskSizeResult =
  | { readonly ok: true; readonly virtualSize: number }
  | { readonly ok: false; readonly problem: string };

/** Returns a refusal. */
export const refuse = (problem: string): { readonly ok: false; readonly problem: string } => ({ ok: false, problem });

/** Returns the bytes of a view. */
export const bytesOf = (view: DataView): Buffer => Buffer.from(view.buffer, view.byteOffset, view.byteLength);

/** Returns the size of a disk, or the reason why a disk cannot have this size. */
export function diskSize(bytes: bigint): DiskSizeResult {
  if (bytes === 0n) return refuse('The disk that it describes is empty.');
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) return refuse('The disk that it describes is impossibly large.');
  if (bytes % 512n !== 0n) return refuse('The size of the disk is not a multiple of 512 bytes.');
  return { ok: true, virtualSize: Number(bytes) };
}
