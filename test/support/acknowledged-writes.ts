/**
 * A guest writes records with checksums to a volume and to its own disk, each with fsync, and acknowledges each record. Meanwhile
 * the cloud and QEMU are killed at random moments, the volume grows, and snapshots are made and become new volumes. Runs as
 * a program, inside a network namespace of its own, and prints what it saw as JSON.
 *
 *     node test/support/acknowledged-writes.ts <data directory> <image> <number of kills> <seed>
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { eventually, exec } from '../../scripts/demo/steps.ts';
import { GuestCloud, type Item } from './guest-cloud.ts';
import { Random } from './random.ts';

/** The observations of the story. */
export interface AcknowledgedWrites {
  readonly acknowledged: number;
  readonly kills: Readonly<Record<string, number>>;
  readonly restored: number;
  /** The number of times that both disks were read and compared. */
  readonly checks: number;
  /** Acknowledged records that are not there. */
  readonly lost: readonly string[];
  /** The sizes in bytes: declared at last, and as the guest sees it. */
  readonly sizes: readonly [declared: number, seen: number];
}

const [data = '', image = '', kills = '3', seed = '1'] = process.argv.slice(2);
const blocks = 128;
const blockSize = 4096;
const MiB = 2 ** 20;

/** Writes record after record, into a ring of blocks. The number of a record goes out after both disks have it. */
const writer = `#!/bin/sh
n=$2
record() { dd of=$1 bs=${blockSize} seek=$((n % ${blocks})) conv=notrunc,fsync 2>/dev/null; }
while [ ! -e /root/end ]; do
  n=$((n + 1))
  line=$(printf '%015d' $n)
  sum=$(printf %s $line | sha256sum)
  printf '%s %s' $line $sum | record $1 || exit 1
  printf '%s %s' $line $sum | record /root/records || exit 1
  echo $n
done
`;

/** Returns the record in each block; undefined for a block without a whole record. */
function recordsIn(ring: Buffer): (number | undefined)[] {
  return Array.from({ length: blocks }, (_, index) => {
    const [line = '', sum = ''] = ring.toString('latin1', index * blockSize, index * blockSize + 80).split(' ');
    const whole = createHash('sha256').update(line).digest('hex') === sum.slice(0, 64);
    return whole ? Number(line) : undefined;
  });
}

/**
 * Returns the acknowledged records that the ring lacks. The record after the last acknowledged one may be in any state, so
 * the block that it replaces does not count.
 */
function lostIn(place: string, ring: Buffer, acknowledged: number): string[] {
  const records = recordsIn(ring);
  const lost: string[] = [];
  for (let n = Math.max(1, acknowledged - blocks + 2); n <= acknowledged; n++) {
    const found = records[n % blocks];
    if (found === undefined || found < n) lost.push(`${place}: ${n} is not there, but ${found}`);
  }
  return lost;
}

async function story(cloud: GuestCloud): Promise<AcknowledgedWrites> {
  const random = new Random(Number(seed));
  const counts: Record<string, number> = {};
  const lost: string[] = [];
  let [size, checks, restored] = [64, 0, 0];
  const volume = await cloud.run('volume', 'create', '--name', 'data', '--size', `${size}MiB`);
  const vm = await cloud.createVm('writer', '--volumes', volume.id);
  await cloud.ready(vm);
  const script = Buffer.from(writer).toString('base64');
  await cloud.inGuest(vm, `echo ${script} | base64 -d > /root/write; chmod +x /root/write; : > /root/records; sync`);

  let acknowledged = 0;
  let ended: Promise<unknown> = Promise.resolve();
  const write = async () => {
    const device = await cloud.deviceOf(vm, volume.id);
    const child = cloud.spawnInGuest(vm, `exec /root/write ${device} ${acknowledged}`);
    ended = once(child, 'close');
    child.stdout?.on('data', (chunk: Buffer) => {
      const last = chunk.toString().trim().split('\n').at(-1);
      if (last) acknowledged = Math.max(acknowledged, Number(last));
    });
  };
  const further = (more: number) => {
    const goal = acknowledged + more;
    return eventually(`record ${goal}`, 120_000, async () => {
      if (acknowledged < goal) throw new Error(`the guest has acknowledged ${acknowledged}`);
    });
  };
  const ringIn = async (path: string): Promise<Buffer> => {
    const text = await cloud.inGuest(
      vm,
      `dd if=${path} bs=${blockSize} count=${blocks} 2>/dev/null | gzip -1 | base64`,
    );
    return gunzipSync(Buffer.from(text, 'base64'));
  };
  const check = async () => {
    const device = await eventually('the guest answers', 180_000, () => cloud.deviceOf(vm, volume.id));
    lost.push(...lostIn('volume', await ringIn(device), acknowledged));
    lost.push(...lostIn('disk', await ringIn('/root/records'), acknowledged));
    checks++;
  };
  const killQemu = () => exec('pkill', ['-KILL', '-f', `qemu-system.*${vm.id}`]);

  let snapshot: { readonly item: Item; readonly acknowledged: number } | undefined;
  const restore = async ({ item, acknowledged: before }: NonNullable<typeof snapshot>) => {
    const { status } = await cloud.reach('snapshot', item.id, (each) => /available|error/.test(each.status.phase));
    if (status.phase === 'error') throw new Error(`the snapshot failed: ${status.message}`);
    const copy = await cloud.run('volume', 'create', '--name', 'copy', '--size', `${size}MiB`, '--snapshot', item.id);
    await cloud.reach('volume', copy.id, (each) => each.status.phase === 'available');
    const content = readFileSync(join(data, 'host', 'volumes', `${copy.id}.raw`));
    lost.push(...lostIn('snapshot', content.subarray(0, blocks * blockSize), before));
    restored++;
    await cloud.remove('volume', copy.id);
    await cloud.remove('snapshot', item.id);
  };

  await write();
  for (let kill = 0; kill < Number(kills); kill++) {
    await further(1 + random.below(10));
    if (kill % 4 === 1) {
      size += 4;
      await cloud.run('volume', 'update', volume.id, '--size', `${size}MiB`);
    }
    if (kill % 4 === 2) {
      const before = acknowledged;
      const item = await cloud.run('snapshot', 'create', '--name', `at-${kill}`, '--volume', volume.id);
      snapshot = { item, acknowledged: before };
    }
    // The next kill comes at any moment of the steps that go on.
    await delay(random.below(800));
    const victim = (['cloud', 'qemu', 'both'] as const)[(kill + random.below(2)) % 3] ?? 'both';
    counts[victim] = (counts[victim] ?? 0) + 1;
    console.error(`${new Date().toISOString()} kill ${kill + 1}: ${victim}, after record ${acknowledged}`);
    const gone = ended;
    if (victim !== 'cloud') await killQemu();
    if (victim !== 'qemu') {
      await cloud.kill();
      await cloud.start();
    }
    if (victim !== 'cloud') {
      await gone;
      await check();
      await write();
    }
    if (snapshot) await restore(snapshot);
    snapshot = undefined;
  }
  await further(5);
  await cloud.reach('volume', volume.id, ({ status }) => status.size === `${size}MiB`);
  // A record that the guest acknowledges during the comparison would count as lost.
  await cloud.inGuest(vm, 'touch /root/end');
  await ended;
  await check();
  const device = await cloud.deviceOf(vm, volume.id);
  const seen = Number(await cloud.inGuest(vm, `cat /sys/block/${device.slice(5)}/size`)) * 512;
  return { acknowledged, kills: counts, restored, checks, lost, sizes: [size * MiB, seen] };
}

await GuestCloud.tell(data, image, story);
process.exit();
