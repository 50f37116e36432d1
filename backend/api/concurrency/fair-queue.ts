/** Work of many owners in a few places: of each owner one at a time, and the owners in turn. */
import { UcloudError } from '../../contract/errors.ts';

interface Job {
  readonly run: () => Promise<void>;
  readonly giveUp: (error: UcloudError) => void;
}

export class FairQueue {
  readonly #places: number;
  readonly #perOwner: number;
  /** Jobs that wait, by owner. The owner whose turn is next comes first. */
  readonly #waiting = new Map<string, Job[]>();
  readonly #running = new Set<string>();

  /**
   * @param places jobs that run at the same time
   * @param perOwner jobs of one owner that may wait
   */
  constructor(places: number, perOwner: number) {
    this.#places = places;
    this.#perOwner = perOwner;
  }

  /** Runs the work when it is its owner's turn. Rejects with `rate_limited`, and with what the work rejects with. */
  async run<T>(owner: string, work: () => Promise<T>): Promise<T> {
    const waiting = this.#waiting.get(owner) ?? [];
    if (waiting.length >= this.#perOwner) {
      throw new UcloudError('rate_limited', `${waiting.length} requests of this project wait for such work already`);
    }
    const result = new Promise<T>((resolve, reject) => {
      waiting.push({ run: () => work().then(resolve, reject), giveUp: reject });
    });
    this.#waiting.set(owner, waiting);
    this.#startNext();
    return result;
  }

  #startNext(): void {
    while (this.#running.size < this.#places) {
      const next = [...this.#waiting.keys()].find((owner) => !this.#running.has(owner));
      if (next === undefined) return;
      const jobs = this.#waiting.get(next) ?? [];
      const job = jobs.shift();
      // To the end of the line, if there is more.
      this.#waiting.delete(next);
      if (jobs.length > 0) this.#waiting.set(next, jobs);
      if (!job) continue;
      this.#running.add(next);
      void job.run().finally(() => {
        this.#running.delete(next);
        this.#startNext();
      });
    }
  }

  /** Refuses what waits. */
  close(): void {
    for (const jobs of this.#waiting.values()) {
      for (const job of jobs) job.giveUp(new UcloudError('store_unavailable', 'this server is stopping'));
    }
    this.#waiting.clear();
  }
}
