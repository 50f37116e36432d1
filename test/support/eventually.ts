/**
 * Waits for states that cannot be watched: they check often, and fail with the reason after a deadline. Deadlines suit a
 * machine with ten times the load, because a successful wait does not reach them.
 */
import { setTimeout as delay } from 'node:timers/promises';

/** Calls `check` until it no longer throws. @throws the last error, after `milliseconds` */
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

/** Returns the result of work that may never end. Rejects after the deadline. */
export async function within<T>(what: string, work: Promise<T>, seconds = 120): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`${what}: not within ${seconds} s`)), seconds * 1000);
  return Promise.race([work, promise]).finally(() => clearTimeout(timer));
}

/** Calls `look` until it finds a value, and returns the value. Rejects after the deadline. */
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
