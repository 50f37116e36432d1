/**
 * Locks of uploads in the database, so that several API processes serve one upload. A lock ends with the lease of its
 * process. A client that lost its connection begins anew while the old request may still wait for bytes. The new request
 * therefore asks the holder to give up, and the holder ends the old request.
 */
import { randomUUID } from 'node:crypto';
import type { Lock, Locker } from '@tus/server';
import { UcloudError } from '../../contract/errors.ts';
import * as records from '../../model/records/index.ts';
import { absent, put, remove } from '../../store/collection.ts';
import { isChangeOf } from '../../store/mirror.ts';
import type { Lease, Store } from '../../store/store.ts';
import type { ApiMirror } from '../read-model/mirror.ts';

const leaseSeconds = 5;
/** The maximum wait for a lock, in milliseconds. It is longer than a lease. */
const maxWaitMs = 20_000;

/** The locks that this process holds and waits for. */
export class UploadLocks implements Locker {
  readonly #store: Store;
  readonly #mirror: ApiMirror;
  readonly #by = randomUUID();
  /** The function that ends the request of a held lock. */
  readonly #held = new Map<string, () => void>();
  readonly #stop: () => void;
  #lease: Promise<Lease> | undefined;

  constructor(store: Store, mirror: ApiMirror) {
    this.#store = store;
    this.#mirror = mirror;
    this.#stop = mirror.subscribe(({ changes }) => {
      for (const change of changes)
        if (isChangeOf(records.uploadLockRequests, change) && change.stored) this.#held.get(change.id)?.();
    });
  }

  newLock(id: string): Lock {
    return {
      lock: (signal, requestRelease) => this.#lock(id, signal, requestRelease),
      unlock: () => this.#unlock(id),
    };
  }

  async #ownLease(): Promise<Lease> {
    const current = await this.#lease;
    if (current && !current.lost.aborted) return current;
    this.#lease = this.#store.lease(leaseSeconds);
    this.#lease.catch(() => {
      this.#lease = undefined;
    });
    const lease = await this.#lease;
    lease.lost.addEventListener('abort', () => {
      for (const release of this.#held.values()) release();
    });
    return lease;
  }

  async #lock(id: string, signal: AbortSignal, requestRelease: () => void): Promise<void> {
    const deadline = performance.now() + maxWaitMs;
    for (let asked = false; ; ) {
      const lease = await this.#ownLease();
      const after = this.#mirror.revision;
      const { ok } = await this.#store.commit({
        require: [absent(records.uploadLocks, id)],
        write: [put(records.uploadLocks, id, { by: this.#by }, lease.id), remove(records.uploadLockRequests, id)],
      });
      if (ok) {
        this.#held.set(id, requestRelease);
        return;
      }
      const timeoutMs = deadline - performance.now();
      if (timeoutMs <= 0 || signal.aborted)
        throw new UcloudError('conflict', `another request writes to the upload ${id}; try again later`);
      if (!asked)
        await this.#store.commit({
          write: [put(records.uploadLockRequests, id, { at: new Date().toISOString() }, lease.id)],
        });
      asked = true;
      await this.#mirror.waitForChange({ of: [{ kind: records.uploadLocks, id }], after, timeoutMs, signal });
    }
  }

  async #unlock(id: string): Promise<void> {
    this.#held.delete(id);
    await this.#store.commit({ write: [remove(records.uploadLocks, id)] });
  }

  async close(): Promise<void> {
    this.#stop();
    const lease = await this.#lease?.catch(() => undefined);
    // If the revocation fails, the lease ends after its time to live.
    await lease?.revoke().catch(() => undefined);
  }
}
