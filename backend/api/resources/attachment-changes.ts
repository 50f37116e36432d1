/** The parts of commits that attach a volume to a VM and detach it. */
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import { maxVolumes } from '../../contract/resources/volume-attachments.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { boundHost, isNetworkPool, poolOf } from '../../model/storage/pool.ts';
import { rootSlot, volumeSlotKey } from '../../model/vm/volumes.ts';
import { absent, put, rewrite, unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { Write } from '../../store/store.ts';
import type { ApiContext } from '../requests/context.ts';
import { refer } from '../requests/objects.ts';
import { fieldError } from '../requests/validation.ts';
import type { Guard } from '../transaction/mutate.ts';
import { checkVolumeStays, noDisk } from './volume-disk.ts';
import { volumes } from './volumes.ts';

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
  /** The VM boots from the volume. */
  readonly root?: boolean;
  readonly at: string;
  /** The slots and hosts of the other attachments of the same commit. */
  readonly others: { readonly slots: Set<number>; readonly hosts: Set<Id<'host'>> };
}

/**
 * Returns the attachment of a volume to a VM.
 * @throws UcloudError `invalid_reference`, `being_deleted`, `invalid_state` if the volume lies on another host
 * or its source could not be copied, `no_capacity` if the VM has no free slot
 */
export function newAttachment(api: ApiContext, request: AttachmentRequest): NewAttachment {
  const { vm, volume: asked, pointers, labels, byVm, root = false, at, others } = request;
  const id = newId('volume_attachment');
  const volume = refer(api, volumes, vm.project, asked, pointers.volume);
  checkVolumeStays(volume);
  const { source_error: fault } = volume.value;
  if (fault !== undefined) throw noDisk(pointers.volume, `${asked} never gets its data. ${fault.message}`);
  const sameHost = checkHosts(api, request);
  const { slot, key, guard } = root ? slotOf(vm.id, rootSlot) : chooseSlot(api, vm.id, others.slots, pointers.vm);
  others.slots.add(slot);
  const record: records.VolumeAttachmentRecord = {
    id,
    project: vm.project,
    labels,
    vm: vm.id,
    volume: asked,
    slot,
    ...(byVm && { by_vm: true }),
    ...(root && { root }),
    created_at: at,
    updated_at: at,
  };
  const single: Guard = {
    condition: absent(records.volumeHolders, asked),
    otherwise: () => attachedError(api, asked, pointers.volume),
  };
  return {
    record,
    volume: volume.value,
    guards: [{ condition: unchanged(volume) }, single, guard, sameHost],
    writes: [put(records.volumeSlots, key, { id }), put(records.volumeHolders, asked, { id })],
  };
}

/** Returns the host that the volume is bound to, or will lie on with the data of its source. */
function hostOfVolume(mirror: ApiContext['mirror'], volume: Id<'volume'>): Id<'host'> | undefined {
  const record = mirror.get(records.volumes, volume)?.value;
  const bound = boundHost(mirror.get(records.volumePlacements, volume)?.value);
  const isLocal = !isNetworkPool(mirror.get(records.storagePools, poolOf(record ?? {}))?.value);
  return bound ?? (isLocal ? record?.source_host : undefined);
}

/**
 * Checks that the volume lies on the host of the VM and of its other volumes. Returns the guard that the host of the VM
 * stays the same.
 * @throws UcloudError `invalid_state`
 */
function checkHosts({ mirror }: ApiContext, { vm, volume, pointers, others }: AttachmentRequest): Guard {
  const schedule = mirror.get(records.schedules, vm.id);
  const host = schedule?.value.host;
  for (const { value } of mirror.by(records.volumeAttachments, 'vm').list(vm.id)) {
    const other = hostOfVolume(mirror, value.volume);
    if (value.deleted_at === undefined && other !== undefined) others.hosts.add(other);
  }
  const placed = hostOfVolume(mirror, volume);
  if (placed !== undefined) {
    const elsewhere = (what: string, advice: string) => {
      const detail = `lies on another host than ${what}, and neither can move${advice}`;
      return new UcloudError('invalid_state', `${volume} ${detail}`, {
        errors: [{ pointer: pointers.volume, detail }],
      });
    };
    if (host !== undefined && host !== placed) {
      throw elsewhere(`the VM ${vm.id}`, ': a VM that is created with `volumes` goes to their host');
    }
    if ([...others.hosts].some((other) => other !== placed)) throw elsewhere('the other volumes of the VM', '');
    others.hosts.add(placed);
  }
  return { condition: schedule ? unchanged(schedule) : absent(records.schedules, vm.id) };
}

