/**
 * Attachments of volumes to VMs. The API declares them. The agent of the VM's host gives the volume to the guest and
 * takes it away again; attachment-reports/ has an entry while the guest may have it. A detachment only marks the
 * declaration, and the collector (jobs/volume-removal.ts) removes it when there is no report.
 */
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import {
  type VolumeAttachment,
  type VolumeAttachmentBody,
  type VolumeAttachmentUpdate,
  volumeAttachment,
} from '../../contract/resources/volume-attachments.ts';
import { devicePath } from '../../contract/resources/volumes.ts';
import * as records from '../../model/records/index.ts';
import { boundHost } from '../../model/storage/pool.ts';
import { sourceOf } from '../../model/storage/volume-source.ts';
import { unchanged } from '../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { refer } from '../requests/objects.ts';
import { changeObject } from '../transaction/change-object.ts';
import { answerWith, creation, readPatch, replacement } from '../transaction/declarations.ts';
import { mutate } from '../transaction/mutate.ts';
import { detachment, newAttachment } from './attachment-changes.ts';
import { vms } from './vms.ts';

/** The descriptor of attachments. */
export const volumeAttachments: ResourceDescriptor<records.VolumeAttachmentRecord> = describe(volumeAttachment, {
  kind: records.volumeAttachments,
  scope: 'project',
  indexes: ['vm'],
  show(api, { slot: _slot, by_vm: _declaredByVm, root: _root, deleted_at, ...record }) {
    return { ...record, device: devicePath(record.volume), status: statusOf(api, record, deleted_at) };
  },
  observedBy: [records.attachmentReports],
  watches({ mirror }, id) {
    const attachment = mirror.get(records.volumeAttachments, id)?.value;
    if (attachment === undefined) return [];
    const { vm, volume } = attachment;
    return [
      { kind: records.schedules, id: vm },
      { kind: records.vms, id: vm },
      { kind: records.volumePlacements, id: volume },
      { kind: records.volumes, id: volume },
      { kind: records.volumeReports, id: volume },
    ];
  },
  alsoMirrored: [records.volumeSlots, records.volumePlacements, records.volumeReports],
  handlers: {
    volume_attachment_create: createAttachment,
    volume_attachment_update: updateAttachment,
    volume_attachment_delete: deleteAttachment,
  },
});

function statusOf(
  { mirror }: ApiContext,
  { id, vm, volume }: Pick<records.VolumeAttachmentRecord, 'id' | 'vm' | 'volume'>,
  deleted: string | undefined,
): VolumeAttachment['status'] {
  const report = mirror.get(records.attachmentReports, id)?.value;
  const force = mirror.get(records.volumes, volume)?.value.force_detach;
  if (deleted !== undefined) {
    const keeps = report !== undefined && !force;
    if (!keeps) return { phase: 'detaching' };
    const { reason, message = 'The guest keeps the volume until it ends.' } = report;
    return { phase: 'detaching', ...(reason !== undefined && { reason }), message };
  }
  if (report?.phase === 'attached') {
    return {
      phase: 'attached',
      ...(report.message !== undefined && { reason: 'step_failed', message: report.message }),
    };
  }
  if (report?.message !== undefined) return { phase: 'pending', reason: 'step_failed', message: report.message };
  const placement = mirror.get(records.volumePlacements, volume)?.value;
  const host = mirror.get(records.schedules, vm)?.value.host;
  const bound = boundHost(placement);
  if (bound !== undefined && host !== undefined && bound !== host) {
    return { phase: 'pending', reason: 'other_host', message: 'The volume lies on another host than the VM.' };
  }
  const record = mirror.get(records.volumes, volume)?.value;
  const source = record && mirror.get(records.volumeReports, volume) === undefined ? sourceOf(record) : undefined;
  if (record?.source_error !== undefined) {
    return { phase: 'pending', reason: 'source_failed', message: record.source_error.message };
  }
  if (source !== undefined && ('snapshot' in source || placement?.host !== undefined)) {
    const of = record?.source_volume ? 'source volume' : 'snapshot' in source ? 'snapshot' : 'image';
    return { phase: 'pending', reason: 'restoring', message: `The host copies the data of the ${of}.` };
  }
  const waits = placement?.host === undefined || placement.host !== host ? placement : undefined;
  const stopped = mirror.get(records.vms, vm)?.value.power_state === 'stopped' && report === undefined;
  return {
    phase: stopped && waits?.reason === undefined ? 'ready' : 'pending',
    ...(waits?.reason !== undefined && { reason: waits.reason }),
    ...(waits?.message !== undefined && { message: waits.message }),
  };
}

async function createAttachment(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const body = request.body as VolumeAttachmentBody;
  const at = request.now.toISOString();
  return mutate(api, request, () => {
    const { role, project: own } = request.caller;
    // An operator has no project. A VM that does not exist is refused in any project.
    const owner = role === 'operator' ? api.mirror.get(records.vms, body.vm)?.value.project : own;
    const vm = refer(api, vms, owner as Id<'project'>, body.vm, '/vm');
    if (vm.value.deleted_at !== undefined) throw new UcloudError('being_deleted', `${vm.id} is being deleted`);
    const { record, volume, guards, writes } = newAttachment(api, {
      vm: vm.value,
      volume: body.volume,
      pointers: { volume: '/volume', vm: '/vm' },
      labels: body.labels,
      byVm: false,
      at,
      others: { slots: new Set(), hosts: new Set() },
    });
    return creation(api, volumeAttachments, record, {
      guards: [{ condition: unchanged(vm) }, ...guards],
      writes,
      message: `Attached ${volume.name} to ${vm.value.name}.`,
    });
  });
}

async function updateAttachment(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const patch = readPatch<VolumeAttachmentUpdate>(volumeAttachment, request.body as VolumeAttachmentUpdate);
  return changeObject(api, request, volumeAttachments, (stored) => {
    if (stored.value.deleted_at !== undefined) throw new UcloudError('being_deleted', `${stored.id} is being deleted`);
    const next = { ...stored.value, ...patch, updated_at: request.now.toISOString() };
    return replacement(api, request, volumeAttachments, stored, next);
  });
}

async function deleteAttachment(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { id = '' } = request.params;
  return changeObject(api, request, volumeAttachments, (stored) => {
    const { value } = stored;
    if (value.deleted_at !== undefined) return { nothing: answerWith(api, volumeAttachments, stored, 202) };
    if (value.root) {
      const detail = `${value.volume} is the root volume of ${value.vm}, and stays attached while the VM exists`;
      throw new UcloudError('invalid_state', detail, { errors: [{ pointer: '/volume', detail }] });
    }
    if (value.by_vm) {
      const how = `the VM ${value.vm} declares this attachment: remove ${value.volume} from its volumes`;
      throw new UcloudError('invalid_state', how);
    }
    const { next, guards, writes } = detachment(
      api,
      stored,
      request.now.toISOString(),
      api.mirror.get(records.vms, value.vm)?.value,
    );
    return {
      guards,
      writes,
      target: id,
      project: value.project,
      quotaDelta: undefined,
      reason: 'detachment_requested',
      message: `Detachment of ${value.volume} from ${value.vm} requested.`,
      answer: (revision) => answerWith(api, volumeAttachments, { ...stored, value: next, revision }, 202),
    };
  });
}
