/**
 * A simulated hypervisor: only the guests are simulated, and the agent is real. Its uses are a trial of ucloud without
 * QEMU, tests of providers and clients, and tests at scale. A VM costs a few lines in a file.
 *
 * A VM runs if its record in the journal on disk is running. So VMs outlive the process like real VMs, and the next process finds them.
 * The journal is not synced to disk: simulated VMs need not survive a crash of the machine.
 */

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { Id } from '../../contract/fields.ts';
import type { Architecture } from '../../contract/resources/images.ts';
import type { Resources } from '../../model/placement/filters.ts';
import type { HeldInterface } from '../../model/vm/interfaces.ts';
import { type ExitCause, type Hypervisor, type ObservedVm, SnapshotError } from './hypervisor.ts';
import { Journal } from './simulated-journal.ts';
import { largePools, SimulatedPool, type SimulatedUsage } from './simulated-pool.ts';
import type { FabricSpec, InterfaceSpec, NetworkSpec, RoutedPrefix, SecuritySpec, VmSpec } from './specs.ts';

const simulatedDisk = Buffer.alloc(1024 ** 2);
const noFilters: SecuritySpec = { groups: [], peers: [], interfaces: [] };

/** A step of the driver that can fail. */
export type SimulatedStep =
  | 'prepare'
  | 'start'
  | 'stop'
  | 'destroy'
  | 'setVolumes'
  | 'setInterfaces'
  | 'setNetworks'
  | 'createSnapshot'
  | 'fillVolume'
  | 'restoreDisks'
  | 'readSnapshot';

/** Options of `createSimulatedHypervisor`. */
export interface SimulatedOptions {
  readonly dataDir: string;
  readonly capacity: Resources;
  readonly architecture?: Architecture;
  /** The time from the call of `start` until the guest runs, in milliseconds. Default: 5. */
  readonly bootMs?: number;
  /** The time from then until the guest reports that it is ready, in milliseconds. Default: 50. */
  readonly readyMs?: number;
  /** The time that a guest takes for its shutdown, in milliseconds. Default: 5. */
  readonly shutdownMs?: number;
  /** Called before each step. The step fails with the error that it throws. A restore waits for its promise. */
  readonly fault?: (step: SimulatedStep, vm?: Id<'vm'>) => void | Promise<void>;
  /** The storage pools that the host reaches. Default: all. */
  readonly pools?: SimulatedUsage;
}

/** The simulated driver, with methods for tests. */
export interface SimulatedHypervisor extends Hypervisor {
  onReady(listener: (vm: Id<'vm'>, at: Date) => void): () => void;
  /** Ends a running VM without a request, like a fault or a shutdown by the guest. */
  exit(vm: Id<'vm'>, cause: ExitCause): void;
  /** Makes the guest ignore all further requests to shut down. */
  hang(vm: Id<'vm'>): void;
  /** Returns the networks that the agent has set. */
  networks(): readonly NetworkSpec[];
  /** Returns the other hosts and their VMs, as the agent has set them. */
  fabric(): FabricSpec | undefined;
  /** Returns the prefixes that are routed to VMs of this host, as the agent has set them. */
  routes(): readonly RoutedPrefix[];
  /** Returns the filters of the interfaces of this host, as the agent has set them. */
  security(): SecuritySpec;
  /** Returns the resources of a running VM; undefined if it does not run. */
  resourcesOf(vm: Id<'vm'>): Resources | undefined;
  /** Gives the guest a guest agent, or takes it away. */
  setGuestAgent(vm: Id<'vm'>, answers: boolean): void;
  /** Makes the guest use the volume, as the sentence says, or not any more. */
  useVolume(volume: Id<'volume'>, use: string | undefined): void;
  /** Returns the interfaces of a running VM. */
  interfacesOf(vm: Id<'vm'>): readonly HeldInterface[];
  /** Makes the guest keep removed interfaces, or release them again. */
  keepInterfaces(vm: Id<'vm'>, keeps: boolean): void;
  /** Returns the volumes of a running VM. */
  volumesOf(vm: Id<'vm'>): readonly Id<'volume'>[];
}

interface Running extends Resources {
  readonly fence: number;
  readonly generation: number;
  readonly started_at: string;
  /** The volumes of the guest. Journals of earlier versions lack them. */
  readonly volumes?: readonly Id<'volume'>[];
  /** The interfaces of the guest. Journals of earlier versions lack them. */
  readonly interfaces?: readonly HeldInterface[];
}
interface SimulatedVm {
  readonly id: Id<'vm'>;
  readonly disk: number;
  /** The image of the disk. Journals of earlier versions lack it. */
  readonly image?: Id<'image'>;
  readonly running?: Running;
}

