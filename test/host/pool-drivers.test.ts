/** The drivers of storage pools: all behave in the same way. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import { PoolSnapshotWork } from '../../backend/host/hypervisor/qemu/pool-snapshots.ts';
import { restorePart } from '../../backend/host/hypervisor/qemu/snapshot-parts.ts';
import type { VolumeContents } from '../../backend/host/hypervisor/qemu/volume-contents.ts';
import { CephPool } from '../../backend/host/storage/pools/ceph-pool.ts';
import { DirectoryPool, markerFile } from '../../backend/host/storage/pools/directory-pool.ts';
import type { PoolDriver, VolumeContent } from '../../backend/host/storage/pools/pool-driver.ts';
import { type Run, run } from '../../backend/host/system/command.ts';
import { idFrom } from '../../backend/model/ids.ts';
import type { PoolSpec } from '../../backend/model/storage/pool.ts';
import { cephCluster, noCeph } from '../support/ceph.ts';
import { noQemu } from '../support/qemu.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { imagePatterns, imageSize, qemuIo, testContents } from '../support/volume-content.ts';

const MiB = 1024 ** 2;
const volumeId = (number: number) => idFrom('volume', `vol-${String(number).padStart(16, '0')}`);

const a = volumeId(1);
const b = volumeId(2);
const s = idFrom('snapshot', 'snap-0000000000000001');
const spec: PoolSpec = {
  id: idFrom('storage_pool', 'stp-0000000000000001'),
  settings: { kind: 'shared', path: '/srv/ucloud' },
};

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

/** Makes the snapshot `s` of the volume `a`, as the host does it. */
async function copyVolume(driver: PoolDriver, contents: VolumeContents, signal: AbortSignal): Promise<void> {
  if (driver.snapshots) await driver.snapshots.create(s, a, 16 * MiB);
  if (!driver.copies) return;
  const work = new PoolSnapshotWork({ pool: () => driver, guest: () => undefined, contents, speed: 0 });
  await work.create({ id: s, disks: [{ volume: a, maxSize: 16 * MiB }] }, spec, signal);
}

/** Gives a new volume of 32 MiB the content of the snapshot `s`. */
async function fillFromSnapshot(
  driver: PoolDriver,
  contents: VolumeContents,
  volume: typeof a,
  signal: AbortSignal,
): Promise<void> {
  if (driver.snapshots) return driver.snapshots.fill(volume, 32 * MiB, s);
  const copy = await driver.copies?.find(s);
  if (copy === undefined) throw new Error('the snapshot is gone');
  await driver.fill(volume, 32 * MiB, contents.ofCopy(s, copy), signal);
}

/** Gives the volume `a` the content of the snapshot `s`, and a size of 24 MiB. */
async function restoreFromSnapshot(driver: PoolDriver, contents: VolumeContents, signal: AbortSignal): Promise<void> {
  const target = { volume: a, maxSize: 24 * MiB, part: { snapshot: s, pool: spec } };
  await restorePart({ pool: () => driver, contents }, target, signal);
}

