/**
 * A number of slots that projects share. The next free slot goes to the project that uses the fewest slots. One project
 * never has all slots, so no other project waits for all of its work.
 */
export class FairSlots {
  readonly #slots: number;
  readonly #maxPerProject: number;
  readonly #using = new Map<string, number>();
  readonly #waiting = new Set<{ readonly project: string; readonly start: () => void }>();

  /** @param maxPerProject the maximum number of slots of one project */
  constructor(slots: number, maxPerProject = Math.max(1, slots - 1)) {
    this.#slots = slots;
    this.#maxPerProject = maxPerProject;
  }

  /** Runs the work when a slot is free. Rejects with the reason of `signal` if it aborts before the work begins. */
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
          ? fairest([...this.#waiting], ({ project }) => this.#count(project), this.#maxPerProject)
          : undefined;
      if (!next) return;
      this.#waiting.delete(next);
      this.#using.set(next.project, this.#count(next.project) + 1);
      next.start();
    }
  }
}

/**
 * Returns the first item whose project uses the fewest slots; undefined if every project has its maximum.
 * @param used returns the number of slots that the item's project uses
 * @param maxPerProject the maximum number of slots of one project
 */
export function fairest<T>(waiting: readonly T[], used: (each: T) => number, maxPerProject: number): T | undefined {
  let best: T | undefined;
  for (const each of waiting) {
    if (used(each) < maxPerProject && (best === undefined || used(each) < used(best))) best = each;
  }
  return best;
}
