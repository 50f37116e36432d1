/** Tables of the kernel that are nearly full. */
import t from 'tap';
import { KernelTables, nearlyFull, readTables, type TableUse } from '../../backend/host/kernel-tables.ts';
import { newId } from '../../backend/model/ids.ts';
import { events } from '../../backend/model/records/index.ts';
import { readAll } from '../../backend/store/collection.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { withStore } from '../support/stores.ts';

t.test('a table is nearly full from four fifths on, until it falls below three fifths', async (t) => {
  const use = (entries: number): TableUse[] => [{ name: 'neighbour', entries, max: 1000 }];
  for (const [entries, was, is] of [
    [800, false, false],
    [801, false, true],
    [601, true, true],
    [600, true, false],
    [0, true, false],
  ] as const)
    t.equal(nearlyFull(use(entries), new Set(was ? ['neighbour'] : [])).has('neighbour'), is, `${entries}, ${was}`);
  t.equal(nearlyFull([{ name: 'x', entries: 5, max: 0 }], new Set()).size, 0, 'no limit');
});

t.test('the use is read from the kernel', async (t) => {
  const proc = t.testdir({
    net: {
      stat: { ndisc_cache: 'entries  allocs   destroys\n0000002a  0000ffff 00000000 \n0000002a  00000001 00000000 \n' },
    },
    sys: {
      net: {
        ipv6: { neigh: { default: { gc_thresh3: '1024\n' } } },
        netfilter: { nf_conntrack_count: '7\n', nf_conntrack_max: '262144\n' },
      },
    },
  });
  t.strictSame(await readTables(proc), [
    { name: 'neighbour', entries: 42, max: 1024 },
    { name: 'connection', entries: 7, max: 262_144 },
  ]);
  t.strictSame(await readTables(t.testdir()), [], 'a network namespace shows no limits');
  for (const { entries, max } of await readTables()) t.ok(Number.isInteger(entries) && max > 0, 'this machine');
});

t.test('operators get one event for each time', async (t) => {
  const store = await withStore(t);
  const host = newId('host');
  let entries = 100;
  const read = async () => [{ name: 'neighbour', entries, max: 1000 }];
  const tables = new KernelTables({ store: store.session(), logger: silentLogger, host, name: 'node1', read });
  t.teardown(() => tables.close());
  const told = async () => {
    await tables.look();
    const found = [];
    for await (const { value } of readAll(store, events)) found.push(value);
    return found;
  };
  t.equal((await told()).length, 0);
  entries = 900;
  t.match(await told(), [
    { target: host, severity: 'warning', reason: 'kernel_table_nearly_full', message: /900 of 1000/ },
  ]);
  t.equal((await told()).length, 1, 'not again');
  entries = 100;
  await told();
  entries = 950;
  t.equal((await told()).length, 2);
});
