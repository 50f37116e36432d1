/** Detects the format of a file by its content, before another program reads the file. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { type DiskImage, recognizeDiskImage } from '../model/image/disk-image.ts';
import type { Compression } from '../model/image/file-format.ts';
import { bytesOf, type ImageBytes } from '../model/image/image-bytes.ts';
import { ClusterCheck } from '../model/image/qcow2-clusters.ts';
import { qcow2HeadSize, readQcow2Header } from '../model/image/qcow2-header.ts';
import { ImageRejected } from './failures.ts';

const imageBytes = (file: FileHandle, size: number): ImageBytes => ({
  size,
  async read(at, length) {
    const buffer = Buffer.alloc(length);
    for (let filled = 0; filled < length; ) {
      const { bytesRead } = await file.read(buffer, filled, length - filled, at + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return new DataView(buffer.buffer, buffer.byteOffset, length);
  },
});

/** The number of bytes of the first-level table that the scanner reads at once. */
const tableChunkBytes = 64 * 1024;

async function checkClusters(file: ImageBytes, signal: AbortSignal): Promise<void> {
  const { size } = file;
  const result = readQcow2Header(bytesOf(await file.read(0, Math.min(size, qcow2HeadSize))), size);
  if (!result.ok) throw new ImageRejected(result.problem);
  const { tables, tablesAt, clusterSize } = result.header;
  const check = new ClusterCheck(result.header, size);
  for (let at = 0; at < tables * 8; at += tableChunkBytes) {
    const first = await file.read(tablesAt + at, Math.min(tableChunkBytes, tables * 8 - at));
    for (let entry = 0; entry < first.byteLength; entry += 8) {
      const table = check.tableAt(first, entry);
      if (table === 0) continue;
      signal.throwIfAborted();
      const problem = typeof table === 'string' ? table : check.examine(await file.read(table, clusterSize));
      if (problem !== undefined) throw new ImageRejected(problem);
    }
  }
}

/** A disk, or a compressed file. */
export type Examined = DiskImage | { readonly compression: Compression };

/**
 * Returns the format and the size of the disk in the file, or the compression of the file.
 * @throws ImageRejected if the file is neither an acceptable disk nor compressed
 * @throws the reason of `signal` after its abort
 */
export async function examine(path: string, signal: AbortSignal): Promise<Examined> {
  const handle = await open(path, constants.O_RDONLY);
  try {
    const file = imageBytes(handle, (await handle.stat()).size);
    const result = await recognizeDiskImage(file);
    if (!result.ok) throw new ImageRejected(result.problem);
    if ('compression' in result) return result;
    if (result.image.format === 'qcow2') await checkClusters(file, signal);
    return result.image;
  } finally {
    await handle.close();
  }
}
