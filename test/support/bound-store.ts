import type { Store } from '../../backend/store/store.ts';

/** Returns the methods of a store as functions, so that a test can replace some of them. */
export const bound = (store: Store): Store => ({
  get: store.get.bind(store),
  list: store.list.bind(store),
  commit: store.commit.bind(store),
  watch: store.watch.bind(store),
  lease: store.lease.bind(store),
  compact: store.compact.bind(store),
  close: store.close.bind(store),
});
