/** Prepares the data of volumes and the limits of a process, before the process gets the volumes. */
import { UcloudError } from '../../../contract/errors.ts';
import type { VolumeSpec } from '../../../model/vm/volumes.ts';
import { exists } from '../../storage/disks.ts';
import { PoolFault, type VolumeSource } from '../../storage/pools/pool-driver.ts';
import type { Pools } from '../../storage/pools/pools.ts';
import type { Run } from '../../system/command.ts';
import { maxFileSize } from '../../system/processes.ts';
import { fileLimit } from './command-line.ts';

/** The parts of a host that volumes need. */
export interface VolumeHost {
  readonly pools: Pools;
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
  { pools, run }: VolumeHost,
  { id, host, pool, size, created }: VolumeSpec,
  { pid, monitor }: { readonly pid: number; readonly monitor: string },
): Promise<void> {
  if (!(await exists(monitor))) {
    throw new UcloudError('invalid_state', 'The VM must restart, because an earlier version of ucloud has started it.');
  }
  const driver = pools.get(pool);
  try {
    // A new empty volume would look like the lost one, and the guest would make a file system in it.
    if (created && (await driver.sizeOf(id)) === undefined) {
      throw new UcloudError('invalid_state', 'The data of the volume is not in its storage pool any more.');
    }
    await driver.ensure(id, size);
    await driver.claim?.(id, host);
  } catch (cause) {
    if (!(cause instanceof PoolFault)) throw cause;
    throw new UcloudError('invalid_state', 'The host cannot use the storage pool of the volume now.', { cause });
  }
  if (pool.settings.kind !== 'ceph') await raiseFileLimit(run, pid, size);
}

/** Returns how QEMU opens the volume. */
export const volumeSource = ({ pools }: VolumeHost, { id, pool }: VolumeSpec): Promise<VolumeSource> =>
  pools.get(pool).source(id);
