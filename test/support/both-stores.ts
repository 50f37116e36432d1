/** One test body for both drivers of the store. */
import { randomBytes } from 'node:crypto';
import type { Test } from 'tap';
import { openEmbeddedStore } from '../../backend/store/embedded.ts';
import { openEtcdStore } from '../../backend/store/etcd.ts';
import type { Store } from '../../backend/store/store.ts';
import { type EtcdServer, needsEtcd, startEtcd } from './etcd.ts';

export interface TestDatabase {
  readonly driver: 'embedded' | 'etcd';
  /** A further handle on the same data, as another process would have. */
  connect(): Promise<Store>;
  close(): Promise<void>;
}

export async function embeddedDatabase(): Promise<TestDatabase> {
  const store = await openEmbeddedStore({ path: ':memory:' });
  return { driver: 'embedded', connect: async () => store.session(), close: () => store.close() };
}

/** Empty below a key prefix of its own. The revisions go on from whatever the server had before. */
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
 * Runs one test body against both drivers, as two subtests. `fresh()` gives an empty database, closed when the body ends.
 * Both share one etcd server, started for the first that needs it.
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

/** To be registered by a file that uses `onBothStores`: `t.teardown(stopSharedEtcd)`. */
export async function stopSharedEtcd(): Promise<void> {
  await (await server)?.stop();
}
