/** The writes of the scheduler for volumes. */
import type { Id } from '../contract/fields.ts';
import {
  hosts,
  type VolumePlacementRecord,
  type VolumeRecord,
  type VolumeReportRecord,
  volumePlacements,
  volumeReports,
  volumes,
} from '../model/records/index.ts';
import { describeSize } from '../model/text/sizes.ts';
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
}

/** Returns the conditions that declaration and placement have not changed. */
const unchangedRecords = ({ id, volume, placement }: VolumeRecords): Condition[] => [
  volume ? unchanged(volume) : absent(volumes, id),
  placement ? unchanged(placement) : absent(volumePlacements, id),
];

/** Gives the volume a size on the host. */
export const grantVolume = (records: VolumeRecords, host: Id<'host'>, size: number, now: Date): CommitPart => ({
  id: records.id,
  host,
  require: unchangedRecords(records),
  write: [put(volumePlacements, records.id, { host, size, at: now.toISOString() })],
});

/** Records why the host cannot give the volume its size. Undefined if the record says so already. */
export function refuseVolume(records: VolumeRecords, size: number, now: Date): CommitPart | undefined {
  const placement = records.placement?.value;
  const granted = placement?.host === undefined ? 0 : placement.size;
  const message = `The host has not enough disk left for ${describeSize(size - granted)} more.`;
  if (placement?.message === message) return undefined;
  const { host } = placement ?? {};
  const record = { ...(host && { host }), size: granted, reason: 'no_space', message, at: now.toISOString() };
  return { id: records.id, require: unchangedRecords(records), write: [put(volumePlacements, records.id, record)] };
}

/** Removes the reason from a placement. */
export const clearVolumeReason = (
  records: VolumeRecords,
  { host, size }: VolumePlacementRecord,
  now: Date,
): CommitPart => ({
  id: records.id,
  require: unchangedRecords(records),
  write: [put(volumePlacements, records.id, { ...(host && { host }), size, at: now.toISOString() })],
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
