/**
 * Snapshots. The API declares them with the disks that they copy, and with the host of these disks. The scheduler gives a
 * snapshot its space there, and the agent of the host copies. A snapshot does not depend on its source afterwards. A
 * deletion only marks the declaration, as for volumes.
 */
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import { type Snapshot, type SnapshotBody, type SnapshotUpdate, snapshot } from '../../contract/resources/snapshots.ts';
import { newId } from '../../model/ids.ts';
import { snapshotAmounts } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { partsOf } from '../../model/snapshot/parts.ts';
import { builtInPool, poolOf } from '../../model/storage/pool.ts';
import { sourceOf } from '../../model/storage/volume-source.ts';
import { formatSize } from '../../model/text/sizes.ts';
import { rootSlot } from '../../model/vm/volumes.ts';
import { rewrite, unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { refer } from '../requests/objects.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import {
  addReference,
  answerWith,
  checkProtection,
  creation,
  inUse,
  readPatch,
  replacement,
} from '../transaction/declarations.ts';
import { type Mutation, mutate } from '../transaction/mutate.ts';
import { bootFactsOf } from './images.ts';
import { withParts } from './made-snapshots.ts';
import { storagePools } from './storage-pools.ts';
import { vms } from './vms.ts';
import { type DiskSource, noDisk, originOf, volumeDisk } from './volume-disk.ts';
import { volumes } from './volumes.ts';

/** The descriptor of snapshots. */
export const snapshots: ResourceDescriptor<records.SnapshotRecord> = describe(snapshot, {
  kind: records.snapshots,
  scope: 'project',
  show(api, { deleted_at, host, disks, ...record }) {
    return {
      ...record,
      pool: poolOf(record),
      size: formatSize(disks.reduce((sum, { size }) => sum + size, 0)),
      disks: disks.map(({ volume, image, pool, size }) => ({
        ...(volume && { volume }),
        ...(image && { image }),
        ...(pool && { pool }),
        size: formatSize(size),
      })),
      // In a pool that several hosts reach, another host may have made the snapshot.
      status: {
        ...statusOf(api, record.id, deleted_at),
        host: api.mirror.get(records.snapshotPlacements, record.id)?.value.host ?? host,
      },
    };
  },
  indexes: ['pool', 'schedule', 'made_for', 'volume'],
  quota: snapshotAmounts,
  observedBy: [records.snapshotPlacements, records.snapshotReports],
  watches: ({ mirror }, id) =>
    partsOf(mirror.get(records.snapshots, id)?.value ?? { disks: [] }).map((part) => ({
      kind: records.snapshotPlacements,
      id: part,
    })),
  alsoMirrored: [records.volumeAttachments, records.volumeReports, records.schedules],
  handlers: { snapshot_create: createSnapshot, snapshot_update: updateSnapshot, snapshot_delete: deleteSnapshot },
});

function statusOf({ mirror }: ApiContext, id: string, deleted: string | undefined): Snapshot['status'] {
  const report = mirror.get(records.snapshotReports, id)?.value;
  const placement = mirror.get(records.snapshotPlacements, id)?.value;
  const because = ({ reason, message }: { reason?: string; message?: string } = {}) => ({
    ...(reason !== undefined && { reason }),
    ...(message !== undefined && { message }),
  });
  const taken = report?.taken_at === undefined ? {} : { taken_at: report.taken_at };
  if (deleted !== undefined) return { phase: 'deleting', ...taken };
  if (report !== undefined && report.phase !== 'gone') return { phase: report.phase, ...because(report), ...taken };
  if (placement?.host === undefined) return { phase: 'pending', ...because(placement) };
  const waiting = partsOf(mirror.get(records.snapshots, id)?.value ?? { disks: [] }).map((part) =>
    mirror.get(records.snapshotPlacements, part),
  );
  // The host makes all disks together, so it waits for the space of each part.
  const without = waiting.find((part) => part?.value.host === undefined);
  return without === undefined ? { phase: 'creating' } : { phase: 'pending', ...because(without.value) };
}

/** Returns the project of the source. An operator has none, and the source determines it. */
export const ownerOf = (
  { caller }: ApiRequest,
  source: { readonly project: Id<'project'> } | undefined,
): Id<'project'> => (caller.role === 'operator' ? source?.project : caller.project) as Id<'project'>;

/** @throws UcloudError `invalid_reference`, `being_deleted`, `invalid_state` if the volume has no data */
const volumeSource = (api: ApiContext, owner: Id<'project'>, id: Id<'volume'>): DiskSource =>
  volumeDisk(api, refer(api, volumes, owner, id, '/volume'), '/volume');

/** Checks that the VM is not being deleted. @throws UcloudError `being_deleted` */
export function checkVmStays({ id, value }: Stored<records.VmRecord>): void {
  if (value.deleted_at !== undefined) throw new UcloudError('being_deleted', `${id} is being deleted`);
}

