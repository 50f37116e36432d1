/**
 * The space of storage pools, except for the built-in pool: its space is the disk of the host (host-pool.ts). The scheduler
 * has one, and each API server has one for capacity checks.
 *
 * A local pool has its own space on each host. The space of another pool is common to all hosts.
 */
import type { Id } from '../../contract/fields.ts';
import { isNetworkPool, type PoolSettings } from '../storage/pool.ts';

interface Pool {
  readonly kind: PoolSettings['kind'];
  readonly overcommit: number;
}

interface Report {
  readonly reachable: boolean;
  readonly size: number;
}

interface Share {
  readonly pool: Id<'storage_pool'>;
  readonly host: Id<'host'>;
  readonly size: number;
}

type Hosts = Map<Id<'host'>, number>;

/** The space of pools on hosts. */
export class StorageSpace {
  readonly #pools = new Map<Id<'storage_pool'>, Pool>();
  /** The sizes of the pools on the hosts that reach them. */
  readonly #sizes = new Map<Id<'storage_pool'>, Hosts>();
  readonly #volumes = new Map<string, Share>();
  /** The bytes of all volumes by pool and host. */
  readonly #used = new Map<Id<'storage_pool'>, Hosts>();
  /** The largest size of each pool, and the bytes of all volumes. A search asks for them once for each host. */
  readonly #largest = new Map<Id<'storage_pool'>, number>();
  readonly #totals = new Map<Id<'storage_pool'>, number>();

  /** Sets a pool; `undefined` removes it. */
  setPool(id: Id<'storage_pool'>, pool: Pool | undefined): void {
    if (pool) this.#pools.set(id, pool);
    else this.#pools.delete(id);
  }

  /** Sets the report of a host on a pool; `undefined` removes it. */
  setReport(id: Id<'storage_pool'>, host: Id<'host'>, report: Report | undefined): void {
    const sizes = this.#sizes.get(id) ?? new Map<Id<'host'>, number>();
    if (report?.reachable) sizes.set(host, report.size);
    else sizes.delete(host);
    if (sizes.size > 0) this.#sizes.set(id, sizes);
    else this.#sizes.delete(id);
    this.#largest.set(id, Math.max(0, ...sizes.values()));
  }

  /** Sets the share of a volume; `undefined` removes it. The call is idempotent. */
  setVolume(volume: string, share: Share | undefined): void {
    const before = this.#volumes.get(volume);
    if (before) this.#add(before, -before.size);
    if (share) {
      this.#add(share, share.size);
      this.#volumes.set(volume, share);
    } else this.#volumes.delete(volume);
  }

  #add({ pool, host }: Share, size: number): void {
    this.#totals.set(pool, (this.#totals.get(pool) ?? 0) + size);
    const hosts: Hosts = this.#used.get(pool) ?? new Map();
    const sum = (hosts.get(host) ?? 0) + size;
    if (sum > 0) hosts.set(host, sum);
    else hosts.delete(host);
    if (hosts.size > 0) this.#used.set(pool, hosts);
    else this.#used.delete(pool);
  }

  /** Returns the bytes that the volume has; 0 if it has none. */
  granted(volume: string): number {
    return this.#volumes.get(volume)?.size ?? 0;
  }

  /** Returns the free bytes of the pool for a volume on the host; undefined if the host does not reach the pool. */
  free(id: Id<'storage_pool'>, host: Id<'host'>): number | undefined {
    const pool = this.#pools.get(id);
    const sizes = this.#sizes.get(id);
    const own = sizes?.get(host);
    if (pool === undefined || sizes === undefined || own === undefined) return undefined;
    const shared = isNetworkPool(pool);
    const size = shared ? (this.#largest.get(id) ?? 0) : own;
    // Ceph without a manager does not know its size, so it has no limit.
    if (size === 0) return Number.MAX_SAFE_INTEGER;
    const used = (shared ? this.#totals.get(id) : this.#used.get(id)?.get(host)) ?? 0;
    return Math.floor(size * pool.overcommit) - used;
  }

  /** Returns a host that reaches the pool and passes the test. */
  hostOf(id: Id<'storage_pool'>, test: (host: Id<'host'>) => boolean): Id<'host'> | undefined {
    return [...(this.#sizes.get(id)?.keys() ?? [])].sort().find(test);
  }
}
