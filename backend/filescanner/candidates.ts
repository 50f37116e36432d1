/** The new and changed files of a project, on their way from a scan to reading. */

import { sizeIn } from '../model/file/fingerprint.ts';

/** A file to read. */
export interface Candidate {
  readonly name: Buffer;
  readonly fingerprint: string;
}

/** The maximum number of files in a batch. A batch takes about 3 MB of memory with the longest names. */
export const maxCandidates = 5000;

/** The maximum size of a file that does not wait for the batch. It is read in one turn. */
export const maxUrgentBytes = 64 * 1024 * 1024;

/** The files that a scan gives to reading, batch by batch. */
export class Candidates {
  #batch: readonly Candidate[] = [];
  #next = 0;
  #urgent: readonly Candidate[] = [];
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

  /** Gives files to reading that do not wait for a large file of the batch. Replaces those that are not taken yet. */
  fillUrgent(files: readonly Candidate[]): void {
    this.#urgent = files.filter(({ fingerprint }) => sizeIn(fingerprint) <= maxUrgentBytes);
  }

  /** Takes these files. */
  takeUrgent(): readonly Candidate[] {
    const taken = this.#urgent;
    this.#urgent = [];
    return taken;
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
    this.#urgent = [];
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
