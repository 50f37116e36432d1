/**
 * Reads the size of a disk from its qcow2 header (docs/interop/qcow2.txt of QEMU). A guest may have taken over the
 * process that writes its disk, so privileged programs interpret no other part of a disk.
 */
import { open } from 'node:fs/promises';
import { qcow2Magic } from '../../model/image/qcow2-header.ts';

/**
 * Returns the virtual size in bytes.
 * @throws Error if the file is no qcow2 image
 */
export async function virtualSize(path: string): Promise<number> {
  const file = await open(path, 'r');
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(32), 0, 32, 0);
    if (bytesRead < 32 || buffer.readUInt32BE(0) !== qcow2Magic) throw new Error(`${path} is not a qcow2 image`);
    return Number(buffer.readBigUInt64BE(24));
  } finally {
    await file.close();
  }
}
