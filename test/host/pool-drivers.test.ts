/** The drivers of storage pools: all behave in the same way. */
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { CephPool } from '../../backend/host/storage/pools/ceph-pool.ts';
import { DirectoryPool, markerFile } from '../../backend/host/storage/pools/directory-pool.ts';
import type { PoolDriver, VolumeContent } from '../../backend/host/storage/pools/pool-driver.ts';
import { run } from '../../backend/host/system/command.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { cephCluster, noCeph } from '../support/ceph.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { imagePatterns, imageSize, qemuIo, testContents } from '../support/volume-content.ts';

const MiB = 1024 ** 2;
const volumeId = (number: number) => idFrom('volume', `vol-${String(number).padStart(16, '0')}`);

/** A pool under test. */
interface PoolUnderTest {
  /** Creates a driver for the pool, as after a restart of the agent. */
  open(): PoolDriver;
  /** Puts something of another program into the pool. */
  addForeign(): Promise<void>;
  /** Returns the names of the volumes and of incomplete parts. */
  names(): Promise<readonly string[]>;
  /** Several hosts reach the pool, so a volume has an owner. */
  readonly shared: boolean;
}

/** Adds the tests of all behaviours. */
async function poolSuite(t: Test, pool: PoolUnderTest): Promise<void> {
  const a = volumeId(1);
  const b = volumeId(2);

  await t.test('an empty pool has no volume, and removing one that is absent does nothing', async (t) => {
    const driver = pool.open();
    t.strictSame(await driver.list(), []);
    t.equal(await driver.sizeOf(a), undefined);
    await driver.remove(a);
    await driver.sweep?.();
  });

  await t.test('a volume has the size that was asked for, grows, and never shrinks', async (t) => {
    const driver = pool.open();
    for (const [size, expected] of [
      [64 * MiB, 64 * MiB],
      [64 * MiB, 64 * MiB],
      [128 * MiB, 128 * MiB],
      [64 * MiB, 128 * MiB],
    ] as const) {
      await driver.ensure(a, size);
      t.equal(await driver.sizeOf(a), expected);
    }
    t.equal(await pool.open().sizeOf(a), 128 * MiB, 'also after a restart');
    t.strictSame(await driver.list(), [a]);
    await driver.remove(a);
  });

  await t.test('two calls at the same moment make one volume', async (t) => {
    const driver = pool.open();
    await Promise.all([driver.ensure(a, 64 * MiB), driver.ensure(a, 128 * MiB), driver.ensure(b, 64 * MiB)]);
    t.equal(await driver.sizeOf(a), 128 * MiB);
    t.strictSame((await driver.list()).sort(), [a, b]);
    await Promise.all([driver.remove(a), driver.remove(a), driver.remove(b)]);
    t.strictSame(await driver.list(), []);
  });

  await t.test(
    'data survives growth and a restart, and a volume of the same id is empty after a removal',
    async (t) => {
      const driver = pool.open();
      await driver.ensure(a, 64 * MiB);
      await qemuIo(await driver.source(a), `write -P 7 1M 2M`);
      await driver.ensure(a, 128 * MiB);
      const later = pool.open();
      t.match(
        await qemuIo(await later.source(a), 'read -P 7 1M 2M', 'read -P 0 100M 1M'),
        /read 2097152.*read 1048576/s,
      );
      t.notMatch(await qemuIo(await later.source(a), 'read -P 7 1M 2M'), /verification failed/);
      await later.remove(a);
      t.equal(await later.sizeOf(a), undefined);
      await later.sweep?.();
      await later.ensure(a, 64 * MiB);
      t.notMatch(await qemuIo(await later.source(a), 'read -P 0 0 64M'), /verification failed/);
      await later.remove(a);
    },
  );

  await t.test('a volume begins with the content of an image, and is never filled twice', async (t) => {
    const { of } = await testContents(t);
    const driver = pool.open();
    const fill = async (each = driver) => each.fill(a, 64 * MiB, await of(1), new AbortController().signal);
    await fill();
    t.equal(await driver.sizeOf(a), 64 * MiB);
    t.strictSame(await driver.list(), [a]);
    const source = await driver.source(a);
    t.notMatch(await qemuIo(source, ...imagePatterns, 'read -P 0 40M 24M'), /verification failed/);
    await qemuIo(source, 'write -P 9 1M 1M');
    await fill();
    await fill(pool.open());
    t.notMatch(await qemuIo(source, 'read -P 9 1M 1M'), /verification failed/, 'the guest has written meanwhile');
    await driver.remove(a);
    t.strictSame(
      (await pool.names()).filter((name) => name.includes(a)),
      [],
    );
  });

  await t.test('an interrupted or failed fill leaves no volume', async (t) => {
    const { of } = await testContents(t);
    const driver = pool.open();
    const image = await of(2);
    const abort = new AbortController();
    const stopped: VolumeContent = {
      ...image,
      async write(target, signal) {
        await image.write(target, signal);
        abort.abort();
        signal.throwIfAborted();
      },
    };
    await t.rejects(driver.fill(a, 64 * MiB, stopped, abort.signal));
    const write = async () => {
      throw new Error('no space');
    };
    await t.rejects(driver.fill(a, 64 * MiB, { ...image, write }, new AbortController().signal), /no space/);
    t.equal(await driver.sizeOf(a), undefined);
    t.strictSame(
      (await pool.names()).filter((name) => name.includes('new')),
      [],
      'and no part of it',
    );
    await driver.fill(a, 64 * MiB, image, new AbortController().signal);
    t.notMatch(await qemuIo(await driver.source(a), ...imagePatterns), /verification failed/);
    await driver.remove(a);
  });

  await t.test('a host that fills late does not replace what a guest of another host has written', async (t) => {
    const { of } = await testContents(t);
    const { of: others } = await testContents(t, { firstUid: 771_100 });
    const [slow, other] = [pool.open(), pool.open()];
    // Without an image, the pool cannot share the content between both.
    const { image: _image, ...content } = await of(3);
    const { image: _other, ...same } = await others(3);
    const late: VolumeContent = {
      ...content,
      async write(target, signal) {
        await content.write(target, signal);
        await other.fill(a, 64 * MiB, same, signal);
        await qemuIo(await other.source(a), 'write -P 9 1M 1M');
      },
    };
    await slow.fill(a, 64 * MiB, late, new AbortController().signal).catch(() => undefined);
    t.notMatch(await qemuIo(await other.source(a), 'read -P 9 1M 1M'), /verification failed/);
    await other.remove(a);
    t.ok(imageSize < 64 * MiB);
  });

  await t.test('the space is known with numbers that fit, or not at all', async (t) => {
    const usage = await pool.open().usage();
    if (usage === undefined) return;
    t.ok(Number.isSafeInteger(usage.size) && usage.free >= 0 && usage.size >= usage.free, JSON.stringify(usage));
  });

  await t.test('a text that is no id of a volume reaches no pool', async (t) => {
    const driver = pool.open();
    const texts = [
      '',
      'vol-1',
      '../../etc/passwd',
      '-x',
      'vol-000000000000000/',
      'vol-00000000000000001',
      'VOL-0000000000000001',
    ];
    for (const text of texts) {
      const id = idFrom('volume', text);
      const calls: Promise<unknown>[] = [
        driver.ensure(id, MiB),
        driver.remove(id),
        driver.sizeOf(id),
        driver.source(id),
      ];
      const refused = calls.map((call) =>
        t.rejects(call as Promise<void>, { message: /not the id of a volume/ }, text),
      );
      await Promise.all(refused);
    }
    await t.rejects(driver.ensure(a, Number.NaN), 'nor does a size that is no number');
    await t.rejects(driver.ensure(a, -1));
    t.strictSame(await driver.list(), []);
  });

  await t.test('things of other programs are not listed and stay', async (t) => {
    const driver = pool.open();
    await pool.addForeign();
    await driver.ensure(a, 64 * MiB);
    t.strictSame(await driver.list(), [a]);
    await driver.remove(a);
    await driver.sweep?.();
    t.strictSame(await driver.list(), []);
  });

  await t.test('an owner claims a volume again and again', async () => {
    const driver = pool.open();
    await driver.ensure(a, 64 * MiB);
    await driver.claim?.(a, 'host-1');
    await pool.open().claim?.(a, 'host-1');
    await driver.remove(a);
  });

  // One host reaches a local pool, so its volumes have no owner.
  if (!pool.shared) return;
  await t.test('a volume goes from owner to owner', async (t) => {
    const one = pool.open();
    const other = pool.open();
    await one.ensure(a, 64 * MiB);
    await one.claim?.(a, 'host-1');
    await other.claim?.(a, 'host-2');
    await other.claim?.(a, 'host-2');
    const claims = await Promise.allSettled(['host-3', 'host-4'].map((owner) => pool.open().claim?.(b, owner)));
    t.ok(
      claims.some(({ status }) => status === 'fulfilled'),
      'one of two claims at a time succeeds',
    );
    await other.remove(a);
    await one.claim?.(a, 'host-1');
    await Promise.all([one.remove(a), one.remove(b)]);
  });
}

