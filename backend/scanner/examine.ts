/** Detects the format of a file by its content, before qemu-img reads the file. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { type DiskImage, headSize, recognizeDiskImage } from '../model/image/disk-image.ts';
import { ClusterCheck } from '../model/image/qcow2-clusters.ts';
import { readQcow2Header } from '../model/image/qcow2-header.ts';
import { ImageRejected } from './failures.ts';

/** Returns `length` bytes from the offset `at`. Bytes behind the end of the file are zeros, as for QEMU. */
async function read(file: FileHandle, at: number, length: number): Promise<DataView> {
  const buffer = Buffer.alloc(length);
  for (let filled = 0; filled < length; ) {
    const { bytesRead } = await file.read(buffer, filled, length - filled, at + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return new DataView(buffer.buffer, buffer.byteOffset, length);
}

/** The number of bytes of the first-level table that the scanner reads at once. */
const tableChunkBytes = 64 * 1024;

async function checkClusters(file: FileHandle, head: Uint8Array, size: number, signal: AbortSignal): Promise<void> {
  const result = readQcow2Header(head, size);
  if (!result.ok) throw new ImageRejected(result.problem);
  const { tables, tablesAt, clusterSize } = result.header;
  const check = new ClusterCheck(result.header, size);
  for (let at = 0; at < tables * 8; at += tableChunkBytes) {
    const first = await read(file, tablesAt + at, Math.min(tableChunkBytes, tables * 8 - at));
    for (let entry = 0; entry < first.byteLength; entry += 8) {
      const table = check.tableAt(first, entry);
      if (table === 0) continue;
      signal.throwIfAborted();
      const problem = typeof table === 'string' ? table : check.examine(await read(file, table, clusterSize));
      if (problem !== undefined) throw new ImageRejected(problem);
    }
  }
}

/**
 * Returns the format and the size of the disk in the file.
 * @throws ImageRejected if the file is no acceptable disk
 * @throws the reason of `signal` after its abort
 */
export async function examine(path: string, signal: AbortSignal): Promise<DiskImage> {
  const file = await open(path, constants.O_RDONLY);
  try {
    const { size } = await file.stat();
    const view = await read(file, 0, Math.min(size, headSize));
    const head = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    const result = recognizeDiskImage(head, size);
    if (!result.ok) throw new ImageRejected(result.problem);
    if (result.image.format === 'qcow2') await checkClusters(file, head, size, signal);
    return result.image;
  } finally {
    await file.close();
  }
}
