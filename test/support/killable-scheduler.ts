/** Schedulers that can be killed as by kill -9. */
import type { Component } from '../../backend/model/component.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import type { EmbeddedStore } from '../../backend/store/embedded.ts';
import type { Store } from '../../backend/store/store.ts';
import { silentLogger } from './silent-logger.ts';

/** A scheduler that can be killed and restarted. */
export class KillableScheduler {
  readonly #store: EmbeddedStore;
  #session: Store | undefined;
  #component: Component | undefined;

  constructor(store: EmbeddedStore) {
    this.#store = store;
  }
  /** Kills the running scheduler. Its lease must end before another one leads. */
  async kill(): Promise<void> {
    await this.#session?.close();
    this.#session = undefined;
  }
  async start(): Promise<void> {
    await this.kill();
    this.#session = this.#store.session();
    this.#component = await startScheduler({ store: this.#session, logger: silentLogger, leaseSeconds: 1 });
  }
  async close(): Promise<void> {
    await this.#component?.close();
    await this.kill();
  }
}
