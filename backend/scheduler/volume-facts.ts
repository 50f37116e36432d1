/** Reads the records that decisions about volumes depend on from the mirror. */
import type { Id } from '../contract/fields.ts';
import { idFrom, isIdOf } from '../model/ids.ts';
import type { StorageSpace } from '../model/placement/storage-space.ts';
import { snapshotSize } from '../model/quota/amounts.ts';
import {
  alive,
  attachmentReports,
  hosts,
  type SnapshotRecord,
  schedules,
  snapshotPlacements,
  snapshotReports,
  snapshots,
  storagePools,
  type VolumeAttachmentRecord,
  vms,
  volumeAttachments,
  volumeHolders,
  volumePlacements,
  volumeReports,
  volumes,
} from '../model/records/index.ts';
import { wholeOf } from '../model/snapshot/parts.ts';
import { isNetworkPool, poolOf } from '../model/storage/pool.ts';
import type { Mirror, MirrorIndex } from '../store/mirror.ts';
import type { VolumeFacts } from './volume-plan.ts';
import type { PlacedId, VolumeRecords } from './volume-writes.ts';

/** The attachments by VM, as the mirror shows them. */
export type AttachmentsByVm = MirrorIndex<VolumeAttachmentRecord>;

/** Returns the records of a volume. */
function volumeRecords(mirror: Mirror, id: Id<'volume'>): VolumeRecords {
  const volume = mirror.get(volumes, id);
  const placement = mirror.get(volumePlacements, id);
  const pool = volume ? poolOf(volume.value) : poolOf(placement?.value ?? {});
  return {
    id,
    volume,
    placement,
    report: mirror.get(volumeReports, id),
    size: volume?.value.size ?? 0,
    source: volume?.value.source_host,
    holder: mirror.get(volumeHolders, id),
    pool,
    movable: isNetworkPool(mirror.get(storagePools, pool)?.value),
  };
}

/** Returns the volumes that the VM is to get, with their records. */
export const volumesOf = (mirror: Mirror, attachments: AttachmentsByVm, vm: Id<'vm'>): VolumeRecords[] =>
  [...attachments.list(vm)]
    .filter(({ value }) => value.deleted_at === undefined)
    .map(({ value }) => volumeRecords(mirror, value.volume));

const livingHost = (mirror: Mirror, host: Id<'host'> | undefined): Id<'host'> | undefined =>
  host !== undefined && mirror.get(alive, host) ? host : undefined;

/** Returns the host of the VM that has the volume, if VM and host stay. */
function hostOfVm(mirror: Mirror, volume: Id<'volume'>): Id<'host'> | undefined {
  const holder = mirror.get(volumeHolders, volume)?.value.id ?? '';
  const attachment = mirror.get(volumeAttachments, holder)?.value;
  if (attachment === undefined || attachment.deleted_at !== undefined) return undefined;
  if (mirror.get(vms, attachment.vm)?.value.deleted_at !== undefined) return undefined;
  return livingHost(mirror, mirror.get(schedules, attachment.vm)?.value.host);
}

/** Returns the host of the VM that has the volume of a snapshot. Only this host can copy the volume meanwhile. */
function hostOfSource(mirror: Mirror, id: Id<'snapshot'>): Id<'host'> | undefined {
  const [disk] = mirror.get(snapshots, id)?.value.disks ?? [];
  return disk?.volume && hostOfVm(mirror, disk.volume);
}

/** Returns the records of a snapshot. */
function snapshotRecords(mirror: Mirror, id: Id<'snapshot'>): VolumeRecords {
  const snapshot = mirror.get(snapshots, id);
  const placement = mirror.get(snapshotPlacements, id);
  const pool = poolOf(snapshot?.value ?? placement?.value ?? {});
  return {
    id,
    volume: snapshot,
    placement,
    report: mirror.get(snapshotReports, id),
    size: snapshot ? snapshotSize(snapshot.value) : 0,
    source: snapshot?.value.host,
    holder: undefined,
    pool,
    movable: isNetworkPool(mirror.get(storagePools, pool)?.value),
  };
}

/** Returns the records of a volume or snapshot. */
export const recordsOf = (mirror: Mirror, id: PlacedId): VolumeRecords =>
  isIdOf('snapshot', id) ? snapshotRecords(mirror, id) : volumeRecords(mirror, id);

/** Tells whether a guest has the volume, or may have it. */
export const isClaimed = (mirror: Mirror, { holder }: VolumeRecords): boolean =>
  holder !== undefined && mirror.get(attachmentReports, holder.value.id) !== undefined;

/**
 * Returns the host that the volume or snapshot belongs to, if it is alive. Local data is made where its source is. In a pool
 * that other hosts reach, a volume follows its VM, and its source only decides where its data is made.
 */
function rightHost(mirror: Mirror, { id, placement, report, source, movable }: VolumeRecords): Id<'host'> | undefined {
  const isMade = report !== undefined && report.value.phase !== 'creating';
  const ofVm = isIdOf('volume', id) ? hostOfVm(mirror, id) : isMade ? undefined : hostOfSource(mirror, id);
  const ofSource = livingHost(mirror, source);
  if (!movable) return ofSource ?? ofVm;
  return ofVm ?? (placement?.value.host === undefined ? ofSource : undefined);
}

const isPartOf = (record: object | undefined): boolean =>
  record !== undefined && 'made_for' in record && wholeOf(record as SnapshotRecord) !== undefined;

/** Returns the facts of a decision about the volume or snapshot. */
export function volumeFacts(mirror: Mirror, storage: StorageSpace, records: VolumeRecords): VolumeFacts {
  const { volume, placement, report, size, source, pool, movable } = records;
  const host = placement?.value.host ?? '';
  return {
    volume: volume && { ...volume.value, size },
    placement: placement?.value,
    report: report?.value,
    vmHost: rightHost(mirror, records),
    // The host of a VM makes all parts of its snapshot, so another host cannot make one alone.
    hasSource: source !== undefined && !isPartOf(volume?.value),
    hostExists: mirror.get(hosts, host) !== undefined,
    hostActs: mirror.get(alive, host) !== undefined && storage.free(pool, idFrom('host', host)) !== undefined,
    movable,
    otherPool: placement !== undefined && poolOf(placement.value) !== pool,
    claimed: isClaimed(mirror, records),
    successor: storage.hostOf(pool, (each) => mirror.get(alive, each) !== undefined),
  };
}