/** Returns the error of a volume that has a VM already. */
function attachedError(api: ApiContext, volume: Id<'volume'>, pointer: string): UcloudError {
  const id = api.mirror.get(records.volumeHolders, volume)?.value.id ?? '';
  const attachment = api.mirror.get(records.volumeAttachments, id)?.value;
  const leaving = attachment?.deleted_at !== undefined;
  const holder =
    attachment === undefined ? 'a VM' : `${attachment.vm} by ${id}${leaving ? ', which is being removed' : ''}`;
  const detail = `is attached to ${holder}`;
  return new UcloudError('in_use', `${volume} ${detail}`, {
    errors: [{ pointer, detail }],
    members: { users: attachment === undefined ? [] : [{ id, being_deleted: leaving }] },
  });
}

/** Returns a slot of the VM, with the guard that it is free. */
function slotOf(vm: Id<'vm'>, slot: number) {
  const key = volumeSlotKey(vm, slot);
  const guard: Guard = { condition: absent(records.volumeSlots, key) };
  return { slot, key, guard };
}

/** Returns the first free slot of the VM, with the guard that it stays free. */
function chooseSlot(api: ApiContext, vm: Id<'vm'>, taken: ReadonlySet<number>, pointer: string) {
  for (let slot = 0; slot < maxVolumes; slot++) {
    const key = volumeSlotKey(vm, slot);
    if (taken.has(slot) || api.mirror.get(records.volumeSlots, key)) continue;
    return slotOf(vm, slot);
  }
  throw fieldError('no_capacity', pointer, `has ${maxVolumes} volumes already, which is the maximum`);
}

/** Tells whether the guest agent of the running VM has answered lately. The agent of the host then asks it. */
function hasGuestAgent({ mirror }: ApiContext, vm: Id<'vm'>): boolean {
  const schedule = mirror.get(records.schedules, vm)?.value;
  const report = mirror.get(records.reports, vm)?.value;
  const current = report?.fence === schedule?.fence && report?.host === schedule?.host ? report : undefined;
  return current?.phase === 'running' && current.guest_agent === true;
}

/**
 * Returns the guards of a detachment. Without `force_detach`, a running guest keeps the volume until it ends, or until its
 * guest agent says that it does not use the volume. A VM that is to be stopped or deleted may lose its volumes.
 * @param vm the VM as it will be
 * @throws UcloudError `invalid_state` if the guest may use the volume
 */
function guardsOfDetachment(
  api: ApiContext,
  { value, id }: Stored<records.VolumeAttachmentRecord>,
  vm: records.VmRecord | undefined,
): Guard[] {
  const volume = api.mirror.get(records.volumes, value.volume);
  if (volume?.value.force_detach) return [{ condition: unchanged(volume) }];
  if (vm === undefined || vm.deleted_at !== undefined || vm.power_state === 'stopped') return [];
  if (hasGuestAgent(api, vm.id)) return [];
  const inUse = () =>
    new UcloudError(
      'invalid_state',
      `the running guest of ${value.vm} may use ${value.volume}, and it has no guest agent to ask: stop the VM first, or set force_detach of the volume`,
    );
  if (api.mirror.get(records.attachmentReports, id)) throw inUse();
  return [{ condition: absent(records.attachmentReports, id), otherwise: inUse }];
}

/**
 * Returns the detachment of a volume.
 * @param vm the VM as it will be
 * @throws UcloudError `invalid_state` if the guest may use the volume
 */
export function detachment(
  api: ApiContext,
  stored: Stored<records.VolumeAttachmentRecord>,
  at: string,
  vm: records.VmRecord | undefined,
): Change & { readonly next: records.VolumeAttachmentRecord } {
  const next = { ...stored.value, deleted_at: at, updated_at: at };
  return {
    next,
    guards: [{ condition: unchanged(stored) }, ...guardsOfDetachment(api, stored, vm)],
    writes: [rewrite(records.volumeAttachments, stored, next)],
  };
}
