/** Many simulated hosts in one process, each with a real agent; they share one view of the database. For scale. */
import { join } from 'node:path';
import type { Component, Logger } from '../model/component.ts';
import type { Store } from '../store/store.ts';
import { createSimulatedHypervisor, type SimulatedOptions } from './hypervisor/simulated.ts';
import { type Host, startHost } from './start.ts';
import { openHostView } from './view.ts';

export interface FleetOptions extends Omit<SimulatedOptions, 'dataDir'> {
  readonly store: Store;
  readonly logger: Logger;
  /** Each host has a directory below it. */
  readonly dataDir: string;
  readonly count: number;
  readonly version: string;
  readonly leaseSeconds?: number;
}

/** Hosts started side by side: enough to keep the database busy, few enough not to queue up behind its deadline. */
const atOnce = 50;

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
    for (let first = 0; first < count; first += atOnce) {
      const length = Math.min(atOnce, count - first);
      await Promise.all(Array.from({ length }, (_, offset) => startOne(first + offset)));
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { hosts, close };
}
