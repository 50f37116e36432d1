/**
 * A hypervisor that only pretends. The agent above it is the real one, so everything but the guests is: for trying
 * ucloud without QEMU, for tests of providers and clients, and for scale (a VM costs a few lines in a file).
 *
 * A VM runs if the journal on disk says so. So VMs outlive the process, as real ones do, and the next process finds them.
 * The journal is not synced to disk: like processes, simulated VMs need not survive the machine.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Id } from '../../contract/fields.ts';
import type { Resources } from '../../model/placement.ts';
import type { ExitCause, Hypervisor, NetworkSpec, ObservedVm, VmSpec } from './hypervisor.ts';
import { Journal } from './simulated-journal.ts';

export type SimulatedStep = 'prepare' | 'start' | 'stop' | 'destroy' | 'setNetworks';

export interface SimulatedOptions {
  readonly dataDir: string;
  readonly capacity: Resources;
  readonly architecture?: 'x86_64' | 'aarch64';
  /** From the call of `start` until the guest executes. */
  readonly bootMs?: number;
  /** From then until the guest says that it is ready. */
  readonly readyMs?: number;
  /** How long a guest takes to shut down when asked to. */
  readonly shutdownMs?: number;
  /** Called before each step; what it throws, the step fails with. */
  readonly fault?: (step: SimulatedStep, vm?: Id<'vm'>) => void;
}

export interface SimulatedHypervisor extends Hypervisor {
  onReady(listener: (vm: Id<'vm'>, at: Date) => void): () => void;
  /** Ends a running VM without anybody having asked, as a fault would or as its guest can. */
  exit(vm: Id<'vm'>, cause: ExitCause): void;
  /** From now on the guest does not hear requests to shut down. */
  hang(vm: Id<'vm'>): void;
  networks(): readonly NetworkSpec[];
  resourcesOf(vm: Id<'vm'>): Resources | undefined;
}

interface Running extends Resources {
  readonly fence: number;
  readonly generation: number;
  readonly started_at: string;
}
interface SimulatedVm {
  readonly id: Id<'vm'>;
  readonly disk: number;
  readonly running?: Running;
}

/** Finds the VMs that an earlier process left in the directory. */
export function createSimulatedHypervisor(options: SimulatedOptions): SimulatedHypervisor {
  const {
    capacity,
    architecture = 'x86_64',
    bootMs = 5,
    readyMs = 50,
    shutdownMs = 5,
    fault = () => undefined,
  } = options;
  mkdirSync(options.dataDir, { recursive: true });
  const vms = new Journal<SimulatedVm>(join(options.dataDir, 'simulated-vms.jsonl'));
  const deaf = new Set<Id<'vm'>>();
  const timers = new Map<Id<'vm'>, NodeJS.Timeout>();
  const exitListeners = new Set<(vm: Id<'vm'>, cause?: ExitCause) => void>();
  const readyListeners = new Set<(vm: Id<'vm'>, at: Date) => void>();
  let networks: readonly NetworkSpec[] = [];
  const closing = new AbortController();

  const enter = (step: SimulatedStep, id?: Id<'vm'>) => {
    closing.signal.throwIfAborted();
    fault(step, id);
  };
  const forgetTimer = (id: Id<'vm'>) => {
    clearTimeout(timers.get(id));
    timers.delete(id);
  };
  const becomeReady = (id: Id<'vm'>, afterMs: number) => {
    forgetTimer(id);
    const timer = setTimeout(() => {
      timers.delete(id);
      for (const listener of readyListeners) listener(id, new Date());
    }, afterMs);
    timers.set(id, timer.unref());
  };
  const end = (id: Id<'vm'>) => {
    const vm = vms.get(id);
    forgetTimer(id);
    deaf.delete(id);
    if (vm?.running) vms.put({ id, disk: vm.disk });
  };

  return {
    kind: 'simulated',
    accelerator: 'none',
    architecture,
    capacity: async () => capacity,
    hasImage: async () => true,

    list: async () =>
      [...vms.values()].map(({ id, running }): ObservedVm => {
        if (running === undefined) return { id, running: false };
        const { fence, generation, started_at } = running;
        return { id, running: true, fence, generation, started_at };
      }),

    prepare: async ({ id, disk_size }) => {
      enter('prepare', id);
      const vm = vms.get(id);
      if (vm?.running || vm?.disk === disk_size) return;
      if (vm && vm.disk > disk_size) throw new Error(`the disk of ${id} cannot shrink`);
      vms.put({ id, disk: disk_size });
    },

    start: async (spec: VmSpec, signal: AbortSignal) => {
      const { id, fence, generation, cpus, memory } = spec;
      enter('start', id);
      if (vms.get(id)?.running) return;
      await delay(bootMs, undefined, { signal: AbortSignal.any([signal, closing.signal]) });
      const vm = vms.get(id);
      if (vm === undefined) throw new Error(`${id} has no disk`);
      const started_at = new Date().toISOString();
      vms.put({ id, disk: vm.disk, running: { fence, generation, started_at, cpus, memory, disk: vm.disk } });
      becomeReady(id, readyMs);
    },

    stop: async (id, graceSeconds) => {
      enter('stop', id);
      if (!vms.get(id)?.running) return;
      const grace = graceSeconds * 1000;
      await delay(deaf.has(id) ? grace : Math.min(grace, shutdownMs), undefined, { signal: closing.signal });
      end(id);
    },

    destroy: async (id) => {
      enter('destroy', id);
      forgetTimer(id);
      deaf.delete(id);
      vms.remove(id);
    },

    setNetworks: async (wanted) => {
      enter('setNetworks');
      networks = wanted;
    },

    onExit: (listener) => {
      exitListeners.add(listener);
      return () => exitListeners.delete(listener);
    },

    onReady: (listener) => {
      readyListeners.add(listener);
      // Guests that were booting when the last process ended have gone on meanwhile.
      for (const { id, running } of vms.values())
        if (running && !timers.has(id)) {
          becomeReady(id, Math.max(0, Date.parse(running.started_at) + readyMs - Date.now()));
        }
      return () => readyListeners.delete(listener);
    },

    clean: async () => {
      const ids = [...vms.values()].map(({ id }) => id);
      for (const id of ids) forgetTimer(id);
      vms.clear();
      return ids.map((id) => `VM ${id} (simulated)`);
    },

    close: async () => {
      // What is under way fails, as when the process ends.
      closing.abort();
      for (const id of timers.keys()) forgetTimer(id);
      exitListeners.clear();
      readyListeners.clear();
      vms.close();
    },

    exit: (id, cause) => {
      if (!vms.get(id)?.running) throw new Error(`${id} does not run`);
      end(id);
      for (const listener of exitListeners) listener(id, cause);
    },
    hang: (id) => deaf.add(id),
    networks: () => networks,
    resourcesOf: (id) => {
      const running = vms.get(id)?.running;
      return running && { cpus: running.cpus, memory: running.memory, disk: running.disk };
    },
  };
}
