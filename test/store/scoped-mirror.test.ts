/** Mirrors with a scope: at each revision, they show the part of the database in their scope, and nothing else. */
import assert from 'node:assert/strict';
import { Type } from '@sinclair/typebox';
import fc from 'fast-check';
import t from 'tap';
import { put, remove } from '../../backend/store/collection.ts';
import { openEtcdStore } from '../../backend/store/etcd.ts';
import { hasOrderedProgress } from '../../backend/store/etcd-ranges.ts';
import type { MirrorBatch } from '../../backend/store/mirror.ts';
import { rangesWith } from '../../backend/store/range-watch.ts';
import { openScopedMirror } from '../../backend/store/scoped-mirror.ts';
import type { Revision, Store } from '../../backend/store/store.ts';
import { onBothStores, stopSharedEtcd } from '../support/both-stores.ts';
import { Link } from '../support/cut-link.ts';
import { needsEtcd, startEtcd } from '../support/etcd.ts';
import { until, within } from '../support/eventually.ts';

t.teardown(stopSharedEtcd);

const kind = <const P extends string>(prefix: P) =>
  ({ prefix, schema: Type.Object({ size: Type.Integer() }) }) as const;
const disks = kind('disks/');
const tapes = kind('tapes/');
const kinds = [disks, tapes];
const ranges = ['disks/a/', 'disks/a/x/', 'disks/a/1', 'disks/b', 'disks/b/', 'tapes/', 'tapes/1', 'tapes/absent'];

async function committed(result: ReturnType<Store['commit']>): Promise<Revision> {
  const answer = await result;
  assert.ok(answer.ok);
  return answer.revision;
}

/** All states of the database, by revision. */
class States {
  readonly #states: { readonly revision: Revision; readonly content: ReadonlyMap<string, Revision> }[] = [];

  async note(store: Store, revision: Revision): Promise<void> {
    const { entries } = await store.list('', { revision });
    this.#states.push({ revision, content: new Map(entries.map((entry) => [entry.key, entry.revision])) });
  }

  /** Returns the keys with their revisions that the database had in these ranges. */
  at(revision: Revision, known: ReadonlySet<string>): [string, Revision][] {
    const state = this.#states.findLast((each) => each.revision <= revision)?.content ?? new Map<string, Revision>();
    return [...state].filter(([key]) => [...rangesWith(key)].some((range) => known.has(range)));
  }
}

const change = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ key: fc.constantFrom('a/1', 'a/2', 'a/x/1', 'b', 'b/1', '1', 'c'), size: fc.nat(9) }),
  },
  { weight: 1, arbitrary: fc.record({ key: fc.constantFrom('a/1', 'a/2', 'a/x/1', 'b', 'b/1', '1', 'c') }) },
);
const commit = fc.uniqueArray(fc.record({ kind: fc.constantFrom(disks, tapes), change }), {
  minLength: 1,
  maxLength: 5,
  selector: (each) => each.kind.prefix + each.change.key,
});
const scope = fc.record({
  owner: fc.constantFrom('one', 'two', 'three'),
  ranges: fc.uniqueArray(fc.constantFrom(...ranges), { maxLength: 4 }),
});
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ commit }) },
  { weight: 5, arbitrary: fc.record({ scope }) },
  { weight: 2, arbitrary: fc.constantFrom('cut' as const, 'mend' as const, 'compact' as const, 'wait' as const) },
);

