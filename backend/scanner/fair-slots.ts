/**
 * A number of slots that projects share: the next free one goes to the project that uses the fewest, and one project
 * never has all of them, so that another never waits for the whole of its work.
 */
export class FairSlots {
  readonly #slots: number;
  readonly #ofOne: number;
  readonly #using = new Map<string, number>();
  readonly #waiting = new Set<{ readonly project: string; readonly start: () => void }>();

  constructor(slots: number, ofOne = Math.max(1, slots - 1)) {
    this.#slots = slots;
    this.#ofOne = ofOne;
  }

  /** Runs the work when there is a slot. Rejects with the reason of `signal` if that aborts before. */
  async use<T>(project: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiting = { project, start: resolve };
    const giveUp = () => {
      if (this.#waiting.delete(waiting)) reject(signal.reason);
    };
    this.#waiting.add(waiting);
    signal.addEventListener('abort', giveUp);
    try {
      this.#next();
      await promise;
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
    try {
      return await work();
    } finally {
      this.#using.set(project, this.#count(project) - 1);
      if (this.#count(project) === 0) this.#using.delete(project);
      this.#next();
    }
  }

  #count = (project: string): number => this.#using.get(project) ?? 0;

  #next(): void {
    for (;;) {
      const used = [...this.#using.values()].reduce((sum, count) => sum + count, 0);
      const next =
        used < this.#slots
          ? fairest([...this.#waiting], ({ project }) => this.#count(project), this.#ofOne)
          : undefined;
      if (!next) return;
      this.#waiting.delete(next);
      this.#using.set(next.project, this.#count(next.project) + 1);
      next.start();
    }
  }
}

/** The first of those whose project has the fewest slots, and fewer than it may have. */
export function fairest<T>(waiting: readonly T[], used: (each: T) => number, ofOne: number): T | undefined {
  let best: T | undefined;
  for (const each of waiting) {
    if (used(each) < ofOne && (best === undefined || used(each) < used(best))) best = each;
  }
  return best;
}
