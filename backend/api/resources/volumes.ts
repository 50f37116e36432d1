/**
 * Volumes. The API declares them, the scheduler gives them a host with their first attachment, and that host keeps their
 * data. A deletion only marks the declaration. The host then removes the data, and the collector
 * (jobs/volume-removal.ts) removes the records.
 */
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
import { isBeingMade, wholeOf } from '../../model/snapshot/parts.ts';
import { poolOf } from '../../model/storage/pool.ts';
import { type FillSource, imageWait, sourceOf } from '../../model/storage/volume-source.ts';
import { formatSize, sizeInBytes } from '../../model/text/sizes.ts';
import { absent, rewrite, unchanged } from '../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import {
  addReference,
  answerWith,
  checkProtection,
  creation,
  findReference,
  inUse,
  projectOfCreation,
  readPatch,
  replacement,
} from '../transaction/declarations.ts';
import { type Guard, mutate } from '../transaction/mutate.ts';
import { bootFactsOf, imageSize, images } from './images.ts';
import { type MadeSnapshot, makeSnapshot } from './made-snapshots.ts';
import { defaultPool } from './settings.ts';
import { snapshotSource } from './snapshot-source.ts';
import { checkReach, storagePools } from './storage-pools.ts';
import { checkVolumeStays, originOf } from './volume-disk.ts';

/** The descriptor of volumes. */
export const volumes: ResourceDescriptor<records.VolumeRecord> = describe(volume, {
  kind: records.volumes,
  scope: 'project',
  show(api, { deleted_at: _deleted, source_host: _host, source_error: _error, boot: _boot, ...record }) {
    const { snapshot, snapshot_disk, snapshot_part: _part, ...rest } = record;
    return {
      ...rest,
      // A snapshot that was made for the volume is no part of its declaration.
      ...(snapshot !== undefined && record.source_volume === undefined && { snapshot, snapshot_disk }),
      pool: poolOf(record),
      size: formatSize(record.size),
      device: devicePath(record.id),
      status: statusOf(api, record, _deleted, _error),
    };
  },
  indexes: ['pool'],
  quota: volumeAmounts,
  quotaPointers: { disk: '/size' },
  observedBy: [records.volumePlacements, records.volumeReports, records.volumeHolders],
  watches({ mirror }, id) {
    const { image, source_volume, snapshot } = mirror.get(records.volumes, id)?.value ?? {};
    const ofImage =
      image === undefined ? [] : [records.images, records.imageReports].map((kind) => ({ kind, id: image }));
    if (source_volume === undefined || snapshot === undefined) return ofImage;
    return [...ofImage, { kind: records.snapshotPlacements, id: snapshot }];
  },
  alsoMirrored: [
    records.volumeAttachments,
    ...[records.snapshots, records.snapshotReports, records.snapshotPlacements],
    records.imageReports,
  ],
  handlers: { volume_create: createVolume, volume_update: updateVolume, volume_delete: deleteVolume },
});

function statusOf(
  { mirror }: ApiContext,
  record: Omit<records.VolumeRecord, 'deleted_at'>,
  deleted: string | undefined,
  fault: records.VolumeRecord['source_error'],
): Volume['status'] {
  const { id } = record;
  const holder = mirror.get(records.volumeHolders, id)?.value.id;
  const vm = holder === undefined ? undefined : mirror.get(records.volumeAttachments, holder)?.value.vm;
  const placement = mirror.get(records.volumePlacements, id)?.value;
  const size = mirror.get(records.volumeReports, id)?.value.size;
  const source = size === undefined ? sourceOf(record) : undefined;
  // The data of an image comes with the first VM, so a volume without VM can be used.
  const restoring = source !== undefined && ('snapshot' in source || placement?.host !== undefined);
  const phase = holder !== undefined ? 'attached' : restoring ? 'restoring' : 'available';
  const { reason, message } =
    deleted !== undefined
      ? (copyOf(mirror, id) ?? {})
      : placement?.reason === undefined
        ? (waitOf(mirror, record, source, fault) ?? {})
        : placement;
  return {
    phase: deleted !== undefined ? 'deleting' : fault === undefined ? phase : 'error',
    ...(reason !== undefined && { reason }),
    ...(message !== undefined && { message }),
    ...(placement?.host !== undefined && { host: placement.host }),
    ...(vm !== undefined && { vm: idFrom('vm', vm) }),
    ...(size !== undefined && size > 0 && { size: formatSize(size) }),
  };
}

/** Returns why the data of a deleted volume stays: a snapshot still copies it. */
function copyOf(
  mirror: ApiContext['mirror'],
  volume: string,
): { readonly reason: string; readonly message: string } | undefined {
  for (const { id, value } of mirror.by(records.snapshots, 'volume').list(volume)) {
    const phase = mirror.get(records.snapshotReports, id)?.value.phase;
    const whole = mirror.get(records.snapshots, wholeOf(value) ?? '')?.value;
    if (!isBeingMade(value, phase, whole)) continue;
    const purpose = value.made_for === undefined ? '' : `, which was made for ${value.made_for},`;
    return { reason: 'being_copied', message: `The data stays until ${id}${purpose} is complete or deleted.` };
  }
  return undefined;
}

