/**
 * A lease of etcd, renewed as long as it is held. Each renewal is a short stream with a deadline: one that hangs cannot
 * keep the next from being tried, on another member if there are several. The lease counts as lost when etcd says that
 * it has ended, or when `validUntil` has passed without a renewal, since it may have ended then.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { EtcdLeaseInvalidError, type ILeaseKeepAliveResponse } from 'etcd3';
import type { EtcdConnection } from './etcd-connection.ts';
import type { Lease, LeaseId } from './store.ts';

export class EtcdLease implements Lease {
  readonly id: LeaseId;
  readonly #connection: EtcdConnection;
  readonly #lost = new AbortController();
  readonly #milliseconds: number;
  #validUntil: number;

  constructor(connection: EtcdConnection, id: LeaseId, ttl: number, sent: number) {
    this.id = id;
    this.#connection = connection;
    this.#milliseconds = ttl * 1000;
    this.#validUntil = sent + this.#milliseconds;
    connection.closing.addEventListener('abort', this.#end, { once: true });
    void this.#keep(sent);
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

  async #keep(granted: number): Promise<void> {
    const { signal } = this.#lost;
    const third = this.#milliseconds / 3;
    let next = granted + third;
    const expiry = setInterval(() => performance.now() >= this.#validUntil && this.#end(), Math.min(250, third / 4));
    while (!signal.aborted) {
      await delay(Math.max(0, next - performance.now()), undefined, { signal }).catch(() => undefined);
      if (signal.aborted) break;
      const sent = performance.now();
      try {
        if (!(await this.#renew(Math.min(third, this.#connection.timeout)))) {
          this.#end();
          break;
        }
        this.#connection.cameBack();
        if (!signal.aborted) this.#validUntil = sent + this.#milliseconds;
        next = sent + third;
      } catch (error) {
        if (signal.aborted) break;
        this.#connection.wentAway(error, sent);
        next = performance.now() + Math.min(500, third / 4);
      }
    }
    clearInterval(expiry);
  }

  /** False: the lease has ended. Throws if etcd did not say in time. */
  async #renew(timeout: number): Promise<boolean> {
    const stream = await this.#connection.client.leaseClient.leaseKeepAlive({ deadline: Date.now() + timeout });
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
      // Gone already, perhaps by an earlier try whose answer was lost.
      if (!(error instanceof EtcdLeaseInvalidError)) throw error;
    }
  }
}
