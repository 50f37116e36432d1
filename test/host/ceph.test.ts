/** Volumes in a pool of Ceph with real guests, a real monitor and a real OSD. */
// Boots guests: each takes a core without hardware virtualisation.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { keyOf, noCeph } from '../support/ceph.ts';
import { CephGuests, demoImageId, rootVolumeOf, volumeOf } from '../support/ceph-guests.ts';
import { until } from '../support/eventually.ts';
import { noQemu } from '../support/qemu.ts';
import { snapshotOverPools } from '../support/snapshot-over-pools.ts';

const MiB = 1024 ** 2;
const skip = (await noQemu()) || (await noCeph());

t.test('volumes in a pool of Ceph', { skip, timeout: 900_000 }, async (t) => {
  const guests = await CephGuests.start(t, 'ceph');
  const { cluster } = guests;
  const [one, other] = [await guests.guest(1), await guests.guest(2)];
  const volume = volumeOf(guests.settings, 1, 64 * MiB);
  const larger = { ...volume, size: 128 * MiB };
  const deviceOf = (guest: typeof one) => until('the guest has the device', () => guest.device(volume), 60);
  const dataObjects = async () => (await cluster.admin('rados', '-p', 'volumes', 'ls')).split('rbd_data.').length - 1;
  /** Runs a script with the driver of the pool in the namespace of the cluster. Returns what it prints. */
  const inPool = async (text: string): Promise<string> => {
    const module = JSON.stringify(import.meta.resolve('../../backend/host/storage/pools/ceph-pool.ts'));
    const script = `
      const { CephPool } = await import(${module});
      const pool = new CephPool(${JSON.stringify(volume.pool.id)}, ${JSON.stringify(guests.settings)});
      ${text}`;
    const child = guests.host.namespace.spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(child.stdout ?? child, 'data')) as [Buffer];
    return `${line}`;
  };
  let device = '';
  let written = '';

  await t.test('a running guest gets one, writes it, and sees it grow', async (t) => {
    t.strictSame(await one.setVolumes(volume), { present: [volume.id], faults: [] });
    device = await deviceOf(one);
    t.equal(Number(await one.run(`cat /sys/block/${device}/size`)) * 512, 64 * MiB);
    await one.run(`dd if=/dev/urandom of=/dev/${device} bs=1M count=8 conv=fsync 2>/dev/null`);
    written = await one.digest(device);
    const [[pid] = [0]] = [...guests.host.processes()].filter(([, line]) => line.startsWith('qemu-system'));
    for (const file of ['cmdline', 'environ'])
      t.notOk(readFileSync(`/proc/${pid}/${file}`, 'latin1').includes(keyOf(guests.settings)), file);
    t.notMatch(await guests.objectsOf(one.vm.id), /key/, 'QEMU keeps no object with the key');
    t.strictSame(await one.setVolumes(larger), { present: [volume.id], faults: [] });
    t.equal(Number(await one.run(`cat /sys/block/${device}/size`)) * 512, 128 * MiB, 'at once');
  });

  await t.test('a killed agent finds it again and changes nothing', async (t) => {
    await guests.restart();
    t.strictSame(await one.setVolumes(larger), { present: [volume.id], faults: [] });
    t.strictSame(await one.setVolumes(volume), { present: [volume.id], faults: [] }, 'an old size shrinks nothing');
    t.equal(Number(await one.run(`cat /sys/block/${device}/size`)) * 512, 128 * MiB);
    t.equal(await one.digest(device), written);
  });

  await t.test(
    'a snapshot shows it at one instant while its guest writes, and a new volume has the data',
    async (t) => {
      const copy = volumeOf(guests.settings, 2, 128 * MiB);
      // A counter goes to one sector first, and then to another one far away.
      const count = `n=1000; while [ ! -e /tmp/end ]; do n=$((n+1)); for seek in 40000 240000; do echo $n | dd of=/dev/${device} bs=512 seek=$seek conv=notrunc,fsync 2>/dev/null; done; done`;
      await one.run(`(${count}) >/dev/null 2>&1 </dev/null &`);
      const line = await inPool(`
        const begin = performance.now();
        await pool.snapshots.create('snap-0000000000000001', '${volume.id}', ${128 * MiB});
        const milliseconds = performance.now() - begin;
        await pool.snapshots.fill('${copy.id}', ${128 * MiB}, 'snap-0000000000000001');
        await pool.snapshots.remove('snap-0000000000000001');
        console.log(JSON.stringify({ milliseconds }));`);
      t.comment(`a snapshot of a volume in use: ${line}`);
      const read = async (guest: typeof one, name: string, sector: number) =>
        Number((await guest.run(`dd if=/dev/${name} bs=512 skip=${sector} count=1 2>/dev/null | head -n 1`)).trim());
      const later = await read(one, device, 40_000);
      await one.run('touch /tmp/end');
      t.strictSame(await other.setVolumes(copy), { present: [copy.id], faults: [] });
      const copied = await until('the other guest has the copy', () => other.device(copy), 60);
      const [first, second] = [await read(other, copied, 40_000), await read(other, copied, 240_000)];
      t.ok(first > 1_000 && first - second >= 0 && first - second <= 1, `one instant: ${first} and ${second}`);
      t.ok(later > first, 'the guest went on writing');
      t.equal(
        await other.run(`head -c 8388608 /dev/${copied} | sha256sum`),
        await one.run(`head -c 8388608 /dev/${device} | sha256sum`),
      );
      await until('detached', async () => (await other.setVolumes()).present.length === 0, 60);
      await inPool(`
        await pool.remove('${copy.id}');
        for (let times = 0; times < 4; times++) await pool.sweep();
        console.log('{}');`);
    },
  );

  await t.test('a snapshot of a VM shows its disks in all pools at one instant', async (t) => {
    await snapshotOverPools(t, guests, one, larger);
    await inPool(`
      await pool.snapshots.remove('snap-0000000000000021');
      for (let times = 0; times < 4; times++) await pool.sweep();
      console.log('{}');`);
  });

  await t.test('another VM gets it after a detachment, with the same data', async (t) => {
    await until('detached', async () => (await one.setVolumes()).present.length === 0, 60);
    t.equal(await one.device(volume), undefined);
    t.strictSame(await other.setVolumes(larger), { present: [volume.id], faults: [] });
    device = await deviceOf(other);
    t.equal(await other.digest(device), written);
  });

  await t.test('the space that the guest discards is free in the pool', async (t) => {
    t.ok((await dataObjects()) > 0);
    await other.run(`blkdiscard /dev/${device}`);
    t.equal(await dataObjects(), 0);
  });

  await t.test('a pool that hangs pauses the writes of its guest and nothing else', async (t) => {
    const write =
      'i=0; while [ $i -lt 40 ]; do dd if=/dev/urandom of=/dev/DEVICE bs=1M count=4 seek=$i conv=fsync; i=$((i+4)); done';
    const job = `(${write.replace('DEVICE', device)}; echo written >/tmp/done) >/dev/null 2>&1 </dev/null &`;
    cluster.hang();
    try {
      await other.run(job);
      const begin = performance.now();
      const outcome = await other.setVolumes(larger);
      t.match(outcome.faults, [[volume.id, /cannot use the storage pool/]]);
      t.strictSame(outcome.present, [volume.id], 'the guest keeps the volume');
      t.ok(performance.now() - begin < 25_000, 'the agent gives up soon');
      t.strictSame(await one.setVolumes(), { present: [], faults: [] }, 'another VM has its agent');
      t.equal(await one.run('echo alive'), 'alive');
      t.equal((await guests.driver.call<unknown[]>('list')).length, 2);
      await guests.restart();
      t.match(await guests.driver.call('list'), [{ running: true }, { running: true }], 'a new agent finds both VMs');
      t.equal(
        await other.run('cat /tmp/done 2>/dev/null || echo waits'),
        'waits',
        'the guest runs, and its write waits',
      );
    } finally {
      cluster.goOn();
    }
    await until('the guest goes on by itself', async () => (await other.run('cat /tmp/done')) === 'written', 120);
    t.strictSame(await other.setVolumes(larger), { present: [volume.id], faults: [] });
  });

  await t.test('a full pool makes its guest wait, and the guest goes on by itself', async (t) => {
    await cluster.setFull(true);
    const write = `dd if=/dev/urandom of=/dev/${device} bs=1M count=4 conv=fsync`;
    await other.run(`rm /tmp/done; (${write}; echo written >/tmp/done) >/dev/null 2>&1 </dev/null &`);
    t.equal(await one.run('echo alive'), 'alive');
    t.equal(await other.run('cat /tmp/done 2>/dev/null || echo waits'), 'waits');
    await cluster.setFull(false);
    await until('the guest goes on by itself', async () => (await other.run('cat /tmp/done')) === 'written', 120);
  });

  await t.test('a VM whose pool hangs ends when it must', async (t) => {
    cluster.hang();
    try {
      const begin = performance.now();
      await guests.driver.call('destroy', other.vm.id);
      t.ok(performance.now() - begin < 15_000);
    } finally {
      cluster.goOn();
    }
    t.match(await guests.driver.call('list'), [{ id: one.vm.id }]);
  });

  await t.test('a guest boots from a clone of its image, and the clone outlives the VM', async (t) => {
    const root = rootVolumeOf(guests.settings, 3, 1024 * MiB);
    const begin = performance.now();
    await guests.driver.call('fillVolume', root, { image: demoImageId });
    t.comment(`with the import of the image: ${Math.round(performance.now() - begin)} ms`);
    const info = await cluster.admin('rbd', 'info', '--format', 'json', `volumes/ucloud.${root.id}`);
    const parent = { pool: 'volumes', image: `ucloud.${demoImageId}`, snapshot: 'base' };
    t.match(JSON.parse(info), { parent, size: 1024 * MiB });
    const guest = await guests.guest(3, root);
    const disk = await guest.device(root);
    t.match(await guest.run('mount | grep " / "'), new RegExp(`^/dev/${disk}`), 'the guest runs from the volume');
    await guest.run('echo written >/root/kept; sync');
    await guests.driver.call('destroy', guest.vm.id);
    t.strictSame(await one.setVolumes({ ...root, slot: 1, root: undefined }), { present: [root.id], faults: [] });
    const copy = await until('the other guest has the volume', () => one.device(root), 60);
    t.equal(await one.run(`mount /dev/${copy}1 /mnt && cat /mnt/root/kept`), 'written');
    await one.run('umount /mnt');
  });
});
