/**
 * Combines reads: Terraform refreshes up to `-parallelism` objects at once, and the API lists objects by ids.
 *
 * The first reads wait 2 ms for others. After ten reads of a kind, the plan is large, and Terraform works on other
 * objects meanwhile. From then on, a read waits 10 ms, which halves the number of requests.
 */
import type { Caller, Item, List } from './item.ts';
import { isNotFound } from './problem.ts';

interface Waiting {
  readonly resolve: (item: Item | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** The ids of the next request, with the reads that wait for each. */
interface Batch {
  readonly waiting: Map<string, Waiting[]>;
  readonly end: NodeJS.Timeout;
}

/** The time that a batch is open. */
export interface BatchWindows {
  /** The time for the first reads of a kind, in milliseconds. */
  readonly firstMs: number;
  /** The time for later reads, in milliseconds. */
  readonly laterMs: number;
}

const defaultWindows: BatchWindows = { firstMs: 2, laterMs: 10 };
/** The number of objects of a kind after which reads are later ones: Terraform's default of `-parallelism`. */
const firstReads = 10;
/** The maximum number of ids in one request. */
const maxIds = 100;

/** Reads objects, several with one request. */
export class BatchReader {
  readonly #client: Caller;
  readonly #windows: BatchWindows;
  /** The number of objects that were read, by path. */
  readonly #read = new Map<string, number>();
  readonly #batches = new Map<string, Batch>();

  constructor(client: Caller, windows = defaultWindows) {
    this.#client = client;
    this.#windows = windows;
  }

  /**
   * Returns the object; undefined if there is none. The abort of the signal ends this read, but not the batch.
   * @throws ApiError, ConnectionError, or the reason of the signal
   */
  read(path: string, id: string, signal?: AbortSignal): Promise<Item | undefined> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      // The signal may exist for the whole run with thousands of reads, so each read removes its listener.
      const abort = () => reject(signal?.reason);
      const finish =
        <A>(then: (value: A) => void) =>
        (value: A) => {
          signal?.removeEventListener('abort', abort);
          then(value);
        };
      signal?.addEventListener('abort', abort, { once: true });
      let batch = this.#batches.get(path);
      if (!batch) {
        const { firstMs, laterMs } = this.#windows;
        const windowMs = (this.#read.get(path) ?? 0) < firstReads ? firstMs : laterMs;
        batch = { waiting: new Map(), end: setTimeout(() => void this.#send(path), windowMs) };
        this.#batches.set(path, batch);
      }
      const { waiting } = batch;
      waiting.set(id, [...(waiting.get(id) ?? []), { resolve: finish(resolve), reject: finish(reject) }]);
      if (waiting.size >= maxIds) void this.#send(path);
    });
  }

  async #send(path: string): Promise<void> {
    const sent = this.#batches.get(path);
    if (!sent) return;
    clearTimeout(sent.end);
    this.#batches.delete(path);
    const batch = sent.waiting;
    this.#read.set(path, (this.#read.get(path) ?? 0) + batch.size);
    try {
      const items = await this.#fetch(path, [...batch.keys()]);
      for (const [id, waiting] of batch) for (const { resolve } of waiting) resolve(items.get(id));
    } catch (error) {
      for (const waiting of batch.values()) for (const { reject } of waiting) reject(error);
    }
  }

  async #fetch(path: string, ids: readonly string[]): Promise<Map<string, Item>> {
    const [only] = ids;
    if (ids.length === 1 && only !== undefined) {
      try {
        return new Map([[only, (await this.#client.call('GET', `${path}/${encodeURIComponent(only)}`)) as Item]]);
      } catch (error) {
        if (isNotFound(error)) return new Map();
        throw error;
      }
    }
    const query = { ids: ids.join(','), limit: ids.length };
    const list = (await this.#client.call('GET', path, { query })) as List;
    return new Map(list.items.map((item) => [item.id, item]));
  }
}
