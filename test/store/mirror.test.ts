/** Mirrors: a mirror shows the state of the database, in order, after any failure. */
import assert from 'node:assert/strict';
import { Type } from '@sinclair/typebox';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import {
  absent,
  conflict,
  noneBelow,
  put,
  read,
  readAll,
  remove,
  removeAll,
  retryOnConflict,
  unchanged,
} from '../../backend/store/collection.ts';
import { openEmbeddedStore } from '../../backend/store/embedded.ts';
import { isChangeOf, type MirrorBatch, openMirror } from '../../backend/store/mirror.ts';
import { InvalidRecordError } from '../../backend/store/record-codec.ts';
import { SortedMap } from '../../backend/store/sorted-map.ts';
import type { Revision, Store } from '../../backend/store/store.ts';
import { Link } from '../support/cut-link.ts';
import { eventually } from '../support/eventually.ts';

const kind = <const P extends string>(prefix: P) =>
  ({
    prefix,
    schema: Type.Object({ project: Type.String(), size: Type.Integer() }),
  }) as const;
const disks = kind('disks/');
const snapshots = kind('snapshots/');
const kinds = [disks, snapshots];

async function memoryStore(t: Test) {
  const store = await openEmbeddedStore({ path: ':memory:' });
  t.teardown(() => store.close());
  return store;
}

const committed = async (result: ReturnType<Store['commit']>): Promise<Revision> => {
  const answer = await result;
  assert.ok(answer.ok);
  return answer.revision;
};

t.test('a mirror converges under random commits, interruptions and compaction', async (t) => {
  const id = fc.constantFrom('a', 'a/b', 'b', 'c', 'd');
  const change = fc.oneof(
    fc.record({ kind: fc.constantFrom(...kinds), id, size: fc.nat({ max: 9 }), project: fc.constantFrom('p', 'q') }),
    fc.record({ kind: fc.constantFrom(...kinds), id }),
  );
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.uniqueArray(change, { maxLength: 4, selector: (c) => c.kind.prefix + c.id }) },
    { weight: 1, arbitrary: fc.constantFrom('cut' as const, 'mend' as const, 'compact' as const) },
  );
  let relisted = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30, size: 'max' }), fc.boolean(), async (steps, several) => {
      const real = await openEmbeddedStore({ path: ':memory:' });
      const link = new Link(real);
      const mirror = await openMirror(link.store, { prefixes: several ? ['disks/', 'snapshots/'] : [''], kinds });
      const byProject = mirror.index(disks, ({ value }) => value.project);
      // The state that a subscriber builds from the batches, starting empty.
      const told = new Map<string, unknown>();
      let last = 0;
      mirror.subscribe(({ revision, changes }: MirrorBatch) => {
        if (!several) assert.ok(revision > last, 'batches come in order');
        last = revision;
        for (const { kind, id, stored, previous } of changes) {
          assert.deepEqual(told.get(kind.prefix + id), previous, 'each change tells what was before');
          if (stored === undefined) told.delete(kind.prefix + id);
          else told.set(kind.prefix + id, stored);
        }
      });
      let cut = false;
      for (const one of steps) {
        if (one === 'cut') link.cut();
        else if (one === 'mend') link.mend();
        else if (one === 'compact') {
          await real.compact((await real.list('')).revision);
          if (cut) relisted += 1;
        } else
          await real.commit({
            write: one.map((c) =>
              'size' in c ? put(c.kind, c.id, { project: c.project, size: c.size }) : remove(c.kind, c.id),
            ),
          });
        if (one === 'cut' || one === 'mend') cut = one === 'cut';
      }
      link.mend();
      const end = await committed(
        real.commit({ write: kinds.map((kind) => put(kind, 'end', { project: 'p', size: 0 })) }),
      );
      assert.ok(await mirror.waitFor(end, { timeoutMs: 60_000 }));
      for (const kind of kinds) {
        const expected = [];
        for await (const record of readAll(real, kind)) expected.push(record);
        assert.deepEqual([...mirror.list(kind)], expected, 'the mirror shows what the database holds');
        assert.equal(mirror.size(kind), expected.length);
        for (const record of expected) {
          assert.deepEqual(mirror.get(kind, record.id), record);
          assert.deepEqual(told.get(record.key), record, 'and so does who only listened');
        }
        assert.deepEqual(
          [...mirror.list(kind, 'a')],
          expected.filter(({ id }) => id.startsWith('a')),
        );
        assert.equal([...told.keys()].filter((key) => key.startsWith(kind.prefix)).length, expected.length);
      }
      for (const project of ['p', 'q']) {
        const expected = [...mirror.list(disks)].filter(({ value }) => value.project === project);
        assert.deepEqual([...byProject.list(project)], expected, 'the index agrees');
        assert.equal(byProject.size(project), expected.length);
        assert.deepEqual(byProject.get(project), expected[0]);
      }
      await mirror.close();
      await real.close();
    }),
    { numRuns: 40, interruptAfterTimeLimit: 10_000, markInterruptAsFailure: false },
  );
  t.ok(relisted > 0, `compacted ${relisted} times while cut off`);
});

