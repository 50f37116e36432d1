/** The story of a VM with volumes in all kinds of pools: a snapshot while its guest writes, kills of the agent, a restore. */
import { mkdirSync, openSync, readSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { markerFile } from '../../backend/host/storage/pools/directory-pool.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { builtInPool } from '../../backend/model/storage/pool.ts';
import type { VolumeSpec } from '../../backend/model/vm/volumes.ts';
import { type CephGuest, type CephGuests, demoImageId } from './ceph-guests.ts';
import { until } from './eventually.ts';

const MiB = 1024 ** 2;
/** The sector of the counter on each volume. The first MiB keep the content that other tests compare. */
const sector = 60_000;

const snapshotId = (number: number) => idFrom('snapshot', `snap-${String(number).padStart(16, '0')}`);

/** Returns the number at the sector of a file. */
function counterIn(path: string): number {
  const block = Buffer.alloc(512);
  readSync(openSync(path, 'r'), block, 0, 512, sector * 512);
  return Number(block.toString('latin1').split('\n')[0]);
}

/** @param ceph a volume of 128 MiB in a pool of Ceph, which the guest has in its first slot */
export async function snapshotOverPools(t: Test, guests: CephGuests, guest: CephGuest, ceph: VolumeSpec) {
  const { host, cluster } = guests;
  const directory = join(host.dataDir, '..', 'shared');
  mkdirSync(directory);
  const pool = idFrom('storage_pool', 'stp-0000000000000007');
  const marker = `${pool} ${'0'.repeat(32)}`;
  writeFileSync(join(directory, markerFile), `${marker}\n`);
  const inDirectory: VolumeSpec = {
    ...{ ...ceph, id: idFrom('volume', 'vol-0000000000000007'), slot: 1, size: 64 * MiB },
    pool: { id: pool, settings: { kind: 'shared', path: directory }, marker },
  };
  const builtIn: VolumeSpec = {
    ...{ ...inDirectory, id: idFrom('volume', 'vol-0000000000000008'), slot: 2 },
    pool: { id: builtInPool, settings: { kind: 'local' } },
  };
  const all = [ceph, inDirectory, builtIn];
  t.match(await guest.setVolumes(...all), { faults: [] });
  const device = (volume: VolumeSpec) => until('the guest has the volume', () => guest.device(volume), 60);
  const devices = [await device(ceph), await device(inDirectory), await device(builtIn)];
  // A counter goes to the volumes one after the other.
  const write = 'dd of=/dev/$disk bs=512 seek=SECTOR conv=notrunc,fsync 2>/dev/null'.replace('SECTOR', `${sector}`);
  const begin = (from: number) =>
    guest.run(
      `rm -f /tmp/end; (n=${from}; while [ ! -e /tmp/end ]; do n=$((n+1)); for disk in ${devices.join(' ')}; do echo $n | ${write}; done; done) >/dev/null 2>&1 </dev/null &`,
    );
  const end = () => guest.run('touch /tmp/end');
  const counter = async (name: string | undefined) =>
    Number((await guest.run(`dd if=/dev/${name} bs=512 skip=${sector} count=1 2>/dev/null | head -n 1`)).trim());
  const snapshot = snapshotId(20);
  const part = (volume: VolumeSpec, number: number) => ({ snapshot: snapshotId(number), pool: volume.pool });
  const parts = new Map([
    [ceph, part(ceph, 21)],
    [inDirectory, part(inDirectory, 22)],
  ]);
  const take = () =>
    guests.driver.call<{ takenAt: string }>('createSnapshot', {
      ...{ id: snapshot, holder: guest.vm.id, consistency: 'crash' },
      disks: [
        { vm: guest.vm.id, image: demoImageId, maxSize: 1024 * MiB },
        ...all.map((volume) => {
          const inPool = parts.get(volume);
          return { volume: volume.id, maxSize: volume.size, ...(inPool && { part: inPool }) };
        }),
      ],
    });
  await begin(1_000);
  await until('the guest writes', async () => (await counter(devices[2])) > 1_005, 60);
  await guests.restart({ dieBefore: 'cont' });
  await t.rejects(take(), /the driver ended/, 'the agent dies while the guest is paused');
  await guests.restart();
  const goneOn = await counter(devices[2]);
  await until('the next agent lets the guest go on', async () => (await counter(devices[2])) > goneOn, 60);
  const { takenAt } = await take();
  t.equal((await take()).takenAt, takenAt, 'a complete one stays as it is');
  const later = await counter(devices[0]);
  await end();

  const exported = join(host.dataDir, '..', 'exported');
  await cluster.admin('rbd', 'export', `volumes/ucloud.${snapshotId(21)}@base`, exported);
  const files = [
    exported,
    join(directory, `${snapshotId(22)}.raw`),
    join(host.dataDir, 'snapshots', snapshot, `${builtIn.id}.raw`),
  ];
  const counters = files.map(counterIn);
  const [first = 0, second = 0, third = 0] = counters;
  t.ok(first >= second && second >= third && third >= first - 1 && third > 1_000, `one instant: ${counters}`);
  t.ok(later > first, 'the guest went on writing');
  t.equal(statSync(join(host.dataDir, 'snapshots', snapshot, 'root.raw')).size, 1024 * MiB);

  await until('detached', async () => (await guest.setVolumes()).present.length === 0, 60);
  const targets = all.map((volume) => {
    const inPool = parts.get(volume);
    return { volume: volume.id, maxSize: volume.size, ...(inPool && { part: inPool }) };
  });
  await guests.driver.call('restoreDisks', snapshot, targets);
  t.match(await guest.setVolumes(...all), { faults: [] });
  const restored = [];
  for (const volume of all) restored.push(await counter(await device(volume)));
  t.strictSame(restored, counters, 'all volumes have the content of the snapshot again');
  await until('detached', async () => (await guest.setVolumes(ceph)).present.length === 1, 60);
}
