/**
 * A work queue by key. It runs one task at a time for each key, and a limited number of tasks in total. A key that is
 * added during its task runs once more afterwards, so the queue misses no change.
 */

/** A queue of keys to work on. */
export class WorkQueue<K> {
  readonly #concurrency: number;
  readonly #work: (key: K) => Promise<number | undefined>;
  readonly #waiting = new Set<K>();
  readonly #working = new Map<K, Promise<void>>();
  readonly #timers = new Map<K, NodeJS.Timeout>();
  #closed = false;

  /**
   * @param concurrency the maximum number of concurrent tasks
   * @param work the task; it must not reject. It returns the delay in milliseconds until the key runs again, if it
   * should.
   */
  constructor(concurrency: number, work: (key: K) => Promise<number | undefined>) {
    this.#concurrency = concurrency;
    this.#work = work;
  }

  /** Queues the key. Its task runs at once or when a slot is free. */
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
    const delayMs = await this.#work(key);
    this.#working.delete(key);
    if (this.#closed) return;
    if (delayMs !== undefined && !this.#waiting.has(key)) {
      const timer = setTimeout(() => this.add(key), delayMs).unref();
      clearTimeout(this.#timers.get(key));
      this.#timers.set(key, timer);
    }
    this.#next();
  }

  /** Accepts no more keys, and waits for the running tasks. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#waiting.clear();
    await Promise.all(this.#working.values());
  }
}
