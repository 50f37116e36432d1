/**
 * Work by key: one at a time for each key, a bounded number at a time for all. A key that is added while it is being
 * worked on is worked on once more afterwards, however often it was added; so nothing that changes is missed.
 */
export class WorkQueue<K> {
  readonly #concurrency: number;
  readonly #work: (key: K) => Promise<number | undefined>;
  readonly #waiting = new Set<K>();
  readonly #working = new Map<K, Promise<void>>();
  readonly #timers = new Map<K, NodeJS.Timeout>();
  #closed = false;

  /** `work` must not reject. It answers in how many milliseconds the key is to be worked on again, if at all. */
  constructor(concurrency: number, work: (key: K) => Promise<number | undefined>) {
    this.#concurrency = concurrency;
    this.#work = work;
  }

  /** At once, or as soon as there is room. */
  add(key: K): void {
    if (this.#closed) return;
    clearTimeout(this.#timers.get(key));
    this.#timers.delete(key);
    this.#waiting.add(key);
    this.#next();
  }

  #next(): void {
    for (const key of this.#waiting) {
      if (this.#working.size >= this.#concurrency) return;
      if (this.#working.has(key)) continue;
      this.#waiting.delete(key);
      this.#working.set(key, this.#run(key));
    }
  }

  async #run(key: K): Promise<void> {
    const again = await this.#work(key);
    this.#working.delete(key);
    if (this.#closed) return;
    if (again !== undefined && !this.#waiting.has(key)) {
      const timer = setTimeout(() => this.add(key), again).unref();
      clearTimeout(this.#timers.get(key));
      this.#timers.set(key, timer);
    }
    this.#next();
  }

  /** Takes on nothing more and waits for the work under way. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#waiting.clear();
    await Promise.all(this.#working.values());
  }
}