/** Adds the tests of all behaviours. */
async function poolSuite(t: Test, pool: PoolUnderTest): Promise<void> {
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

  await t.test('a snapshot keeps the content of a volume, outlives it, and fills new volumes', async (t) => {
    const { contents } = await testContents(t);
    const driver = pool.open();
    const { signal } = new AbortController();
    await driver.ensure(a, 16 * MiB);
    await qemuIo(await driver.source(a), 'write -P 3 1M 2M');
    await copyVolume(driver, contents, signal);
    await copyVolume(pool.open(), contents, signal);
    const own = driver.snapshots ?? driver.copies;
    const { bytes, content } = (await own?.read(s)) ?? {};
    t.equal(bytes, 16 * MiB);
    const expected = Buffer.concat([Buffer.alloc(MiB), Buffer.alloc(2 * MiB, 3), Buffer.alloc(13 * MiB)]);
    t.ok(expected.equals(await buffer(content ?? Readable.from([]))), 'the content can be read');
    await qemuIo(await driver.source(a), 'write -P 4 1M 2M');
    for (let times = 0; times < 2; times++) await restoreFromSnapshot(driver, contents, signal);
    const restored = await qemuIo(await driver.source(a), 'read -P 0 0 1M', 'read -P 3 1M 2M', 'read -P 0 3M 21M');
    t.notMatch(restored, /verification failed/, 'a restored volume has the content, and its larger size');
    t.equal(await driver.sizeOf(a), 24 * MiB);
    await driver.remove(a);
    t.strictSame(await driver.list(), [], 'a snapshot is no volume');
    for (let times = 0; times < 2; times++) await fillFromSnapshot(driver, contents, b, signal);
    const source = await driver.source(b);
    t.notMatch(await qemuIo(source, 'read -P 0 0 1M', 'read -P 3 1M 2M', 'read -P 0 3M 29M'), /verification failed/);
    for (let times = 0; times < 2; times++) await own?.remove(s);
    if (own) await t.rejects(own.read(s), /is gone/);
    await t.rejects(fillFromSnapshot(driver, contents, a, signal), /is gone/);
    t.notMatch(await qemuIo(source, 'read -P 3 1M 2M'), /verification failed/, 'the new volume depends on nothing');
    await driver.remove(b);
    const rest = (await pool.names()).filter((name) => name.includes('snap-') || name.includes('vol-0'));
    t.strictSame(rest, []);
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

t.test('snapshots in a directory', { skip: await noQemu(), timeout: 120_000 }, async (t) => {
  const path = temporaryDirectory(t);
  const marker = `stp-0000000000000001 ${'0'.repeat(32)}`;
  writeFileSync(join(path, markerFile), `${marker}\n`);
  const driver = new DirectoryPool({ path, run, marker });
  const other = new DirectoryPool({ path, run, marker });
  const { contents } = await testContents(t, { firstUid: 771_200 });
  const { signal } = new AbortController();
  const files = () => readdirSync(path).filter((name) => name.startsWith('snap-'));
  const work = (isValid?: () => Promise<boolean>, copy: VolumeContents['copy'] = contents.copy.bind(contents)) => {
    const host = new PoolSnapshotWork({ pool: () => driver, guest: () => undefined, contents: { copy }, speed: 0 });
    const made = (signal: AbortSignal, size = 16 * MiB) =>
      host.create({ id: s, disks: [{ volume: a, maxSize: size }], ...(isValid && { isValid }) }, spec, signal);
    return { host, made };
  };
  await driver.ensure(a, 16 * MiB);
  await qemuIo(await driver.source(a), 'write -P 3 1M 2M');

  await t.test('a copy during which the volume has moved to another host is discarded', async (t) => {
    await t.rejects(work(async () => false).made(signal), { name: 'CopyInterrupted' });
    t.strictSame(files(), []);
  });

  await t.test('a volume that a guest has open, or that is too large, is not copied', async (t) => {
    const guest = spawn('qemu-io', ['-f', 'raw', join(path, `${a}.raw`)], { stdio: ['pipe', 'pipe', 'inherit'] });
    guest.stdin.write('write -P 3 1M 1M\n');
    await once(guest.stdout, 'data');
    await t.rejects(work().made(signal), /lock/);
    guest.stdin.end('quit\n');
    await once(guest, 'exit');
    await t.rejects(work().made(signal, 8 * MiB), /is larger than/);
    t.strictSame(files(), []);
  });

  await t.test('the start of a guest interrupts the copy, and nothing of it stays', async (t) => {
    const begun = Promise.withResolvers<void>();
    const slow: VolumeContents['copy'] = async (_id, _source, _target, signal) => {
      begun.resolve();
      await once(signal, 'abort');
      throw signal.reason;
    };
    const { host, made } = work(undefined, slow);
    const rejected = t.rejects(made(signal), { name: 'CopyInterrupted' });
    await begun.promise;
    await host.interrupt([a]);
    await rejected;
    t.strictSame(files(), []);
  });

  await t.test('a slow host does not replace the snapshot of another one', async (t) => {
    const takenAt = new Date('2026-01-02T03:04:05.678Z');
    const [slow, fast] = [await driver.copies.begin(s, 16 * MiB), await other.copies.begin(s, 16 * MiB)];
    t.equal(files().length, 1, 'the second one has removed the file of the first one');
    await other.copies.complete(s, { path: fast, size: 16 * MiB, takenAt });
    await t.rejects(driver.copies.complete(s, { path: slow, size: 16 * MiB, takenAt: new Date() }));
    t.match(await driver.copies.find(s), { size: 16 * MiB, takenAt });
    t.strictSame((await work().made(signal)).takenAt, takenAt, 'a complete one stays as it is');
    const late = join(path, `${s}.raw.${'a'.repeat(16)}.new`);
    writeFileSync(late, Buffer.alloc(MiB));
    await driver.copies.complete(s, { path: late, size: MiB, takenAt: new Date() });
    t.match(await driver.copies.find(s), { size: 16 * MiB, takenAt });
    t.strictSame(files(), [`${s}.raw`]);
    await driver.copies.remove(s);
    const beaten = work(async () => {
      writeFileSync(late, Buffer.alloc(16 * MiB));
      await other.copies.complete(s, { path: late, size: 16 * MiB, takenAt });
      return true;
    });
    t.strictSame((await beaten.made(signal)).takenAt, takenAt, 'it tells the instant of the copy that is there');
    t.strictSame(files(), [`${s}.raw`]);
    await driver.copies.remove(s);
  });

  await t.test('a copy that ends after the deletion of its snapshot gets no name', async (t) => {
    const deleted = work(async () => {
      await other.copies.remove(s);
      return false;
    });
    await t.rejects(deleted.made(signal), { name: 'CopyInterrupted' });
    t.strictSame(files(), []);
  });

  await t.test('a copy that has become larger than its space, a link or a text that is no id is refused', async (t) => {
    await driver.copies.remove(s);
    const target = await driver.copies.begin(s, MiB);
    writeFileSync(target, Buffer.alloc(2 * MiB));
    await t.rejects(driver.copies.complete(s, { path: target, size: MiB, takenAt: new Date() }), /another size/);
    await t.rejects(driver.copies.abandon(s, join(path, `${a}.raw`)), /not a copy/);
    await driver.copies.remove(s);
    t.strictSame(files(), []);
    symlinkSync('/etc/passwd', join(path, `${s}.raw`));
    await t.rejects(driver.copies.find(s), /symbolic link/);
    await driver.copies.remove(s);
    for (const text of ['', '../x', '-x', 'snap-1', 'snap-000000000000000/']) {
      const id = idFrom('snapshot', text);
      const calls = [driver.copies.find(id), driver.copies.begin(id, MiB), driver.copies.remove(id)];
      await Promise.all(calls.map((call) => t.rejects(call as Promise<unknown>, /not the id of a snapshot/, text)));
    }
  });
});

t.test('a directory that hangs during a snapshot holds up neither the host nor further calls', async (t) => {
  const hanging: Run = () => new Promise<string>(() => undefined);
  const driver = new DirectoryPool({ path: '/srv/hangs', run: hanging, marker: 'none', deadlineMs: 20 });
  const copy = () => Promise.reject(new Error('no copy begins'));
  const work = new PoolSnapshotWork({ pool: () => driver, guest: () => undefined, contents: { copy }, speed: 0 });
  const make = () => work.create({ id: s, disks: [{ volume: a, maxSize: MiB }] }, spec, new AbortController().signal);
  for (let times = 0; times < 4; times++) await t.rejects(make(), /does not answer/);
  await work.interrupt([a]);
});
