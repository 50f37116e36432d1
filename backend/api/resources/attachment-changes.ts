/** The parts of commits that attach a volume to a VM and detach it. */
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import { maxVolumes } from '../../contract/resources/volume-attachments.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { volumeSlotKey } from '../../model/vm/volumes.ts';
import { absent, put, rewrite, unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { Write } from '../../store/store.ts';
import type { ApiContext } from '../requests/context.ts';
import { fieldError } from '../requests/validation.ts';
import { addReference } from '../transaction/declarations.ts';
import type { Guard } from '../transaction/mutate.ts';
import { checkVolumeStays, volumes } from './volumes.ts';

interface Change {
  readonly guards: readonly Guard[];
  readonly writes: readonly Write[];
}

/** A new attachment, with everything of its commit but its own record. */
export interface NewAttachment extends Change {
  readonly record: records.VolumeAttachmentRecord;
  readonly volume: records.VolumeRecord;
}

/** The request of an attachment. */
export interface AttachmentRequest {
  readonly vm: Pick<records.VmRecord, 'id' | 'project'>;
  readonly volume: Id<'volume'>;
  /** The field of the request that contains the volume, and the one that contains the VM. */
  readonly pointers: { readonly volume: string; readonly vm: string };
  readonly labels: Readonly<Record<string, string>>;
  /** The VM's own declaration contains the volume. */
  readonly byVm: boolean;
  readonly at: string;
  /** The slots that other attachments of the same commit take. */
  readonly taken: Set<number>;
}

/**
 * Returns the attachment of a volume to a VM.
 * @throws UcloudError `invalid_reference`, `being_deleted`, `invalid_state` if the volume lies on another host,
 * `no_capacity` if the VM has no free slot
 */
export function newAttachment(api: ApiContext, request: AttachmentRequest): NewAttachment {
  const { vm, volume: asked, pointers, labels, byVm, at, taken } = request;
  const id = newId('volume_attachment');
  const volume = addReference(api, volumes, { project: vm.project, id: asked, pointer: pointers.volume, user: id });
  checkVolumeStays(volume.stored);
  const host = api.mirror.get(records.schedules, vm.id)?.value.host;
  const placed = api.mirror.get(records.volumePlacements, asked)?.value.host;
  if (host !== undefined && placed !== undefined && host !== placed) {
    throw new UcloudError('invalid_state', `${asked} lies on another host than ${vm.id}, and neither can move`);
  }
  const { slot, key, guard } = chooseSlot(api, vm.id, taken, pointers.vm);
  taken.add(slot);
  const record: records.VolumeAttachmentRecord = {
    id,
    project: vm.project,
    labels,
    vm: vm.id,
    volume: asked,
    slot,
    ...(byVm && { by_vm: true }),
    created_at: at,
    updated_at: at,
  };
  const single: Guard = {
    condition: absent(records.volumeHolders, asked),
    otherwise: () => new UcloudError('in_use', `${asked} is attached to ${holderOf(api, asked)}`),
  };
  return {
    record,
    volume: volume.stored.value,
    guards: [{ condition: unchanged(volume.stored) }, single, guard],
    writes: [...volume.writes, put(records.volumeSlots, key, { id }), put(records.volumeHolders, asked, { id })],
  };
}

/** Returns the first free slot of the VM, with the guard that it stays free. */
function chooseSlot(api: ApiContext, vm: Id<'vm'>, taken: ReadonlySet<number>, pointer: string) {
  for (let slot = 0; slot < maxVolumes; slot++) {
    const key = volumeSlotKey(vm, slot);
    if (taken.has(slot) || api.mirror.get(records.volumeSlots, key)) continue;
    const guard: Guard = { condition: absent(records.volumeSlots, key) };
    return { slot, key, guard };
  }
  throw fieldError('no_capacity', pointer, `has ${maxVolumes} volumes already, which is the maximum`);
}

function holderOf({ mirror }: ApiContext, volume: string): string {
  const id = mirror.get(records.volumeHolders, volume)?.value.id ?? '';
  const attachment = mirror.get(records.volumeAttachments, id)?.value;
  if (attachment === undefined) return 'a VM';
  return `${attachment.vm} by ${id}${attachment.deleted_at === undefined ? '' : ', which is being removed'}`;
}

/** Returns the guards of a detachment. @throws UcloudError `invalid_state` if the guest may use the volume */
function guardsOfDetachment(api: ApiContext, { value, id }: Stored<records.VolumeAttachmentRecord>): Guard[] {
  const vm = api.mirror.get(records.vms, value.vm);
  const volume = api.mirror.get(records.volumes, value.volume);
  if (volume?.value.force_detach) return [{ condition: unchanged(volume) }];
  // The guest of a deleted VM ends, and its volumes are free then.
  if (vm === undefined || vm.value.deleted_at !== undefined) return [];
  const inUse = () =>
    new UcloudError(
      'invalid_state',
      `the running guest of ${value.vm} may use ${value.volume}: stop the VM first, or set force_detach of the volume`,
    );
  if (api.mirror.get(records.attachmentReports, id)) throw inUse();
  return [{ condition: absent(records.attachmentReports, id), otherwise: inUse }];
}

/**
 * Returns the detachment of a volume.
 * @throws UcloudError `invalid_state` if the guest may use the volume
 */
export function detachment(
  api: ApiContext,
  stored: Stored<records.VolumeAttachmentRecord>,
  at: string,
): Change & { readonly next: records.VolumeAttachmentRecord } {
  const next = { ...stored.value, deleted_at: at, updated_at: at };
  return {
    next,
    guards: [{ condition: unchanged(stored) }, ...guardsOfDetachment(api, stored)],
    writes: [rewrite(records.volumeAttachments, stored, next)],
  };
}
