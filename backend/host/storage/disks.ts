/**
 * Disks of VMs: a qcow2 overlay on the image, which all VMs of the image share and none can write to. The overlay
 * starts empty and holds what the guest has written.
 *
 * A disk grows when its VM starts next: QEMU itself does it, unprivileged (see overlay.ts on why nobody else may).
 */
import { access, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import { imageFileName } from '../../model/image/disk-image.ts';
import type { Run } from '../system/command.ts';
import { isMissing } from '../system/files.ts';
import { virtualSize } from './overlay.ts';

export const imagePath = (imageStore: string, image: Id<'image'>): string => join(imageStore, imageFileName(image));

export async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** Bytes that the file takes on its file system; 0 if there is none. */
export async function allocatedSize(path: string): Promise<number> {
  try {
    return (await stat(path)).blocks * 512;
  } catch (error) {
    if (isMissing(error)) return 0;
    throw error;
  }
}

/** Makes the disk of `size` bytes if there is none yet. */
export async function prepareDisk(run: Run, disk: string, image: string, size: number): Promise<void> {
  const least = await virtualSize(image);
  if (size < least) {
    throw new UcloudError('rule_violated', `the disk of ${size} bytes is smaller than the image, which has ${least}`);
  }
  if (await exists(disk)) return;
  const temporary = `${disk}.new`;
  await rm(temporary, { force: true });
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', image, temporary, `${size}`]);
  await rename(temporary, disk);
}
