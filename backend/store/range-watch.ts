/**
 * A watch of several ranges of keys, whose set may change. etcd watches each range for itself (etcd-ranges.ts). Another driver, and
 * an early version of etcd,
 * watches everything, and this file drops the changes outside of the ranges.
 */
import { UcloudError } from '../contract/errors.ts';
import {
  type Batch,
  type Change,
  CompactedError,
  type RangeListener,
  type RangeWatch,
  type Revision,
  type Store,
} from './store.ts';

/** Tells whether the range is a prefix. Otherwise it is a key. */
export const isPrefix = (range: string): boolean => range.endsWith('/');

/** Returns the ranges that contain the key: the key itself, and each prefix that ends with a slash. */
export function* rangesWith(key: string): Generator<string> {
  yield key;
  for (let at = key.indexOf('/'); at >= 0; at = key.indexOf('/', at + 1)) yield key.slice(0, at + 1);
}

export const keyOf = (change: Change): string => (change.type === 'put' ? change.entry.key : change.key);

/** The time after which an expected revision does not come: it is not one of ucloud's own commits. */
const maxWaitMs = 1000;

/** Watches everything, and tells only the changes in the ranges. */
class FilteredWatch implements RangeWatch {
  readonly #listener: RangeListener;
  readonly #ranges = new Set<string>();
  readonly #closing = new AbortController();
  #reached: Revision;
  #timer: NodeJS.Timeout | undefined;

  constructor(store: Store, listener: RangeListener, revision: Revision) {
    this.#listener = listener;
    this.#reached = revision;
    void this.#follow(store);
  }

  async #follow(store: Store): Promise<void> {
    const { signal } = this.#closing;
    try {
      for await (const batch of store.watch('', this.#reached + 1, signal)) {
        if (signal.aborted) return;
        this.#pass(batch);
      }
      if (!signal.aborted) this.#listener.ended();
    } catch (error) {
      if (!signal.aborted) this.#listener.ended(error);
    } finally {
      this.#closing.abort();
    }
  }

  #pass({ revision, changes }: Batch): void {
    this.#reached = revision;
    const wanted = changes.filter((change) => {
      for (const range of rangesWith(keyOf(change))) if (this.#ranges.has(range)) return true;
      return false;
    });
    if (wanted.length > 0) this.#listener.changed({ revision, changes: wanted });
    this.#listener.reached(revision);
  }

  async add(range: string): Promise<Revision> {
    if (this.#closing.signal.aborted) throw new UcloudError('store_unavailable', 'the watch has ended');
    this.#ranges.add(range);
    return this.#reached;
  }

  remove(range: string): void {
    this.#ranges.delete(range);
  }

  expect(revision: Revision): void {
    if (revision <= this.#reached) {
      queueMicrotask(() => {
        if (!this.#closing.signal.aborted) this.#listener.reached(this.#reached);
      });
      return;
    }
    // The watch gets every commit by itself, unless another program has written into the same etcd.
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#closing.signal.aborted || revision <= this.#reached) return;
      this.#closing.abort();
      this.#listener.ended(new CompactedError());
    }, maxWaitMs).unref();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#closing.abort();
  }
}

/**
 * Opens a watch without ranges.
 * @throws UcloudError `store_unavailable` if the database does not answer
 */
export async function openRangeWatch(store: Store, listener: RangeListener): Promise<RangeWatch> {
  const ranges = await store.watchRanges?.(listener);
  if (ranges !== undefined) return ranges;
  const { revision } = await store.list('', { limit: 1 });
  return new FilteredWatch(store, listener, revision);
}
