/** Waiting in tests: for a condition, with a deadline. */
import { setTimeout as delay } from 'node:timers/promises';

/** Calls `check` until it no longer throws; after `milliseconds` its last error is thrown. */
export async function eventually<T>(check: () => T | Promise<T>, milliseconds = 10_000): Promise<T> {
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
