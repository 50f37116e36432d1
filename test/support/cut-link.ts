/** A connection to a store that can be interrupted: watches break and calls fail. */
import { UcloudError } from '../../backend/contract/errors.ts';
import type { RangeListener, RangeWatch, Revision, Store } from '../../backend/store/store.ts';

const lost = (): UcloudError => new UcloudError('store_unavailable', 'the link was cut');

export class Link {
  readonly store: Store;
  #watching = new AbortController();
  #cut = false;

  constructor(real: Store) {
    const check = (): void => {
      if (this.#cut) throw lost();
    };
    const through = <A extends unknown[], R>(call: (...args: A) => Promise<R>): ((...args: A) => Promise<R>) => {
      return async (...args) => {
        check();
        return call(...args);
      };
    };
    const watchRanges = real.watchRanges?.bind(real);
    this.store = {
      get: through((key) => real.get(key)),
      list: through((prefix, options) => real.list(prefix, options)),
      commit: through((commit) => real.commit(commit)),
      lease: through((ttl) => real.lease(ttl)),
      compact: through((revision) => real.compact(revision)),
      close: () => real.close(),
      watch: (prefix, from, signal) => this.#watch(real, prefix, from, signal, check),
      ...(watchRanges && {
        watchRanges: through((listener: RangeListener) => this.#watchRanges(watchRanges, listener)),
      }),
    };
  }

  async *#watch(real: Store, prefix: string, from: Revision, signal: AbortSignal | undefined, check: () => void) {
    check();
    const link = this.#watching.signal;
    yield* real.watch(prefix, from, AbortSignal.any([link, ...(signal === undefined ? [] : [signal])]));
    if (link.aborted) throw lost();
  }

  async #watchRanges(
    open: NonNullable<Store['watchRanges']>,
    listener: RangeListener,
  ): Promise<RangeWatch | undefined> {
    const link = this.#watching.signal;
    const watch = await open(listener);
    if (watch === undefined) return undefined;
    const end = (): void => {
      watch.close();
      listener.ended(lost());
    };
    if (link.aborted) end();
    link.addEventListener('abort', end, { once: true });
    return watch;
  }

  cut(): void {
    this.#cut = true;
    this.#watching.abort();
  }

  mend(): void {
    this.#cut = false;
    this.#watching = new AbortController();
  }
}
