/**
 * Threads for the work on large states, so that the main thread can answer other requests. Their number is small, each
 * project has one job at a time, and projects take turns. The main thread does the work on small states, because the
 * transfer would take longer.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { FairQueue } from '../concurrency/fair-queue.ts';
import { type Job, perform, type ResultOf } from './work.ts';

/** The bytes of a state that takes about a millisecond. */
const smallState = 32 * 1024;
const maxThreads = 2;
/** The number of waiting jobs of one project. */
const maxWaitingJobs = 64;
/** Milliseconds for one job: a hundred times the duration of the largest. */
const jobTimeout = 60_000;
const resourceLimits = { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 16 };

/** A pool of worker threads. */
export class StateWorkerPool {
  readonly #queue = new FairQueue(Math.max(1, Math.min(maxThreads, availableParallelism() - 1)), maxWaitingJobs);
  readonly #idle: Worker[] = [];
  readonly #all = new Set<Worker>();

  /**
   * Does a job in a worker thread. The job's bytes leave this thread, and the result returns them. @throws UcloudError
   * `rate_limited` if too many jobs of the owner wait
   */
  async run<J extends Job>(owner: string, job: J): Promise<ResultOf<J>> {
    // The result has the kind of the job.
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
    // The job's promise reports the error. A worker without a job is replaced silently.
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
