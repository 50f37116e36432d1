/** The storage pools of a host, by their settings. */
import { join } from 'node:path';
import { builtInPool, type PoolSpec } from '../../../model/storage/pool.ts';
import type { Run } from '../../system/command.ts';
import { CephPool } from './ceph-pool.ts';
import { DirectoryPool } from './directory-pool.ts';
import type { PoolDriver } from './pool-driver.ts';

/** The drivers of the pools that a host uses. */
export class Pools {
  readonly #dataDir: string;
  readonly #run: Run;
  /** One driver for each pool, so that a pool that hangs holds few processes. */
  readonly #drivers = new Map<string, { readonly key: string; readonly driver: PoolDriver }>();

  constructor(dataDir: string, run: Run) {
    this.#dataDir = dataDir;
    this.#run = run;
  }

  /** The pool in the data directory. */
  get builtIn(): PoolDriver {
    return this.get({ id: builtInPool, settings: { kind: 'local' } });
  }

  /** Returns the driver of the pool. */
  get(spec: PoolSpec): PoolDriver {
    const key = JSON.stringify(spec);
    const known = this.#drivers.get(spec.id);
    if (known?.key === key) return known.driver;
    const driver = this.#create(spec);
    this.#drivers.set(spec.id, { key, driver });
    return driver;
  }

  #create({ id, settings, marker }: PoolSpec): PoolDriver {
    const run = this.#run;
    switch (settings.kind) {
      case 'local':
      case 'shared':
        return settings.path === undefined
          ? new DirectoryPool({ path: join(this.#dataDir, 'volumes'), run, marker: 'none' })
          : new DirectoryPool({ path: settings.path, run, marker });
      case 'ceph':
        return new CephPool(id, settings);
    }
  }
}
