/** A host of the cloud: enters itself in the database and runs the VMs that are placed on it. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Id } from '../contract/fields.ts';
import type { Component, Logger } from '../model/component.ts';
import { newId } from '../model/ids.ts';
import { alive, type VmRecord } from '../model/records.ts';
import { restartableElsewhere } from '../model/vm-lifecycle.ts';
import type { Store } from '../store/store.ts';
import { Agent } from './agent.ts';
import type { Hypervisor } from './hypervisor/hypervisor.ts';
import { HostLease } from './lease.ts';
import { readIfThere, writeAtomically } from './system/files.ts';
import { type HostView, openHostView } from './view.ts';

export interface HostOptions {
  readonly store: Store;
  readonly logger: Logger;
  /** Stays the caller's, to be closed after the host. */
  readonly hypervisor: Hypervisor;
  /** Keeps the host's identity: who has the directory is the host. */
  readonly dataDir: string;
  /** Host name of the machine. */
  readonly name: string;
  readonly version: string;
  /** After so many seconds without a sign of life the host counts as dead. */
  readonly leaseSeconds?: number;
  /** How long a guest that is asked to shut down is waited for. */
  readonly graceSeconds?: number;
  /** Wait before a failed step is tried again; doubles each time up to a minute. */
  readonly retryMs?: number;
  /** See model/vm-lifecycle.ts. */
  readonly restartableElsewhere?: (vm: VmRecord) => boolean;
  /** Shared by the hosts of one process. Default: one of its own. */
  readonly view?: HostView;
}

export interface Host extends Component {
  readonly id: Id<'host'>;
}

async function hostId(dataDir: string): Promise<Id<'host'>> {
  await mkdir(dataDir, { recursive: true });
  const path = join(dataDir, 'host-id');
  const known = (await readIfThere(path))?.trim();
  if (known) return known;
  const id = newId('host');
  await writeAtomically(path, `${id}\n`);
  return id;
}

/** Resolves when the host is entered and has begun to work. Rejects with store_unavailable if the database is away. */
export async function startHost(options: HostOptions): Promise<Host> {
  const { store, hypervisor, name, version, leaseSeconds = 10, graceSeconds = 30, retryMs = 1_000 } = options;
  const id = await hostId(options.dataDir);
  const logger = options.logger.child({ host: id });
  const { kind, accelerator, architecture } = hypervisor;
  const host = {
    id,
    name,
    hypervisor: kind,
    accelerator,
    architecture,
    version,
    capacity: await hypervisor.capacity(),
  };
  const view = options.view ?? (await openHostView(store, logger));

  let lease: HostLease | undefined;
  const agent = new Agent({
    store,
    view,
    logger,
    hypervisor,
    host: id,
    name,
    lease: () => lease ?? { holds: undefined, valid: false },
    graceSeconds,
    retryMs,
    restartableElsewhere: options.restartableElsewhere ?? restartableElsewhere,
    onAlive: () => lease?.aliveChanged(view.mirror.get(alive, id)?.revision),
  });
  let closing: Promise<void> | undefined;
  const close = () => {
    closing ??= (async () => {
      await agent.close();
      await lease?.close();
      if (options.view === undefined) await view.close();
    })();
    return closing;
  };
  lease = await HostLease.acquire({
    store,
    logger,
    host,
    leaseSeconds,
    onLost: () => agent.fence(),
    onRegained: () => agent.visitAll(),
    onSuperseded: () => void close(),
  });
  // What was decided before this agent took over is in the mirror now.
  await view.catchUp();
  await agent.start();
  return { id, close };
}
