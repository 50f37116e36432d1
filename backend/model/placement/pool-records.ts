/** Enters records into a host pool. The scheduler and each API server do so with the records of their mirrors. */
import type { Static, TSchema } from '@sinclair/typebox';
import type { Id } from '../../contract/fields.ts';
import { idFrom } from '../ids.ts';
import {
  alive,
  hostPolicies,
  hosts,
  placements,
  poolReports,
  settings,
  snapshotPlacements,
  storagePools,
  type VolumePlacementRecord,
  volumePlacements,
} from '../records/index.ts';
import { parsePoolReportId } from '../storage/pool.ts';
import type { PlacedResources } from './filters.ts';
import type { HostPool } from './host-pool.ts';
import { parsePlacementId } from './placement-id.ts';

interface Kind<S extends TSchema> {
  readonly prefix: string;
  readonly schema: S;
}

/** A mirror of the database, as far as the pool needs one. */
export interface PoolRecords {
  get<S extends TSchema>(kind: Kind<S>, id: string): { readonly value: Static<S> } | undefined;
  list<S extends TSchema>(kind: Kind<S>): Iterable<{ readonly id: string; readonly value: Static<S> }>;
}

/** The kinds of the records that the content of a pool follows from, but for placements. */
export const hostKinds = [hosts, hostPolicies, alive] as const;

/** Enters the host as its records describe it, and removes it if it has no host record. */
export function enterHost(pool: HostPool, records: PoolRecords, id: Id<'host'>): void {
  const isAlive = records.get(alive, id) !== undefined;
  pool.updateHost(id, records.get(hosts, id)?.value, records.get(hostPolicies, id)?.value, isAlive);
}

/** The id of the only record in `settings/`. */
export const cloudSettings = 'cloud';

/** Enters the operator's order of hosts. */
export function enterSettings(pool: HostPool, records: PoolRecords): void {
  pool.setStrategy(records.get(settings, cloudSettings)?.value.placement_strategy ?? 'spread');
}

/** Enters the placement, and removes it if it has no resources. */
export function enterPlacement(pool: HostPool, id: string, resources: PlacedResources | undefined): void {
  const { host, vm } = parsePlacementId(id);
  pool.setPlacement(host, vm, resources);
}

/** Returns the resources of a volume or snapshot of this size in bytes. */
export const volumeResources = (size: number): PlacedResources => ({ cpus: 0, memory: 0, disk: size });

/** Enters the placement of a volume or snapshot. One without host takes no space. */
export function enterVolumePlacement(pool: HostPool, id: string, placement: VolumePlacementRecord | undefined): void {
  const { host, size = 0, pool: storagePool } = placement ?? {};
  if (storagePool !== undefined && host !== undefined) pool.storage.setVolume(id, { pool: storagePool, host, size });
  else if (host !== undefined) pool.setPlacement(host, id, volumeResources(size));
}

/** Removes the placement of a volume. */
export function removeVolumePlacement(pool: HostPool, id: string, { host }: VolumePlacementRecord): void {
  pool.storage.setVolume(id, undefined);
  if (host !== undefined) pool.setPlacement(host, id, undefined);
}

/** Enters a storage pool as its record describes it. */
export function enterStoragePool(pool: HostPool, records: PoolRecords, id: string): void {
  pool.storage.setPool(idFrom('storage_pool', id), records.get(storagePools, id)?.value);
}

/** Enters the report of a host on a storage pool. */
export function enterPoolReport(pool: HostPool, records: PoolRecords, id: string): void {
  const { pool: storagePool, host } = parsePoolReportId(id);
  pool.storage.setReport(storagePool, host, records.get(poolReports, id)?.value);
}

/** Enters the settings, and all hosts, storage pools and placements into an empty pool. */
export function fillPool(pool: HostPool, records: PoolRecords): void {
  enterSettings(pool, records);
  for (const { value } of records.list(hosts)) enterHost(pool, records, value.id);
  for (const { id } of records.list(storagePools)) enterStoragePool(pool, records, id);
  for (const { id } of records.list(poolReports)) enterPoolReport(pool, records, id);
  for (const { id, value } of records.list(placements)) enterPlacement(pool, id, value);
  for (const { id, value } of records.list(volumePlacements)) enterVolumePlacement(pool, id, value);
  for (const { id, value } of records.list(snapshotPlacements)) enterVolumePlacement(pool, id, value);
}
