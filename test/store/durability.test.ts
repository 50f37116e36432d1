/** After kill -9 during commits: acknowledged commits are complete, no commit is partial, and the store works again. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { UcloudError } from '../../backend/contract/errors.ts';
import { openEmbeddedStore } from '../../backend/store/embedded.ts';
import { openEtcdStore } from '../../backend/store/etcd.ts';
import { openStore } from '../../backend/store/open.ts';
import type { Revision, Store } from '../../backend/store/store.ts';
import { needsEtcd, startEtcd } from '../support/etcd.ts';
import { eventually } from '../support/eventually.ts';
import { temporaryDirectory } from '../support/stores.ts';

const committer = fileURLToPath(new URL('../support/committing-process.ts', import.meta.url));

/**
 * Returns the numbers of complete pairs. Throws if one half of a pair is missing, or the halves belong to different
 * commits.
 */
async function pairs(store: Store): Promise<Map<number, Revision>> {
  const { entries: left, revision } = await store.list('left/');
  const { entries: right } = await store.list('right/', { revision });
  const side = (entries: typeof left) =>
    entries.map(({ key, revision }) => [key.slice(key.indexOf('/') + 1), revision]);
  assert.deepEqual(side(left), side(right), 'every pair is whole');
  return new Map(left.map(({ key, revision }) => [Number(key.slice('left/'.length)), revision]));
}

t.test('the embedded store: killed five times while 32 writers commit', async (t) => {
  const path = join(temporaryDirectory(t), 'store.db');
  const acknowledged = new Set<number>();
  for (let round = 0, first = 0; round < 5; round++) {
    const child = spawn(process.execPath, [committer, path, `${first}`], { stdio: ['ignore', 'pipe', 'inherit'] });
    const closed = once(child, 'close');
    const enough = 100 + Math.floor(Math.random() * 900);
    let count = 0;
    for await (const line of createInterface({ input: child.stdout })) {
      acknowledged.add(Number(line));
      if (++count === enough) {
        if (round === 0)
          await t.rejects(openEmbeddedStore({ path }), {
            code: 'store_unavailable',
            message: /is in use by another process/,
          });
        child.kill('SIGKILL');
      }
    }
    await closed;
    t.ok(count >= enough, `killed after ${enough} acknowledgements, had given ${count}`);

    const store = await openEmbeddedStore({ path });
    // Read the lease's keys first, because the lease is about to end.
    t.ok(await store.get(`alive/${first}`), 'the lease of the killed process has its time again');
    const present = await pairs(store);
    // A pair was deleted on purpose if the next commit exists and says so.
    const deleted = (n: number) => n % 4 === 2 && present.has(n + 1);
    t.same(
      [...acknowledged].filter((n) => !present.has(n) && !deleted(n)),
      [],
      'no acknowledged commit is missing',
    );
    if (round === 4) {
      await eventually(async () => assert.equal((await store.list('alive/')).entries.length, 0));
      t.pass('and, as nobody renews it, runs out');
    }
    first = Math.max(...present.keys(), ...acknowledged) + 1;
    await store.close();
  }
});

t.test('the embedded store: compaction keeps the file from growing', async (t) => {
  const path = join(temporaryDirectory(t), 'store.db');
  const store = await openEmbeddedStore({ path });
  const churn = async () => {
    for (let round = 0; round < 10; round++) {
      const write = Array.from({ length: 60 }, (_, i) => ({ put: `k/${i}`, value: 'x'.repeat(2000) }));
      await store.commit({ write });
      await store.commit({ write: write.map(({ put }) => ({ delete: put })) });
    }
    await store.compact((await store.list('')).revision);
  };
  await churn();
  const size = statSync(path).size + statSync(`${path}-wal`).size;
  for (let i = 0; i < 4; i++) await churn();
  const later = statSync(path).size + statSync(`${path}-wal`).size;
  t.ok(later < 1.5 * size, `${size} bytes after 20 revisions, ${later} after 100`);
  await store.close();
});

t.test('the embedded store does not change a file of another program', async (t) => {
  const path = join(temporaryDirectory(t), 'store.db');
  const { DatabaseSync } = await import('node:sqlite');
  const other = new DatabaseSync(path);
  other.exec('CREATE TABLE accounts (id INTEGER)');
  other.close();
  await t.rejects(openStore(path), { code: 'store_unavailable', message: /database of another program/ });
  await t.rejects(openStore('/proc/nowhere/store.db'), { code: 'store_unavailable', message: /ENOENT/ });
  await t.rejects(openStore('redis://x'), {
    code: 'invalid_input',
    message: /redis:\/\/x: the known forms are embedded:/,
  });
  await t.rejects(openStore('etcd://u:secret@nowhere'), {
    code: 'invalid_input',
    message: /^store address etcd:\/\/…@nowhere: nowhere is not host:port/,
  });
});

