/**
 * Compares VMs that boot from volumes of a large and of a small image in a pool of Ceph, in one run:
 * `node bench/ceph.ts [--mebibytes 320] [--clones 5] [--boots 1]`.
 *
 *   import   the first volume of each image, with the import of the image into the pool
 *   clone    a further volume, until it is available
 *   boot     a further volume and a VM that boots from it, until its guest is ready
 *
 * Both images are the demo image with more data. The data of the large image is `mebibytes`, and that of the small image a
 * tenth. The cluster has one monitor and one OSD with its data in memory. The guest grows its file system to the size of its
 * disk, so a boot does more work with the large image.
 */
import { execFile } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { copyFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import type { Id } from '../backend/contract/fields.ts';
import { idFrom } from '../backend/model/ids.ts';
import { noCeph } from '../test/support/ceph.ts';
import { CephGuests, demoImageId, rootVolumeOf } from '../test/support/ceph-guests.ts';
import { noQemu } from '../test/support/qemu.ts';
import { median } from './support/load.ts';
import { printTable, ratio } from './support/table.ts';
import { withEnd } from './support/with-end.ts';

const { values } = parseArgs({
  options: {
    mebibytes: { type: 'string', default: '320' },
    clones: { type: 'string', default: '5' },
    boots: { type: 'string', default: '1' },
  },
});
const [mebibytes, clones, boots] = [Number(values.mebibytes), Number(values.clones), Number(values.boots)];
const GiB = 1024 ** 3;
const exec = promisify(execFile);

interface BenchImage {
  readonly id: Id<'image'>;
  /** Bytes. */
  readonly size: number;
  /** The data beside that of the demo image, in MiB. */
  readonly data: number;
}

const small: BenchImage = {
  id: idFrom('image', 'img-0000000000000002'),
  size: 2 * GiB,
  data: Math.ceil(mebibytes / 10),
};
const large: BenchImage = { id: idFrom('image', 'img-0000000000000020'), size: 20 * GiB, data: mebibytes };

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

/** Makes the image in the image store of the host. */
async function makeImage({ host: { imageStore } }: CephGuests, { id, size, data }: BenchImage): Promise<void> {
  const [path, block] = [join(imageStore, `${id}.qcow2`), join(imageStore, 'block')];
  copyFileSync(join(imageStore, `${demoImageId}.qcow2`), path);
  await exec('qemu-img', ['resize', '-q', path, `${size}`]);
  writeFileSync(block, randomFillSync(Buffer.alloc(2 ** 20)));
  // Behind the partition of the demo image, in the last GiB.
  const writes = Array.from({ length: data }, (_, at) => [
    '-c',
    `write -q -s ${block} ${size - GiB + at * 2 ** 20} 1M`,
  ]);
  await exec('qemu-io', ['-f', 'qcow2', ...writes.flat(), path]);
  rmSync(block);
}

async function measure(guests: CephGuests): Promise<string[][]> {
  let made = 0;
  let booted = 0;
  const fill = async ({ id, size }: BenchImage) => {
    const volume = rootVolumeOf(guests.settings, ++made, size);
    await guests.driver.call('fillVolume', volume, { image: id });
    return volume;
  };
  const boot = async (image: BenchImage) => {
    const volume = await fill(image);
    const guest = await guests.guest(++booted, volume);
    return () => guests.driver.call('destroy', guest.vm.id);
  };
  const imports: number[] = [];
  for (const image of [small, large]) {
    await makeImage(guests, image);
    imports.push(await seconds(() => fill(image)));
  }
  /** Measures both images in turn, so that a disturbance of the machine affects both. */
  const compare = async (
    rounds: number,
    work: (image: BenchImage) => Promise<unknown>,
    end?: () => Promise<unknown>,
  ) => {
    const [ofSmall, ofLarge]: [number[], number[]] = [[], []];
    for (let round = 0; round < rounds; round++) {
      for (const [image, results] of [
        [small, ofSmall],
        [large, ofLarge],
      ] as const) {
        results.push(await seconds(() => work(image)));
        await end?.();
      }
    }
    return [median(ofSmall), median(ofLarge)];
  };
  const row = (name: string, [ofSmall = 0, ofLarge = 0]: readonly number[]) => [
    name,
    `${ofSmall.toFixed(2)} s`,
    `${ofLarge.toFixed(2)} s`,
    ratio(ofLarge, ofSmall),
  ];
  const rows = [row(`first volume, with the import (${small.data} and ${large.data} MiB)`, imports)];
  if (clones > 0) rows.push(row('a further volume', await compare(clones, fill)));
  if (boots > 0) {
    let endVm: (() => Promise<unknown>) | undefined;
    const work = async (image: BenchImage) => {
      endVm = await boot(image);
    };
    rows.push(row('a further volume, and a VM from it', await compare(boots, work, async () => endVm?.())));
  }
  return rows;
}

const missing = (await noQemu()) || (await noCeph());
if (missing === false) {
  const rows = await withEnd(async (t) => measure(await CephGuests.start(t, 'bench')));
  printTable(['', '2 GiB', '20 GiB', 'large / small'], rows);
} else {
  console.error(`SKIPPED: ${missing}`);
}
