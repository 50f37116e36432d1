/** Hostile images and hosts against the first content of volumes. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { DirectoryPool } from '../../backend/host/storage/pools/directory-pool.ts';
import type { VolumeContent } from '../../backend/host/storage/pools/pool-driver.ts';
import { run } from '../../backend/host/system/command.ts';
import { findProcesses } from '../../backend/host/system/processes.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { until } from '../support/eventually.ts';
import { noQemu } from '../support/qemu.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { imageSize, qemuIo, testContents } from '../support/volume-content.ts';

const signal = new AbortController().signal;
const qemuImg = (...args: string[]) => execFileSync('qemu-img', args);
const MiB = 1024 ** 2;

/** Returns why this machine cannot mount a file as a file system, or false. */
function noLoop(): string | false {
  try {
    execFileSync('losetup', ['--find'], { stdio: 'ignore' });
    execFileSync('mkfs.ext4', ['-V'], { stdio: 'ignore' });
    return false;
  } catch {
    return 'needs loop devices and mkfs.ext4';
  }
}

t.test('the header of an image names no file whose content a volume gets', { skip: await noQemu() }, async (t) => {
  const { path, of } = await testContents(t);
  const secret = join(dirname(path), 'secret');
  writeFileSync(secret, 'secret'.repeat(1_000));
  truncateSync(secret, imageSize);
  qemuImg('create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', secret, path, `${imageSize}`);
  const target = join(dirname(path), 'target');
  writeFileSync(target, '');
  truncateSync(target, imageSize);
  await (await of(1)).write({ kind: 'file', path: target }, signal);
  t.equal(statSync(target).size, imageSize);
  t.notOk(readFileSync(target).includes('secret'));

  // A host with another image store could name a file that is no image.
  writeFileSync(path, 'no image');
  await t.rejects(of(1), /is not a qcow2 image/);
});

t.test('each image is read by a user of its own without rights', { skip: await noQemu() }, async (t) => {
  const first = 772_000;
  const { path, of } = await testContents(t, { speed: 64 * 1024, firstUid: first });
  const abort = new AbortController();
  const targets = [1, 2].map((number) => join(dirname(path), `target-${number}`));
  const copies = targets.map(async (target) => {
    writeFileSync(target, '');
    truncateSync(target, imageSize);
    await (await of(1)).write({ kind: 'file', path: target }, abort.signal);
  });
  const running = () => findProcesses(({ uid }) => uid >= first && uid < first + 16);
  await until('both images are read', async () => (await running()).length === 2);
  const processes = await running();
  t.equal(new Set(processes.map(({ uid }) => uid)).size, 2);
  for (const { pid } of processes) {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    t.match(status, /CapEff:\t0{16}\nCapBnd:\t0{16}/);
    t.match(status, /NoNewPrivs:\t1\nSeccomp:\t2/);
    t.match(
      readFileSync(`/proc/${pid}/limits`, 'utf8'),
      new RegExp(`Max file size +${Math.ceil(imageSize * 1.01) + 64 * MiB}`),
    );
  }
  abort.abort();
  // A promise without a handler ends the process, so all get theirs at once.
  await Promise.all(copies.map((copy) => t.rejects(copy)));
  await until('the processes end with the copies', async () => (await running()).length === 0);
});

t.test('a volume whose last writes are lost is not complete', { skip: (await noQemu()) || noLoop() }, async (t) => {
  const directory = temporaryDirectory(t);
  const [store, pool, disk] = [join(directory, 'store'), join(directory, 'pool'), join(directory, 'store', 'disk')];
  for (const path of [store, pool]) mkdirSync(path);
  const mountDisk = () => execFileSync('mount', ['-o', 'loop,errors=continue', disk, pool]);
  const umounts: string[] = [];
  t.teardown(() => {
    for (const path of umounts.reverse()) execFileSync('umount', [path], { stdio: 'ignore' });
  });
  // The kernel takes all writes to the file system, and has no space for most of them.
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16M', 'tmpfs', store]);
  umounts.push(store);
  writeFileSync(disk, '');
  truncateSync(disk, 256 * MiB);
  execFileSync('mkfs.ext4', ['-q', '-O', '^has_journal', '-E', 'nodiscard', disk]);
  mountDisk();
  umounts.push(pool);
  const { path, of } = await testContents(t);
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 0 40M', path]);
  const content = await of(1);
  const write: VolumeContent['write'] = async (target, signal) => {
    await content.write(target, signal);
    // From here on, writes succeed. An error of earlier ones must not be lost.
    execFileSync('mount', ['-o', 'remount,size=256M', store]);
  };
  const driver = new DirectoryPool({ path: pool, marker: 'none', run });
  const volume = idFrom('volume', 'vol-0000000000000001');
  const failure = await driver.fill(volume, imageSize, { ...content, write }, signal).catch((error: unknown) => error);
  if (failure === undefined) {
    // The cache of the kernel has the data that the disk lacks.
    execFileSync('umount', [pool]);
    mountDisk();
    t.notMatch(await qemuIo(await driver.source(volume), 'read -P 7 0 40M'), /verification failed/);
  } else {
    t.match(failure, { message: /sync/ });
    t.equal(await driver.sizeOf(volume), undefined);
  }
});
