/**
 * An etcd lease with automatic renewal. Each renewal is a short stream with a deadline. So a hanging renewal does not
 * block the next one, which may use another member. The lease counts as lost when etcd says that it has ended. It also
 * counts as lost when `validUntil` passes without a renewal, because it may have ended then.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { EtcdLeaseInvalidError, type ILeaseKeepAliveResponse } from 'etcd3';
import type { EtcdConnection } from './etcd-connection.ts';
import type { Lease, LeaseId } from './store.ts';

/** A lease of the etcd driver. */
export class EtcdLease implements Lease {
  readonly id: LeaseId;
  readonly #connection: EtcdConnection;
  readonly #lost = new AbortController();
  readonly #ttlMs: number;
  #validUntil: number;

  constructor(connection: EtcdConnection, id: LeaseId, ttlSeconds: number, sentAt: number) {
    this.id = id;
    this.#connection = connection;
    this.#ttlMs = ttlSeconds * 1000;
    this.#validUntil = sentAt + this.#ttlMs;
    connection.closing.addEventListener('abort', this.#end, { once: true });
    void this.#renewLoop(sentAt);
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }
  get validUntil(): number {
    return this.#validUntil;
  }

  readonly #end = (): void => {
    this.#connection.closing.removeEventListener('abort', this.#end);
    this.#lost.abort(new Error(`lease ${this.id} has ended`));
  };

  async #renewLoop(grantedAt: number): Promise<void> {
    const { signal } = this.#lost;
    const renewIntervalMs = this.#ttlMs / 3;
    let next = grantedAt + renewIntervalMs;
    const expiry = setInterval(
      () => performance.now() >= this.#validUntil && this.#end(),
      Math.min(250, renewIntervalMs / 4),
    );
    while (!signal.aborted) {
      await delay(Math.max(0, next - performance.now()), undefined, { signal }).catch(() => undefined);
      if (signal.aborted) break;
      const sentAt = performance.now();
      try {
        if (!(await this.#renew(Math.min(renewIntervalMs, this.#connection.timeoutMs)))) {
          this.#end();
          break;
        }
        this.#connection.reportRecovery();
        if (!signal.aborted) this.#validUntil = sentAt + this.#ttlMs;
        next = sentAt + renewIntervalMs;
      } catch (error) {
        if (signal.aborted) break;
        this.#connection.reportOutage(error, sentAt);
        next = performance.now() + Math.min(500, renewIntervalMs / 4);
      }
    }
    clearInterval(expiry);
  }

  /** Renews the lease once. Returns false if the lease has ended. Throws if etcd does not answer in time. */
  async #renew(timeoutMs: number): Promise<boolean> {
    const stream = await this.#connection.client.leaseClient.leaseKeepAlive({ deadline: Date.now() + timeoutMs });
    try {
      const answer = new Promise<ILeaseKeepAliveResponse>((resolve, reject) => {
        stream.on('data', resolve);
        stream.on('error', reject);
        stream.on('end', () => reject(new Error('etcd ended the renewal')));
        this.lost.addEventListener('abort', () => reject(new Error('the lease has ended')), { once: true });
      });
      stream.write({ ID: this.id });
      return Number((await answer).TTL) > 0;
    } finally {
      stream.end();
      stream.cancel();
    }
  }

  async revoke(): Promise<void> {
    this.#end();
    try {
      await this.#connection.read((options) =>
        this.#connection.client.leaseClient.leaseRevoke({ ID: this.id }, options),
      );
    } catch (error) {
      // The lease has already ended, perhaps by an earlier try whose answer was lost.
      if (!(error instanceof EtcdLeaseInvalidError)) throw error;
    }
  }
}
