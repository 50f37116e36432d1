/**
 * The few fields of a qcow2 header that the host needs (qcow2 specification, docs/interop/qcow2.txt of QEMU). Disks of
 * VMs are written by processes that a guest may have taken over, so no privileged program ever interprets more of them
 * than this.
 */
import { open } from 'node:fs/promises';
import { qcow2Magic } from '../../model/image/qcow2-header.ts';

/** Virtual size in bytes. Rejects when the file is no qcow2 image. */
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
