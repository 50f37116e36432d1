/**
 * Volumes. The API declares them, the scheduler gives them a host with their first attachment, and that host keeps their
 * data. A deletion only marks the declaration. The host then removes the data, and the collector
 * (jobs/volume-removal.ts) removes the records.
 */
import { UcloudError } from '../../contract/errors.ts';
import {
  devicePath,
  type Volume,
  type VolumeBody,
  type VolumeUpdate,
  volume,
} from '../../contract/resources/volumes.ts';
import { idFrom, newId } from '../../model/ids.ts';
import { volumeAmounts } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { poolOf } from '../../model/storage/pool.ts';
import { formatSize, sizeInBytes } from '../../model/text/sizes.ts';
import { absent, rewrite, unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import {
  addReference,
  answerWith,
  checkProtection,
  creation,
  inUse,
  projectOfCreation,
  readPatch,
  replacement,
} from '../transaction/declarations.ts';
import { mutate } from '../transaction/mutate.ts';
import { defaultPool } from './settings.ts';
import { checkReach, storagePools } from './storage-pools.ts';

/** The descriptor of volumes. */
export const volumes: ResourceDescriptor<records.VolumeRecord> = describe(volume, {
  kind: records.volumes,
  scope: 'project',
  show(api, { deleted_at: _deleted, ...record }) {
    return {
      ...record,
      pool: poolOf(record),
      size: formatSize(record.size),
      device: devicePath(record.id),
      status: statusOf(api, record.id, _deleted),
    };
  },
  indexes: ['pool'],
  quota: volumeAmounts,
  quotaPointers: { disk: '/size' },
  observedBy: [records.volumePlacements, records.volumeReports, records.volumeHolders],
  alsoMirrored: [records.volumeAttachments],
  handlers: { volume_create: createVolume, volume_update: updateVolume, volume_delete: deleteVolume },
});

function statusOf({ mirror }: ApiContext, id: string, deleted: string | undefined): Volume['status'] {
  const holder = mirror.get(records.volumeHolders, id)?.value.id;
  const vm = holder === undefined ? undefined : mirror.get(records.volumeAttachments, holder)?.value.vm;
  const placement = mirror.get(records.volumePlacements, id)?.value;
  const size = mirror.get(records.volumeReports, id)?.value.size;
  return {
    phase: deleted === undefined ? (holder === undefined ? 'available' : 'attached') : 'deleting',
    ...(placement?.reason !== undefined && { reason: placement.reason }),
    ...(placement?.message !== undefined && { message: placement.message }),
    ...(placement?.host !== undefined && { host: placement.host }),
    ...(vm !== undefined && { vm: idFrom('vm', vm) }),
    ...(size !== undefined && size > 0 && { size: formatSize(size) }),
  };
}

/** Checks that the volume is not being deleted. @throws UcloudError `being_deleted` */
export function checkVolumeStays(stored: Stored<records.VolumeRecord>): void {
  if (stored.value.deleted_at === undefined) return;
  throw new UcloudError('being_deleted', `${stored.id} is being deleted (since ${stored.value.deleted_at})`);
}

async function createVolume(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { project: asked, pool: askedPool, size, ...body } = request.body as VolumeBody;
  const id = newId('volume');
  const at = request.now.toISOString();
  return mutate(api, request, () => {
    const project = projectOfCreation(api, request.caller, asked);
    const pool = askedPool ?? defaultPool(api);
    const { guards, writes } = addReference(api, storagePools, { project, id: pool, pointer: '/pool', user: id });
    checkReach(api, pool);
    const record: records.VolumeRecord = {
      id,
      project,
      ...body,
      pool,
      size: sizeInBytes(size),
      created_at: at,
      updated_at: at,
    };
    return creation(api, volumes, record, { guards, writes });
  });
}

async function updateVolume(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { size, ...patch } = readPatch<VolumeUpdate>(volume, request.body as VolumeUpdate);
  return changeObject(api, request, volumes, (stored) => {
    checkVolumeStays(stored);
    const before = stored.value.size;
    const bytes = size === undefined ? before : sizeInBytes(size);
    // A growth that no host has granted yet can be taken back.
    const placement = api.mirror.get(records.volumePlacements, stored.id);
    const granted = placement?.value.host === undefined ? 0 : placement.value.size;
    if (bytes < before && bytes < granted) {
      throw fieldError('rule_violated', '/size', `must be at least ${formatSize(granted)}: a volume can only grow`);
    }
    const next = { ...stored.value, ...patch, size: bytes, updated_at: request.now.toISOString() };
    const same = placement ? unchanged(placement) : absent(records.volumePlacements, stored.id);
    return replacement(api, request, volumes, stored, next, bytes < before ? { guards: [{ condition: same }] } : {});
  });
}

async function deleteVolume(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { id = '' } = request.params;
  return changeObject(api, request, volumes, (stored) => {
    const { value } = stored;
    if (value.deleted_at !== undefined) return { nothing: answerWith(api, volumes, stored, 202) };
    checkProtection(value, id);
    const at = request.now.toISOString();
    const next = { ...value, deleted_at: at, updated_at: at };
    return {
      guards: [
        { condition: unchanged(stored) },
        {
          condition: absent(records.volumeHolders, id),
          otherwise: () => inUse(api, request.caller, id, [api.mirror.get(records.volumeHolders, id)?.value.id ?? '']),
        },
      ],
      writes: [rewrite(records.volumes, stored, next)],
      target: id,
      project: value.project,
      quotaDelta: undefined,
      reason: 'deletion_requested',
      message: `Deletion of ${value.name} requested.`,
      answer: (revision) => answerWith(api, volumes, { ...stored, value: next, revision }, 202),
    };
  });
}
