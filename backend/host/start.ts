/** A host of the cloud: it writes its record into the database and runs the VMs that are placed on it. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Id } from '../contract/fields.ts';
import type { Component, Logger } from '../model/component.ts';
import { isIdOf, newId } from '../model/ids.ts';
import { storedIpv6 } from '../model/network/addresses.ts';
import { contains, storedPrefix } from '../model/network/prefixes.ts';
import { alive, hosts, networks, prefixRoutes, type VmRecord } from '../model/records/index.ts';
import { restartableElsewhere } from '../model/vm/lifecycle.ts';
import type { Store } from '../store/store.ts';
import { Agent } from './agent.ts';
import { Bird } from './bgp/bird.ts';
import type { Hypervisor } from './hypervisor/hypervisor.ts';
import type { Underlay } from './hypervisor/specs.ts';
import type { FetchStep } from './images/fetch.ts';
import { type HostImageLimits, HostImages } from './images/host-images.ts';
import type { ImageFiles } from './images/image-files.ts';
import { KernelTables } from './kernel-tables.ts';
import { HostLease } from './lease.ts';
import { run } from './system/command.ts';
import { readIfThere, writeAtomically } from './system/files.ts';
import { birdDirectory, instanceOf } from './system/instance.ts';
import { type HostView, openOwnView } from './view.ts';

/** Options of `startHost`. */
export interface HostOptions {
  readonly store: Store;
  readonly logger: Logger;
  /** The hypervisor driver. The caller closes it after the host. */
  readonly hypervisor: Hypervisor;
  /** The directory with the host's id. A process with this directory acts as this host. */
  readonly dataDir: string;
  /** The host name of the machine. */
  readonly name: string;
  readonly version: string;
  /** The time to live of the host's lease, in seconds. A host without a lease counts as dead. */
  readonly leaseSeconds?: number;
  /** The time in seconds that a guest has for its shutdown. */
  readonly graceSeconds?: number;
  /**
   * The delay before the first retry of a failed step, in milliseconds. It doubles with each failure, up to one minute.
   */
  readonly retryMs?: number;
  /**
   * Tells whether the scheduler may move a VM away from an unreachable host. Default: `restartableElsewhere` of
   * model/vm/lifecycle.ts.
   */
  readonly restartableElsewhere?: (vm: VmRecord) => boolean;
  /** The files of images, which the host fetches if they are missing. Without them, VMs need no files of images. */
  readonly images?: {
    readonly files: ImageFiles;
    readonly limits?: Partial<HostImageLimits>;
    readonly onStep?: (step: FetchStep) => void;
  };
  /** The link of this host to the others. Without it, networks end at this host, and it announces no prefixes. */
  readonly underlay?: Underlay | undefined;
  /** The control of bird. Default: bird on this machine. */
  readonly bird?: Bird;
  /** A view of everything, which the hosts of one process may share. Default: a view of what concerns this host. */
  readonly view?: HostView;
}

/** A running host. */
export interface Host extends Component {
  readonly id: Id<'host'>;
}

async function hostId(dataDir: string): Promise<Id<'host'>> {
  await mkdir(dataDir, { recursive: true });
  const path = join(dataDir, 'host-id');
  const known = (await readIfThere(path))?.trim();
  if (known) {
    if (isIdOf('host', known)) return known;
    throw new Error(`${path} must contain the id of a host, not "${known.slice(0, 80)}"`);
  }
  const id = newId('host');
  await writeAtomically(path, `${id}\n`);
  return id;
}

/** @throws Error if the underlay address belongs to another host, to a network, or to a routed prefix */
function checkUnderlay(view: HostView, logger: Logger, host: Id<'host'>, { address }: Underlay): void {
  const rule = `the underlay address ${address}`;
  const contained = ({ cidr }: { readonly cidr: string }) =>
    contains(storedPrefix(cidr), { address: storedIpv6(address), length: 128 });
  for (const { id, value } of view.mirror.list(hosts)) {
    if (id !== host && value.underlay?.address === address)
      throw new Error(`${rule} belongs to the host ${value.name} (${id}); each host needs an address of its own`);
  }
  const problems = [
    ...[...view.mirror.list(networks)].flatMap(({ id, value }) =>
      contained(value) ? [`${rule} lies in the prefix ${value.cidr} of the network ${id}; guests could claim it`] : [],
    ),
    ...[...view.mirror.list(prefixRoutes)].flatMap(({ id, value }) =>
      contained(value) ? [`${rule} lies in ${value.cidr}, which ${id} routes to a VM; guests could use it`] : [],
    ),
  ];
  const [problem] = problems;
  if (problem === undefined) return;
  // The object came in the same instant as the host. A host with VMs must not lose its agent by it.
  const isKnown = view.mirror.get(hosts, host)?.value.underlay?.address === address;
  if (!isKnown) throw new Error(problem);
  logger.error({ problem }, 'an object of a tenant contains the underlay address of this host; delete it');
}

/**
 * Starts a host. Resolves when its record is written and its agent works.
 * @throws UcloudError `store_unavailable` if the database does not answer
 */
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
    connection_filter: await hypervisor.connectionFilter(),
    capacity: await hypervisor.capacity(),
    ...(options.underlay && { underlay: options.underlay }),
  };
  const view = options.view ?? (await openOwnView(store, logger, id));
  try {
    if (options.underlay) checkUnderlay(view, logger, id, options.underlay);
  } catch (error) {
    if (options.view === undefined) await view.close();
    throw error;
  }

  const bird = options.bird ?? new Bird({ directory: birdDirectory(instanceOf(options.dataDir)), run });

  let lease: HostLease | undefined;
  const images =
    options.images &&
    new HostImages({
      ...options.images,
      ...{ store, view, host: id, logger },
      usedByDisks: () => hypervisor.usedImages(),
      onChange: (user) => (isIdOf('vm', user) ? agent.visit(user) : agent.visitVolume(user)),
    });
  const agent: Agent = new Agent({
    store,
    view,
    logger,
    hypervisor,
    images,
    host: id,
    name,
    lease: () => lease ?? { holds: undefined, valid: false },
    graceSeconds,
    retryMs,
    underlay: options.underlay,
    bgp: options.underlay && { bird, underlayAddress: options.underlay.address },
    restartableElsewhere: options.restartableElsewhere ?? restartableElsewhere,
    onAlive: () => lease?.aliveChanged(view.mirror.get(alive, id)?.revision),
  });
  const tables = kind === 'qemu' ? new KernelTables({ store, logger, host: id, name }) : undefined;
  let closing: Promise<void> | undefined;
  const close = () => {
    closing ??= (async () => {
      tables?.close();
      await Promise.all([agent.close(), images?.close()]);
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
  // The mirror now shows every decision from before this agent took over.
  await view.mirror.catchUp();
  await agent.start();
  return { id, close };
}