onBothStores(t, 'a scoped mirror equals the filtered database at each revision', async (t, fresh) => {
  let checks = 0;
  let resyncs = 0;
  const database = await fresh();
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40, size: 'max' }), async (steps) => {
      const real = await database.connect();
      await real.commit({ write: [{ deletePrefix: '' }] });
      await real.commit({ write: [put(tapes, 'first', { size: 0 })] });
      const states = new States();
      await states.note(real, (await real.list('')).revision);
      const link = new Link(real);
      const wanted = new Map<string, readonly string[]>([['always', ['tapes/']]]);
      const mirror = await openScopedMirror(link.store, { kinds, scope: wanted });
      // The owners of single ranges tell which ranges are known.
      const knownRanges = () => new Set([...wanted].flatMap(([owner, each]) => (mirror.scope.has(owner) ? each : [])));
      const told = new Map<string, unknown>();
      for (const record of mirror.list(tapes)) told.set(record.key, record);
      const contents = () => kinds.flatMap((each) => [...mirror.list(each)]);
      // The test learns the state of a revision after the mirror may have shown it.
      const observed: {
        revision: Revision;
        known: ReadonlySet<string>;
        all: ReadonlySet<string>;
        shown: Map<string, Revision>;
      }[] = [];
      const check = (known: ReadonlySet<string>) => {
        const shown = new Map(contents().map(({ key, revision }) => [key, revision]));
        observed.push({ revision: mirror.revision, known, all: new Set([...wanted.values()].flat()), shown });
      };
      const checkAll = () => {
        for (const { revision: at, known, all, shown } of observed) {
          checks++;
          for (const [key, revision] of states.at(at, known)) assert.equal(shown.get(key), revision, `${key} at ${at}`);
          const inScope = new Map(states.at(at, all));
          for (const [key, revision] of shown) assert.equal(inScope.get(key), revision, `${key} is there at ${at}`);
        }
      };
      let last = 0;
      mirror.subscribe(({ revision, changes }: MirrorBatch) => {
        assert.ok(revision >= last, 'batches come in order');
        last = revision;
        for (const { kind, id, stored, previous } of changes) {
          if (previous !== undefined) assert.deepEqual(told.get(kind.prefix + id), previous);
          if (stored === undefined) told.delete(kind.prefix + id);
          else told.set(kind.prefix + id, stored);
        }
        check(knownRanges());
      });
      mirror.scope.onKnown((owner) => {
        assert.ok(mirror.scope.has(owner));
        check(knownRanges());
      });
      let revision = mirror.revision;
      let isCut = false;
      for (const each of steps) {
        if (each === 'cut') link.cut();
        else if (each === 'mend') link.mend();
        else if (each === 'compact') {
          await real.compact(revision);
          if (isCut) resyncs++;
        } else if (each === 'wait') {
          if (!isCut) assert.ok(await mirror.waitFor(revision, { timeoutMs: 60_000 }));
        } else if ('scope' in each) {
          wanted.set(each.scope.owner, each.scope.ranges);
          mirror.scope.set(each.scope.owner, each.scope.ranges);
          check(knownRanges());
        } else {
          const write = each.commit.map(({ kind, change }) =>
            'size' in change ? put(kind, change.key, { size: change.size }) : remove(kind, change.key),
          );
          const answer = await committed(real.commit({ write }));
          // A commit that deletes only absent keys has no revision of its own.
          if (answer > revision) {
            revision = answer;
            await states.note(real, revision);
          }
        }
        if (each === 'cut' || each === 'mend') isCut = each === 'cut';
      }
      link.mend();
      const end = await committed(real.commit({ write: [put(disks, 'end', { size: 1 })] }));
      await states.note(real, end);
      assert.ok(await mirror.waitFor(end, { timeoutMs: 60_000 }), 'also with a write outside of the scope');
      await until('all ranges known', () => [...wanted.keys()].every((owner) => mirror.scope.has(owner)));
      check(new Set([...wanted.values()].flat()));
      checkAll();
      for (const record of contents()) assert.deepEqual(told.get(record.key) ?? record, record);
      await mirror.close();
      link.cut();
      await real.close();
    }),
    { numRuns: 60, interruptAfterTimeLimit: 40_000, markInterruptAsFailure: false },
  );
  t.ok(checks > 500, `${checks} states are right, ${resyncs} compactions while cut off`);
});

onBothStores(
  t,
  'a range shows nothing before it is known, and its records vanish without a change',
  async (t, fresh) => {
    const database = await fresh();
    const store = await database.connect();
    await store.commit({
      write: [put(disks, 'a/1', { size: 1 }), put(disks, 'a/2', { size: 2 }), put(tapes, '1', { size: 3 })],
    });
    const mirror = await openScopedMirror(store, { kinds, scope: new Map([['base', ['tapes/']]]) });
    t.teardown(() => mirror.close());
    const batches: MirrorBatch[] = [];
    mirror.subscribe((batch) => batches.push(batch));
    const known: string[] = [];
    mirror.scope.onKnown((owner) => known.push(owner));

    t.notOk(mirror.scope.set('vm', ['disks/a/', 'disks/absent']));
    t.notOk(mirror.scope.has('vm'));
    t.notOk(mirror.get(disks, 'a/1'), 'nothing is read yet');
    await until('known', () => known.includes('vm'));
    t.same(
      batches.map(({ changes }) => changes.map(({ id }) => id)),
      [['a/1', 'a/2']],
      'one batch',
    );
    t.ok(mirror.scope.has('vm'), 'also with a key that does not exist');

    t.ok(mirror.scope.set('other', ['disks/a/', 'disks/absent']), 'a second owner has the ranges at once');
    mirror.scope.set('vm', []);
    t.equal(mirror.size(disks), 2, 'the records stay for the other owner');
    const created = await committed(store.commit({ write: [put(disks, 'absent', { size: 4 })] }));
    t.ok(await mirror.waitFor(created, { timeoutMs: 60_000 }));
    t.equal(mirror.get(disks, 'absent')?.value.size, 4);
    const count = batches.length;
    mirror.scope.set('other', []);
    t.equal(mirror.size(disks), 0);
    t.equal(batches.length, count, 'no batch says that they were deleted');
    t.notOk(mirror.scope.set('other', ['disks/a/']), 'a range that comes again is read again');
    await until('known', () => mirror.scope.has('other'));
    t.equal(mirror.size(disks), 2);
    t.equal(mirror.scopeSize, 2);
  },
);

