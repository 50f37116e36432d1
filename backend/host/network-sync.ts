/** Keeps the host's networks exactly those that its VMs need, one change after the other. */
import type { Logger } from '../model/component.ts';
import type { NetworkSpec } from './hypervisor/hypervisor.ts';
import { Mutex } from './system/mutex.ts';

export interface NetworkSyncOptions {
  readonly logger: Logger;
  wanted(): readonly NetworkSpec[];
  set(networks: readonly NetworkSpec[]): Promise<void>;
  /** Wait before what failed is tried again. */
  readonly retryMs: number;
}

export class NetworkSync {
  readonly #options: NetworkSyncOptions;
  #applied: string | undefined;
  readonly #mutex = new Mutex();
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: NetworkSyncOptions) {
    this.#options = options;
  }

  /** Resolves when the networks are as wanted now. Rejects if that fails; it is then tried again with the next call. */
  sync(): Promise<void> {
    return this.#mutex.run(() => this.#apply());
  }

  /** The same for callers that need not wait: tried again until it succeeds. */
  request(): void {
    clearTimeout(this.#retry);
    this.sync().catch((err: unknown) => {
      if (this.#closed) return;
      this.#options.logger.warn({ err }, 'the networks of this host could not be set, they are tried again');
      this.#retry = setTimeout(() => this.request(), this.#options.retryMs).unref();
    });
  }

  /** Nothing is tried again any more. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
  }

  async #apply(): Promise<void> {
    const networks = [...this.#options.wanted()].sort((a, b) => a.vni - b.vni);
    const text = JSON.stringify(networks);
    if (text === this.#applied) return;
    this.#applied = undefined;
    await this.#options.set(networks);
    this.#applied = text;
  }
}
