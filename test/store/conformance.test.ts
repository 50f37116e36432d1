/**
 * One conformance suite for both drivers. It compares random histories with test/support/store-model.ts. Separate tests
 * cover real time and real concurrency (ended leases, concurrent commits).
 */
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';
import { maxOperations, maxValueBytes } from '../../backend/store/limits.ts';
import {
  type Batch,
  type Commit,
  CompactedError,
  type Condition,
  type Lease,
  LeaseEndedError,
  type Revision,
  type Store,
  type Write,
} from '../../backend/store/store.ts';
import { onBothStores, stopSharedEtcd, type TestDatabase } from '../support/both-stores.ts';
import { eventually } from '../support/eventually.ts';
import { normalize, StoreModel } from '../support/store-model.ts';

t.teardown(stopSharedEtcd);

// A few keys, some of them prefixes of others, so that operations affect the same keys.
const keys = ['a', 'a/1', 'a/2', 'a/20', 'ab', 'b/1', 'b/~'];
const prefixes = ['', 'a', 'a/', 'a/2', 'b/', 'c'];
const key = fc.constantFrom(...keys);
const prefix = fc.constantFrom(...prefixes);
/** A point of the history: 0 is its beginning, 1 the present. */
const historyPoint = fc.integer({ min: 0, max: 20 }).map((twentieths) => twentieths / 20);
const slot = fc.nat({ max: 2 });

const condition = fc.oneof(
  fc.record({ is: fc.constant('exists' as const), key, exists: fc.boolean() }),
  fc.record({ is: fc.constant('revision' as const), key, stale: fc.boolean() }),
  fc.record({ is: fc.constant('empty' as const), prefix }),
);
const write = fc.oneof(
  { weight: 4, arbitrary: fc.record({ is: fc.constant('put' as const), key, value: fc.string({ unit: 'grapheme' }) }) },
  { weight: 1, arbitrary: fc.record({ is: fc.constant('leased' as const), key, lease: slot }) },
  { weight: 2, arbitrary: fc.record({ is: fc.constant('delete' as const), key }) },
  { weight: 1, arbitrary: fc.record({ is: fc.constant('deletePrefix' as const), prefix }) },
);
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('commit' as const),
      require: fc.array(condition, { maxLength: 2 }),
      write: fc.array(write, { maxLength: 4 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('grant' as const), lease: slot }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('revoke' as const), lease: slot }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('list' as const),
      prefix,
      after: fc.option(key, { nil: undefined }),
      limit: fc.integer({ min: 1, max: 8 }),
      at: fc.option(historyPoint, { nil: undefined }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('get' as const), key }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('compact' as const), at: historyPoint }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('watch' as const), prefix, from: historyPoint }) },
);
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

/** A watch that is read, interrupted and resumed, with the batches that it has delivered. */
class Observer {
  readonly prefix: string;
  readonly from: Revision;
  readonly seen: Batch[] = [];
  #stop = new AbortController();
  #reading: Promise<void>;
  error: unknown;

  constructor(store: Store, prefix: string, from: Revision) {
    this.prefix = prefix;
    this.from = from;
    this.#reading = this.#read(store, from);
  }

  async #read(store: Store, from: Revision): Promise<void> {
    try {
      for await (const batch of store.watch(this.prefix, from, this.#stop.signal)) this.seen.push(normalize(batch));
    } catch (error) {
      this.error = error;
    }
  }

  get next(): Revision {
    return (this.seen.at(-1)?.revision ?? this.from - 1) + 1;
  }

  /**
   * True if the watch has delivered the expected batches, or has ended because the history was compacted beyond its
   * last batch.
   */
  async shows(expected: readonly Batch[], compacted: Revision = 0): Promise<void> {
    await eventually(() => {
      const overtaken = this.error instanceof CompactedError && this.next <= compacted;
      if (this.error !== undefined && !overtaken) throw this.error;
      assert.deepEqual(this.seen, overtaken ? expected.slice(0, this.seen.length) : expected);
    });
  }

  /** Resolves when the watch has ended by itself. */
  ended(): Promise<void> {
    return this.#reading;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#reading;
  }

  /** Resumes after the last delivered revision, on another handle. */
  async resume(store: Store): Promise<void> {
    await this.stop();
    if (this.error !== undefined) return;
    this.#stop = new AbortController();
    this.#reading = this.#read(store, this.next);
  }
}

class Run {
  readonly #store: Store;
  readonly #other: Store;
  readonly #model: StoreModel;
  readonly #first: Revision;
  readonly #leases = new Map<number, Lease>();
  readonly #observers: Observer[] = [];

