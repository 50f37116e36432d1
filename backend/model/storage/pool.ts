/** Storage pools as hosts and the scheduler see them. Pure. */
import type { Id } from '../../contract/fields.ts';

/**
 * The pool that each cloud has from the start: the data directory of each host. Volumes of earlier versions lack a pool
 * and lie here.
 */
export const builtInPool = 'stp-0000000000000000' as Id<'storage_pool'>;

/** The settings of a pool. A `local` pool without a path is the data directory of each host. */
export type PoolSettings =
  | { readonly kind: 'local'; readonly path?: string }
  | { readonly kind: 'shared'; readonly path: string }
  | {
      readonly kind: 'ceph';
      /** Monitors as `[2001:db8::1]:3300`. */
      readonly monitors: readonly string[];
      /** The cephx user without `client.`. */
      readonly user: string;
      /** The absolute path of the file on each host that contains the user's key (base64) and nothing else. */
      readonly key_file: string;
      readonly rbd_pool: string;
    };

/** A pool for a host. */
export interface PoolSpec {
  readonly id: Id<'storage_pool'>;
  readonly settings: PoolSettings;
  /** The text of the marker that the directory must have; undefined if the directory is not marked yet. */
  readonly marker?: string;
}

/** The space of a pool, in bytes. */
export interface PoolUsage {
  readonly size: number;
  readonly free: number;
}

/** Returns the pool of a volume. */
export const poolOf = ({ pool = builtInPool }: { readonly pool?: Id<'storage_pool'> }): Id<'storage_pool'> => pool;

/** The fields of a pool record that settings follow from. */
export interface PoolFields {
  readonly kind: PoolSettings['kind'];
  readonly path?: string;
  readonly rbd_pool?: string;
  readonly monitors?: readonly string[];
  readonly user?: string;
  readonly key_file?: string;
}

const fieldsOf = {
  local: ['path'],
  shared: ['path'],
  ceph: ['rbd_pool', 'monitors', 'user', 'key_file'],
} as const satisfies Record<PoolSettings['kind'], readonly (keyof PoolFields)[]>;
const kindFields = [...fieldsOf.local, ...fieldsOf.ceph];

/** Returns the fields that do not suit the kind of the pool, each with the rule; none if all do. */
export function wrongFields(pool: PoolFields): { readonly field: keyof PoolFields; readonly rule: string }[] {
  const needed: readonly (keyof PoolFields)[] = fieldsOf[pool.kind];
  return kindFields.flatMap((field) => {
    const isSet = pool[field] !== undefined;
    if (needed.includes(field) === isSet) return [];
    return [
      { field, rule: isSet ? `is not allowed for the kind ${pool.kind}` : `is required for the kind ${pool.kind}` },
    ];
  });
}

/** Returns the settings of a pool; undefined if its record lacks a field of its kind. */
export function poolSettings({ kind, path, rbd_pool, monitors, user, key_file }: PoolFields): PoolSettings | undefined {
  if (kind === 'local') return path === undefined ? { kind } : { kind, path };
  if (kind === 'shared') return path === undefined ? undefined : { kind, path };
  if (rbd_pool === undefined || monitors === undefined || user === undefined || key_file === undefined)
    return undefined;
  return { kind, rbd_pool, monitors, user, key_file };
}

/** Tells whether a volume of the pool can be used from another host than the one that had it last. */
export const isNetworkPool = (pool: { readonly kind: PoolSettings['kind'] } | undefined): boolean =>
  pool !== undefined && pool.kind !== 'local';

/** Returns the id of the report of a host on a pool. */
export const poolReportId = (pool: string, host: string): string => `${pool}/${host}`;

/** Returns pool and host of the id of a report. */
export function parsePoolReportId(id: string): { readonly pool: Id<'storage_pool'>; readonly host: Id<'host'> } {
  const [pool = '', host = ''] = id.split('/');
  return { pool: pool as Id<'storage_pool'>, host: host as Id<'host'> };
}

/** Returns the host that a volume is bound to; undefined if it has none, or other hosts reach the data too. */
export const boundHost = (
  placement: { readonly host?: Id<'host'>; readonly movable?: boolean } | undefined,
): Id<'host'> | undefined => (placement?.movable ? undefined : placement?.host);

/** Returns the id of the record with the marker of a directory. A local pool has a directory on each host. */
export const markerId = (pool: string, kind: PoolSettings['kind'], host: string): string =>
  kind === 'local' ? `${pool}/${host}` : pool;

/** Returns the text of a marker. */
export const markerText = (pool: string, token: string): string => `${pool} ${token}`;

/** Returns the pool that a marker names. */
export const poolOfMarker = (marker: string): string => marker.split(' ')[0] ?? '';
