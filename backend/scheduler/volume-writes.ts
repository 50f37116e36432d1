/** The writes of the scheduler for volumes and snapshots. */
import type { Id } from '../contract/fields.ts';
import { isIdOf } from '../model/ids.ts';
import {
  attachmentReports,
  hosts,
  type SnapshotRecord,
  type SnapshotReportRecord,
  snapshotPlacements,
  snapshotReports,
  snapshots,
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

/** The kinds of the records of volumes, and of snapshots. */
const volumeKinds = { declared: volumes, placements: volumePlacements, reports: volumeReports } as const;
const snapshotKinds = { declared: snapshots, placements: snapshotPlacements, reports: snapshotReports } as const;

/** An object with data that takes space on a host or in a pool. */
export type PlacedId = Id<'volume'> | Id<'snapshot'>;

/** Returns the kinds of the records of this object. */
export const kindsOf = (id: PlacedId) => (isIdOf('snapshot', id) ? snapshotKinds : volumeKinds);

/** The records of one volume or snapshot that a decision was based on. */
export interface VolumeRecords {
  readonly id: PlacedId;
  readonly volume: Stored<VolumeRecord> | Stored<SnapshotRecord> | undefined;
  readonly placement: Stored<VolumePlacementRecord> | undefined;
  readonly report: Stored<VolumeReportRecord> | Stored<SnapshotReportRecord> | undefined;
  /** The declared size in bytes; 0 without a declaration. */
  readonly size: number;
  /** The host whose data is copied; undefined for an empty volume. */
  readonly source: Id<'host'> | undefined;
  /** The attachment of the volume. */
  readonly holder: Stored<VolumeHolderRecord> | undefined;
  /** The pool of the data. */
  readonly pool: Id<'storage_pool'>;
  /** Other hosts reach the data. */
  readonly movable: boolean;
}

/** Returns the conditions that declaration and placement have not changed. */
const unchangedRecords = ({ id, volume, placement }: VolumeRecords): Condition[] => [
  volume ? unchanged(volume) : absent(kindsOf(id).declared, id),
  placement ? unchanged(placement) : absent(kindsOf(id).placements, id),
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
    write: [
      put(kindsOf(records.id).placements, records.id, { host, size, ...poolFields(records), at: now.toISOString() }),
    ],
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
  return {
    id: records.id,
    require: unchangedRecords(records),
    write: [put(kindsOf(records.id).placements, records.id, record)],
  };
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
    put(kindsOf(records.id).placements, records.id, {
      ...(host && { host }),
      size,
      ...poolFields(records),
      at: now.toISOString(),
    }),
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
    write: [remove(kindsOf(records.id).placements, records.id), remove(kindsOf(records.id).reports, records.id)],
  };
}
