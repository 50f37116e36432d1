/** The new and changed files of a project, on their way from a scan to reading. */

/** A file to read. */
export interface Candidate {
  readonly name: Buffer;
  readonly fingerprint: string;
}

/** The maximum number of files in a batch. A batch takes about 3 MB of memory with the longest names. */
export const maxCandidates = 5000;

/** The files that a scan gives to reading, batch by batch. */
export class Candidates {
  #batch: readonly Candidate[] = [];
  #next = 0;
  #busy = false;
  #waiters: (() => void)[] = [];
  /** The number of files that could not be read, as the log tells it. */
  unreadable = 0;

  /** Whether files wait to be read, or are read now. */
  get busy(): boolean {
    return this.#busy;
  }

  /** Gives a batch to reading. The last one must be done. */
  fill(batch: readonly Candidate[]): void {
    this.#batch = batch;
    this.#next = 0;
    this.#busy = true;
  }

  /** Takes the next files; none if all are taken. */
  take(count: number): readonly Candidate[] {
    const taken = this.#batch.slice(this.#next, this.#next + count);
    this.#next += taken.length;
    return taken;
  }

  /** Ends the reading of the batch. */
  done(): void {
    this.#batch = [];
    this.#busy = false;
    for (const resolve of this.#waiters.splice(0)) resolve();
  }

  /** Resolves when the batch is done, or after the time. */
  idle(timeoutMs: number, signal: AbortSignal): Promise<void> {
    if (!this.#busy) return Promise.resolve();
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', end);
        this.#waiters = this.#waiters.filter((waiter) => waiter !== end);
        resolve();
      };
      const timer = setTimeout(end, timeoutMs);
      signal.addEventListener('abort', end);
      this.#waiters.push(end);
      if (signal.aborted) end();
    });
  }
}
