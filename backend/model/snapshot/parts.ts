/**
 * The snapshot of a VM and its parts, which are the snapshots of its volumes outside of the built-in pool. Pure.
 */
import type { Id } from '../../contract/fields.ts';
import { isIdOf } from '../ids.ts';
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

/** Returns the snapshot of a VM that the snapshot is a part of. */
export const wholeOf = ({ made_for }: Pick<SnapshotRecord, 'made_for'>): Id<'snapshot'> | undefined =>
  made_for !== undefined && isIdOf('snapshot', made_for) ? made_for : undefined;

/** Returns the parts of a snapshot. */
export const partsOf = ({ disks }: Pick<SnapshotRecord, 'disks'>): Id<'snapshot'>[] =>
  disks.flatMap(({ copy }) => copy ?? []);

/**
 * Tells whether the snapshot is still being made, or is yet to be. A part ends with its snapshot, also before a host says so.
 * @param phase the phase of its report; undefined without one
 * @param whole the record of the snapshot that it is a part of
 */
export const isBeingMade = (
  snapshot: Pick<SnapshotRecord, 'deleted_at' | 'made_for'>,
  phase: string | undefined,
  whole: Pick<SnapshotRecord, 'deleted_at'> | undefined,
): boolean => {
  if (snapshot.deleted_at !== undefined || (phase ?? 'creating') !== 'creating') return false;
  return wholeOf(snapshot) === undefined || (whole !== undefined && whole.deleted_at === undefined);
};
