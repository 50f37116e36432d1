/** The part of the database that the API keeps in memory, and its indexes. */

import type { TSchema } from '@sinclair/typebox';
import { UcloudError } from '../../contract/errors.ts';
import type { Logger } from '../../model/component.ts';
import * as records from '../../model/records/index.ts';
import { type Mirror, type MirrorIndex, openMirror } from '../../store/mirror.ts';
import type { RecordKind, Stored } from '../../store/record-kind.ts';
import type { Store } from '../../store/store.ts';

/** The part of a descriptor that determines what the mirror contains. */
export interface MirroredResource {
  readonly kind: RecordKind;
  readonly scope: string;
  isPublic?(record: never): boolean;
  sharedWith?(record: never): readonly string[];
  readonly observedBy?: readonly RecordKind[];
  readonly indexes?: readonly string[];
  readonly alsoMirrored?: readonly RecordKind[];
}

/** The kinds that belong to no resource. All others are read only in transactions: addresses, references, audit. */
const commonKinds: readonly RecordKind[] = [records.names, records.settings, records.formats];

/** The mirror of the API. */
export interface ApiMirror extends Mirror {
  readonly schedulesByHost: MirrorIndex<records.ScheduleRecord>;
  readonly volumesByHost: MirrorIndex<records.VolumePlacementRecord>;
  readonly snapshotsByHost: MirrorIndex<records.VolumePlacementRecord>;
  /** Returns the index of a kind by a field: `project`, or one of the `indexes` of its descriptor. */
  by<S extends TSchema>(kind: RecordKind<S>, field: string): MirrorIndex<S['static']>;
  /** Iterates over the public objects of a kind. */
  listPublic<S extends TSchema>(kind: RecordKind<S>, after?: string): Iterable<Stored<S['static']>>;
  /** Iterates over the objects of a kind that other projects share with this one. */
  listShared<S extends TSchema>(kind: RecordKind<S>, project: string, after?: string): Iterable<Stored<S['static']>>;
  /**
   * Waits until the mirror shows the current state of the database. @throws UcloudError `store_unavailable` after
   * `mirrorTimeoutMs`
   */
  refresh(): Promise<void>;
}

/** Milliseconds in which the mirror must catch up with the database. */
export const mirrorTimeoutMs = 5000;

const publicKey = 'public';

/** Opens the mirror of the API with the kinds and the indexes of all resources. */
export async function openApiMirror(
  store: Store,
  resources: readonly MirroredResource[],
  logger: Logger,
): Promise<ApiMirror> {
  const kinds = resources.flatMap(({ kind, observedBy = [], alsoMirrored = [] }) => [
    kind,
    ...observedBy,
    ...alsoMirrored,
  ]);
  // One watch over all keys keeps each commit whole. The mirror drops other kinds on arrival.
  const mirror = await openMirror(store, { prefixes: [''], kinds: [...new Set([...kinds, ...commonKinds])], logger });
  const indexes = new Map<string, MirrorIndex<unknown>>();
  const publicIndexes = new Map<string, MirrorIndex<unknown>>();
  const sharedIndexes = new Map<string, MirrorIndex<unknown>>();
  for (const resource of resources) {
    const { kind, scope, indexes: fields = [] } = resource;
    for (const field of scope === 'project' ? ['project', ...fields] : fields) {
      indexes.set(
        `${kind.prefix}${field}`,
        mirror.index(kind, ({ value }) => (value as Readonly<Record<string, string | undefined>>)[field]),
      );
    }
    if (resource.isPublic) {
      const keyOf = ({ value }: Stored<unknown>) => (resource.isPublic?.(value as never) ? publicKey : undefined);
      publicIndexes.set(kind.prefix, mirror.index(kind, keyOf));
    }
    if (resource.sharedWith) {
      const keysOf = ({ value }: Stored<unknown>) => resource.sharedWith?.(value as never);
      sharedIndexes.set(kind.prefix, mirror.index(kind, keysOf));
    }
  }
  const extensions = {
    schedulesByHost: mirror.index(records.schedules, ({ value }) => value.host),
    volumesByHost: mirror.index(records.volumePlacements, ({ value }) => value.host),
    snapshotsByHost: mirror.index(records.snapshotPlacements, ({ value }) => value.host),
    by<S extends TSchema>(kind: RecordKind<S>, field: string): MirrorIndex<S['static']> {
      const index = indexes.get(`${kind.prefix}${field}`);
      if (!index) throw new Error(`records of ${kind.prefix} have no index by ${field}`);
      return index;
    },
    listPublic<S extends TSchema>(kind: RecordKind<S>, after?: string): Iterable<Stored<S['static']>> {
      return publicIndexes.get(kind.prefix)?.list(publicKey, after) ?? [];
    },
    listShared<S extends TSchema>(kind: RecordKind<S>, project: string, after?: string): Iterable<Stored<S['static']>> {
      return sharedIndexes.get(kind.prefix)?.list(project, after) ?? [];
    },
    async refresh(): Promise<void> {
      if (await mirror.catchUp({ timeoutMs: mirrorTimeoutMs })) return;
      throw new UcloudError('store_unavailable', 'this server is behind the database');
    },
  };
  return Object.assign(mirror, extensions);
}
