/**
 * Level-triggered waits for what cannot be watched: look often, give up after a deadline, tell why. Deadlines are for
 * machines that are ten times as busy; where things work they cost nothing.
 */
import { setTimeout as delay } from 'node:timers/promises';

/** Calls `check` until it no longer throws; after `milliseconds` its last error is thrown. */
export async function eventually<T>(check: () => T | Promise<T>, milliseconds = 120_000): Promise<T> {
  const deadline = performance.now() + milliseconds;
  for (let wait = 1; ; wait = Math.min(50, wait * 2)) {
    try {
      return await check();
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await delay(wait);
    }
  }
}

/** The result of work that may never end: rejects after a deadline. */
export async function within<T>(what: string, work: Promise<T>, seconds = 120): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`${what}: not within ${seconds} s`)), seconds * 1000);
  return Promise.race([work, promise]).finally(() => clearTimeout(timer));
}

/** The same for what is there or not: calls `look` until it finds something. */
export const until = <T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
  seconds = 120,
): Promise<T> =>
  eventually(async () => {
    const found = await look();
    if (found === undefined || found === false) throw new Error(`${what}: not within ${seconds} s`);
    return found;
  }, seconds * 1000);
