/**
 * Reads that come together are one request: Terraform refreshes up to `-parallelism` objects at once, and the API
 * lists by ids.
 */
import type { Client, Item } from './client.ts';
import { isNotFound } from './problem.ts';

interface Waiting {
  readonly resolve: (item: Item | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** How long a read waits for company, in milliseconds: less than anybody notices. */
const company = 3;
/** The API takes at most a hundred ids. */
const most = 100;

export class BatchReader {
  readonly #client: Client;
  readonly #batches = new Map<string, Map<string, Waiting[]>>();

  constructor(client: Client) {
    this.#client = client;
  }

  /** The signal keeps a reader from waiting for the batch; the batch itself goes on for the others. */
  read(path: string, id: string, signal?: AbortSignal): Promise<Item | undefined> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      // The signal may live as long as the run, and there may be thousands of reads in it.
      const abort = () => reject(signal?.reason);
      const settle =
        <A>(then: (value: A) => void) =>
        (value: A) => {
          signal?.removeEventListener('abort', abort);
          then(value);
        };
      signal?.addEventListener('abort', abort, { once: true });
      let batch = this.#batches.get(path);
      if (!batch) {
        batch = new Map();
        this.#batches.set(path, batch);
        setTimeout(() => void this.#send(path), company);
      }
      batch.set(id, [...(batch.get(id) ?? []), { resolve: settle(resolve), reject: settle(reject) }]);
      if (batch.size >= most) void this.#send(path);
    });
  }

  async #send(path: string): Promise<void> {
    const batch = this.#batches.get(path);
    if (!batch) return;
    this.#batches.delete(path);
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
    const list = await this.#client.list(path, { ids: ids.join(','), limit: ids.length });
    return new Map(list.items.map((item) => [item.id, item]));
  }
}