t.test('a sorted map has the order of a sorted list', async (t) => {
  const key = fc.string({ minLength: 1, maxLength: 3, unit: fc.constantFrom('a', 'b', 'c', '/') });
  const operation = fc.record({ key, value: fc.option(fc.nat(), { nil: undefined }) });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 2000, size: 'max' }), key, key, (operations, prefix, after) => {
      const map = new SortedMap<number>();
      const model = new Map<string, number>();
      for (const { key, value } of operations) {
        if (value === undefined) {
          map.delete(key);
          model.delete(key);
        } else {
          map.set(key, value);
          model.set(key, value);
        }
      }
      const sorted = [...model].sort(([a], [b]) => (a < b ? -1 : 1));
      assert.deepEqual(
        [...map.values()],
        sorted.map(([, value]) => value),
      );
      assert.equal(map.size, model.size);
      const below = sorted.filter(([key]) => key.startsWith(prefix));
      assert.equal(map.count(prefix), below.length);
      assert.deepEqual(
        [...map.values(prefix, after)],
        below.filter(([key]) => key > after).map(([, value]) => value),
      );
      assert.deepEqual(
        [...map.valuesBackwards(prefix, after)],
        below
          .filter(([key]) => after === '' || key < after)
          .map(([, value]) => value)
          .reverse(),
      );
      for (const [key, value] of sorted) assert.equal(map.get(key), value);
      assert.equal(map.get('absent'), undefined);
    }),
    { numRuns: 50 },
  );
  const map = new SortedMap<number>();
  const shuffled = Array.from({ length: 20_000 }, (_, i) => (i * 7919) % 20_000);
  for (const n of shuffled) map.set(String(n).padStart(5, '0'), n);
  const reading = map.values();
  for (const n of shuffled) if (n % 2 === 0) map.delete(String(n).padStart(5, '0'));
  t.same([...reading].length, 20_000, 'a reader sees the state at its beginning');
  t.same(
    [...map.values()],
    shuffled.filter((n) => n % 2 === 1).sort((a, b) => a - b),
  );
});

