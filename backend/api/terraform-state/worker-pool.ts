/**
 * Threads for the work on large states, so that the thread which answers requests goes on answering them. There are few,
 * each project has one at a time, and projects take turns. Small states are worked on at once: that takes less time than
 * handing them over.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { FairQueue } from '../concurrency/fair-queue.ts';
import { type Job, perform, type ResultOf } from './work.ts';

/** Bytes of a state that takes about a millisecond. */
const smallState = 32 * 1024;
const maxThreads = 2;
/** Jobs of one project that wait. */
const maxWaitingJobs = 64;
/** Milliseconds for one job: a hundred times what the largest takes. */
const jobTimeout = 60_000;
const resourceLimits = { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 16 };

export class StateWorkerPool {
  readonly #queue = new FairQueue(Math.max(1, Math.min(maxThreads, availableParallelism() - 1)), maxWaitingJobs);
  readonly #idle: Worker[] = [];
  readonly #all = new Set<Worker>();

  /**
   * The job's bytes are gone from this thread until the result brings them back. Rejects with `rate_limited` when too
   * many jobs of the owner wait.
   */
  async run<J extends Job>(owner: string, job: J): Promise<ResultOf<J>> {
    // The result is that of the job's kind.
    if (job.bytes.byteLength <= smallState) return perform(job) as ResultOf<J>;
    return this.#queue.run(owner, () => this.#handOver(job));
  }

  #newWorker(): Worker {
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { resourceLimits });
    worker.unref();
    this.#all.add(worker);
    worker.on('exit', () => {
      this.#all.delete(worker);
      const at = this.#idle.indexOf(worker);
      if (at >= 0) this.#idle.splice(at, 1);
    });
    // Told to whose job it is; a worker without a job is replaced in silence.
    worker.on('error', () => undefined);
    return worker;
  }

  #handOver<J extends Job>(job: J): Promise<ResultOf<J>> {
    const worker = this.#idle.pop() ?? this.#newWorker();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => void worker.terminate(), jobTimeout);
      const done = () => {
        clearTimeout(timer);
        worker.off('message', onMessage).off('error', onError).off('exit', onExit).unref();
      };
      const onMessage = (result: ResultOf<J>) => {
        done();
        this.#idle.push(worker);
        resolve(result);
      };
      const onError = (error: Error) => {
        done();
        reject(error);
      };
      const onExit = () => {
        done();
        reject(new Error('the thread that worked on a state has ended'));
      };
      worker.ref();
      worker.on('message', onMessage).on('error', onError).on('exit', onExit);
      const { buffer } = job.bytes;
      const whole = buffer instanceof ArrayBuffer && buffer.byteLength === job.bytes.byteLength;
      worker.postMessage(job, whole ? [buffer] : []);
    });
  }

  async close(): Promise<void> {
    this.#queue.close();
    await Promise.all([...this.#all].map((worker) => worker.terminate()));
  }
}