const heldSpec = ({ mac, address, more_addresses = [] }: InterfaceSpec): HeldInterface => ({
  mac,
  addresses: [address, ...more_addresses],
});

/** Creates the driver, with the VMs that an earlier process left in the directory. */
export function createSimulatedHypervisor(options: SimulatedOptions): SimulatedHypervisor {
  const {
    capacity,
    architecture = 'x86_64',
    bootMs = 5,
    readyMs = 50,
    shutdownMs = 5,
    fault = () => undefined,
    pools = largePools,
  } = options;
  mkdirSync(options.dataDir, { recursive: true });
  const vms = new Journal<SimulatedVm>(join(options.dataDir, 'simulated-vms.jsonl'));
  const unresponsive = new Set<Id<'vm'>>();
  const timers = new Map<Id<'vm'>, NodeJS.Timeout>();
  const exitListeners = new Set<(vm: Id<'vm'>, cause?: ExitCause) => void>();
  const readyListeners = new Set<(vm: Id<'vm'>, at: Date) => void>();
  const agents = new Set<Id<'vm'>>();
  const agentListeners = new Set<(vm: Id<'vm'>, answers: boolean) => void>();
  const uses = new Map<Id<'volume'>, string | undefined>();
  const keepers = new Set<Id<'vm'>>();
  let networks: readonly NetworkSpec[] = [];
  let fabric: FabricSpec | undefined;
  let routes: readonly RoutedPrefix[] = [];
  let security = noFilters;
  const closing = new AbortController();

  const enter = (step: SimulatedStep, id?: Id<'vm'>) => {
    closing.signal.throwIfAborted();
    return fault(step, id);
  };
  const clearReadyTimer = (id: Id<'vm'>) => {
    clearTimeout(timers.get(id));
    timers.delete(id);
  };
  const scheduleReady = (id: Id<'vm'>, afterMs: number) => {
    clearReadyTimer(id);
    const timer = setTimeout(() => {
      timers.delete(id);
      for (const listener of readyListeners) listener(id, new Date());
    }, afterMs);
    timers.set(id, timer.unref());
  };
  const stopGuest = (id: Id<'vm'>) => {
    const vm = vms.get(id);
    clearReadyTimer(id);
    unresponsive.delete(id);
    if (vm?.running) {
      const { running: _running, ...stopped } = vm;
      vms.put(stopped);
    }
  };

  return {
    kind: 'simulated',
    accelerator: 'none',
    architecture,
    connectionFilter: async () => 'none',
    capacity: async () => capacity,
    usedImages: async () => new Set([...vms.values()].flatMap(({ image }) => (image === undefined ? [] : [image]))),

    list: async () =>
      [...vms.values()].map(({ id, running }): ObservedVm => {
        if (running === undefined) return { id, running: false };
        const { fence, generation, started_at } = running;
        return { id, running: true, fence, generation, started_at };
      }),

    prepare: async ({ id, disk_size, image }) => {
      await enter('prepare', id);
      const vm = vms.get(id);
      if (vm?.running || vm?.disk === disk_size) return;
      if (vm && vm.disk > disk_size) throw new Error(`the disk of ${id} cannot shrink`);
      vms.put({ id, disk: disk_size, ...(image !== undefined && { image }) });
    },

    start: async (spec: VmSpec, signal: AbortSignal) => {
      const { id, fence, generation, cpus, memory } = spec;
      const volumes = spec.volumes.map((volume) => volume.id);
      enter('start', id);
      if (vms.get(id)?.running) return;
      await delay(bootMs, undefined, { signal: AbortSignal.any([signal, closing.signal]) });
      const vm = vms.get(id);
      if (vm === undefined) throw new Error(`${id} has no disk`);
      const started_at = new Date().toISOString();
      const interfaces = spec.interfaces.map(heldSpec);
      vms.put({ ...vm, running: { fence, generation, started_at, cpus, memory, disk: vm.disk, volumes, interfaces } });
      scheduleReady(id, readyMs);
    },

    stop: async (id, graceSeconds) => {
      enter('stop', id);
      if (!vms.get(id)?.running) return;
      const graceMs = graceSeconds * 1000;
      await delay(unresponsive.has(id) ? graceMs : Math.min(graceMs, shutdownMs), undefined, {
        signal: closing.signal,
      });
      stopGuest(id);
    },

    destroy: async (id) => {
      enter('destroy', id);
      clearReadyTimer(id);
      unresponsive.delete(id);
      vms.remove(id);
    },

    setVolumes: async (id, volumes) => {
      enter('setVolumes', id);
      const vm = vms.get(id);
      if (vm?.running === undefined) throw new Error(`${id} does not run`);
      const ids = volumes.map((volume) => volume.id);
      vms.put({ ...vm, running: { ...vm.running, volumes: ids } });
      return { present: ids, faults: new Map() };
    },

    setInterfaces: async (id, wanted) => {
      enter('setInterfaces', id);
      const vm = vms.get(id);
      if (vm?.running === undefined) throw new Error(`${id} does not run`);
      const macs = new Set(wanted.map(({ mac }) => mac));
      const removed = (vm.running.interfaces ?? []).filter(({ mac }) => !macs.has(mac));
      const kept = keepers.has(id) ? removed.map(({ mac }) => ({ mac, addresses: [] })) : [];
      const interfaces = [...wanted.map(heldSpec), ...kept];
      vms.put({ ...vm, running: { ...vm.running, interfaces } });
      return { interfaces, needsRestart: false, faults: new Map() };
    },

    volumeUses: async (vm, ids) => (agents.has(vm) ? new Map(ids.map((id) => [id, uses.get(id)])) : undefined),

    onGuestAgent: (listener) => {
      agentListeners.add(listener);
      return () => agentListeners.delete(listener);
    },

    listVolumes: async () => [],

    pool: (spec) => new SimulatedPool(spec, pools, closing.signal),

    createSnapshot: async ({ holder, consistency }, signal) => {
      await enter('createSnapshot');
      signal.throwIfAborted();
      if (consistency === 'filesystem' && holder && vms.get(holder)?.running && !agents.has(holder)) {
        throw new SnapshotError('no_guest_agent', 'No guest agent runs in the VM.', { retry: true });
      }
      return { takenAt: new Date() };
    },
    whileFrozen: (_vm, work) => work(),

    removeSnapshot: async () => closing.signal.throwIfAborted(),

    listSnapshots: async () => [],

    // The disks of simulated guests have no content.
    readSnapshot: async () => {
      enter('readSnapshot');
      return { bytes: simulatedDisk.length, content: Readable.from([simulatedDisk], { objectMode: false }) };
    },

    fillVolume: async () => enter('fillVolume'),

    restoreDisks: async (_snapshot, disks, signal) => {
      for (const disk of disks) {
        await enter('restoreDisks', 'vm' in disk ? disk.vm : undefined);
        signal.throwIfAborted();
        closing.signal.throwIfAborted();
      }
    },

    setNetworks: async (wanted, others, routed = [], filters = noFilters) => {
      enter('setNetworks');
      networks = wanted;
      fabric = others;
      routes = routed;
      security = filters;
      return new Map();
    },

    onExit: (listener) => {
      exitListeners.add(listener);
      return () => exitListeners.delete(listener);
    },

    onReady: (listener) => {
      readyListeners.add(listener);
      // Guests that were booting at the end of the last process have continued since.
      for (const { id, running } of vms.values())
        if (running && !timers.has(id)) {
          scheduleReady(id, Math.max(0, Date.parse(running.started_at) + readyMs - Date.now()));
        }
      return () => readyListeners.delete(listener);
    },

    clean: async () => {
      const ids = [...vms.values()].map(({ id }) => id);
      for (const id of ids) clearReadyTimer(id);
      vms.clear();
      return ids.map((id) => `VM ${id} (simulated)`);
    },

    close: async () => {
      // Running calls fail, as at the end of the process.
      closing.abort();
      for (const id of timers.keys()) clearReadyTimer(id);
      exitListeners.clear();
      readyListeners.clear();
      vms.close();
    },

    exit: (id, cause) => {
      if (!vms.get(id)?.running) throw new Error(`${id} does not run`);
      stopGuest(id);
      for (const listener of exitListeners) listener(id, cause);
    },
    hang: (id) => unresponsive.add(id),
    setGuestAgent: (id, answers) => {
      if (answers) agents.add(id);
      else agents.delete(id);
      for (const listener of agentListeners) listener(id, answers);
    },
    useVolume: (id, use) => uses.set(id, use),
    networks: () => networks,
    fabric: () => fabric,
    routes: () => routes,
    security: () => security,
    interfacesOf: (id) => vms.get(id)?.running?.interfaces ?? [],
    keepInterfaces: (id, keeps) => {
      if (keeps) keepers.add(id);
      else keepers.delete(id);
    },
    volumesOf: (id) => vms.get(id)?.running?.volumes ?? [],
    resourcesOf: (id) => {
      const running = vms.get(id)?.running;
      return running && { cpus: running.cpus, memory: running.memory, disk: running.disk };
    },
  };
}
