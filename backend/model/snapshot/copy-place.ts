/** The places of the disks of a snapshot. Pure. */
import type { Id } from '../../contract/fields.ts';
import type { SnapshotRecord } from '../records/index.ts';
import { poolOf } from '../storage/pool.ts';

/** The place of the copy of a disk. */
export interface CopyPlace {
  /** The snapshot with the data: the snapshot itself, or a part of it. */
  readonly snapshot: Id<'snapshot'>;
  readonly pool: Id<'storage_pool'>;
}

/** Returns the place of the disk of this name (`root`, or the id of a volume); undefined if the snapshot lacks the disk. */
export function copyPlace(
  snapshot: Pick<SnapshotRecord, 'id' | 'pool' | 'disks'>,
  name: string,
): CopyPlace | undefined {
  const disk = snapshot.disks.find(({ volume = 'root' }) => volume === name);
  if (disk === undefined) return undefined;
  return disk.copy === undefined
    ? { snapshot: snapshot.id, pool: poolOf(snapshot) }
    : { snapshot: disk.copy, pool: poolOf(disk) };
}
