/** Keeps the networks of the host equal to the networks that its VMs need. Changes run one after the other. */
import type { Logger } from '../model/component.ts';
import type { FabricSpec, NetworkSpec, RoutedPrefix, SecuritySpec } from './hypervisor/specs.ts';
import { Mutex } from './system/mutex.ts';

/** Options of `NetworkSync`. */
export interface NetworkSyncOptions {
  readonly logger: Logger;
  /** Returns the networks that the host's VMs need now. */
  required(): readonly NetworkSpec[];
  /** Returns the other hosts, and the paths to their VMs, from the own networks; undefined if networks end at this host. */
  fabric(own: readonly NetworkSpec[]): FabricSpec | undefined;
  /** Returns the prefixes that are routed to VMs of this host. */
  routes(): readonly RoutedPrefix[];
  /** Returns the filters of the interfaces on this host. */
  security(): SecuritySpec;
  /** Makes the networks of the machine equal to these. Returns the faults by interface. */
  apply(
    networks: readonly NetworkSpec[],
    fabric: FabricSpec | undefined,
    routes: readonly RoutedPrefix[],
    security: SecuritySpec,
  ): Promise<ReadonlyMap<string, string>>;
  /** The delay before a retry. */
  readonly retryMs: number;
}

const maxLoggedFaults = 10;

/** Synchronizes the networks of one host. */
export class NetworkSync {
  readonly #options: NetworkSyncOptions;
  #applied: string | undefined;
  readonly #mutex = new Mutex();
  #queued: Promise<void> | undefined;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: NetworkSyncOptions) {
    this.#options = options;
  }

  /**
   * Resolves when the networks are in sync. Rejects if that fails; the next call retries. Faults of single interfaces do not
   * reject: the driver refuses the VMs that need these interfaces. All calls during a run share the next run.
   */
  sync(): Promise<void> {
    this.#queued ??= this.#mutex.run(() => {
      this.#queued = undefined;
      return this.#apply();
    });
    return this.#queued;
  }

  /** Synchronizes in the background and retries until it succeeds. */
  request(): void {
    this.sync().catch((err: unknown) => {
      if (this.#closed) return;
      this.#options.logger.warn({ err }, 'the agent could not set the networks of this host; it retries');
      this.#retryLater();
    });
  }

  #retryLater(): void {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => {
      this.#applied = undefined;
      this.request();
    }, this.#options.retryMs).unref();
  }

  /** Stops all retries. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
  }

  async #apply(): Promise<void> {
    const networks = [...this.#options.required()].sort((a, b) => a.vni - b.vni);
    const fabric = this.#options.fabric(networks);
    const routes = this.#options.routes();
    const security = this.#options.security();
    const text = JSON.stringify({ networks, fabric, routes, security });
    if (text === this.#applied) return;
    this.#applied = undefined;
    const faults = await this.#options.apply(networks, fabric, routes, security);
    this.#applied = text;
    if (faults.size === 0 || this.#closed) return;
    const few = [...faults.values()].slice(0, maxLoggedFaults);
    this.#options.logger.warn({ faults: few, count: faults.size }, 'some interfaces of networks have faults');
    this.#retryLater();
  }
}