t.test('an invalid record is reported once and left out', async (t) => {
  const store = await memoryStore(t);
  await store.commit({ write: [{ put: 'disks/old', value: '{"project":"p","size":1.5}' }] });
  const reported: string[] = [];
  const link = new Link(store);
  const mirror = await openMirror(link.store, {
    prefixes: [''],
    kinds,
    onInvalid: ({ key, rule }) => reported.push(`${key}: ${rule}`),
  });
  const good = put(disks, 'good', { project: 'p', size: 1 });
  await store.commit({
    write: [good, { put: 'disks/text', value: '{' }, { put: 'disks/more', value: '{"project":"p","size":1,"x":1}' }],
  });
  const before = await committed(store.commit({ write: [{ put: 'disks/good2', value: '{"project":"p","size":2}' }] }));
  t.ok(await mirror.waitFor(before, { timeoutMs: 60_000 }));
  t.same(
    [...mirror.list(disks)].map(({ id, value, unknown }) => [id, value.size, unknown?.fields]),
    [
      ['good', 1, undefined],
      ['good2', 2, undefined],
      ['more', 1, { x: 1 }],
    ],
    'a field that a newer version has added is no fault',
  );

  const worse = await committed(store.commit({ write: [{ put: 'disks/good2', value: '[]' }] }));
  t.ok(await mirror.waitFor(worse, { timeoutMs: 60_000 }));
  t.notOk(mirror.get(disks, 'good2'), 'what was valid and no longer is, goes');

  link.cut();
  await store.compact(worse);
  link.mend();
  const after = await committed(store.commit({ write: [remove(disks, 'good')] }));
  t.ok(await mirror.waitFor(after, { timeoutMs: 60_000 }));
  t.same(
    [...reported].sort(),
    ['disks/good2: it must be object', 'disks/old: /size must be integer', 'disks/text: it is not JSON'],
    'each once, also after a new list',
  );
  t.throws(() => mirror.get(kind('tapes/'), 'x'), /records of tapes\/ are not in this mirror/);
  t.throws(() => put(disks, 'x', { project: 'p', size: 0.5 }), InvalidRecordError, 'and none can be written');
  await t.rejects(read(store, disks, 'old'), {
    name: 'InvalidRecordError',
    key: 'disks/old',
    rule: '/size must be integer',
  });
  await mirror.close();
});

t.test('a client that waits for its own write reads it', async (t) => {
  const store = await memoryStore(t);
  const mirror = await openMirror(store.session(), { prefixes: [''], kinds });
  const writer = async (id: string): Promise<void> => {
    for (let size = 0; size < 50; size++) {
      const revision = await committed(store.commit({ write: [put(disks, id, { project: 'p', size })] }));
      assert.ok(await mirror.waitFor(revision, { timeoutMs: 60_000 }));
      assert.equal(mirror.get(disks, id)?.value.size, size);
    }
  };
  await Promise.all(Array.from({ length: 20 }, (_, i) => writer(`d${i}`)));
  t.pass('a thousand times, by twenty writers');
  const future = mirror.revision + 1000;
  t.notOk(await mirror.waitFor(future, { timeoutMs: 20 }), 'a revision that does not come is a time-out');
  t.notOk(await mirror.waitFor(future, { signal: AbortSignal.abort() }));
  const abort = new AbortController();
  const waiting = [mirror.waitFor(future, { signal: abort.signal }), mirror.waitFor(future)];
  abort.abort();
  t.notOk(await waiting[0]);
  await mirror.close();
  t.notOk(await waiting[1], 'closing ends waiting');
  t.notOk(await mirror.waitFor(future));
});

t.test('a mirror reaches a revision of a write outside its prefixes', async (t) => {
  const store = await memoryStore(t);
  const mirror = await openMirror(store, { prefixes: [disks.prefix, snapshots.prefix], kinds });
  t.teardown(() => mirror.close());
  const foreign = await store.commit({ write: [{ put: 'foreign/a', value: '1' }] });
  assert(foreign.ok);
  t.ok(await mirror.waitFor(foreign.revision, { timeoutMs: 60_000 }), 'the mirror finds out that nothing of it is new');
  const own = await store.commit({ write: [put(disks, 'a', { project: 'p', size: 1 })] });
  assert(own.ok);
  t.ok(await mirror.waitFor(own.revision, { timeoutMs: 60_000 }));
  t.equal(mirror.get(disks, 'a')?.value.size, 1, 'and goes on following');
});

