/** A queue of jobs of many owners. One job of each owner runs at a time, and the owners take turns. */
import { UcloudError } from '../../contract/errors.ts';

interface Job {
  readonly run: () => Promise<void>;
  readonly giveUp: (error: UcloudError) => void;
}

/** Runs a limited number of jobs at the same time, in turns of their owners. */
export class FairQueue {
  readonly #places: number;
  readonly #perOwner: number;
  /** The waiting jobs by owner. The first owner has the next turn. */
  readonly #waiting = new Map<string, Job[]>();
  readonly #running = new Set<string>();

  /**
   * @param places the number of jobs that run at the same time
   * @param perOwner the number of jobs of one owner that may wait
   */
  constructor(places: number, perOwner: number) {
    this.#places = places;
    this.#perOwner = perOwner;
  }

  /**
   * Runs the job when its owner has the turn, and returns its result. @throws UcloudError `rate_limited`, and every
   * error of the job
   */
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
      // An owner with further jobs goes to the end of the queue.
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

  /** Rejects all waiting jobs with `store_unavailable`. */
  close(): void {
    for (const jobs of this.#waiting.values()) {
      for (const job of jobs) job.giveUp(new UcloudError('store_unavailable', 'this server is stopping'));
    }
    this.#waiting.clear();
  }
}
