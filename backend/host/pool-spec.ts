/** Derives the specification of a storage pool for a host from its records. */
import type { Id } from '../contract/fields.ts';
import { poolMarkers, storagePools } from '../model/records/index.ts';
import { builtInPool, markerId, markerText, type PoolSpec, poolSettings } from '../model/storage/pool.ts';
import type { Mirror } from '../store/mirror.ts';

/** Returns the specification of the pool; undefined if there is no such pool. */
export function poolSpec(mirror: Mirror, id: Id<'storage_pool'>, host: Id<'host'>): PoolSpec | undefined {
  if (id === builtInPool) return { id, settings: { kind: 'local' } };
  const record = mirror.get(storagePools, id)?.value;
  const settings = record && poolSettings(record);
  if (settings === undefined) return undefined;
  const token = mirror.get(poolMarkers, markerId(id, settings.kind, host))?.value.token;
  return { id, settings, ...(token !== undefined && { marker: markerText(id, token) }) };
}

/** Returns the specification of the pool. @throws Error if there is no such pool */
export function knownPoolSpec(mirror: Mirror, id: Id<'storage_pool'>, host: Id<'host'>): PoolSpec {
  const spec = poolSpec(mirror, id, host);
  if (spec === undefined) throw new Error(`the storage pool ${id} is not known`);
  return spec;
}

/** The same for pools outside of the data directory; undefined for the built-in pool. @throws Error as above */
export const furtherPoolSpec = (mirror: Mirror, id: Id<'storage_pool'>, host: Id<'host'>): PoolSpec | undefined =>
  id === builtInPool ? undefined : knownPoolSpec(mirror, id, host);
