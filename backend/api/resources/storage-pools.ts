/**
 * Storage pools. Operators declare them, and each host reports whether it reaches them. The API creates the built-in pool,
 * which is the data directory of each host.
 */
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import {
  type StoragePool,
  type StoragePoolBody,
  type StoragePoolUpdate,
  storagePool,
} from '../../contract/resources/storage-pools.ts';
import { newId } from '../../model/ids.ts';
import { snapshotSize } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { builtInPool, parsePoolReportId, poolOf, wrongFields } from '../../model/storage/pool.ts';
import { absent, put } from '../../store/collection.ts';
import type { Store } from '../../store/store.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { invalidInput } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import { creation, patched, removal, replacement, takeName } from '../transaction/declarations.ts';
import { mutate } from '../transaction/mutate.ts';
import { defaultPool, defaultPoolGuard } from './settings.ts';

/** The fields that only operators see. */
const operatorFields = ['path', 'rbd_pool', 'monitors', 'user', 'key_file', 'hosts', 'allocated'] as const;

/** The descriptor of storage pools. */
export const storagePools: ResourceDescriptor<records.StoragePoolRecord> = describe(storagePool, {
  kind: records.storagePools,
  scope: 'cloud',
  show: (api, record) => ({
    ...record,
    built_in: record.id === builtInPool,
    default: defaultPool(api) === record.id,
    ...observed(api, record.id),
  }),
  hides: ({ role }) => (role === 'operator' ? [] : operatorFields),
  watches: (api, id) => [
    { kind: records.settings, id: 'cloud' },
    ...[...api.mirror.list(records.poolReports, `${id}/`)].map((report) => ({
      kind: records.poolReports,
      id: report.id,
    })),
  ],
  alsoMirrored: [records.poolReports, records.alive, records.settings],
  handlers: {
    storage_pool_create: createStoragePool,
    storage_pool_update: updateStoragePool,
    storage_pool_delete: deleteStoragePool,
  },
});

/** Returns the reports of the hosts on a pool. */
const reportsOn = ({ mirror }: ApiContext, id: Id<'storage_pool'>) =>
  [...mirror.list(records.poolReports, `${id}/`)].map(({ id: report, value }) => {
    const { host } = parsePoolReportId(report);
    return { host, alive: mirror.get(records.alive, host) !== undefined, report: value };
  });

function observed(api: ApiContext, id: Id<'storage_pool'>): Pick<StoragePool, 'status' | 'hosts' | 'allocated'> {
  const reports = reportsOn(api, id);
  const available = reports.some(({ alive, report }) => alive && report.reachable);
  // Volumes of earlier versions have no pool in their record, so the index lacks them.
  const volumes =
    id === builtInPool ? api.mirror.list(records.volumes) : api.mirror.by(records.volumes, 'pool').list(id);
  let allocated = 0;
  for (const { value } of volumes) if (poolOf(value) === id) allocated += value.size;
  const snapshots = id === builtInPool ? [] : api.mirror.by(records.snapshots, 'pool').list(id);
  for (const { value } of snapshots) allocated += snapshotSize(value);
  return {
    status: { phase: available ? 'available' : 'unavailable' },
    hosts: reports.map(({ host, report }) => ({ host, ...report })),
    allocated,
  };
}

/** @throws UcloudError `invalid_input` if fields do not suit the kind */
function checkFields(record: records.StoragePoolRecord): void {
  // Only the built-in pool is local without a path.
  const wrong = wrongFields(record.id === builtInPool ? { ...record, path: '/' } : record);
  if (wrong.length > 0) throw invalidInput(wrong.map(({ field, rule }) => ({ pointer: `/${field}`, detail: rule })));
}

/** Creates the record of the built-in pool, unless it exists. Any number of API servers may do so. */
export async function createBuiltInPool(store: Store, now: Date): Promise<void> {
  const at = now.toISOString();
  const record: records.StoragePoolRecord = {
    id: builtInPool,
    name: 'local',
    description: 'The data directory of each host.',
    labels: {},
    kind: 'local',
    overcommit: 1,
    delete_protection: false,
    created_at: at,
    updated_at: at,
  };
  const { guards, writes } = takeName('storage_pool', undefined, record.name, record.id);
  await store.commit({
    require: [absent(records.storagePools, builtInPool), ...guards.map(({ condition }) => condition)],
    write: [put(records.storagePools, builtInPool, record), ...writes],
  });
}

async function createStoragePool(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const at = request.now.toISOString();
  const record: records.StoragePoolRecord = {
    id: newId('storage_pool'),
    ...(request.body as StoragePoolBody),
    created_at: at,
    updated_at: at,
  };
  checkFields(record);
  return mutate(api, request, () => creation(api, storagePools, record));
}

async function updateStoragePool(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const update = request.body as StoragePoolUpdate;
  return changeObject(api, request, storagePools, (stored) => {
    const changed: records.StoragePoolRecord = patched(storagePool, stored.value, update);
    const next = { ...changed, updated_at: request.now.toISOString() };
    checkFields(next);
    return replacement(api, request, storagePools, stored, next);
  });
}

async function deleteStoragePool(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, storagePools, (stored) => {
    const { id } = stored.value;
    if (id === builtInPool) throw new UcloudError('invalid_state', `${id} is built in; it cannot be deleted`);
    if (defaultPool(api) === id) {
      throw new UcloudError(
        'invalid_state',
        `${id} is the default pool; set default_storage_pool to another one first`,
      );
    }
    return removal(api, request, storagePools, stored, {
      guards: [defaultPoolGuard(api)],
      writes: [
        { deletePrefix: `${records.poolReports.prefix}${id}/` },
        { deletePrefix: `${records.poolMarkers.prefix}${id}` },
      ],
    });
  });
}

/**
 * Checks that at least one host that is alive reaches the pool, or that none has reported it yet.
 * @throws UcloudError `invalid_state`
 */
export function checkReach(api: ApiContext, id: Id<'storage_pool'>): void {
  const current = reportsOn(api, id).filter(({ alive }) => alive);
  if (current.length === 0 || current.some(({ report }) => report.reachable)) return;
  const detail = 'is not reached by any host at the moment';
  throw new UcloudError('invalid_state', `the storage pool ${id} ${detail}`, {
    errors: [{ pointer: '/pool', detail }],
  });
}
