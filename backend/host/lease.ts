/**
 * The host's sign of life: `alive/<host>` under a lease, entered together with `hosts/<host>`.
 *
 * A new agent of the same host replaces the key at once, without waiting for the old agent's lease to run out: after a
 * crash the host is back in no time. Should the old agent still live, it cannot start anything any more, since starting
 * requires its own revision of the key; it sees the other one and ends.
 *
 * If the lease is lost (the database was away for too long), the host enters itself anew as soon as it can.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from '../model/component.ts';
import { alive, type HostRecord, hosts } from '../model/records.ts';
import { absent, put, read, unchanged } from '../store/collection.ts';
import type { Condition, Lease, Revision, Store } from '../store/store.ts';

export interface HostLeaseOptions {
  readonly store: Store;
  readonly logger: Logger;
  readonly host: Omit<HostRecord, 'created_at'>;
  readonly leaseSeconds: number;
  /** The lease has ended or may have ended. */
  readonly onLost: () => void;
  /** There is a lease again. */
  readonly onRegained: () => void;
  /** Another agent acts for this host now. */
  readonly onSuperseded: () => void;
}

const retryMs = 500;

export class HostLease {
  readonly #options: HostLeaseOptions;
  readonly #closing = new AbortController();
  #held: { readonly lease: Lease; readonly revision: Revision } | undefined;
  #following: Promise<void> = Promise.resolve();

  private constructor(options: HostLeaseOptions) {
    this.#options = options;
  }

  static async acquire(options: HostLeaseOptions): Promise<HostLease> {
    const lease = new HostLease(options);
    await lease.#enter();
    lease.#following = lease.#follow();
    return lease;
  }

  /** To be required by whatever only a living host may write; undefined while there is no lease. */
  get holds(): Condition | undefined {
    return this.valid && this.#held
      ? { key: alive.prefix + this.#options.host.id, revision: this.#held.revision }
      : undefined;
  }

  /** Whether the lease is sure to live now. */
  get valid(): boolean {
    return (
      this.#held !== undefined && !this.#held.lease.lost.aborted && performance.now() < this.#held.lease.validUntil
    );
  }

  /** To be told of changes of `alive/<host>`. */
  aliveChanged(revision: Revision | undefined): void {
    if (this.#held === undefined || this.#closing.signal.aborted) return;
    if (revision === undefined || revision <= this.#held.revision) return;
    this.#closing.abort();
    this.#options.logger.error({}, 'another agent of this host has been started; this one ends');
    this.#options.onSuperseded();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#following;
    const lease = this.#held?.lease;
    this.#held = undefined;
    if (lease === undefined || lease.lost.aborted) return;
    // If the database is away, the lease ends by itself.
    await lease.revoke().catch((err: unknown) => this.#options.logger.warn({ err }, 'could not end the lease'));
  }

  async #enter(): Promise<void> {
    const lease = await this.#options.store.lease(this.#options.leaseSeconds);
    try {
      for (;;) {
        const revision = await this.#tryToEnter(lease);
        if (revision === undefined) continue;
        this.#held = { lease, revision };
        return;
      }
    } catch (error) {
      // A lease that nobody watches must not be renewed.
      await lease.revoke().catch(() => undefined);
      throw error;
    }
  }

  async #tryToEnter(lease: Lease): Promise<Revision | undefined> {
    const { store, host } = this.#options;
    const known = await read(store, hosts, host.id);
    const now = new Date().toISOString();
    const record = { ...host, created_at: known?.value.created_at ?? now };
    const same = known !== undefined && isDeepStrictEqual(known.value, record);
    const result = await store.commit({
      require: [known ? unchanged(known) : absent(hosts, host.id)],
      write: [...(same ? [] : [put(hosts, host.id, record)]), put(alive, host.id, { at: now }, lease.id)],
    });
    return result.ok ? result.revision : undefined;
  }

  async #follow(): Promise<void> {
    const { signal } = this.#closing;
    const { logger, onLost, onRegained } = this.#options;
    while (!signal.aborted) {
      const lost = this.#held?.lease.lost;
      if (lost && !lost.aborted) await aborted(AbortSignal.any([lost, signal]));
      if (signal.aborted) return;
      this.#held = undefined;
      logger.warn({}, 'the lease of this host is lost');
      onLost();
      while (this.#held === undefined && !signal.aborted) {
        try {
          await this.#enter();
          logger.info({}, 'the host has a lease again');
          onRegained();
        } catch (err) {
          logger.warn({ err }, 'cannot get a lease, trying on');
          await delay(retryMs, undefined, { signal, ref: false }).catch(() => undefined);
        }
      }
    }
  }
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