onBothStores(t, 'changes outside of the scope cause no events', async (t, fresh) => {
  const database = await fresh();
  const store = await database.connect();
  const mirror = await openScopedMirror(store, { kinds, scope: new Map([['base', ['disks/mine']]]) });
  t.teardown(() => mirror.close());
  let end = 0;
  for (let size = 0; size < 100; size++) {
    end = await committed(
      store.commit({ write: [put(disks, `other${size}`, { size }), put(disks, 'mine2', { size })] }),
    );
  }
  t.ok(await mirror.waitFor(end, { timeoutMs: 60_000 }), 'but the mirror knows that it is up to date');
  t.equal(mirror.watchedChanges, 0);
});

onBothStores(t, 'a thousand ranges and commits over several of them', async (t, fresh) => {
  const database = await fresh();
  const store = await database.connect();
  const names = Array.from({ length: 1000 }, (_, n) => String(n).padStart(4, '0'));
  const mirror = await openScopedMirror(store, { kinds, scope: new Map([['base', ['tapes/']]]) });
  t.teardown(() => mirror.close());
  const torn: string[] = [];
  mirror.subscribe(({ changes }) => {
    const ids = changes.filter(({ kind }) => kind.prefix === disks.prefix).map(({ id }) => id);
    if (ids.length > 0 && ids.length % 4 !== 0) torn.push(ids.join());
  });
  for (const name of names) mirror.scope.set(name, [`disks/${name}`]);
  await until('known', () => names.every((name) => mirror.scope.has(name)));
  const commits: Promise<Revision>[] = [];
  for (let n = 0; n < 500; n++) {
    const write = [0, 250, 500, 750].map((base) => put(disks, names[(base + n * 7) % 1000] ?? '', { size: n }));
    commits.push(committed(store.commit({ write })));
    if (commits.length % 16 === 0) await Promise.all(commits);
  }
  const end = Math.max(...(await Promise.all(commits)));
  t.ok(await within('the last commit', mirror.waitFor(end, { timeoutMs: 60_000 })));
  t.equal(mirror.watchedChanges, 2000);
  t.same(torn, [], 'each commit appears as a whole');
});

t.test('versions of etcd whose progress follows the changes', async (t) => {
  for (const version of ['3.4.25', '3.4.30', '3.5.8', '3.5.16', '3.6.0', '3.6.0-rc.1', '4.0.0'])
    t.ok(hasOrderedProgress(version), version);
  for (const version of ['3.4.23', '3.5.0', '3.5.7', '3.3.99', '', 'x']) t.notOk(hasOrderedProgress(version), version);
});

t.test('a watch of ranges ends with the right records on every version of etcd', needsEtcd(), async (t) => {
  const server = await startEtcd(t);
  const store = await openEtcdStore({ ...server.options, keyPrefix: 'ranges/', watchesRanges: true });
  t.teardown(() => store.close());
  const mirror = await openScopedMirror(store, { kinds, scope: new Map([['base', ['tapes/']]]) });
  t.teardown(() => mirror.close());
  const names = Array.from({ length: 50 }, (_, number) => `${number}`);
  for (const name of names) mirror.scope.set(name, [`disks/${name}`]);
  for (let size = 0; size < 100; size++) {
    const write = names.filter((name) => (Number(name) + size) % 3 === 0).map((name) => put(disks, name, { size }));
    await committed(store.commit({ write: [...write, put(disks, 'outside', { size })] }));
  }
  const sizes = () => names.map((name) => mirror.get(disks, name)?.value.size);
  const wanted = names.map((name) => [99, 98, 97].find((size) => (Number(name) + size) % 3 === 0));
  await until('the last commits', () => JSON.stringify(sizes()) === JSON.stringify(wanted));
  t.strictSame(sizes(), wanted);
  for (const name of names.slice(1)) mirror.scope.set(name, []);
  t.equal(mirror.size(disks), 1);
  await committed(store.commit({ write: [put(disks, '0', { size: 1_000 }), put(disks, '1', { size: 1_000 })] }));
  await until('the change', () => mirror.get(disks, '0')?.value.size === 1_000);
  t.notOk(mirror.get(disks, '1'));
});
