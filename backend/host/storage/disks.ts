/**
 * The disks of VMs. A disk is a qcow2 overlay on the image. All VMs of the image share the image file, and none of them
 * can write to it. The overlay starts empty and contains the writes of the guest.
 *
 * A disk grows at the next start of its VM. The unprivileged QEMU process grows it, because no privileged program may
 * interpret a disk (overlay.ts).
 */
import { access, rename, rm, stat } from 'node:fs/promises';
import { UcloudError } from '../../contract/errors.ts';
import type { Run } from '../system/command.ts';
import { isMissing } from '../system/files.ts';
import { virtualSize } from './overlay.ts';

/** Tells whether the file exists. */
export async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** Returns the space of the file on its file system, in bytes; 0 if there is no file. */
export async function allocatedSize(path: string): Promise<number> {
  try {
    return (await stat(path)).blocks * 512;
  } catch (error) {
    if (isMissing(error)) return 0;
    throw error;
  }
}

/** Returns the path of a disk until it is complete. */
export const incompleteDisk = (disk: string): string => `${disk}.new`;

/**
 * Creates the disk with a size of `size` bytes, unless it exists.
 * @throws UcloudError `rule_violated` if the size is below that of the image; CommandError if qemu-img fails
 */
export async function prepareDisk(run: Run, disk: string, image: string, size: number): Promise<void> {
  const imageSize = await virtualSize(image);
  if (size < imageSize) {
    throw new UcloudError(
      'rule_violated',
      `the disk of ${size} bytes is smaller than the image, which has ${imageSize}`,
    );
  }
  if (await exists(disk)) return;
  const temporary = incompleteDisk(disk);
  await rm(temporary, { force: true });
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', image, temporary, `${size}`]);
  await rename(temporary, disk);
}
