/** Hosts with the simulated hypervisor, for tests. */
import type { Test } from 'tap';
import {
  createSimulatedHypervisor,
  type SimulatedHypervisor,
  type SimulatedOptions,
} from '../../backend/host/hypervisor/simulated.ts';
import { type Host, type HostOptions, startHost } from '../../backend/host/start.ts';
import type { Store } from '../../backend/store/store.ts';
import { GiB } from './cluster.ts';
import { silentLogger } from './silent-logger.ts';
import { temporaryDirectory } from './stores.ts';

/** A host with its simulated hypervisor. */
export interface SimulatedHost extends Host {
  readonly hypervisor: SimulatedHypervisor;
  readonly dataDir: string;
}

/** Options of a host, and of its hypervisor. */
export interface SimulatedHostOptions extends Partial<HostOptions> {
  readonly simulated?: Partial<SimulatedOptions>;
}

/** The capacity of a simulated host. */
export const capacity = { cpus: 16, memory: 64 * GiB, disk: 1024 * GiB };

/** Starts a simulated host; the test closes it. */
export async function startSimulatedHost(
  t: Test,
  store: Store,
  options: SimulatedHostOptions = {},
): Promise<SimulatedHost> {
  const { simulated, dataDir = temporaryDirectory(t), ...rest } = options;
  const hypervisor = createSimulatedHypervisor({
    dataDir,
    capacity,
    bootMs: 1,
    readyMs: 1,
    shutdownMs: 1,
    ...simulated,
  });
  const host = await startHost({
    store,
    logger: silentLogger,
    hypervisor,
    dataDir,
    name: 'testing',
    version: '0',
    retryMs: 5,
    ...rest,
  });
  const close = async () => {
    await host.close();
    await hypervisor.close();
  };
  t.teardown(close);
  return { id: host.id, close, hypervisor, dataDir };
}
