/** A pool of Ceph after crashes, with clients, and with images that the driver did not make. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import { CephClient } from '../../backend/host/storage/pools/ceph-client.ts';
import { CephImportLock } from '../../backend/host/storage/pools/ceph-import-lock.ts';
import { CephPool } from '../../backend/host/storage/pools/ceph-pool.ts';
import type { VolumeContent } from '../../backend/host/storage/pools/pool-driver.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { cephCluster, noCeph } from '../support/ceph.ts';
import { eventually, until } from '../support/eventually.ts';
import { imagePatterns, imageSize, qemuIo, testContents } from '../support/volume-content.ts';

const MiB = 1024 ** 2;
const poolId = idFrom('storage_pool', 'stp-0000000000000001');
const volumeId = (number: number) => idFrom('volume', `vol-${String(number).padStart(16, '0')}`);

t.test('a pool of Ceph', { skip: await noCeph(), timeout: 300_000 }, async (t) => {
  const cluster = await cephCluster(t);
  const settings = await cluster.pool('crash');
  const open = () => new CephPool(poolId, settings);
  const trash = async () => (await cluster.admin('rbd', 'trash', 'ls', 'crash')).trim();
  const names = async () => (await cluster.admin('rados', '-p', 'crash', 'ls')).split('\n');
  /** A sweep leaves an image to the next one where the trash had a clone of it until the end of this one. */
  const untilNothingIsLeft = (driver: CephPool) =>
    eventually(async () => {
      await driver.sweep();
      const left = (await names()).filter((name) => name.startsWith('rbd_data') || name.includes('ucloud.'));
      const inTrash = await trash();
      if (left.length > 0 || inTrash !== '') throw new Error(`left: ${left.join(' ')}; in the trash: ${inTrash}`);
    });

  await t.test('completes a volume whose creation was killed at any time', async (t) => {
    const script = `
      const { CephPool } = await import(${JSON.stringify(import.meta.resolve('../../backend/host/storage/pools/ceph-pool.ts'))});
      process.stdout.write('ready');
      await new CephPool('${poolId}', ${JSON.stringify(settings)}).ensure(process.argv[1], ${32 * MiB});
      process.stdout.write('made');`;
    let killed = 0;
    for (let number = 1; number <= 8; number++) {
      const volume = volumeId(number);
      const child = spawn(process.execPath, ['--input-type=module', '-e', script, volume], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await once(child.stdout, 'data');
      const ended = once(child, 'exit');
      const timer = setTimeout(() => child.kill('SIGKILL'), number * 40);
      const [code] = (await ended) as [number | null];
      clearTimeout(timer);
      if (code === null) killed++;
      const driver = open();
      await driver.ensure(volume, 64 * MiB);
      t.equal(await driver.sizeOf(volume), 64 * MiB);
    }
    t.ok(killed > 0, `${killed} of 8 were killed`);
    t.equal((await open().list()).length, 8);
    for (let number = 1; number <= 8; number++) await open().remove(volumeId(number));
    await open().sweep();
    t.equal(await trash(), '');
  });

  await t.test('completes and removes a volume whose header was never written', async (t) => {
    const driver = open();
    const lose = async (number: number) => {
      await driver.ensure(volumeId(number), 8 * MiB);
      const info = JSON.parse(
        await cluster.admin('rbd', 'info', '--format', 'json', `crash/ucloud.${volumeId(number)}`),
      ) as { id: string };
      await cluster.admin('rados', '-p', 'crash', 'rm', `rbd_header.${info.id}`);
      t.equal(await driver.sizeOf(volumeId(number)), undefined);
    };
    await lose(1);
    await driver.claim(volumeId(1), 'host-1');
    await driver.ensure(volumeId(1), 16 * MiB);
    t.equal(await driver.sizeOf(volumeId(1)), 16 * MiB);
    await driver.sweep();
    await driver.claim(volumeId(1), 'host-2');
    await lose(2);
    await driver.remove(volumeId(2));
    t.strictSame(await driver.list(), [volumeId(1)]);
    await driver.remove(volumeId(1));
  });

  await t.test('removes a volume that a client has open, after the client has closed it', async (t) => {
    const driver = open();
    const volume = volumeId(9);
    await driver.ensure(volume, 16 * MiB);
    const source = await driver.source(volume);
    if (source.kind !== 'rbd') throw new Error('not an image');
    const [server] = source.server;
    const options = `driver=rbd,pool=crash,image=${source.image},user=${source.user},key-secret=k,conf=/dev/null,server.0.host=${server?.host},server.0.port=${server?.port}`;
    const secret = `secret,id=k,format=base64,file=${settings.key_file}`;
    const client = spawn('qemu-io', ['--object', secret, '--image-opts', options], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    t.teardown(() => client.kill('SIGKILL'));
    let output = '';
    client.stdout.on('data', (chunk: Buffer) => {
      output += chunk;
    });
    client.stdin.write('write -P 5 0 1M\n');
    await until('the client has written', () => output.includes('wrote'), 30);
    await driver.claim(volume, 'host-1');
    await t.rejects(driver.claim(volume, 'host-2'), { message: /is still open at .*belongs to another host/ });
    await driver.remove(volume);
    t.strictSame(await driver.list(), []);
    await driver.sweep();
    t.match(await trash(), volume, 'the data stays while the client has it open');
    client.stdin.end('quit\n');
    await once(client, 'exit');
    await untilNothingIsLeft(driver);
  });

  await t.test('keeps the data of a deleted volume until its last snapshot and its last clone are gone', async (t) => {
    const driver = open();
    const volume = volumeId(10);
    await driver.ensure(volume, 16 * MiB);
    await cluster.admin('rbd', 'snap', 'create', `crash/ucloud.${volume}@s`);
    const clone = `crash/ucloud.${volumeId(11)}`;
    await cluster.admin('rbd', 'clone', '--rbd-default-clone-format', '2', `crash/ucloud.${volume}@s`, clone);
    await driver.remove(volume);
    t.strictSame(await driver.list(), [volumeId(11)]);
    await driver.sweep();
    t.match(await trash(), volume, 'a snapshot keeps the data');
    const [id = ''] = (await trash()).split(' ');
    await cluster.admin('rbd', 'snap', 'rm', '--pool', 'crash', '--image-id', id, '--snap', 's');
    await driver.sweep();
    t.strictSame(await driver.list(), [volumeId(11)], 'the clone stays');
    await driver.remove(volumeId(11));
    await untilNothingIsLeft(driver);
  });

  await t.test('imports an image once, and removes it after the last of its volumes', async (t) => {
    const image = idFrom('image', 'img-0000000000000001');
    const hosts = [open(), open()].map((driver, index) => ({ driver, firstUid: 771_000 + 100 * index }));
    const contents = await Promise.all(hosts.map(({ firstUid }) => testContents(t, { firstUid })));
    let writes = 0;
    const fill = async (host: number, number: number) => {
      const content = await contents[host]?.of(1);
      if (content === undefined) throw new Error('no such host');
      const write: VolumeContent['write'] = async (target, signal) => {
        writes++;
        await content.write(target, signal);
      };
      await hosts[host]?.driver.fill(volumeId(number), 64 * MiB, { ...content, write }, new AbortController().signal);
    };
    const driver = open();
    await Promise.all([fill(0, 20), fill(0, 21), fill(1, 22)]);
    t.equal(writes, 1, 'for three volumes on two hosts');
    const children = await cluster.admin('rbd', 'children', `crash/ucloud.${image}@base`);
    t.equal(children.trim().split('\n').length, 3, 'each volume is a clone');
    for (const number of [20, 21]) await driver.remove(volumeId(number));
    await driver.sweep();
    t.match(await cluster.admin('rbd', 'ls', 'crash'), `ucloud.${image}`, 'a clone needs it');

    // Another host takes the image for unused, just before a clone of it is there.
    await cluster.admin('rbd', 'trash', 'mv', `crash/ucloud.${image}`);
    await driver.sweep();
    const source = await driver.source(volumeId(22));
    t.notMatch(await qemuIo(source, ...imagePatterns), /verification failed/, 'a clone keeps its data');
    await fill(0, 23);
    t.equal(writes, 2, 'the next volume imports the image again');
    for (const number of [22, 23]) await driver.remove(volumeId(number));
    await driver.sweep(new Set([image]));
    t.match(await cluster.admin('rbd', 'ls', 'crash'), `ucloud.${image}`, 'a new volume waits for it');
    await untilNothingIsLeft(driver);
  });

  await t.test('completes a volume whose image or clone was killed at any time', async (t) => {
    const { path, of } = await testContents(t);
    const from = (file: string) => JSON.stringify(import.meta.resolve(`../../backend/host/${file}`));
    const script = `
      const { CephPool } = await import(${from('storage/pools/ceph-pool.ts')});
      const { copyImage } = await import(${from('hypervisor/qemu/copy-process.ts')});
      const [volume, id, socket] = process.argv.slice(1);
      const image = { path: '${path}', size: ${imageSize} };
      const write = (target, signal) =>
        copyImage(image, target, { id, uid: 771_200, socket, speed: 0, signal });
      process.stdout.write('ready');
      const pool = new CephPool('${poolId}', ${JSON.stringify(settings)}, { lockSeconds: 1 });
      await pool.fill(volume, ${64 * MiB}, { size: ${imageSize}, image: id, write }, new AbortController().signal);`;
    const driver = new CephPool(poolId, settings, { lockSeconds: 1, leftMs: 0 });
    // After each kill, Ceph waits for the client of the dead process.
    const numbers = [30, 33];
    let killed = 0;
    for (const number of numbers) {
      const image = `img-${String(number).padStart(16, '0')}`;
      const args = ['--input-type=module', '-e', script, volumeId(number), image, `${path}.socket`];
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
      await once(child.stdout, 'data');
      const ended = once(child, 'exit');
      const timer = setTimeout(() => child.kill('SIGKILL'), (number - 29) * 400);
      const [code] = (await ended) as [number | null];
      clearTimeout(timer);
      if (code === null) killed++;
      await driver.fill(volumeId(number), 64 * MiB, await of(number), new AbortController().signal);
      const output = await qemuIo(await driver.source(volumeId(number)), ...imagePatterns);
      t.notMatch(output, /verification failed/);
      t.equal(await driver.sizeOf(volumeId(number)), 64 * MiB);
    }
    t.ok(killed > 0, `${killed} of ${numbers.length} were killed`);
    // A kill between the end of an import and the end of its lock leaves the object of the lock.
    const lock = new CephImportLock(new CephClient(poolId, settings), 'ucloud.img-0000000000000030', 1);
    t.ok(await lock.take());
    for (const number of numbers) await driver.remove(volumeId(number));
    await untilNothingIsLeft(driver);
  });

  await t.test('completes a renaming that was interrupted, and never removes its image', async (t) => {
    const signal = new AbortController().signal;
    const driver = new CephPool(poolId, settings, { leftMs: 0 });
    const { of } = await testContents(t);
    const content = await of(40);
    const [volume, image] = [volumeId(40), idFrom('image', 'img-0000000000000040')];
    /** Leaves the pool as a crash after the first step of a renaming does. */
    const interrupt = async (id: string) => {
      const temporary = `ucloud.new.${id}.0123456789abcdef`;
      await cluster.admin('rbd', 'rename', `crash/ucloud.${id}`, `crash/${temporary}`);
      await cluster.admin('rados', '-p', 'crash', 'cp', `rbd_id.${temporary}`, `rbd_id.ucloud.${id}`);
    };
    const listed = async () => (await cluster.admin('rbd', 'ls', 'crash')).trim().split('\n').sort();
    const complete = [`ucloud.${image}`, `ucloud.${volume}`];
    await driver.fill(volume, 64 * MiB, content, signal);
    const read = async () => qemuIo(await driver.source(volume), ...imagePatterns, 'read -P 9 8M 1M');
    await qemuIo(await driver.source(volume), 'write -P 9 8M 1M');

    for (const repair of ['fill', 'sweep'] as const) {
      for (const id of [volume, image]) {
        await interrupt(id);
        if (repair === 'sweep') await driver.sweep(new Set([image]));
        await driver.fill(volume, 64 * MiB, content, signal);
        if (id === image) await driver.fill(volumeId(41), 64 * MiB, content, signal);
        await driver.sweep(new Set([image]));
        t.strictSame(
          (await listed()).filter((name) => name !== `ucloud.${volumeId(41)}`),
          complete,
          `${repair} ${id}`,
        );
        t.notMatch(await read(), /verification failed/);
        await driver.remove(volumeId(41));
      }
    }
    t.notOk((await names()).some((name) => name.startsWith('rbd_id.ucloud.new.')));

    // The temporary image of an interrupted renaming is in the trash, so the name leads to nothing.
    await interrupt(volume);
    await cluster.admin('rbd', 'trash', 'mv', `crash/ucloud.new.${volume}.0123456789abcdef`);
    await driver.fill(volume, 64 * MiB, content, signal);
    await driver.sweep(new Set([image]));
    t.strictSame(await listed(), complete);
    await driver.remove(volume);
    await untilNothingIsLeft(driver);
  });

  await t.test('ends the fill of a volume that is deleted, and nothing stays', async (t) => {
    const driver = open();
    const { of } = await testContents(t);
    const content = await of(50);
    const volume = volumeId(50);
    const writing = Promise.withResolvers<void>();
    let isAborted = false;
    const write: VolumeContent['write'] = async (target, signal) => {
      signal.addEventListener('abort', () => {
        isAborted = true;
        writing.resolve();
      });
      removal = driver.remove(volume);
      await writing.promise;
      // A copy may end at the moment of the interruption.
      await content.write(target, new AbortController().signal);
    };
    let removal: Promise<void> | undefined;
    const fill = driver.fill(volume, 64 * MiB, { ...content, write }, new AbortController().signal);
    await t.rejects(fill, { name: 'AbortError' });
    await removal;
    t.ok(isAborted);
    t.strictSame(await driver.list(), []);
    await untilNothingIsLeft(driver);
  });

  await t.test('keeps the lock of an import during the import, and frees only its own', async (t) => {
    const { of } = await testContents(t);
    const content = await of(60);
    const image = `ucloud.${idFrom('image', 'img-0000000000000060')}`;
    const other = new CephImportLock(new CephClient(poolId, settings), image, 60);
    const driver = new CephPool(poolId, settings, { lockSeconds: 3, leftMs: 0 });
    const sweeper = new CephPool(poolId, settings, { leftMs: 0 });
    let attempts = 0;
    const importing = performance.now();
    const write: VolumeContent['write'] = async (target, signal) => {
      await until('the time of one lock has passed', async () => {
        attempts++;
        // The image has no client while nothing writes it.
        await sweeper.sweep();
        t.notOk(await other.take(), 'another host does not get the lock');
        return performance.now() - importing > 5_000;
      });
      await content.write(target, signal);
    };
    await driver.fill(volumeId(60), 64 * MiB, { ...content, write }, new AbortController().signal);
    t.ok(attempts > 1);
    t.notMatch(await qemuIo(await driver.source(volumeId(60)), ...imagePatterns), /verification failed/);
    t.notOk((await names()).includes(`${image}.import`));

    // The lock of an import that was held up has ended, and another host has its own.
    const late = new CephImportLock(new CephClient(poolId, settings), image, 1);
    t.ok(await late.take());
    await late.hold(async () => {
      // The renewal fails once, as after a long pause of the host.
      await cluster.admin('rados', '-p', 'crash', 'rm', `${image}.import`);
      t.ok(await other.take());
    });
    t.ok((await names()).includes(`${image}.import`), 'it has kept its lock');
    await other.hold(async () => undefined);
    t.notOk((await names()).includes(`${image}.import`));
    await driver.remove(volumeId(60));
    await untilNothingIsLeft(sweeper);
  });

  await t.test('frees space while it is full', async (t) => {
    const driver = new CephPool(poolId, settings, { callMs: 3_000 });
    const volume = volumeId(12);
    await driver.ensure(volume, 16 * MiB);
    await driver.claim(volume, 'host-1');
    await cluster.setFull(true);
    try {
      await t.rejects(driver.ensure(volumeId(13), MiB), { message: /does not answer/ });
      await driver.remove(volume);
      t.strictSame(await driver.list(), []);
      await driver.sweep();
      t.equal(await trash(), '');
    } finally {
      await cluster.setFull(false);
    }
    t.notOk((await names()).some((name) => name.startsWith('ucloud.')));
    await driver.ensure(volumeId(13), MiB);
    await driver.remove(volumeId(13));
  });
});