t.test('long polls wake for matching changes only', async (t) => {
  const store = await memoryStore(t);
  const mirror = await openMirror(store, { prefixes: [''], kinds });
  const write = (id: string, project: string, size = 1) =>
    committed(store.commit({ write: [put(disks, id, { project, size })] }));
  const start = await write('d0', 'p');
  await mirror.waitFor(start);

  const woken = new Set<number>();
  const polls = Array.from({ length: 5000 }, async (_, i) => {
    const done = await mirror.waitForChange({ after: start, of: [{ kind: disks, id: `d${i}` }], timeoutMs: 60_000 });
    if (done) woken.add(i);
  });
  const ofProject = mirror.waitForChange({
    after: start,
    of: [{ kind: disks }],
    predicate: (change) => isChangeOf(disks, change) && (change.stored ?? change.previous)?.value.project === 'q',
    timeoutMs: 60_000,
  });
  let projectWoken = false;
  void ofProject.then((done) => {
    projectWoken = done;
  });

  await mirror.waitFor(await write('d7', 'p'));
  await mirror.waitFor(await write('other', 'p'));
  await eventually(() => assert.deepEqual([...woken], [7]));
  t.notOk(projectWoken, 'a change in another project does not wake');
  const latest = await write('d8', 'q');
  await mirror.waitFor(latest);
  await eventually(() => assert.deepEqual([...woken].sort(), [7, 8]));
  t.ok(await ofProject);

  const asked = (after: Revision, id: string) =>
    mirror.waitForChange({ after, of: [{ kind: disks, id }], timeoutMs: 20 });
  t.ok(await asked(start, 'd7'), 'what has changed since is answered at once');
  t.notOk(await asked(latest, 'd7'), 'and what has not, times out');
  const gone = await committed(store.commit({ write: [remove(disks, 'd7')] }));
  await mirror.waitFor(gone);
  t.ok(await asked(latest, 'd7'), 'a deletion is a change');
  t.notOk(await asked(gone, 'd7'));

  // More changes than the log holds: only a wait for certainly unchanged records then blocks.
  const write100 = (size: number) =>
    Array.from({ length: 100 }, (_, i) => put(snapshots, `s${i}`, { project: 'p', size }));
  let end = gone;
  for (let round = 0; round < 100; round++) end = await committed(store.commit({ write: write100(round) }));
  await mirror.waitFor(end);
  t.notOk(await asked(gone, 'd8'), 'a record as old as the question is surely the same');
  t.ok(await asked(gone, 'd7'), 'one that is gone may have come and gone');
  await mirror.close();
  await Promise.all(polls);
  t.equal(woken.size, 2, 'closing wakes nobody with true');
});

t.test('conditions and writes of records have their documented effect', async (t) => {
  const store = await memoryStore(t);
  const disk = { project: 'p', size: 1 };
  const make = () => store.commit({ require: [absent(disks, 'p/1')], write: [put(disks, 'p/1', disk)] });
  t.match(await make(), { ok: true });
  t.same(await make(), { ok: false });
  const before = await read(store, disks, 'p/1');
  assert.ok(before !== undefined);
  t.match(before, { id: 'p/1', key: 'disks/p/1', value: disk });
  const grow = { require: [unchanged(before)], write: [put(disks, 'p/1', { ...disk, size: 2 })] };
  t.match(await store.commit(grow), { ok: true });
  t.same(await store.commit(grow), { ok: false }, 'changed since it was read');
  t.same(await store.commit({ require: [noneBelow(disks, 'p/')], write: [] }), { ok: false });
  await store.commit({ write: [removeAll(disks, 'p/')] });
  t.match(await store.commit({ require: [noneBelow(disks, 'p/')], write: [] }), { ok: true });
  t.equal(await read(store, disks, 'p/1'), undefined);

  await store.commit({ write: [put(disks, 'shared', { project: 'p', size: 0 })] });
  const increment = () =>
    retryOnConflict(async () => {
      const now = await read(store, disks, 'shared');
      assert.ok(now !== undefined);
      const write = [put(disks, 'shared', { ...now.value, size: now.value.size + 1 })];
      return (await store.commit({ require: [unchanged(now)], write })).ok ? now.value.size : conflict;
    });
  const sizes = await Promise.all(Array.from({ length: 8 }, increment));
  t.same([...sizes].sort(), [0, 1, 2, 3, 4, 5, 6, 7], 'eight rivals got through, each once');
  await t.rejects(
    retryOnConflict(async () => conflict, { attempts: 3 }),
    { code: 'conflict' },
  );
});
