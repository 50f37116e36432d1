/**
 * Compares the store with its base, within one run. The embedded driver's durable commits are compared with groups of
 * inserts directly into node:sqlite. The etcd driver's commits are compared with transactions of the bare etcd3 client
 * on the same server. The bench also measures how fast a mirror applies commits and lists.
 *
 *   node bench/store.ts [seconds per figure, 2 by default]
 *
 * A ratio near 1 means that the semantics cost nothing. The figures are medians of three alternating rounds.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Type } from '@sinclair/typebox';
import { Etcd3 } from 'etcd3';
import { put } from '../backend/store/collection.ts';
import { openEmbeddedStore } from '../backend/store/embedded.ts';
import { openEtcdStore } from '../backend/store/etcd.ts';
import { openMirror } from '../backend/store/mirror.ts';
import type { Store } from '../backend/store/store.ts';
import { hasEtcd, startEtcd } from '../test/support/etcd.ts';
import { median } from './support/load.ts';
import { perSecond, printTable, ratio } from './support/table.ts';

const seconds = Number(process.argv[2] ?? 2);
const value = JSON.stringify({ text: 'x'.repeat(245) });
const directory = mkdtempSync(join(tmpdir(), 'ucloud-bench-'));

/** Measures the calls per second of `concurrency` callers. Each caller starts its next call after the previous one. */
async function rateFor(concurrency: number, call: (n: number) => Promise<unknown>): Promise<number> {
  const start = performance.now();
  const end = start + (seconds * 1000) / 3;
  let n = 0;
  const caller = async (): Promise<void> => {
    while (performance.now() < end) await call(n++);
  };
  await Promise.all(Array.from({ length: concurrency }, caller));
  return (n / (performance.now() - start)) * 1000;
}

/** Measures both in turn, three times, so that a disturbance of the machine affects both. */
async function compare(ours: () => Promise<number>, theirs: () => Promise<number>): Promise<[number, number]> {
  const a: number[] = [];
  const b: number[] = [];
  for (let round = 0; round < 3; round++) {
    a.push(await ours());
    b.push(await theirs());
  }
  return [median(a), median(b)];
}

const rows: string[][] = [];
const show = (name: string, ours: number, against = '', theirs?: number): void => {
  rows.push([
    name,
    perSecond(ours),
    against,
    ...(theirs === undefined ? ['', ''] : [perSecond(theirs), ratio(ours, theirs)]),
  ]);
};

/** A commit that creates a key: one condition and one write, like most commits of ucloud. */
let serial = 0;
const create = (store: Store): Promise<unknown> => {
  const key = `bench/${serial++}`;
  return store.commit({ require: [{ key, exists: false }], write: [{ put: key, value }] });
};

async function benchEmbedded(): Promise<void> {
  const store = await openEmbeddedStore({ path: join(directory, 'store.db') });
  const bare = new DatabaseSync(join(directory, 'bare.db'));
  bare.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA locking_mode = EXCLUSIVE');
  bare.exec('CREATE TABLE entries (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID');
  const insert = bare.prepare('INSERT INTO entries VALUES (?, ?)');
  for (const concurrency of [1, 32, 256]) {
    // The upper bound for a group commit of this size: the same number of inserts in one transaction.
    const group = async (): Promise<void> => {
      bare.exec('BEGIN');
      for (let i = 0; i < concurrency; i++) insert.run(`bench/${serial++}`, value);
      bare.exec('COMMIT');
      await new Promise(setImmediate);
    };
    const [ours, theirs] = await compare(
      () => rateFor(concurrency, () => create(store)),
      async () => concurrency * (await rateFor(1, group)),
    );
    show(`embedded: commits, ${concurrency} at once`, ours, `node:sqlite inserts, ${concurrency} a COMMIT`, theirs);
  }
  await store.close();
  bare.close();
}

async function benchEtcd(): Promise<void> {
  const server = await startEtcd();
  const store = await openEtcdStore(server.options);
  const bare = new Etcd3({ hosts: `http://${server.endpoint}` });
  try {
    for (const concurrency of [1, 32, 256]) {
      const transaction = (): Promise<unknown> => {
        const key = `bare/${serial++}`;
        return bare.if(key, 'Create', '==', 0).then(bare.put(key).value(value)).commit();
      };
      const [ours, theirs] = await compare(
        () => rateFor(concurrency, () => create(store)),
        () => rateFor(concurrency, transaction),
      );
      show(`etcd: commits, ${concurrency} at once`, ours, 'the same by bare etcd3', theirs);
    }
  } finally {
    await store.close();
    bare.close();
    await server.stop();
  }
}

async function benchMirror(): Promise<void> {
  const kind = { prefix: 'things/', schema: Type.Object({ project: Type.String(), size: Type.Integer() }) } as const;
  const store = await openEmbeddedStore({ path: ':memory:' });
  const mirror = await openMirror(store, { prefixes: [''], kinds: [kind] });
  const byProject = mirror.index(kind, ({ value }) => value.project);
  const count = 20_000;
  const write = (i: number) =>
    store.commit({ write: [put(kind, `${(i * 7919) % count}`, { project: `p${i % 50}`, size: i })] });

  let start = performance.now();
  const results = await Promise.all(Array.from({ length: count }, (_, i) => write(i)));
  const alone = performance.now() - start;
  const last = results.at(-1);
  if (last?.ok) await mirror.waitFor(last.revision);
  const together = performance.now() - start;
  show('mirror: commits applied and indexed', (count / together) * 1000, 'the commits alone', (count / alone) * 1000);

  start = performance.now();
  const second = await openMirror(store, { prefixes: [''], kinds: [kind] });
  show('mirror: records listed at its start', (count / (performance.now() - start)) * 1000);

  start = performance.now();
  let found = 0;
  for (let round = 0; round < 50; round++)
    for (const record of mirror.list(kind)) found += record.value.size >= 0 ? 1 : 0;
  show('mirror: records read in order', (found / (performance.now() - start)) * 1000);

  start = performance.now();
  found = 0;
  for (let round = 0; round < 2000; round++) for (const _ of byProject.list(`p${round % 50}`)) found += 1;
  show('mirror: records read by index', (found / (performance.now() - start)) * 1000);
  await second.close();
  await mirror.close();
  await store.close();
}

try {
  await benchEmbedded();
  if (hasEtcd) await benchEtcd();
  else console.log('etcd is not installed, so there are no figures for it');
  await benchMirror();
  printTable(['a second', 'ucloud', 'against', 'bare', 'ratio'], rows);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
