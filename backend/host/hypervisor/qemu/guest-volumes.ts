/** Prepares the data of volumes and the limits of a process, before the process gets the volumes. */
import { UcloudError } from '../../../contract/errors.ts';
import type { VolumeSpec } from '../../../model/vm/volumes.ts';
import { exists } from '../../storage/disks.ts';
import type { VolumeSource } from '../../storage/pools/pool-driver.ts';
import type { VolumeFiles } from '../../storage/volume-files.ts';
import type { Run } from '../../system/command.ts';
import { maxFileSize } from '../../system/processes.ts';
import { fileLimit } from './command-line.ts';

/** The parts of a host that volumes need. */
export interface VolumeHost {
  readonly files: VolumeFiles;
  readonly run: Run;
}

/**
 * Allows the process files that hold a volume of this size in bytes.
 * @throws UcloudError `invalid_state` if this host does not permit it (it lacks CAP_SYS_RESOURCE)
 */
async function raiseFileLimit(run: Run, pid: number, size: number): Promise<void> {
  const limit = fileLimit(size);
  if ((await maxFileSize(pid)) >= limit) return;
  try {
    await run('prlimit', ['--pid', `${pid}`, `--fsize=${limit}`]);
  } catch (cause) {
    throw new UcloudError('invalid_state', 'The VM must restart, because the volume is larger than its other disks.', {
      cause,
    });
  }
}

/**
 * Creates or grows the data of the volume, and allows the process to write it.
 * @param monitor the path of the socket that takes files
 * @throws UcloudError `invalid_state` if the data is lost, or if the VM must restart first
 */
export async function prepareVolume(
  { files, run }: VolumeHost,
  volume: VolumeSpec,
  { pid, monitor }: { readonly pid: number; readonly monitor: string },
): Promise<void> {
  // A new empty file would look like the volume, and the guest would make a file system in it.
  if (volume.created && !(await exists(files.path(volume.id)))) {
    throw new UcloudError('invalid_state', 'The data of the volume is not on its host any more.');
  }
  if (!(await exists(monitor))) {
    throw new UcloudError('invalid_state', 'The VM must restart, because an earlier version of ucloud has started it.');
  }
  await files.ensure(volume.id, volume.size);
  await raiseFileLimit(run, pid, volume.size);
}

/** Returns how QEMU opens the volume. */
export const volumeSource = async ({ files }: VolumeHost, { id }: VolumeSpec): Promise<VolumeSource> => ({
  kind: 'file',
  path: files.path(id),
});
