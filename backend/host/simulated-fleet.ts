/**
 * Many simulated hosts in one process, for tests at scale. Each host has a real agent; all of them share one view of
 * the database.
 */
import { join } from 'node:path';
import type { Component, Logger } from '../model/component.ts';
import type { Store } from '../store/store.ts';
import { createSimulatedHypervisor, type SimulatedOptions } from './hypervisor/simulated.ts';
import { type Host, startHost } from './start.ts';
import { openHostView } from './view.ts';

/** Options of `startSimulatedHosts`. */
export interface FleetOptions extends Omit<SimulatedOptions, 'dataDir'> {
  readonly store: Store;
  readonly logger: Logger;
  /** The directory that contains one directory for each host. */
  readonly dataDir: string;
  readonly count: number;
  readonly version: string;
  readonly leaseSeconds?: number;
}

/**
 * The maximum number of hosts that start at the same time. It keeps the database busy without running into its timeout.
 */
const maxConcurrentStarts = 50;

/**
 * Starts simulated hosts. Resolves when all of them run.
 * @throws UcloudError `store_unavailable` if the database does not answer
 */
export async function startSimulatedHosts(
  options: FleetOptions,
): Promise<Component & { readonly hosts: readonly Host[] }> {
  const { store, logger, dataDir, count, version, leaseSeconds = 30, ...simulated } = options;
  const view = await openHostView(store, logger);
  const hosts: Host[] = [];
  const hypervisors: { close(): Promise<void> }[] = [];
  const close = async () => {
    await Promise.all(hosts.map((host) => host.close()));
    await Promise.all(hypervisors.map((hypervisor) => hypervisor.close()));
    await view.close();
  };
  const startOne = async (index: number) => {
    const name = `simulated-${index + 1}`;
    const directory = join(dataDir, name);
    const hypervisor = createSimulatedHypervisor({ ...simulated, dataDir: directory });
    hypervisors.push(hypervisor);
    hosts.push(await startHost({ store, logger, hypervisor, dataDir: directory, name, version, leaseSeconds, view }));
  };
  try {
    for (let first = 0; first < count; first += maxConcurrentStarts) {
      const length = Math.min(maxConcurrentStarts, count - first);
      await Promise.all(Array.from({ length }, (_, offset) => startOne(first + offset)));
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { hosts, close };
}
