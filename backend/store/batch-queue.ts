/**
 * What a driver has to hand to one watcher, as an async iterable with one reader. Bounded: a reader that is too slow
 * makes `push` answer false, and the driver then reads the rest from history instead of keeping it in memory.
 */
import type { Batch } from './store.ts';

export class BatchQueue {
  readonly #limit: number;
  #batches: Batch[] = [];
  #wake: (() => void) | undefined;
  #ended = false;
  #error: Error | undefined;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get ended(): boolean {
    return this.#ended;
  }

  get pending(): boolean {
    return this.#batches.length > 0;
  }

  push(batch: Batch): boolean {
    if (this.#batches.length >= this.#limit) return false;
    this.#batches.push(batch);
    this.wake();
    return true;
  }

  /** Lets the reader look again. */
  wake(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  /** What is queued is still delivered, then the iteration ends, or throws `error`. */
  end(error?: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.wake();
  }

  /** Takes all that is queued. Throws the error given to `end` once nothing is left. */
  take(): Batch[] {
    const batches = this.#batches;
    this.#batches = [];
    if (batches.length === 0 && this.#error !== undefined) throw this.#error;
    return batches;
  }

  /** Resolves on the next `push`, `wake` or `end`. */
  async changed(): Promise<void> {
    if (this.#ended || this.#batches.length > 0) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }
}
