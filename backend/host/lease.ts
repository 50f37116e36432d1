/**
 * The host's lease: the key `alive/<host>` under a lease, written together with `hosts/<host>`.
 *
 * A new agent of the same host replaces the key at once, so the host is back immediately after a crash of its agent.
 * The old agent may still live. It can start no VM, because a start requires the old agent's own revision of the key.
 * It notices the new revision and ends.
 *
 * The lease is lost when the database is unreachable for too long. The host then writes its keys again as soon as the
 * database answers.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from '../model/component.ts';
import { alive, formatOf, formats, type HostRecord, hosts, storeFormat } from '../model/records/index.ts';
import { absent, put, read, unchanged } from '../store/collection.ts';
import { raiseFormat } from '../store/raise-format.ts';
import type { Condition, Lease, Revision, Store } from '../store/store.ts';

/** Options of `HostLease.acquire`. */
export interface HostLeaseOptions {
  readonly store: Store;
  readonly logger: Logger;
  readonly host: Omit<HostRecord, 'created_at'>;
  readonly leaseSeconds: number;
  /** Called when the lease has ended or may have ended. */
  readonly onLost: () => void;
  /** Called when the host has a lease again. */
  readonly onRegained: () => void;
  /** Called when another agent of this host has taken over. */
  readonly onSuperseded: () => void;
}

const retryMs = 500;

/** Holds the lease of one host and renews it. */
export class HostLease {
  readonly #options: HostLeaseOptions;
  readonly #closing = new AbortController();
  #held: { readonly lease: Lease; readonly revision: Revision } | undefined;
  #following: Promise<void> = Promise.resolve();

  private constructor(options: HostLeaseOptions) {
    this.#options = options;
  }

  /**
   * Writes the host's keys under a new lease.
   * @throws UcloudError `store_unavailable` if the database does not answer
   */
  static async acquire(options: HostLeaseOptions): Promise<HostLease> {
    const lease = new HostLease(options);
    await lease.#enter();
    lease.#following = lease.#follow();
    return lease;
  }

  /** The condition for writes that only a living host may do; undefined while the host has no lease. */
  get holds(): Condition | undefined {
    return this.valid && this.#held
      ? { key: alive.prefix + this.#options.host.id, revision: this.#held.revision }
      : undefined;
  }

  /** Tells whether the lease certainly exists now. */
  get valid(): boolean {
    return (
      this.#held !== undefined && !this.#held.lease.lost.aborted && performance.now() < this.#held.lease.validUntil
    );
  }

  /** The agent calls this after a change of `alive/<host>`. */
  aliveChanged(revision: Revision | undefined): void {
    if (this.#held === undefined || this.#closing.signal.aborted) return;
    if (revision === undefined || revision <= this.#held.revision) return;
    this.#closing.abort();
    this.#options.logger.error({}, 'another agent of this host has started; this agent ends');
    this.#options.onSuperseded();
  }

  /** Stops the renewal and ends the lease. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#following;
    const lease = this.#held?.lease;
    this.#held = undefined;
    if (lease === undefined || lease.lost.aborted) return;
    // If the database does not answer, the lease ends after its time to live.
    await lease
      .revoke()
      .catch((err: unknown) => this.#options.logger.warn({ err }, 'the agent could not revoke the lease'));
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
      // The driver renews the lease until it is revoked, and no code watches this one.
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
    const format = formatOf(hosts.prefix + host.id, JSON.stringify(record));
    if (!same) await raiseFormat(store, { kind: formats, id: storeFormat }, format);
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
          logger.warn({ err }, 'the host cannot get a lease; it retries');
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