  constructor(store: Store, other: Store, first: Revision) {
    this.#store = store;
    this.#other = other;
    this.#first = first;
    this.#model = new StoreModel(first);
  }

  #revisionAt(historyPoint: number): Revision {
    return this.#first + Math.round(historyPoint * (this.#model.revision - this.#first));
  }

  #condition(one: Extract<Step, { do: 'commit' }>['require'][number]): Condition {
    if (one.is === 'exists') return { key: one.key, exists: one.exists };
    if (one.is === 'empty') return { prefix: one.prefix, empty: true };
    const current = this.#model.get(one.key)?.revision ?? this.#first;
    return { key: one.key, revision: Math.max(1, one.stale ? current - 1 : current) };
  }

  #commit(one: Extract<Step, { do: 'commit' }>): Commit {
    const write: Write[] = [];
    const taken = new Set<string>();
    const gone: string[] = [];
    for (const piece of one.write) {
      if (piece.is === 'deletePrefix') {
        if ([...taken].some((key) => key.startsWith(piece.prefix))) continue;
        gone.push(piece.prefix);
        write.push({ deletePrefix: piece.prefix });
        continue;
      }
      // A commit writes a key at most once.
      if (taken.has(piece.key) || gone.some((prefix) => piece.key.startsWith(prefix))) continue;
      taken.add(piece.key);
      if (piece.is === 'delete') write.push({ delete: piece.key });
      else if (piece.is === 'put') write.push({ put: piece.key, value: piece.value });
      else {
        const lease = this.#leases.get(piece.lease)?.id;
        write.push({ put: piece.key, value: 'leased', ...(lease === undefined ? {} : { lease }) });
      }
    }
    return { require: one.require.map((piece) => this.#condition(piece)), write };
  }

  async step(one: Step): Promise<void> {
    const model = this.#model;
    switch (one.do) {
      case 'commit': {
        const commit = this.#commit(one);
        const expected = model.commit(commit) ? { ok: true, revision: model.revision } : { ok: false };
        assert.deepEqual(await this.#store.commit(commit), expected);
        return;
      }
      case 'grant': {
        await this.#revoke(one.lease);
        this.#leases.set(one.lease, await this.#store.lease(60));
        return;
      }
      case 'revoke':
        return this.#revoke(one.lease);
      case 'get':
        return assert.deepEqual(await this.#other.get(one.key), model.get(one.key));
      case 'list': {
        const { prefix, limit, after } = one;
        const revision = one.at === undefined ? undefined : this.#revisionAt(one.at);
        const options = {
          limit,
          ...(after === undefined ? {} : { after }),
          ...(revision === undefined ? {} : { revision }),
        };
        const expected = model.list(prefix, after ?? '', limit, revision ?? model.revision);
        if (expected === 'compacted') await assert.rejects(this.#other.list(prefix, options), CompactedError);
        else assert.deepEqual(await this.#other.list(prefix, options), expected);
        return;
      }
      case 'compact': {
        // Wait until each watch has delivered everything, so that compaction does not end it. It can still end a watch
        // that etcd has just created and whose prefix had no changes.
        await this.check();
        const revision = this.#revisionAt(one.at);
        await this.#store.compact(revision);
        model.compact(revision);
        return;
      }
      case 'watch': {
        const from = this.#revisionAt(one.from) + 1;
        const observer = new Observer(this.#other, one.prefix, from);
        if (from > model.compacted) {
          this.#observers.push(observer);
          return;
        }
        await eventually(() => assert.ok(observer.error instanceof CompactedError, 'the watch must end'));
        assert.deepEqual(observer.seen, []);
      }
    }
  }

  async #revoke(slot: number): Promise<void> {
    const lease = this.#leases.get(slot);
    if (lease === undefined) return;
    this.#leases.delete(slot);
    await lease.revoke();
    assert.ok(lease.lost.aborted);
    this.#model.endLease(lease.id);
  }

  /**
   * Checks that each watch has delivered the batches of the model, and that the database has the state of the model.
   */
  async check(): Promise<void> {
    for (const observer of this.#observers)
      await observer.shows(this.#model.batches(observer.prefix, observer.from), this.#model.compacted);
    assert.deepEqual(await this.#other.list(''), this.#model.list('', '', 1e9, this.#model.revision));
  }

  async resumeAll(): Promise<void> {
    for (const observer of this.#observers) await observer.resume(this.#store);
  }

  async end(): Promise<void> {
    for (const observer of this.#observers) await observer.stop();
    for (const lease of this.#leases.values()) await lease.revoke();
  }
}

async function runs(database: TestDatabase, script: readonly Step[], rest: readonly Step[]): Promise<void> {
  const [store, other] = [await database.connect(), await database.connect()];
  const { revision } = await store.list('', { limit: 1 });
  const run = new Run(store, other, revision);
  try {
    for (const one of script) await run.step(one);
    await run.check();
    await run.resumeAll();
    for (const one of rest) await run.step(one);
    await run.check();
  } finally {
    await run.end();
    await store.close();
    await other.close();
  }
}

await onBothStores(t, 'random histories match the model', async (t, fresh) => {
  const embedded = (await fresh()).driver === 'embedded';
  const script = fc.array(step, { minLength: 1, maxLength: 40, size: 'max' });
  await fc.assert(
    fc.asyncProperty(script, script, async (before, after) => {
      const database = await fresh();
      await runs(database, before, after);
      await database.close();
    }),
    { numRuns: embedded ? 150 : 30, interruptAfterTimeLimit: 15_000, markInterruptAsFailure: false },
  );
  t.pass('every run agreed');
});

await onBothStores(t, 'of concurrent commits to one key, one wins each revision', async (t, fresh) => {
  const database = await fresh();
  const handles = await Promise.all([1, 2, 3].map(() => database.connect()));
  const [reader] = handles as [Store];
  const { revision } = await reader.list('', { limit: 1 });
  const observer = new Observer(reader, '', revision + 1);
  const won: { revision: Revision; by: string }[] = [];
  let lost = 0;
  const rival = async (store: Store, name: string): Promise<void> => {
    for (let round = 0; round < 20; round++) {
      const now = await store.get('counter');
      const value = `${Number(now?.value ?? 0) + 1}`;
      const require: Condition[] = [
        now === undefined ? { key: 'counter', exists: false } : { key: 'counter', revision: now.revision },
      ];
      const result = await store.commit({
        require,
        write: [
          { put: 'counter', value },
          { put: `by/${value}`, value: name },
        ],
      });
      if (result.ok) won.push({ revision: result.revision, by: name });
      else lost += 1;
    }
  };
  await Promise.all(handles.flatMap((store, at) => [1, 2, 3, 4].map((n) => rival(store, `${at}-${n}`))));
  won.sort((a, b) => a.revision - b.revision);
  t.ok(lost > 0, `${lost} lost against ${won.length}`);
  t.equal((await reader.get('counter'))?.value, `${won.length}`, 'each win counted once');
  await eventually(() => assert.equal(observer.seen.length, won.length));
  t.same(
    observer.seen.map((batch) => {
      const by = batch.changes.find((change) => change.type === 'put' && change.entry.key.startsWith('by/'));
      return { revision: batch.revision, by: by?.type === 'put' ? by.entry.value : '' };
    }),
    won,
    'the watch shows each win, whole, at its revision',
  );
  await observer.stop();
});

await onBothStores(t, 'a lease and its keys live as long as the holder', async (t, fresh) => {
  const database = await fresh();
  const [holder, other] = [await database.connect(), await database.connect()];
  const { revision } = await other.list('', { limit: 1 });
  const observer = new Observer(other, '', revision + 1);
  // Long enough for a machine that sometimes stalls.
  const ttl = 4;
  const lease = await holder.lease(ttl);
  await holder.commit({
    write: [
      { put: 'alive/1', value: '', lease: lease.id },
      { put: 'alive/2', value: '', lease: lease.id },
    ],
  });
  await holder.commit({ write: [{ put: 'kept', value: '', lease: lease.id }] });
  await holder.commit({ write: [{ put: 'kept', value: 'no longer under the lease' }] });
  const first = lease.validUntil;
  await eventually(() => assert.ok(lease.validUntil > first + ttl * 1000));
  t.equal((await other.list('alive/')).entries.length, 2, 'still there after more than its ttl, as it was renewed');
  t.notOk(lease.lost.aborted);

  await holder.close();
  t.ok(lease.lost.aborted, 'a holder whose store is closed must count the lease as lost');
  const sure = lease.validUntil;
  await eventually(() => assert.equal(observer.seen.at(-1)?.changes[0]?.type, 'delete'));
  t.ok(performance.now() >= sure - 5, 'it did not end before the time promised');
  t.same(
    observer.seen.at(-1)?.changes,
    [
      { type: 'delete', key: 'alive/1' },
      { type: 'delete', key: 'alive/2' },
    ],
    'both keys went in one commit',
  );
  t.ok(await other.get('kept'));
  await t.rejects(other.commit({ write: [{ put: 'x', value: '', lease: lease.id }] }), LeaseEndedError);
  t.notOk(await other.get('x'));
  await observer.stop();
});

await onBothStores(t, 'close ends watches, and later calls fail', async (t, fresh) => {
  const database = await fresh();
  const [store, other] = [await database.connect(), await database.connect()];
  const observer = new Observer(store, '', 1_000_000);
  await store.commit({ write: [{ put: 'a', value: '1' }] });
  await store.close();
  await observer.ended();
  t.equal(observer.error, undefined, 'the watch ended, without an error');
  await t.rejects(store.get('a'), { code: 'store_unavailable' });
  await t.rejects(store.commit({ write: [] }), { code: 'store_unavailable' });
  t.equal((await other.get('a'))?.value, '1', 'other handles go on');
});

await onBothStores(t, 'a watch from a future revision delivers nothing earlier', async (t, fresh) => {
  const store = await (await fresh()).connect();
  const { revision } = await store.list('', { limit: 1 });
  const observer = new Observer(store, 'k', revision + 3);
  // The check does not need this delay. It lets the watch begin while its revision is still in the future.
  await delay(150);
  for (let i = 1; i <= 5; i++) await store.commit({ write: [{ put: 'k', value: `${i}` }] });
  await eventually(() => assert.equal(observer.seen.length, 3));
  t.same(
    observer.seen.map((batch) => batch.revision),
    [revision + 3, revision + 4, revision + 5],
  );
  await observer.stop();
});

await onBothStores(t, 'a slow reader of a watch gets every commit', async (t, fresh) => {
  const database = await fresh();
  const [store, other] = [await database.connect(), await database.connect()];
  const { revision } = await store.list('', { limit: 1 });
  const revisions: Revision[] = [];
  const commits = 2500;
  const committed = Promise.withResolvers<void>();
  const reading = (async () => {
    for await (const batch of other.watch('', revision + 1)) {
      // All commits queue behind the first.
      if (revisions.push(batch.revision) === 1) await committed.promise;
      if (revisions.length === commits) return;
    }
  })();
  await Promise.all(
    Array.from({ length: commits }, (_, i) => store.commit({ write: [{ put: `k/${i}`, value: 'v' }] })),
  );
  committed.resolve();
  await reading;
  t.same(
    revisions,
    Array.from({ length: commits }, (_, i) => revision + 1 + i),
  );
});

await onBothStores(t, 'the pages of a long list show one revision', async (t, fresh) => {
  const store = await (await fresh()).connect();
  const ids = Array.from({ length: 2500 }, (_, i) => `k/${String(i).padStart(5, '0')}`);
  for (let at = 0; at < ids.length; at += 100)
    await store.commit({ write: ids.slice(at, at + 100).map((key) => ({ put: key, value: key })) });
  t.same(
    (await store.list('k/')).entries.map(({ key }) => key),
    ids,
    'all at once',
  );
  const paged: string[] = [];
  let page = await store.list('k/', { limit: 700 });
  const { revision } = page;
  await store.commit({ write: [{ deletePrefix: 'k/' }] });
  for (;;) {
    paged.push(...page.entries.map(({ key }) => key));
    const after = paged.at(-1);
    if (!page.more || after === undefined) break;
    page = await store.list('k/', { limit: 700, after, revision });
  }
  t.same(paged, ids, 'page after page, although all was deleted after the first');
  t.same((await store.list('k/')).entries, []);
});

await onBothStores(t, 'invalid commits are rejected with the violated limit', async (t, fresh) => {
  const store = await (await fresh()).connect();
  const { revision } = await store.list('', { limit: 1 });
  const big = 'x'.repeat(maxValueBytes);
  const put = (key: string, value = ''): Write => ({ put: key, value });
  const cases: [name: string, commit: Commit, words: RegExp][] = [
    ['an empty key', { write: [put('')] }, /key "" must be/],
    ['a leading slash', { write: [put('/a')] }, /key "\/a" must be/],
    ['a space', { write: [put('a b')] }, /printable ASCII/],
    ['a letter beyond ASCII', { write: [put('é')] }, /printable ASCII/],
    ['a control character', { write: [{ delete: 'a\0' }] }, /printable ASCII/],
    ['a value over 1 MiB', { write: [put('a', `${big}x`)] }, /value of a has 1048577 bytes/],
    ['two writes of one key', { write: [put('a'), { delete: 'a' }] }, /writes a twice/],
    ['a write under a deleted prefix', { write: [put('a/b'), { deletePrefix: 'a/' }] }, /writes a\/b and deletes/],
    [
      'too many writes',
      { write: Array.from({ length: maxOperations + 1 }, (_, i) => put(`k${i}`)) },
      /129 writes, limit 128/,
    ],
    ['too much at once', { write: [put('a', big), put('b', big)] }, /bytes, limit/],
    ['a revision that is none', { require: [{ key: 'a', revision: 0 }], write: [] }, /revision 0/],
  ];
  for (const [name, commit, message] of cases)
    await t.rejects(store.commit(commit), { name: 'RangeError', message }, name);
  await t.rejects(store.list('', { revision: revision + 1000 }), { name: 'RangeError', message: /future/ });
  await t.rejects(store.list('', { limit: 0 }), { name: 'RangeError', message: /limit 0/ });
  await t.rejects(store.lease(0.5), { name: 'RangeError', message: /ttl 0.5/ });
  t.equal((await store.list('')).revision, revision, 'nothing changed');

  const full: Commit = {
    require: Array.from({ length: maxOperations }, (_, i) => ({ key: `k${i}`, exists: false })),
    write: Array.from({ length: maxOperations }, (_, i) => put(`k${i}`, 'ü'.repeat(2000))),
  };
  t.match(await store.commit(full), { ok: true }, 'a commit at the limits is taken');
  t.match(await store.commit({ write: [put('big', big)] }), { ok: true }, 'and so is the largest value');
  t.equal((await store.get('big'))?.value.length, maxValueBytes);
});
