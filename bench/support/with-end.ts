/** The parts of test/support in benches, which have no test. */
import type { Test } from 'tap';

/** Calls the work with a substitute for a test: test/support only registers the end of a test. */
export async function withEnd<T>(work: (t: Test) => Promise<T>): Promise<T> {
  const ends: (() => unknown)[] = [];
  const t = { teardown: (end: () => unknown) => ends.unshift(end), comment: console.error };
  try {
    return await work(t as unknown as Test);
  } finally {
    for (const end of ends) await end();
  }
}
