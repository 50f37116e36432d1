/** Snapshots in a pool of Ceph: complete or absent, independent of their volume, and without long chains of clones. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import t from 'tap';
import { keyOf, rbdNode } from '../../backend/host/hypervisor/qemu/rbd-nodes.ts';
import { CephPool } from '../../backend/host/storage/pools/ceph-pool.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { cephCluster, noCeph } from '../support/ceph.ts';
import { eventually } from '../support/eventually.ts';

const exec = promisify(execFile);
const MiB = 1024 ** 2;
const volumeId = (number: number) => idFrom('volume', `vol-${String(number).padStart(16, '0')}`);
const snapshotId = (number: number) => idFrom('snapshot', `snap-${String(number).padStart(16, '0')}`);

const dotted = (node: object, path = ''): string =>
  Object.entries(node)
    .map(([key, value]) => (typeof value === 'object' ? dotted(value, `${path}${key}.`) : `${path}${key}=${value}`))
    .join(',');

t.test('a pool of Ceph', { skip: await noCeph(), timeout: 600_000 }, async (t) => {
  const cluster = await cephCluster(t);
  const settings = await cluster.pool('snaps');
  const open = () => new CephPool(idFrom('storage_pool', 'stp-0000000000000001'), settings);
  const pool = open();
  const { snapshots } = pool;
  const images = async () => (await cluster.admin('rbd', 'ls', 'snaps')).trim().split('\n').filter(Boolean);
  const trash = async () => (await cluster.admin('rbd', 'trash', 'ls', 'snaps')).trim();
  const parentOf = async (id: string) => {
    const text = await cluster.admin('rbd', 'info', '--format', 'json', `snaps/ucloud.${id}`);
    return (JSON.parse(text) as { parent?: { image: string } }).parent?.image;
  };
  /** Runs commands of qemu-io on a volume. It fails if a pattern is not there. */
  const io = async (volume: ReturnType<typeof volumeId>, ...commands: string[]) => {
    const source = await pool.source(volume);
    if (source.kind !== 'rbd') throw new Error('not an image');
    const secret = ['--object', `secret,id=${keyOf('data')},format=base64,data=${source.key}`];
    const args = [...commands.flatMap((each) => ['-c', each]), ...secret];
    const { stdout } = await exec('qemu-io', [...args, '--image-opts', dotted(rbdNode('data', source))]);
    if (/failed/.test(stdout)) throw new Error(stdout);
  };
  /** Empties the trash. An image can be removed only after its last clone, so this takes several sweeps. */
  const sweep = async () => {
    for (let times = 0; times < 6; times++) {
      await open().sweep();
      if ((await trash()) === '') return;
    }
  };
  const gone = async (message: string) => {
    await sweep();
    t.strictSame(await images(), [], message);
    t.equal(await trash(), '', message);
    // The storage daemons trim the data of deleted snapshots later.
    await eventually(async () => {
      const objects = await cluster.admin('rados', '-p', 'snaps', 'ls');
      if (objects.includes('rbd_data')) throw new Error(`${message}: ${objects}`);
    });
  };

  await t.test('keeps the content of a volume at one instant, also after the deletion of the volume', async (t) => {
    const [volume, copy, snapshot] = [volumeId(1), volumeId(2), snapshotId(1)];
    await pool.ensure(volume, 64 * MiB);
    await io(volume, 'write -P 7 1M 2M');
    const takenAt = await snapshots.create(snapshot, volume, 64 * MiB);
    await io(volume, 'write -P 9 1M 2M');
    t.strictSame(await open().snapshots.create(snapshot, volume, 64 * MiB), takenAt, 'a complete one stays as it is');
    await pool.remove(volume);
    t.strictSame(await pool.list(), [], 'a snapshot is no volume');
    await snapshots.fill(copy, 96 * MiB, snapshot);
    await snapshots.fill(copy, 96 * MiB, snapshot);
    t.equal(await pool.sizeOf(copy), 96 * MiB);
    await io(copy, 'read -P 7 1M 2M', 'read -P 0 64M 32M', 'write -P 5 1M 1M');
    await snapshots.remove(snapshot);
    await snapshots.remove(snapshot);
    await io(copy, 'read -P 5 1M 1M', 'read -P 7 2M 1M');
    await sweep();
    t.equal(await trash(), '', 'the data of the deleted ones goes while the copy stays');
    await io(copy, 'read -P 5 1M 1M', 'read -P 7 2M 1M');
    await pool.remove(copy);
    await gone('nothing is left');
  });

  await t.test('begins an interrupted snapshot again', async (t) => {
    const [volume, copy, snapshot] = [volumeId(3), volumeId(4), snapshotId(3)];
    await pool.ensure(volume, 16 * MiB);
    await io(volume, 'write -P 1 0 1M');
    const [source, image] = [`snaps/ucloud.${volume}@${snapshot}`, `snaps/ucloud.${snapshot}`];
    await cluster.admin('rbd', 'snap', 'create', source);
    await io(volume, 'write -P 2 0 1M');
    await cluster.admin('rbd', 'clone', '--rbd-default-clone-format', '2', source, image);
    await cluster.admin('rbd', 'snap', 'create', `${image}@base`);
    await t.rejects(snapshots.fill(copy, 16 * MiB, snapshot), /is gone/, 'a part is no snapshot');
    await t.rejects(snapshots.create(snapshot, volume, 8 * MiB), /is larger than/);
    await snapshots.create(snapshot, volume, 16 * MiB);
    await snapshots.fill(copy, 16 * MiB, snapshot);
    await io(copy, 'read -P 2 0 1M');
    t.equal((await cluster.admin('rbd', 'snap', 'ls', `snaps/ucloud.${volume}`)).trim(), '');
    for (const each of [volume, copy]) await pool.remove(each);
    await snapshots.remove(snapshot);
    await gone('nothing is left');
    await t.rejects(snapshots.create(snapshot, volume, 16 * MiB), /is gone/);
    await snapshots.remove(snapshot);

    await pool.ensure(volume, 16 * MiB);
    await cluster.admin('rbd', 'snap', 'create', source);
    for (let times = 0; times < 2; times++) await snapshots.remove(snapshot, volume);
    t.equal(
      (await cluster.admin('rbd', 'snap', 'ls', `snaps/ucloud.${volume}`)).trim(),
      '',
      'a removal leaves nothing',
    );

    await cluster.admin('rbd', 'snap', 'create', source);
    await pool.remove(volume);
    await gone('an interrupted snapshot does not keep the data of a deleted volume');
  });

  await t.test('keeps chains of clones short', async (t) => {
    await pool.ensure(volumeId(5), 16 * MiB);
    await io(volumeId(5), 'write -P 3 0 1M');
    for (let number = 5; number < 8; number++) {
      await snapshots.create(snapshotId(number), volumeId(number), 16 * MiB);
      await snapshots.fill(volumeId(number + 1), 16 * MiB, snapshotId(number));
    }
    await pool.sweep();
    for (let number = 5; number < 8; number++) {
      for (const id of [snapshotId(number), volumeId(number + 1)]) {
        const parent = await parentOf(id);
        const further = parent && (await parentOf(parent.replace('ucloud.', '')));
        t.equal(further, undefined, `${id} is at most a clone of a whole image`);
      }
      await io(volumeId(number + 1), 'read -P 3 0 1M');
    }
    for (let number = 5; number <= 8; number++) await pool.remove(volumeId(number));
    for (let number = 5; number < 8; number++) await snapshots.remove(snapshotId(number));
    await gone('nothing is left');
  });

  await t.test('accepts only ids', async (t) => {
    for (const text of ['', '-x', 'snap-1', '../x', 'snap-000000000000000@', 'ucloud.other']) {
      const id = idFrom('snapshot', text);
      const calls = [
        snapshots.create(id, volumeId(9), MiB),
        snapshots.fill(volumeId(9), MiB, id),
        snapshots.remove(id),
      ];
      await Promise.all(calls.map((call) => t.rejects(call as Promise<unknown>, /not the id of a volume or/, text)));
    }
    t.strictSame(await images(), []);
  });
});
