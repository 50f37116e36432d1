/**
 * Snapshots that the API makes itself: the source of one new volume or image, or a part of the snapshot of a VM. The record
 * of the snapshot names this object, and is written in the same transaction. The collector deletes it when the object has
 * its data or is gone (jobs/made-snapshot-removal.ts).
 */
import type { Id } from '../../contract/fields.ts';
import type { Consistency } from '../../contract/resources/snapshots.ts';
import { newId } from '../../model/ids.ts';
import { snapshotAmounts } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { put } from '../../store/collection.ts';
import type { Write } from '../../store/store.ts';
import type { ApiContext, ApiRequest } from '../requests/context.ts';
import { fieldError } from '../requests/validation.ts';
import { addReference, takeName } from '../transaction/declarations.ts';
import type { Guard, Mutation } from '../transaction/mutate.ts';
import { quotaGuard } from '../transaction/quota-guard.ts';
import type { SnapshotSource } from './snapshot-source.ts';
import { storagePools } from './storage-pools.ts';
import { type DiskSource, volumeDisk } from './volume-disk.ts';

/** A new snapshot of one volume. */
interface Declaration {
  readonly id: Id<'snapshot'>;
  /** The object that gets the data, or the snapshot of a VM. */
  readonly madeFor: Id<'volume'> | Id<'image'> | Id<'snapshot'>;
  readonly project: Id<'project'>;
  readonly volume: Id<'volume'>;
  /** The field of the request that names the volume or its VM. */
  readonly pointer: string;
  /** The name of the snapshot. */
  readonly name: string;
  readonly description: string;
  readonly consistency: Consistency;
  /** The time of the request. */
  readonly at: string;
}

/** Returns the record of a snapshot, with the guards and writes of its creation. */
function declare(
  api: ApiContext,
  { id, madeFor, project, volume, pointer, at, ...texts }: Declaration,
  { host, pool, disks }: Pick<DiskSource, 'host' | 'pool' | 'disks'>,
): { readonly snapshot: records.SnapshotRecord; readonly guards: readonly Guard[]; readonly writes: readonly Write[] } {
  const snapshot: records.SnapshotRecord = {
    ...{ id, project, ...texts, labels: {}, made_for: madeFor, volume, host, ...(pool && { pool }), disks },
    ...{ delete_protection: false, created_at: at, updated_at: at },
  };
  const named = takeName('snapshot', project, snapshot.name, id);
  const reference = pool && addReference(api, storagePools, { project, id: pool, pointer, user: id });
  return {
    snapshot,
    guards: [...named.guards, ...(reference?.guards ?? [])],
    writes: [put(records.snapshots, id, snapshot), ...named.writes, ...(reference?.writes ?? [])],
  };
}

/** The purpose of a snapshot. */
interface Purpose extends Pick<Declaration, 'id' | 'project' | 'volume' | 'pointer'> {
  /** The object that gets the data, and its name. */
  readonly madeFor: Id<'volume'> | Id<'image'>;
  readonly name: string;
}

/** A snapshot that the API makes, as a part of the creation of another object. */
export interface MadeSnapshot extends SnapshotSource {
  /** None: `addTo` adds them. */
  readonly guards: readonly [];
  /** Adds the snapshot to the creation of the object. @throws UcloudError `quota_exceeded` */
  addTo(mutation: Mutation): Mutation;
}

/**
 * Makes a snapshot of a volume for a new object.
 * @throws UcloudError `invalid_reference`, `being_deleted`, `invalid_state` if the volume has no data
 */
export function makeSnapshot(api: ApiContext, request: ApiRequest, purpose: Purpose): MadeSnapshot {
  const { madeFor, project, volume, pointer } = purpose;
  const stored = api.mirror.get(records.volumes, volume);
  // A volume of another project is like one that does not exist.
  if (stored?.value.project !== project) {
    const detail = `must be the id of an existing volume of this project: there is no ${volume}`;
    throw fieldError('invalid_reference', pointer, detail);
  }
  const source = volumeDisk(api, stored, pointer);
  const declaration = {
    ...purpose,
    // The id of a new object is in no other name.
    name: `for-${madeFor}`,
    description: `Made for ${purpose.name} (${madeFor}). It is removed by itself.`,
    consistency: 'crash',
    at: request.now.toISOString(),
  } as const;
  const { snapshot, guards, writes } = declare(api, declaration, source);
  return {
    snapshot,
    name: volume,
    disk: source.disks[0] as MadeSnapshot['disk'],
    guards: [],
    addTo(mutation) {
      // An object that alone exceeds the quota gets the error of its own field.
      quotaGuard(api, mutation);
      const [own, more] = [mutation.quotaDelta ?? {}, snapshotAmounts(snapshot)];
      return {
        ...mutation,
        guards: [...mutation.guards, ...source.guards, ...guards],
        writes: [...mutation.writes, ...writes],
        quotaDelta: { ...own, ...more, disk: (own.disk ?? 0) + more.disk },
        quotaPointers: { ...mutation.quotaPointers, disk: pointer, snapshots: pointer },
      };
    },
  };
}

/**
 * Creates the snapshot of a VM, and a part for each volume outside of the built-in pool. A part is the snapshot of this
 * volume, in the pool of the volume. The host of the VM makes the snapshot and its parts at one instant.
 * @param create returns the creation of the snapshot itself
 */
export function withParts(
  api: ApiContext,
  record: records.SnapshotRecord,
  create: (record: records.SnapshotRecord) => Mutation,
): Mutation {
  const { id: madeFor, name, project, consistency, host, created_at: at } = record;
  const parts = record.disks.flatMap(({ pool, ...disk }) => {
    if (pool === undefined || disk.volume === undefined) return [];
    const declaration = {
      ...{ id: newId('snapshot'), madeFor, project, volume: disk.volume, pointer: '/vm', consistency, at },
      name: `of-${madeFor}-${disk.volume}`,
      description: `A part of ${name} (${madeFor}). It is removed by itself.`,
    } as const;
    return [declare(api, declaration, { host, pool, disks: [disk] })];
  });
  const copies = new Map(parts.map(({ snapshot }) => [snapshot.volume, snapshot.id]));
  const disks = record.disks.map((disk) => {
    const copy = disk.volume && copies.get(disk.volume);
    return copy === undefined ? disk : { ...disk, copy };
  });
  const mutation = create({ ...record, disks });
  const space = parts.reduce((sum, { snapshot }) => sum + snapshotAmounts(snapshot).disk, 0);
  const own = mutation.quotaDelta ?? {};
  return {
    ...mutation,
    guards: [...mutation.guards, ...parts.flatMap(({ guards }) => guards)],
    writes: [...mutation.writes, ...parts.flatMap(({ writes }) => writes)],
    quotaDelta: { ...own, disk: (own.disk ?? 0) + space },
  };
}
