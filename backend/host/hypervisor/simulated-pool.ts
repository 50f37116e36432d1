/** Simulates a storage pool. Its volumes have no data. */
import type { Id } from '../../contract/fields.ts';
import type { PoolSpec, PoolUsage } from '../../model/storage/pool.ts';
import type { PoolDriver, PoolSnapshots, VolumeSource } from '../storage/pools/pool-driver.ts';

/** Returns the space of the pool for this host. @throws Error if the host does not reach it */
export type SimulatedUsage = (pool: PoolSpec) => PoolUsage;

const tebibyte = 1024 ** 4;

/** Every host reaches the pool, which has 10 TiB. */
export const largePools: SimulatedUsage = () => ({ size: 10 * tebibyte, free: 10 * tebibyte });

const noContent = async () => {
  throw new Error('a simulated pool has no content');
};

/** A simulated pool. */
export class SimulatedPool implements PoolDriver {
  readonly #spec: PoolSpec;
  readonly #usage: SimulatedUsage;
  readonly #signal: AbortSignal;

  /** @param signal aborts at the end of the simulated process */
  constructor(spec: PoolSpec, usage: SimulatedUsage, signal: AbortSignal) {
    this.#spec = spec;
    this.#usage = usage;
    this.#signal = signal;
  }

  async usage(): Promise<PoolUsage> {
    this.#signal.throwIfAborted();
    return this.#usage(this.#spec);
  }

  /** Like the driver of Ceph. */
  get snapshots(): PoolSnapshots | undefined {
    if (this.#spec.settings.kind !== 'ceph') return undefined;
    const alive = async () => this.#signal.throwIfAborted();
    return {
      create: () => alive().then(() => new Date()),
      fill: alive,
      restore: alive,
      read: noContent,
      remove: alive,
    };
  }

  async sizeOf(): Promise<undefined> {}

  async ensure(): Promise<void> {
    this.#signal.throwIfAborted();
  }

  async fill(): Promise<void> {
    this.#signal.throwIfAborted();
  }

  async remove(): Promise<void> {
    this.#signal.throwIfAborted();
  }

  async list(): Promise<[]> {
    return [];
  }

  async source(volume: Id<'volume'>): Promise<VolumeSource> {
    return { kind: 'file', path: volume };
  }
}
