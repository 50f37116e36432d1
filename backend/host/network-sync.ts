/** Keeps the host's networks exactly those that its VMs need, one change after the other. */
import type { NetworkSpec } from './hypervisor/hypervisor.ts';
import { Mutex } from './system/mutex.ts';

export class NetworkSync {
  readonly #wanted: () => readonly NetworkSpec[];
  readonly #set: (networks: readonly NetworkSpec[]) => Promise<void>;
  #applied: string | undefined;
  readonly #mutex = new Mutex();

  constructor(wanted: () => readonly NetworkSpec[], set: (networks: readonly NetworkSpec[]) => Promise<void>) {
    this.#wanted = wanted;
    this.#set = set;
  }

  /** Resolves when the networks are as wanted now. Rejects if that fails; it is then tried again with the next call. */
  sync(): Promise<void> {
    return this.#mutex.run(() => this.#apply());
  }

  async #apply(): Promise<void> {
    const networks = [...this.#wanted()].sort((a, b) => a.vni - b.vni);
    const text = JSON.stringify(networks);
    if (text === this.#applied) return;
    this.#applied = undefined;
    await this.#set(networks);
    this.#applied = text;
  }
}
