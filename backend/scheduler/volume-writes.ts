/** The writes of the scheduler for volumes. */
import type { Id } from '../contract/fields.ts';
import {
  attachmentReports,
  hosts,
  type VolumeHolderRecord,
  type VolumePlacementRecord,
  type VolumeRecord,
  type VolumeReportRecord,
  volumeHolders,
  volumePlacements,
  volumeReports,
  volumes,
} from '../model/records/index.ts';
import { builtInPool } from '../model/storage/pool.ts';
import { absent, put, remove, unchanged } from '../store/collection.ts';
import type { Stored } from '../store/record-kind.ts';
import type { Condition } from '../store/store.ts';
import type { CommitPart } from './writes.ts';

/** The records of one volume that a decision was based on. */
export interface VolumeRecords {
  readonly id: Id<'volume'>;
  readonly volume: Stored<VolumeRecord> | undefined;
  readonly placement: Stored<VolumePlacementRecord> | undefined;
  readonly report: Stored<VolumeReportRecord> | undefined;
  /** The attachment of the volume. */
  readonly holder: Stored<VolumeHolderRecord> | undefined;
  /** The pool of the volume. */
  readonly pool: Id<'storage_pool'>;
  /** Other hosts reach the data of the volume. */
  readonly movable: boolean;
}

/** Returns the conditions that declaration and placement have not changed. */
const unchangedRecords = ({ id, volume, placement }: VolumeRecords): Condition[] => [
  volume ? unchanged(volume) : absent(volumes, id),
  placement ? unchanged(placement) : absent(volumePlacements, id),
];

/** Returns the fields of a placement that follow from the pool. */
const poolFields = ({ pool, movable }: VolumeRecords) => ({
  ...(pool !== builtInPool && { pool }),
  ...(movable && { movable }),
});

/** Gives the volume a size on the host. If it was on another host, no guest may have it. */
export function grantVolume(records: VolumeRecords, host: Id<'host'>, size: number, now: Date): CommitPart {
  const before = records.placement?.value.host;
  const { holder } = records;
  const noGuest = holder
    ? [unchanged(holder), absent(attachmentReports, holder.value.id)]
    : [absent(volumeHolders, records.id)];
  return {
    id: records.id,
    host,
    require: [...unchangedRecords(records), ...(before !== undefined && before !== host ? noGuest : [])],
    write: [put(volumePlacements, records.id, { host, size, ...poolFields(records), at: now.toISOString() })],
  };
}

/** Records why the volume does not get its size or its host. Undefined if the record says so already. */
export function refuseVolume(
  records: VolumeRecords,
  { reason, message }: { readonly reason: string; readonly message: string },
  now: Date,
): CommitPart | undefined {
  const placement = records.placement?.value;
  if (placement?.message === message) return undefined;
  const { host } = placement ?? {};
  const size = host === undefined ? 0 : (placement?.size ?? 0);
  const record = { ...(host && { host }), size, ...poolFields(records), reason, message, at: now.toISOString() };
  return { id: records.id, require: unchangedRecords(records), write: [put(volumePlacements, records.id, record)] };
}

/** Removes the reason from a placement, and gives it the pool of the volume. */
export const clearVolumeReason = (
  records: VolumeRecords,
  { host, size }: VolumePlacementRecord,
  now: Date,
): CommitPart => ({
  id: records.id,
  require: unchangedRecords(records),
  write: [
    put(volumePlacements, records.id, { ...(host && { host }), size, ...poolFields(records), at: now.toISOString() }),
  ],
});

/** Removes the placement of a volume that no host has data of. */
export function releaseVolume(records: VolumeRecords, hostExists: boolean): CommitPart {
  const host = records.placement?.value.host;
  return {
    id: records.id,
    ...(host && { host }),
    require: [
      ...unchangedRecords(records),
      ...(records.report ? [unchanged(records.report)] : []),
      ...(host !== undefined && !hostExists ? [absent(hosts, host)] : []),
    ],
    write: [remove(volumePlacements, records.id), remove(volumeReports, records.id)],
  };
}