/** @throws UcloudError `invalid_reference`, `being_deleted`, `invalid_state` if the VM has no disk yet */
function vmSource(api: ApiContext, owner: Id<'project'>, id: Id<'vm'>): DiskSource {
  const { mirror } = api;
  const stored = refer(api, vms, owner, id, '/vm');
  checkVmStays(stored);
  const schedule = mirror.get(records.schedules, id);
  const host = schedule?.value.host;
  if (schedule === undefined || host === undefined) {
    throw noDisk('/vm', `${id} has no disk yet: no host has the VM`);
  }
  const attached = [...mirror.by(records.volumeAttachments, 'vm').list(id)].flatMap(({ value }) => {
    if (value.deleted_at !== undefined) return [];
    const placement = mirror.get(records.volumePlacements, value.volume)?.value;
    const data = mirror.get(records.volumeReports, value.volume)?.value;
    const isFilled = data?.phase === 'available';
    if (isFilled && placement?.host === host) {
      const { image, boot, ...record } = mirror.get(records.volumes, value.volume)?.value ?? {};
      const pool = poolOf(record);
      const place = pool === builtInPool ? {} : { pool };
      return [{ volume: value.volume, size: placement.size, ...place, slot: value.slot, ...originOf(image, boot) }];
    }
    // A new volume has no data that the snapshot could lack.
    if (!isFilled && sourceOf(mirror.get(records.volumes, value.volume)?.value ?? {}) === undefined) return [];
    throw noDisk('/vm', `has the volume ${value.volume}, whose data is not on the host of the VM yet`);
  });
  // A root volume comes first.
  attached.sort((a, b) => (a.slot % rootSlot) - (b.slot % rootSlot) || b.slot - a.slot);
  const image = mirror.get(records.images, stored.value.image)?.value;
  const own = stored.value.root_volume
    ? []
    : [{ size: stored.value.disk_size, ...originOf(stored.value.image, image && bootFactsOf(image)) }];
  return {
    project: stored.value.project,
    host,
    disks: [...own, ...attached.map(({ slot: _slot, ...disk }) => disk)],
    guards: [{ condition: unchanged(stored) }, { condition: unchanged(schedule) }],
  };
}

/** Returns the disks of the volume or VM. @throws UcloudError as `volumeSource` and `vmSource` */
export const diskSource = (
  api: ApiContext,
  owner: Id<'project'>,
  { volume, vm }: { readonly volume?: Id<'volume'> | undefined; readonly vm?: Id<'vm'> | undefined },
): DiskSource => (vm === undefined ? volumeSource(api, owner, volume as Id<'volume'>) : vmSource(api, owner, vm));

/** Returns the creation of a snapshot of the source. */
export function snapshotCreation(
  api: ApiContext,
  fields: Omit<records.SnapshotRecord, 'project' | 'host' | 'pool' | 'disks'>,
  { project, host, pool, disks, guards }: DiskSource,
): Mutation {
  const record: records.SnapshotRecord = { ...fields, project, host, ...(pool && { pool }), disks };
  if (pool === undefined) return withParts(api, record, (whole) => creation(api, snapshots, whole, { guards }));
  const reference = addReference(api, storagePools, { project, id: pool, pointer: '/volume', user: record.id });
  return creation(api, snapshots, record, { guards: [...guards, ...reference.guards], writes: reference.writes });
}

async function createSnapshot(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const body = request.body as SnapshotBody;
  const { volume, vm } = body;
  const id = newId('snapshot');
  const at = request.now.toISOString();
  return mutate(api, request, () => {
    if ((volume === undefined) === (vm === undefined)) {
      throw fieldError('rule_violated', '/volume', 'exactly one of volume and vm must be set');
    }
    const { mirror } = api;
    const declared = vm === undefined ? mirror.get(records.volumes, volume ?? '') : mirror.get(records.vms, vm);
    const source = diskSource(api, ownerOf(request, declared?.value), { volume, vm });
    return snapshotCreation(api, { id, ...body, created_at: at, updated_at: at }, source);
  });
}

/** @throws UcloudError `in_use` for a snapshot that the API has made for a new object */
function checkUnbound(api: ApiContext, { caller }: ApiRequest, { id, made_for }: records.SnapshotRecord): void {
  if (made_for !== undefined) throw inUse(api, caller, id, [made_for]);
}

async function updateSnapshot(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const patch = readPatch<SnapshotUpdate>(snapshot, request.body as SnapshotUpdate);
  return changeObject(api, request, snapshots, (stored) => {
    if (stored.value.deleted_at !== undefined) throw new UcloudError('being_deleted', `${stored.id} is being deleted`);
    checkUnbound(api, request, stored.value);
    const next = { ...stored.value, ...patch, updated_at: request.now.toISOString() };
    return replacement(api, request, snapshots, stored, next);
  });
}

async function deleteSnapshot(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { id = '' } = request.params;
  return changeObject(api, request, snapshots, (stored) => {
    const { value } = stored;
    if (value.deleted_at !== undefined) return { nothing: answerWith(api, snapshots, stored, 202) };
    checkProtection(value, id);
    checkUnbound(api, request, value);
    const at = request.now.toISOString();
    const next = { ...value, deleted_at: at, updated_at: at };
    return {
      guards: [{ condition: unchanged(stored) }],
      writes: [rewrite(records.snapshots, stored, next)],
      target: id,
      project: value.project,
      quotaDelta: undefined,
      reason: 'deletion_requested',
      message: `Deletion of ${value.name} requested.`,
      answer: (revision) => answerWith(api, snapshots, { ...stored, value: next, revision }, 202),
    };
  });
}
