/**
 * One worker at a time for a task, by a key under a lease. Who holds the key puts its condition into every commit; so a
 * holder that was deposed without knowing it yet writes nothing.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { leaders } from '../model/records.ts';
import { absent, put } from '../store/collection.ts';
import type { Mirror } from '../store/mirror.ts';
import type { Condition, Lease, Store } from '../store/store.ts';

export interface Leadership {
  /** For every commit. */
  readonly condition: Condition;
  /** Aborted when it has ended or may have ended. */
  readonly lost: AbortSignal;
  /** Whether it is sure to last for this many milliseconds. */
  lasts(milliseconds: number): boolean;
  resign(): Promise<void>;
}

/** @returns undefined if somebody else holds the key */
async function tryToLead(store: Store, task: string, ttl: number): Promise<Leadership | undefined> {
  const lease: Lease = await store.lease(ttl);
  const result = await store
    .commit({ require: [absent(leaders, task)], write: [put(leaders, task, { id: randomUUID() }, lease.id)] })
    .catch(async (err: unknown) => {
      // Whether it was written is not known; with the lease, the key goes too.
      await lease.revoke().catch(() => {});
      throw err;
    });
  if (!result.ok) {
    await lease.revoke();
    return undefined;
  }
  return {
    condition: { key: leaders.prefix + task, revision: result.revision },
    lost: lease.lost,
    lasts: (milliseconds) => !lease.lost.aborted && performance.now() + milliseconds < lease.validUntil,
    resign: () => lease.revoke(),
  };
}

/**
 * Resolves when this one leads; undefined when `signal` aborts first.
 * @param mirror must hold `leaders`
 * @param ttl seconds after which the task is free again when its holder has died
 */
export async function lead(
  store: Store,
  mirror: Mirror,
  task: string,
  ttl: number,
  signal: AbortSignal,
): Promise<Leadership | undefined> {
  while (!signal.aborted) {
    const next = new AbortController();
    const unsubscribe = mirror.subscribe(() => next.abort());
    try {
      if (mirror.get(leaders, task) === undefined) {
        const leadership = await tryToLead(store, task, ttl);
        if (leadership) return leadership;
      }
      // The time-out is for a mirror that lags: it is not wrong to try in vain.
      await delay(ttl * 1000, undefined, { signal: AbortSignal.any([signal, next.signal]) }).catch(() => {});
    } finally {
      unsubscribe();
    }
  }
  return undefined;
}