t.test('etcd: the server is killed twice while 16 writers commit', needsEtcd(), async (t) => {
  const server = await startEtcd(t);
  const log: string[] = [];
  const note = (_: object, message: string) => void log.push(message);
  const store = await openEtcdStore({ ...server.options, logger: { info: note, warn: note, error: note } });
  t.teardown(() => store.close());
  const { revision } = await store.list('', { limit: 1 });
  const seen = new Map<number, Revision>();
  const watching = new AbortController();
  const watch = (async () => {
    let last = 0;
    for await (const batch of store.watch('left/', revision + 1, watching.signal)) {
      assert.ok(batch.revision > last, 'in order, and nothing twice');
      last = batch.revision;
      for (const change of batch.changes)
        if (change.type === 'put') seen.set(Number(change.entry.key.slice('left/'.length)), batch.revision);
    }
  })();

  const outcomes = new Map<number, Revision | 'unknown'>();
  let next = 0;
  let stop = false;
  const writer = async (): Promise<void> => {
    while (!stop) {
      const n = next++;
      try {
        // The conditions hold, so a failed condition would mean that the driver has retried its own successful commit.
        const result = await store.commit({
          require: [{ key: `left/${n}`, exists: false }],
          write: ['left', 'right'].map((side) => ({ put: `${side}/${n}`, value: `${n}` })),
        });
        assert.ok(result.ok, 'a commit that nothing stands against is never refused');
        outcomes.set(n, result.revision);
      } catch (error) {
        if (!(error instanceof UcloudError) || error.code !== 'store_unavailable') throw error;
        outcomes.set(n, 'unknown');
        await delay(20);
      }
    }
  };
  const writers = Promise.all(Array.from({ length: 16 }, writer));
  const acknowledged = () => [...outcomes.values()].filter((outcome) => outcome !== 'unknown').length;
  for (let round = 1; round <= 2; round++) {
    const before = acknowledged();
    await eventually(() => assert.ok(acknowledged() > before + 200));
    await server.kill();
    // The server restarts at once and may answer before any call fails. The driver then logs no outage.
    if (round === 1) await eventually(() => assert.ok(log.length > 0));
    await server.restart();
  }
  const before = acknowledged();
  await eventually(() => assert.ok(acknowledged() > before + 200));
  stop = true;
  await writers;

  const present = await pairs(store);
  const missing = [...outcomes].filter(([n, outcome]) => outcome !== 'unknown' && present.get(n) !== outcome);
  t.same(missing, [], `all ${acknowledged()} acknowledged commits are there, at their revisions`);
  await eventually(() => assert.deepEqual(new Map([...seen].sort()), new Map([...present].sort())));
  t.pass('the watch has shown each commit once, over both restarts');
  t.same(log.slice(0, 2), ['etcd does not answer; the connection retries', 'etcd answers again']);
  t.ok(log.length <= 20, `${log.length} lines of log for two outages, not one for each failure`);
  watching.abort();
  await watch;
});

t.test(
  'etcd: over TLS and with a password, a server that hangs, and one that forgot the tokens',
  needsEtcd(),
  async (t) => {
    const server = await startEtcd(t, { tls: true, password: 'söcret' });
    const { password: _, ...withoutPassword } = server.options;
    const { tls, ...withoutTls } = server.options;
    await t.rejects(openEtcdStore({ ...server.options, password: 'wrong' }), {
      code: 'store_unavailable',
      message: /authentication failed/,
    });
    await t.rejects(openEtcdStore({ ...withoutTls, requestTimeoutMs: 500 }), { code: 'store_unavailable' });
    const stranger = { ...withoutPassword, ...(tls?.ca === undefined ? {} : { tls: { ca: tls.ca } }) };
    await t.rejects(openEtcdStore({ ...stranger, requestTimeoutMs: 500 }), { code: 'store_unavailable' });

    const store = await openEtcdStore({ ...server.options, requestTimeoutMs: 3000 });
    t.teardown(() => store.close());
    const lease = await store.lease(2);
    const values: string[] = [];
    const watching = new AbortController();
    const watch = (async () => {
      for await (const { changes } of store.watch('k', 1, watching.signal))
        for (const change of changes) values.push(change.type === 'put' ? change.entry.value : 'deleted');
    })();
    await store.commit({ write: [{ put: 'k', value: 'before' }] });
    await eventually(() => assert.deepEqual(values, ['before']));

    await server.pause();
    const asked = performance.now();
    const reads = await Promise.allSettled(Array.from({ length: 1000 }, () => store.get('k')));
    t.ok(
      reads.every((read) => read.status === 'rejected' && read.reason.code === 'store_unavailable'),
      'a server that hangs is unavailable to everyone',
    );
    t.ok(performance.now() - asked < 60_000, 'after one deadline, not one for each');
    await eventually(() => assert.ok(lease.lost.aborted));
    t.ok(performance.now() - lease.validUntil < 10_000, 'a lease that cannot be renewed is lost when its time is over');
    server.resume();
    await eventually(() => store.commit({ write: [{ put: 'k', value: 'after the pause' }] }));
    await eventually(() => assert.deepEqual(values, ['before', 'after the pause']));

    await server.kill();
    await server.restart();
    await eventually(() => store.commit({ write: [{ put: 'k', value: 'after the restart' }] }));
    await eventually(() => assert.deepEqual(values, ['before', 'after the pause', 'after the restart']));
    t.pass('tokens are renewed, and the watch goes on');
    watching.abort();
    await watch;
  },
);
