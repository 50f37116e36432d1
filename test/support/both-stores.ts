/** Runs a test body with both drivers of the store. */
import { randomBytes } from 'node:crypto';
import type { Test } from 'tap';
import { openEmbeddedStore } from '../../backend/store/embedded.ts';
import { openEtcdStore } from '../../backend/store/etcd.ts';
import type { Store } from '../../backend/store/store.ts';
import { type EtcdServer, needsEtcd, startEtcd } from './etcd.ts';

export interface TestDatabase {
  readonly driver: 'embedded' | 'etcd';
  /** Returns a further handle on the same data, like that of another process. */
  connect(): Promise<Store>;
  close(): Promise<void>;
}

export async function embeddedDatabase(): Promise<TestDatabase> {
  const store = await openEmbeddedStore({ path: ':memory:' });
  return { driver: 'embedded', connect: async () => store.session(), close: () => store.close() };
}

/** Returns a store that is empty below its own key prefix. Its revisions continue those of the server. */
export async function etcdDatabase(server: EtcdServer): Promise<TestDatabase> {
  const keyPrefix = `test/${randomBytes(6).toString('hex')}/`;
  const handles: Store[] = [];
  return {
    driver: 'etcd',
    connect: async () => {
      const store = await openEtcdStore({ ...server.options, keyPrefix });
      handles.push(store);
      return store;
    },
    close: async () => {
      for (const handle of handles) await handle.close();
    },
  };
}

/**
 * Runs a test body against both drivers, as two subtests. `fresh()` returns an empty database, which closes at the end of the
 * body. All tests of a file share one etcd server, which starts at its first use.
 */
export async function onBothStores(
  t: Test,
  title: string,
  body: (t: Test, fresh: () => Promise<TestDatabase>) => Promise<void>,
): Promise<void> {
  const subtest = async (t: Test, make: () => Promise<TestDatabase>): Promise<void> => {
    const made: TestDatabase[] = [];
    try {
      await body(t, async () => {
        const database = await make();
        made.push(database);
        return database;
      });
    } finally {
      for (const database of made) await database.close();
    }
  };
  await t.test(`${title} (embedded)`, (t) => subtest(t, embeddedDatabase));
  await t.test(`${title} (etcd)`, needsEtcd(), async (t) => {
    server ??= startEtcd();
    const running = await server;
    await subtest(t, () => etcdDatabase(running));
  });
}

let server: Promise<EtcdServer> | undefined;

/** Stops the shared etcd server. Each file with `onBothStores` registers it: `t.teardown(stopSharedEtcd)`. */
export async function stopSharedEtcd(): Promise<void> {
  await (await server)?.stop();
}
