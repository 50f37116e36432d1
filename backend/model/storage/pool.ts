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
}

/** The space of a pool, in bytes. */
export interface PoolUsage {
  readonly size: number;
  readonly free: number;
}
