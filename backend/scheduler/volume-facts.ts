/** Reads the records that decisions about volumes depend on from the mirror. */
import type { Id } from '../contract/fields.ts';
import {
  alive,
  hosts,
  schedules,
  type VolumeAttachmentRecord,
  vms,
  volumeAttachments,
  volumeHolders,
  volumePlacements,
  volumeReports,
  volumes,
} from '../model/records/index.ts';
import type { Mirror, MirrorIndex } from '../store/mirror.ts';
import type { VolumeFacts } from './volume-plan.ts';
import type { VolumeRecords } from './volume-writes.ts';

/** The attachments by VM, as the mirror shows them. */
export type AttachmentsByVm = MirrorIndex<VolumeAttachmentRecord>;

/** Returns the records of a volume. */
export const volumeRecords = (mirror: Mirror, id: Id<'volume'>): VolumeRecords => ({
  id,
  volume: mirror.get(volumes, id),
  placement: mirror.get(volumePlacements, id),
  report: mirror.get(volumeReports, id),
});

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

/** Returns the facts of a decision about the volume. */
export const volumeFacts = (mirror: Mirror, { id, volume, placement, report }: VolumeRecords): VolumeFacts => ({
  volume: volume?.value,
  placement: placement?.value,
  report: report?.value,
  vmHost: hostOfVm(mirror, id),
  hostExists: mirror.get(hosts, placement?.value.host ?? '') !== undefined,
});