t.test('a pool of Ceph', { skip: await noCeph(), timeout: 300_000 }, async (t) => {
  const cluster = await cephCluster(t);
  const settings = await cluster.pool('suite');
  await poolSuite(t, {
    open: () => new CephPool(idFrom('storage_pool', 'stp-0000000000000001'), settings),
    async addForeign() {
      await cluster.admin('rbd', 'create', '--size', '1M', 'suite/foreign');
      await cluster.admin('rbd', 'create', '--size', '1M', 'suite/ucloud.other');
      await cluster.admin('rbd', 'trash', 'mv', 'suite/ucloud.other');
    },
    async names() {
      return (await cluster.admin('rbd', 'ls', 'suite')).split('\n');
    },
    shared: true,
  });
  t.match(await cluster.admin('rbd', 'ls', 'suite'), 'foreign');
  t.match(await cluster.admin('rbd', 'trash', 'ls', 'suite'), 'ucloud.other');
});

for (const kind of ['local', 'shared'] as const) {
  t.test(`a pool of the kind ${kind}`, async (t) => {
    const path = temporaryDirectory(t);
    const marker = `stp-0000000000000001 ${'0'.repeat(32)}`;
    writeFileSync(join(path, markerFile), `${marker}\n`);
    await poolSuite(t, {
      open: () => new DirectoryPool({ path, run, marker }),
      async addForeign() {
        writeFileSync(join(path, 'foreign.raw'), 'x');
        writeFileSync(join(path, 'vol-other.raw'), 'x');
      },
      names: async () => readdirSync(path),
      shared: kind === 'shared',
    });
    t.strictSame(readdirSync(path).sort(), [markerFile, 'foreign.raw', 'vol-other.raw']);
  });
}
