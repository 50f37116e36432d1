/** A pool of Ceph after crashes, with clients, and with images that the driver did not make. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import { CephPool } from '../../backend/host/storage/pools/ceph-pool.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { cephCluster, noCeph } from '../support/ceph.ts';
import { until } from '../support/eventually.ts';

const MiB = 1024 ** 2;
const poolId = idFrom('storage_pool', 'stp-0000000000000001');
const volumeId = (number: number) => idFrom('volume', `vol-${String(number).padStart(16, '0')}`);

t.test('a pool of Ceph', { skip: await noCeph(), timeout: 300_000 }, async (t) => {
  const cluster = await cephCluster(t);
  const settings = await cluster.pool('crash');
  const open = () => new CephPool(poolId, settings);
  const trash = async () => (await cluster.admin('rbd', 'trash', 'ls', 'crash')).trim();
  const names = async () => (await cluster.admin('rados', '-p', 'crash', 'ls')).split('\n');

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
    await until('the data is gone', async () => {
      await driver.sweep();
      return (await trash()) === '';
    });
    t.notOk((await names()).some((name) => name.startsWith('rbd_data') || name.startsWith('ucloud.')));
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
    t.match(await trash(), volume, 'the clone keeps the data');
    await driver.remove(volumeId(11));
    await until('the data is gone', async () => {
      await driver.sweep();
      return (await trash()) === '';
    });
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
