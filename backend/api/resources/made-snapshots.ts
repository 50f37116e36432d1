/**
 * Snapshots that the API makes itself: the source of one new volume or image. The record of the snapshot names this object,
 * and is written in the same transaction. The collector deletes it when the object has its data or is gone
 * (jobs/made-snapshot-removal.ts).
 */
import type { Id } from '../../contract/fields.ts';
import { snapshotAmounts } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { put } from '../../store/collection.ts';
import type { ApiContext, ApiRequest } from '../requests/context.ts';
import { fieldError } from '../requests/validation.ts';
import { addReference, takeName } from '../transaction/declarations.ts';
import type { Mutation } from '../transaction/mutate.ts';
import { quotaGuard } from '../transaction/quota-guard.ts';
import type { SnapshotSource } from './snapshot-source.ts';
import { storagePools } from './storage-pools.ts';
import { volumeDisk } from './volume-disk.ts';

/** The purpose of a snapshot. */
export interface Purpose {
  readonly id: Id<'snapshot'>;
  /** The object that gets the data, and its name. */
  readonly madeFor: Id<'volume'> | Id<'image'>;
  readonly name: string;
  readonly project: Id<'project'>;
  /** The volume with the data. */
  readonly volume: Id<'volume'>;
  /** The field of the request that names this volume. */
  readonly pointer: string;
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
  const { id, madeFor, name, project, volume, pointer } = purpose;
  const stored = api.mirror.get(records.volumes, volume);
  // A volume of another project is like one that does not exist.
  if (stored?.value.project !== project) {
    const detail = `must be the id of an existing volume of this project: there is no ${volume}`;
    throw fieldError('invalid_reference', pointer, detail);
  }
  const { host, pool, disks, guards } = volumeDisk(api, stored, pointer);
  const at = request.now.toISOString();
  const snapshot: records.SnapshotRecord = {
    // The id of a new object is in no other name.
    ...{ id, project, name: `for-${madeFor}`, labels: {}, made_for: madeFor },
    description: `Made for ${name} (${madeFor}). It is removed by itself.`,
    ...{ volume, consistency: 'crash', host, ...(pool && { pool }), disks, delete_protection: false },
    ...{ created_at: at, updated_at: at },
  };
  const named = takeName('snapshot', project, snapshot.name, id);
  const reference = pool && addReference(api, storagePools, { project, id: pool, pointer, user: id });
  return {
    snapshot,
    name: volume,
    disk: disks[0] as MadeSnapshot['disk'],
    guards: [],
    addTo(mutation) {
      // An object that alone exceeds the quota gets the error of its own field.
      quotaGuard(api, mutation);
      const [own, more] = [mutation.quotaDelta ?? {}, snapshotAmounts(snapshot)];
      return {
        ...mutation,
        guards: [...mutation.guards, ...guards, ...named.guards, ...(reference?.guards ?? [])],
        writes: [
          ...mutation.writes,
          put(records.snapshots, id, snapshot),
          ...named.writes,
          ...(reference?.writes ?? []),
        ],
        quotaDelta: { ...own, ...more, disk: (own.disk ?? 0) + more.disk },
        quotaPointers: { ...mutation.quotaPointers, disk: pointer, snapshots: pointer },
      };
    },
  };
}
