/** The data of a volume as the source of a snapshot. */
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import * as records from '../../model/records/index.ts';
import { builtInPool, poolOf } from '../../model/storage/pool.ts';
import { unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { ApiContext } from '../requests/context.ts';
import type { Guard } from '../transaction/mutate.ts';

/** The source of a snapshot, with the guards that it stays as it is. */
export interface DiskSource {
  readonly project: Id<'project'>;
  readonly host: Id<'host'>;
  /** Another pool than the built-in one. */
  readonly pool?: Id<'storage_pool'>;
  readonly disks: records.SnapshotRecord['disks'];
  readonly guards: readonly Guard[];
}

/** Returns the fields of a disk that a VM can boot from. */
export const originOf = (image: Id<'image'> | undefined, boot: records.BootFacts | undefined) =>
  image === undefined || boot === undefined ? {} : { image, boot };

/** Returns the error of a source without data. */
export const noDisk = (pointer: string, detail: string) =>
  new UcloudError('invalid_state', detail, { errors: [{ pointer, detail }] });

/** Checks that the volume is not being deleted. @throws UcloudError `being_deleted` */
export function checkVolumeStays(stored: Stored<records.VolumeRecord>): void {
  if (stored.value.deleted_at === undefined) return;
  throw new UcloudError('being_deleted', `${stored.id} is being deleted (since ${stored.value.deleted_at})`);
}

/**
 * Returns the data of the volume.
 * @param pointer the field of the request that names the volume
 * @throws UcloudError `being_deleted`, `invalid_state` if the volume has no data
 */
export function volumeDisk(api: ApiContext, stored: Stored<records.VolumeRecord>, pointer: string): DiskSource {
  const { mirror } = api;
  const { value } = stored;
  checkVolumeStays(stored);
  const pool = poolOf(value);
  const placement = mirror.get(records.volumePlacements, value.id);
  const data = mirror.get(records.volumeReports, value.id)?.value;
  if (placement?.value.host === undefined || data?.phase !== 'available') {
    const when = value.snapshot === undefined ? 'begins with its first attachment' : 'comes from its source';
    throw noDisk(pointer, `${value.id} has no data yet: its data ${when}`);
  }
  return {
    project: value.project,
    host: placement.value.host,
    ...(pool !== builtInPool && { pool }),
    disks: [{ volume: value.id, size: placement.value.size, ...originOf(value.image, value.boot) }],
    guards: [{ condition: unchanged(stored) }, { condition: unchanged(placement) }],
  };
}
