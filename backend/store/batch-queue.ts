/**
 * The queue of batches between a driver and one watcher, read as an async iterable with one reader. The queue is
 * bounded: `push` returns false when the reader is too slow. The driver then reads the rest from the history instead of
 * keeping it in memory.
 */
import type { Batch } from './store.ts';

/** A bounded queue of batches. */
export class BatchQueue {
  readonly #maxBatches: number;
  #batches: Batch[] = [];
  #wake: (() => void) | undefined;
  #ended = false;
  #error: Error | undefined;

  constructor(maxBatches: number) {
    this.#maxBatches = maxBatches;
  }

  /** True after `end`. */
  get ended(): boolean {
    return this.#ended;
  }

  /** True while a batch is queued. */
  get pending(): boolean {
    return this.#batches.length > 0;
  }

  /** Queues a batch. Returns false if the queue is full. */
  push(batch: Batch): boolean {
    if (this.#batches.length >= this.#maxBatches) return false;
    this.#batches.push(batch);
    this.wake();
    return true;
  }

  /** Wakes the reader. */
  wake(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  /** Ends the queue. The reader still gets the queued batches, then the end or `error`. */
  end(error?: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.wake();
  }

  /**
   * Takes all queued batches.
   * @throws the error given to `end`, when no batch is left
   */
  take(): Batch[] {
    const batches = this.#batches;
    this.#batches = [];
    if (batches.length === 0 && this.#error !== undefined) throw this.#error;
    return batches;
  }

  /** Resolves at the next `push`, `wake` or `end`. */
  async changed(): Promise<void> {
    if (this.#ended || this.#batches.length > 0) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }
}