/** Returns why the source of a volume without data does not fill it. */
function waitOf(
  mirror: ApiContext['mirror'],
  { project, size }: Pick<records.VolumeRecord, 'project' | 'size'>,
  source: FillSource | undefined,
  fault: records.VolumeRecord['source_error'],
): { readonly reason: string; readonly message: string } | undefined {
  if (fault !== undefined) return { reason: 'source_failed', message: `${fault.message} Delete the volume.` };
  if (source === undefined) return undefined;
  if ('snapshot' in source) {
    const { reason, message = '' } = mirror.get(records.snapshotPlacements, source.snapshot)?.value ?? {};
    return reason === undefined ? undefined : { reason, message: `The snapshot of the source waits. ${message}` };
  }
  const { image } = source;
  const [found, report] = [mirror.get(records.images, image), mirror.get(records.imageReports, image)];
  return imageWait(project, found?.value, report?.value, size);
}

/** The fields of a new volume that follow from its source, with the guards that the source stays as it is. */
interface SourceFields {
  /** The snapshot that is made with the volume. */
  readonly made?: MadeSnapshot;
  readonly fields: Partial<records.VolumeRecord>;
  /** The pool of the source, where the volume lies; undefined if any pool may have it. */
  readonly pool?: Id<'storage_pool'>;
  readonly guards: readonly Guard[];
}

/**
 * Returns the fields of a volume with the content of an image. The volume does not prevent the deletion of the image.
 * @throws UcloudError `invalid_reference`, `rule_violated` if the image does not fit
 */
function fieldsOfImage(api: ApiContext, project: Id<'project'>, id: Id<'image'>, size: number): SourceFields {
  const { stored, guards } = findReference(api, images, { project, id, pointer: '/image' });
  const least = imageSize(api, id);
  if (least !== undefined && size < least) {
    throw fieldError('rule_violated', '/size', `must be at least that of the image, ${formatSize(least)}`);
  }
  return { fields: { boot: bootFactsOf(stored.value) }, guards };
}

type VolumeSources = Pick<VolumeBody, 'image' | 'snapshot' | 'snapshot_disk' | 'source_volume'>;

/** Returns the fields of a volume with the data of another one. @throws UcloudError `rule_violated` if it is smaller */
function fieldsOfVolume(made: MadeSnapshot, size: number): SourceFields {
  const { snapshot, disk } = made;
  if (size < disk.size) {
    throw fieldError('rule_violated', '/size', `must be at least ${formatSize(disk.size)}, the size of the source`);
  }
  const name = { snapshot: snapshot.id, snapshot_disk: disk.volume, source_host: snapshot.host };
  return { made, fields: { ...name, ...originOf(disk.image, disk.boot) }, pool: poolOf(snapshot), guards: [] };
}

/**
 * Returns the fields of a volume with first data; none for an empty volume.
 * @throws UcloudError `invalid_reference`, `being_deleted`, `rule_violated`, `invalid_state` without a complete copy
 */
function fieldsOfSource(
  api: ApiContext,
  project: Id<'project'>,
  { image, snapshot: id, snapshot_disk: asked, source_volume }: VolumeSources,
  size: number,
  make: (volume: Id<'volume'>) => MadeSnapshot,
): SourceFields {
  if (source_volume !== undefined && (image ?? id ?? asked) !== undefined) {
    const detail = 'must be omitted with image, snapshot or snapshot_disk: a volume has one source';
    throw fieldError('rule_violated', '/source_volume', detail);
  }
  if (source_volume !== undefined) return fieldsOfVolume(make(source_volume), size);
  if (image !== undefined && id !== undefined) {
    throw fieldError('rule_violated', '/image', 'must be omitted with a snapshot, which has the image of its disk');
  }
  if (id === undefined) {
    if (asked !== undefined) throw fieldError('rule_violated', '/snapshot_disk', 'must be omitted without a snapshot');
    return image === undefined ? { fields: {}, guards: [] } : fieldsOfImage(api, project, image, size);
  }
  const { snapshot, name, disk, guards } = snapshotSource(api, project, id, asked);
  if (size < disk.size) {
    throw fieldError('rule_violated', '/size', `must be at least ${formatSize(disk.size)}, the size in the snapshot`);
  }
  return {
    fields: {
      ...{ snapshot_disk: name, source_host: snapshot.host, ...originOf(disk.image, disk.boot) },
      ...(snapshot.id !== id && { snapshot_part: snapshot.id }),
    },
    pool: poolOf(snapshot),
    guards,
  };
}

/**
 * Returns the pool of a new volume. The data of a source stays in its pool.
 * @throws UcloudError `rule_violated` for another pool
 */
function poolOfCreation(
  api: ApiContext,
  asked: Id<'storage_pool'> | undefined,
  source: Id<'storage_pool'> | undefined,
): Id<'storage_pool'> {
  if (source === undefined) return asked ?? defaultPool(api);
  if (asked !== undefined && asked !== source) {
    throw fieldError('rule_violated', '/pool', `must be ${source}, the pool of the source, or be omitted`);
  }
  return source;
}

async function createVolume(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { project: asked, pool: askedPool, size, ...body } = request.body as VolumeBody;
  const id = newId('volume');
  const snapshot = newId('snapshot');
  const at = request.now.toISOString();
  return mutate(api, request, () => {
    const project = projectOfCreation(api, request.caller, asked);
    const source = fieldsOfSource(api, project, body, sizeInBytes(size), (from) => {
      const purpose = { id: snapshot, madeFor: id, name: body.name, project, volume: from, pointer: '/source_volume' };
      return makeSnapshot(api, request, purpose);
    });
    const pool = poolOfCreation(api, askedPool, source.pool);
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
    const created = creation(api, volumes, record, { guards: [...guards, ...source.guards], writes });
    return source.made?.addTo(created) ?? created;
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
    const minimum = sourceOf(stored.value) === undefined || placement?.value.host !== undefined ? granted : before;
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
