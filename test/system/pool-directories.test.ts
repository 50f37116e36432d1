/** Directories of storage pools on hosts that report them. The directories are real; the guests are simulated. */
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Hypervisor } from '../../backend/host/hypervisor/hypervisor.ts';
import { createSimulatedHypervisor } from '../../backend/host/hypervisor/simulated.ts';
import { startHost } from '../../backend/host/start.ts';
import { DirectoryPool, markerFile } from '../../backend/host/storage/pools/directory-pool.ts';
import { PoolFault } from '../../backend/host/storage/pools/pool-driver.ts';
import { Pools } from '../../backend/host/storage/pools/pools.ts';
import { type Run, run } from '../../backend/host/system/command.ts';
import { idFrom } from '../../backend/model/ids.ts';
import type { Store } from '../../backend/store/store.ts';
import { type Body, startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { capacity } from '../support/simulated-host.ts';
import { temporaryDirectory, withStore } from '../support/stores.ts';

/** Starts a host that looks at real directories. A prefix stands for the root of its file system. */
async function startPoolHost(t: Test, store: Store, name: string, root = ''): Promise<{ close(): Promise<void> }> {
  const dataDir = temporaryDirectory(t);
  const simulated = createSimulatedHypervisor({ dataDir, capacity });
  const pools = new Pools(dataDir, run);
  const hypervisor: Hypervisor = {
    ...simulated,
    pool: ({ settings, ...spec }) =>
      pools.get({
        ...spec,
        settings:
          'path' in settings && settings.path !== undefined ? { ...settings, path: root + settings.path } : settings,
      }),
  };
  const host = await startHost({
    store,
    logger: silentLogger,
    hypervisor,
    dataDir,
    name,
    version: '0',
    leaseSeconds: 2,
  });
  const close = async () => {
    await host.close();
    await simulated.close();
  };
  t.teardown(close);
  return { close };
}

type Report = { readonly reachable: boolean; readonly message?: string; readonly size: number; readonly free: number };

async function setUp(t: Test) {
  const store = await withStore(t);
  const api = await startTestApi(t, { store });
  const reportsOn = async (pool: Body): Promise<readonly Report[]> =>
    (await api.operator.get('storage-pools', pool.id)).hosts as readonly Report[];
  const reported = async (pool: Body, test: (reports: readonly Report[]) => boolean) => {
    const found = async () => {
      const reports = await reportsOn(pool);
      return test(reports) && reports;
    };
    return until('the reports', found, 30);
  };
  return { ...api, reported };
}

t.test('a directory becomes a pool, and a marker shows that it is the same one', async (t) => {
  const { store, operator, reported } = await setUp(t);
  const path = temporaryDirectory(t);
  await startPoolHost(t, store, 'a');
  const pool = await operator.create('storage-pools', { name: 'fast', kind: 'local', path });
  const [report] = await reported(pool, ([one]) => one?.reachable === true);
  t.ok(report && report.size > 0 && report.free > 0 && report.free <= report.size);
  const marker = readFileSync(join(path, markerFile), 'utf8');
  t.match(marker, new RegExp(`^${pool.id} [0-9a-f]{32}\n$`));

  await t.test('a file system that is not mounted', async () => {
    renameSync(path, `${path}.away`);
    mkdirSync(path);
    await operator.update('storage-pools', pool.id, { description: 'look again' });
    const [lost] = await reported(pool, ([one]) => one?.reachable === false);
    t.match(lost?.message, /lacks the file .ucloud-pool.*may not be mounted/);
    t.strictSame(readdirSync(path), [], 'nothing is written there');
    rmSync(path, { recursive: true });
    renameSync(`${path}.away`, path);
    await operator.update('storage-pools', pool.id, { description: '' });
    await reported(pool, ([one]) => one?.reachable === true);
  });

  await t.test('the directory of another pool', async () => {
    const thief = await operator.create('storage-pools', { name: 'thief', kind: 'shared', path });
    const [found] = await reported(thief, ([one]) => one !== undefined);
    t.match(found, { reachable: false, message: new RegExp(`belongs to the storage pool ${pool.id}`) });
    t.equal(readFileSync(join(path, markerFile), 'utf8'), marker);
  });
});

t.test('hosts that see different directories do not share a pool', async (t) => {
  const { store, operator, reported } = await setUp(t);
  const [first, second] = [temporaryDirectory(t), temporaryDirectory(t)];
  for (const root of [first, second]) mkdirSync(join(root, 'srv'));
  await startPoolHost(t, store, 'a', first);
  const pool = await operator.create('storage-pools', { name: 'shared', kind: 'shared', path: '/srv' });
  await reported(pool, ([one]) => one?.reachable === true);
  await startPoolHost(t, store, 'b', second);
  const reports = await reported(pool, ({ length }) => length === 2);
  t.match(reports.find(({ reachable }) => !reachable)?.message, /lacks the file .ucloud-pool/);
  const local = await operator.create('storage-pools', { name: 'local-2', kind: 'local', path: '/srv' });
  const each = await reported(local, ({ length }) => length === 2);
  t.equal(each.filter(({ reachable }) => reachable).length, 1, 'the first directory belongs to the other pool');
});

t.test('a pool that hangs holds up nothing', async (t) => {
  const never = new Promise<string>(() => undefined);
  let started = 0;
  const hanging: Run = () => {
    started++;
    return never;
  };
  const pool = new DirectoryPool({ path: '/srv/hangs', run: hanging, marker: 'none', deadlineMs: 20 });
  for (let i = 0; i < 20; i++) await t.rejects(pool.usage(), new PoolFault('The storage pool does not answer.'));
  t.equal(started, 2, 'few processes wait for it');
});

t.test('files beside the volumes do no harm', async (t) => {
  const path = temporaryDirectory(t);
  const marker = `stp-0123456789abcdef ${'0'.repeat(32)}`;
  const pool = new DirectoryPool({ path, run, marker });
  const volume = idFrom('volume', 'vol-0123456789abcdef');
  await t.rejects(pool.ensure(volume, 1024), PoolFault, 'a directory without marker');
  t.strictSame(readdirSync(path), []);
  await t.test('an interrupted marker is written again, and a marker is never replaced', async (t) => {
    writeFileSync(join(path, markerFile), '');
    await pool.writeMarker(marker);
    t.equal(await pool.readMarker(), marker);
    await t.rejects(pool.writeMarker(`stp-0123456789abcdef ${'1'.repeat(32)}`));
    t.equal(await pool.readMarker(), marker);
    t.strictSame(readdirSync(path), [markerFile]);
  });
  for (const content of ['', 'x'.repeat(1_000_000), 'stp-0123456789abcdef', `${marker}${marker}`]) {
    writeFileSync(join(path, markerFile), content);
    await t.rejects(pool.ensure(volume, 1024), PoolFault, JSON.stringify(content.slice(0, 60)));
  }
  writeFileSync(join(path, markerFile), `${marker}\n`);
  const victim = join(temporaryDirectory(t), 'victim');
  writeFileSync(victim, 'precious');
  symlinkSync(victim, join(path, `${volume}.raw.new`));
  await pool.ensure(volume, 4096);
  t.equal(readFileSync(victim, 'utf8'), 'precious', 'a link in the directory leads nowhere');
  t.equal(statSync(join(path, `${volume}.raw`)).size, 4096);
  writeFileSync(join(path, 'vol-x\ny.raw'), '');
  writeFileSync(join(path, 'vol-$(touch x).raw'), '');
  t.strictSame(await pool.list(), [volume]);
  t.equal(await pool.sizeOf(volume), 4096);
  const linked = idFrom('volume', 'vol-00000000000000aa');
  symlinkSync(victim, join(path, `${linked}.raw`));
  await t.rejects(pool.ensure(linked, 65_536), PoolFault);
  t.equal(readFileSync(victim, 'utf8'), 'precious', 'nor does one in the place of a volume');
  symlinkSync(path, `${path}-link`);
  t.teardown(() => rmSync(`${path}-link`));
  t.strictSame(
    await new DirectoryPool({ path: `${path}-link`, run, marker }).list(),
    [volume],
    'the path may be a link',
  );
  await pool.ensure(volume, 8192);
  t.equal(await pool.sizeOf(volume), 8192);
  await pool.remove(volume);
  await pool.remove(volume);
  t.equal(await pool.sizeOf(volume), undefined);
});
