/**
 * The guests whose processes this agent watches. Every ten seconds it looks after each of them and after the network, and
 * tells the listeners about ends, other addresses and guest agents.
 */
import type { Id } from '../../../contract/fields.ts';
import type { Logger } from '../../../model/component.ts';
import { type AddressWatch, beginWatch, watchAddresses } from '../../../model/vm/address-watch.ts';
import type { HostNetwork } from '../../network/host-network.ts';
import type { Process } from '../../system/processes.ts';
import type { ExitCause } from '../hypervisor.ts';
import { Guest } from './guest.ts';
import type { VmDirectories } from './vm-directory.ts';

/** The parts of the host that the guests need. */
export interface RunningGuestsOptions {
  readonly network: HostNetwork;
  readonly directories: VmDirectories;
  readonly logger: Logger;
}

const maintenanceIntervalMs = 10_000;

/** Adds a listener, and returns a function that removes it. */
function listen<L>(listeners: Set<L>, listener: L): () => void {
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
  };
}

/** The guests of this agent. */
export class RunningGuests {
  readonly #options: RunningGuestsOptions;
  readonly #guests = new Map<Id<'vm'>, Guest>();
  /** VMs whose guests do not execute yet. They need no maintenance. */
  readonly #starting = new Set<Id<'vm'>>();
  readonly #exitListeners = new Set<(vm: Id<'vm'>, cause?: ExitCause) => void>();
  readonly #addressListeners = new Set<(vm: Id<'vm'>, others: boolean) => void>();
  readonly #agentListeners = new Set<(vm: Id<'vm'>, answers: boolean) => void>();
  readonly #addressWatches = new Map<Id<'vm'>, AddressWatch>();
  readonly #timer: NodeJS.Timeout;
  #maintenance: Promise<void> | undefined;
  /** The subjects of current faults. The agent logs a fault when it begins, and not every ten seconds. */
  #currentFaults = new Set<string>();
  #closed = false;

  constructor(options: RunningGuestsOptions) {
    this.#options = options;
    this.#timer = setInterval(() => {
      this.#maintenance ??= this.#maintain().finally(() => {
        this.#maintenance = undefined;
      });
    }, maintenanceIntervalMs);
    this.#timer.unref();
  }

  /** Returns the guest; undefined if no process of the VM is watched. */
  get(vm: Id<'vm'>): Guest | undefined {
    return this.#guests.get(vm);
  }

  /** Watches the process of the VM. Its end calls the exit listeners, unless `forget` was called before. */
  watch(vm: Id<'vm'>, process: Process): Guest {
    const known = this.#guests.get(vm);
    if (known?.process.pid === process.pid && known.process.startTime === process.startTime) return known;
    known?.release();
    const { directories, logger } = this.#options;
    const guest = new Guest(process, directories.paths(vm), (err, message) => logger.warn({ err, vm }, message));
    this.#guests.set(vm, guest);
    void guest.ended.then((cause) => {
      if (this.#guests.get(vm) !== guest) return;
      this.#guests.delete(vm);
      for (const listener of this.#exitListeners) listener(vm, cause);
    });
    return guest;
  }

  /** Stops to watch the VM, and returns its guest. The exit listeners are not called, because the agent ends the process. */
  forget(vm: Id<'vm'>): Guest | undefined {
    const guest = this.#guests.get(vm);
    this.#guests.delete(vm);
    return guest;
  }

  /** Runs the steps of a start. Until their end, the guest needs no maintenance. */
  async whileStarting<T>(vm: Id<'vm'>, steps: () => Promise<T>): Promise<T> {
    this.#starting.add(vm);
    try {
      return await steps();
    } finally {
      this.#starting.delete(vm);
    }
  }

  /** Begins to count the frames with other addresses anew, because a new process of the VM starts. */
  countAddresses(vm: Id<'vm'>): void {
    // The tap may have survived the last guest, and its counter with it.
    const counter = this.#options.network.sourceDrops().get(vm) ?? 0;
    this.#addressWatches.set(vm, beginWatch(counter, performance.now(), false));
  }

  onExit(listener: (vm: Id<'vm'>, cause?: ExitCause) => void): () => void {
    return listen(this.#exitListeners, listener);
  }

  onOtherAddresses(listener: (vm: Id<'vm'>, others: boolean) => void): () => void {
    return listen(this.#addressListeners, listener);
  }

  onGuestAgent(listener: (vm: Id<'vm'>, answers: boolean) => void): () => void {
    return listen(this.#agentListeners, listener);
  }

  /** Looks which guests use other addresses, and tells the listeners about every guest of which this is known. */
  #watchAddresses(): void {
    const drops = this.#options.network.sourceDrops();
    for (const vm of this.#guests.keys()) {
      const counter = drops.get(vm) ?? 0;
      const now = performance.now();
      const watch = watchAddresses(this.#addressWatches.get(vm) ?? beginWatch(counter, now, undefined), counter, now);
      this.#addressWatches.set(vm, watch);
      if (watch.others === undefined) continue;
      for (const listener of this.#addressListeners) listener(vm, watch.others);
    }
    for (const vm of this.#addressWatches.keys()) if (!this.#guests.has(vm)) this.#addressWatches.delete(vm);
  }

  async #maintain(): Promise<void> {
    const { network, logger } = this.#options;
    const faults = new Map<string, unknown>();
    try {
      if (!network.isEmpty) for (const [link, fault] of await network.converge()) faults.set(link, new Error(fault));
      // The counts are those of this run.
      this.#watchAddresses();
    } catch (error) {
      faults.set('network', error);
    }
    // All guests are checked at the same time, so many unresponsive guests cost no more time than one.
    await Promise.all(
      [...this.#guests]
        .filter(([vm]) => !this.#starting.has(vm))
        .map(([vm, guest]) =>
          guest.maintain().catch((error: unknown) => {
            faults.set(vm, error);
          }),
        ),
    );
    for (const [vm, { hasAgent }] of this.#guests) for (const listener of this.#agentListeners) listener(vm, hasAgent);
    for (const [subject, err] of faults) {
      if (!this.#currentFaults.has(subject) && !this.#closed)
        logger.warn({ err, subject }, 'a part of this host is not in its desired state; the agent retries');
    }
    this.#currentFaults = new Set(faults.keys());
  }

  /** Ends the maintenance. */
  async rest(): Promise<void> {
    clearInterval(this.#timer);
    await this.#maintenance;
  }

  /** Ends the maintenance and stops to watch the guests, which go on running. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.rest();
    await Promise.all([...this.#guests.values()].map((guest) => guest.thaw()));
    for (const guest of this.#guests.values()) guest.release();
    this.#guests.clear();
  }
}
