/**
 * Volumes. The API declares them, the scheduler gives them a host with their first attachment, and that host keeps their
 * data. A deletion only marks the declaration. The host then removes the data, and the collector
 * (jobs/volume-removal.ts) removes the records.
 */
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
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
import { builtInPool, poolOf } from '../../model/storage/pool.ts';
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
import { type Guard, mutate } from '../transaction/mutate.ts';
import { defaultPool } from './settings.ts';
import { checkReach, storagePools } from './storage-pools.ts';

/** The descriptor of volumes. */
export const volumes: ResourceDescriptor<records.VolumeRecord> = describe(volume, {
  kind: records.volumes,
  scope: 'project',
  show(api, { deleted_at: _deleted, source_host: _host, ...record }) {
    return {
      ...record,
      pool: poolOf(record),
      size: formatSize(record.size),
      device: devicePath(record.id),
      status: statusOf(api, record, _deleted),
    };
  },
  indexes: ['pool'],
  quota: volumeAmounts,
  quotaPointers: { disk: '/size' },
  observedBy: [records.volumePlacements, records.volumeReports, records.volumeHolders],
  alsoMirrored: [records.volumeAttachments, records.snapshots, records.snapshotReports],
  handlers: { volume_create: createVolume, volume_update: updateVolume, volume_delete: deleteVolume },
});

function statusOf(
  { mirror }: ApiContext,
  { id, snapshot }: Pick<records.VolumeRecord, 'id' | 'snapshot'>,
  deleted: string | undefined,
): Volume['status'] {
  const holder = mirror.get(records.volumeHolders, id)?.value.id;
  const vm = holder === undefined ? undefined : mirror.get(records.volumeAttachments, holder)?.value.vm;
  const placement = mirror.get(records.volumePlacements, id)?.value;
  const size = mirror.get(records.volumeReports, id)?.value.size;
  const phase =
    holder !== undefined ? 'attached' : snapshot !== undefined && size === undefined ? 'restoring' : 'available';
  return {
    phase: deleted === undefined ? phase : 'deleting',
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

/**
 * Returns the fields and guards of a volume with the data of a snapshot; none for an empty volume.
 * @throws UcloudError `invalid_reference`, `being_deleted`, `rule_violated`, `invalid_state` without a complete copy
 */
function sourceOf(
  { mirror }: ApiContext,
  project: Id<'project'>,
  { snapshot: id, snapshot_disk: asked }: Pick<VolumeBody, 'snapshot' | 'snapshot_disk'>,
  size: number,
): { readonly fields: Partial<records.VolumeRecord>; readonly guards: readonly Guard[] } {
  if (id === undefined) {
    if (asked !== undefined) throw fieldError('rule_violated', '/snapshot_disk', 'must be omitted without a snapshot');
    return { fields: {}, guards: [] };
  }
  const stored = mirror.get(records.snapshots, id);
  if (stored?.value.project !== project) {
    const detail = `must be the id of an existing snapshot of this project: there is no ${id}`;
    throw fieldError('invalid_reference', '/snapshot', detail);
  }
  const { deleted_at, disks, host } = stored.value;
  if (deleted_at !== undefined) throw new UcloudError('being_deleted', `${id} is being deleted (since ${deleted_at})`);
  const names = disks.map(({ volume }) => volume ?? 'root');
  const name = asked ?? (names.length === 1 ? names[0] : undefined);
  const disk = disks.find(({ volume }) => (volume ?? 'root') === name);
  if (name === undefined || disk === undefined) {
    throw fieldError('rule_violated', '/snapshot_disk', `must be a disk of the snapshot: ${names.join(', ')}`);
  }
  if (size < disk.size) {
    throw fieldError('rule_violated', '/size', `must be at least ${formatSize(disk.size)}, the size in the snapshot`);
  }
  const report = mirror.get(records.snapshotReports, id);
  if (report?.value.phase !== 'available') {
    const detail = 'is no complete copy yet: wait until its phase is available';
    throw new UcloudError('invalid_state', `${id} ${detail}`, { errors: [{ pointer: '/snapshot', detail }] });
  }
  return {
    fields: { snapshot_disk: name, source_host: host },
    guards: [{ condition: unchanged(stored) }, { condition: unchanged(report) }],
  };
}

/**
 * Returns the pool of a new volume. The data of a snapshot goes to the built-in pool.
 * @throws UcloudError `rule_violated` for another pool
 */
function poolOfCreation(
  api: ApiContext,
  asked: Id<'storage_pool'> | undefined,
  snapshot: Id<'snapshot'> | undefined,
): Id<'storage_pool'> {
  if (snapshot === undefined) return asked ?? defaultPool(api);
  if (asked !== undefined && asked !== builtInPool) {
    const detail = `must be the built-in pool ${builtInPool}, or be omitted: a volume with the data of a snapshot lies there`;
    throw fieldError('rule_violated', '/pool', detail);
  }
  return builtInPool;
}

async function createVolume(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { project: asked, pool: askedPool, size, ...body } = request.body as VolumeBody;
  const id = newId('volume');
  const at = request.now.toISOString();
  return mutate(api, request, () => {
    const project = projectOfCreation(api, request.caller, asked);
    const source = sourceOf(api, project, body, sizeInBytes(size));
    const pool = poolOfCreation(api, askedPool, body.snapshot);
    const { guards, writes } = addReference(api, storagePools, { project, id: pool, pointer: '/pool', user: id });
    checkReach(api, pool);
    const record: records.VolumeRecord = {
      id,
      project,
      ...body,
      ...source.fields,
      pool,
      size: sizeInBytes(size),
      created_at: at,
      updated_at: at,
    };
    return creation(api, volumes, record, { guards: [...guards, ...source.guards], writes });
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
    const minimum = stored.value.snapshot === undefined || placement?.value.host !== undefined ? granted : before;
    if (bytes < before && bytes < minimum) {
      throw fieldError('rule_violated', '/size', `must be at least ${formatSize(minimum)}: a volume can only grow`);
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
