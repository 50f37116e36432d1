/** Reads the records that decisions about volumes depend on from the mirror. */
import type { Id } from '../contract/fields.ts';
import { idFrom } from '../model/ids.ts';
import type { StorageSpace } from '../model/placement/storage-space.ts';
import {
  alive,
  attachmentReports,
  hosts,
  schedules,
  storagePools,
  type VolumeAttachmentRecord,
  vms,
  volumeAttachments,
  volumeHolders,
  volumePlacements,
  volumeReports,
  volumes,
} from '../model/records/index.ts';
import { isNetworkPool, poolOf } from '../model/storage/pool.ts';
import type { Mirror, MirrorIndex } from '../store/mirror.ts';
import type { VolumeFacts } from './volume-plan.ts';
import type { VolumeRecords } from './volume-writes.ts';

/** The attachments by VM, as the mirror shows them. */
export type AttachmentsByVm = MirrorIndex<VolumeAttachmentRecord>;

/** Returns the records of a volume. */
export function volumeRecords(mirror: Mirror, id: Id<'volume'>): VolumeRecords {
  const volume = mirror.get(volumes, id);
  const placement = mirror.get(volumePlacements, id);
  const pool = volume ? poolOf(volume.value) : poolOf(placement?.value ?? {});
  return {
    id,
    volume,
    placement,
    report: mirror.get(volumeReports, id),
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

/** Returns the host of the VM that has the volume, if VM and host stay. */
function hostOfVm(mirror: Mirror, volume: Id<'volume'>): Id<'host'> | undefined {
  const holder = mirror.get(volumeHolders, volume)?.value.id ?? '';
  const attachment = mirror.get(volumeAttachments, holder)?.value;
  if (attachment === undefined || attachment.deleted_at !== undefined) return undefined;
  if (mirror.get(vms, attachment.vm)?.value.deleted_at !== undefined) return undefined;
  const host = mirror.get(schedules, attachment.vm)?.value.host;
  return host !== undefined && mirror.get(alive, host) ? host : undefined;
}

/** Tells whether a guest has the volume, or may have it. */
export const isClaimed = (mirror: Mirror, { holder }: VolumeRecords): boolean =>
  holder !== undefined && mirror.get(attachmentReports, holder.value.id) !== undefined;

/** Returns the facts of a decision about the volume. */
export function volumeFacts(mirror: Mirror, storage: StorageSpace, records: VolumeRecords): VolumeFacts {
  const { id, volume, placement, report, pool, movable } = records;
  const host = placement?.value.host ?? '';
  return {
    volume: volume?.value,
    placement: placement?.value,
    report: report?.value,
    vmHost: hostOfVm(mirror, id),
    hostExists: mirror.get(hosts, host) !== undefined,
    hostActs: mirror.get(alive, host) !== undefined && storage.free(pool, idFrom('host', host)) !== undefined,
    movable,
    otherPool: placement !== undefined && poolOf(placement.value) !== pool,
    claimed: isClaimed(mirror, records),
    successor: storage.hostOf(pool, (each) => mirror.get(alive, each) !== undefined),
  };
}
