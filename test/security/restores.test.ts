/** Restores of disks by the host: what hostile content, an interruption or a lack of space can do. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statfsSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { fileLimit } from '../../backend/host/hypervisor/qemu/command-line.ts';
import { writeOverlay } from '../../backend/host/hypervisor/qemu/copy-process.ts';
import { Snapshots } from '../../backend/host/hypervisor/qemu/snapshots.ts';
import { Pools } from '../../backend/host/storage/pools/pools.ts';
import { SnapshotFiles } from '../../backend/host/storage/snapshot-files.ts';
import { run } from '../../backend/host/system/command.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { leftFreeBytes } from '../../backend/model/image/eviction.ts';
import { eventually, until } from '../support/eventually.ts';
import { noContents, noPool } from '../support/no-pool.ts';
import { noQemu } from '../support/qemu.ts';
import { temporaryDirectory } from '../support/stores.ts';

const MiB = 1024 ** 2;
const snapshot = idFrom('snapshot', 'snap-0123456789abcdef');
const vm = idFrom('vm', 'vm-0123456789abcdef');
const image = idFrom('image', 'img-0123456789abcdef');
const volume = idFrom('volume', 'vol-0123456789abcdef');
const { signal } = new AbortController();
const noLoop = process.getuid?.() === 0 && existsSync('/dev/loop-control') ? false : 'needs root and loop devices';
const qemuImg = (...args: string[]) => execFileSync('qemu-img', args);
const qemuIo = (path: string, command: string) => execFileSync('qemu-io', ['-f', 'qcow2', '-c', command, path]);

/** A host with the disk of a stopped VM, on an image that has data everywhere, and a snapshot of disk and volume. */
async function host(t: Test, { free, speed = 0 }: { readonly free?: number; readonly speed?: number } = {}) {
  const directory = temporaryDirectory(t);
  chmodSync(directory, 0o700);
  const [disk, base] = [join(directory, 'disk'), join(directory, 'image')];
  const files = new SnapshotFiles(directory, run);
  const pool = new Pools(directory, run).builtIn;
  const volumes = {
    ...{ source: pool.source.bind(pool), usage: pool.usage.bind(pool), replace: pool.replace?.bind(pool) },
    removeIncomplete: pool.removeIncomplete?.bind(pool),
  };
  const make = (limits: { readonly speed: number; readonly free?: number | undefined }) =>
    new Snapshots({
      ...{ files, uid: 777_776, speed: limits.speed, guest: () => undefined },
      ...{ pool: noPool, contents: noContents },
      volumes:
        limits.free === undefined ? volumes : { ...volumes, usage: async () => ({ size: 0, free: limits.free ?? 0 }) },
      disk: () => disk,
      image: async () => base,
      socket: async () => join(directory, 'socket'),
    });
  const raw = join(directory, 'raw');
  writeFileSync(raw, randomBytes(8 * MiB));
  qemuImg('convert', '-q', '-f', 'raw', '-O', 'qcow2', raw, base);
  qemuImg('create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', base, disk, `${8 * MiB}`);
  qemuIo(disk, 'write -P 7 1M 1M');
  qemuIo(disk, 'write -z 3M 2M');
  await pool.ensure(volume, 4 * MiB);
  const data = join(directory, 'volumes', `${volume}.raw`);
  writeFileSync(data, 'before', { flag: 'r+' });
  const disks = [
    { vm, image, maxSize: 8 * MiB },
    { volume, maxSize: 4 * MiB },
  ];
  await make({ speed: 0 }).create({ id: snapshot, disks }, signal);
  qemuIo(disk, 'write -P 9 0 8M');
  writeFileSync(data, 'after!', { flag: 'r+' });
  /** Reads the disk as a start of the VM does. */
  const content = (): Buffer => {
    const copy = join(directory, 'content');
    const node = { driver: 'qcow2', file: { driver: 'file', filename: disk } };
    const backing = { driver: 'qcow2', file: { driver: 'file', filename: base } };
    qemuImg('convert', '-q', '-O', 'raw', `json:${JSON.stringify({ ...node, backing })}`, copy);
    return readFileSync(copy);
  };
  const rest = () => readdirSync(directory).filter((name) => name.endsWith('.new'));
  return { directory, disk, data, files, pool, content, rest, disks, make, snapshots: make({ speed, free }) };
}

t.test('a restored disk has exactly the content of the snapshot', { skip: await noQemu() }, async (t) => {
  const { files, data, content, rest, disks, snapshots } = await host(t);
  await snapshots.restore(snapshot, disks, signal);
  t.ok(content().equals(readFileSync(files.path(snapshot, 'root'))), 'also zeros where the image has data');
  t.equal(readFileSync(data).subarray(0, 6).toString(), 'before');
  t.strictSame(rest(), []);
});

t.test('a disk of a snapshot that begins like a qcow2 stays raw', { skip: await noQemu() }, async (t) => {
  const { directory, files, content, disks, snapshots } = await host(t);
  // The guest writes the header of a qcow2 whose backing file is a secret of the host.
  const secret = join(directory, 'secret');
  writeFileSync(secret, 'secret'.repeat(100_000));
  truncateSync(secret, 8 * MiB);
  const header = join(directory, 'header');
  qemuImg('create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', secret, header, `${8 * MiB}`);
  writeFileSync(files.path(snapshot, 'root'), readFileSync(header), { flag: 'r+' });
  await snapshots.restore(snapshot, disks, signal);
  const found = content();
  t.ok(found.equals(readFileSync(files.path(snapshot, 'root'))));
  t.notOk(found.includes('secretsecret'));
});

t.test('an interrupted restore of a disk leaves its old content', { skip: await noQemu() }, async (t) => {
  const { disk, content, rest, disks, snapshots } = await host(t, { speed: 256 * 1024 });
  const abort = new AbortController();
  const restoring = snapshots.restore(snapshot, disks, abort.signal);
  restoring.catch(() => undefined);
  await until('the copy runs', () => existsSync(`${disk}.new`));
  abort.abort();
  await t.rejects(restoring);
  t.ok(content().every((byte) => byte === 9));
  t.strictSame(rest(), []);
  // The rest of an agent that was killed in the middle.
  writeFileSync(`${disk}.new`, 'a part');
  t.ok(
    content().every((byte) => byte === 9),
    'a part counts as nothing',
  );
});

t.test(
  'a restore neither makes a disk larger than its space nor fills the host',
  { skip: await noQemu() },
  async (t) => {
    const { data, disk, files, pool, content, rest, disks, snapshots } = await host(t);
    // A process that its guest has taken over keeps the files of its snapshots.
    truncateSync(files.path(snapshot, volume), 5 * MiB);
    truncateSync(files.path(snapshot, 'root'), 9 * MiB);
    for (const each of disks) {
      await t.rejects(snapshots.restore(snapshot, [each], signal), /larger than its target/);
    }
    const larger = { size: 5 * MiB, write: () => Promise.reject(new Error('written')) };
    await t.rejects(pool.fill(volume, 4 * MiB, larger, signal), /larger than the volume/);
    t.ok(content().every((byte) => byte === 9));
    t.equal(readFileSync(data).subarray(0, 6).toString(), 'after!');

    const full = await host(t, { free: 4 * MiB });
    await t.rejects(full.snapshots.restore(snapshot, full.disks, signal), {
      code: 'no_capacity',
      message: /too little free disk/,
    });
    t.ok(full.content().every((byte) => byte === 9));
    t.notOk(existsSync(`${disk}.new`));
    t.strictSame(rest(), []);
  },
);

t.test('a restore keeps space for the disks of other guests', { skip: await noQemu() }, async (t) => {
  const { directory, files, disks, make } = await host(t);
  // The rest of the disk takes no space in the snapshot, but its copy may have larger blocks.
  truncateSync(files.path(snapshot, 'root'), 0);
  truncateSync(files.path(snapshot, 'root'), 8 * MiB);
  const { blocks, bsize } = statfsSync(directory);
  const kept = leftFreeBytes(blocks * bsize);
  const [root, volume] = disks.map((disk) => [disk]);
  const refused = { code: 'no_capacity' };
  const restore = (free: number, targets: typeof root = []) =>
    make({ speed: 0, free }).restore(snapshot, targets, signal);
  await t.rejects(restore(kept + fileLimit(8 * MiB) - 1, root), refused);
  await t.rejects(restore(kept + fileLimit(0) - 1, volume), refused);
  await restore(kept + fileLimit(8 * MiB), root);
});

t.test('a restore that waits for another copy can be interrupted', { skip: await noQemu() }, async (t) => {
  const { data, directory, disks, snapshots } = await host(t, { speed: 128 * 1024 });
  const [stop, abort] = [new AbortController(), new AbortController()];
  let isCopied = false;
  const other = idFrom('snapshot', 'snap-0123456789abcdeg');
  const ofOther = { vm: idFrom('vm', 'vm-0123456789abcdeg'), image, maxSize: 8 * MiB };
  const copying = snapshots.create({ id: other, disks: [ofOther] }, stop.signal).finally(() => {
    isCopied = true;
  });
  copying.catch(() => undefined);
  await until('the copy runs', () => existsSync(join(directory, 'snapshots', `${other}.new`)));
  const waiting = snapshots.restore(snapshot, disks.slice(0, 1), abort.signal);
  waiting.catch(() => undefined);
  await snapshots.restore(snapshot, disks.slice(1), signal);
  t.equal(readFileSync(data).subarray(0, 6).toString(), 'before', 'a volume does not wait');
  abort.abort();
  await t.rejects(waiting, { name: 'AbortError' });
  t.notOk(isCopied, 'the other copy still runs');
  stop.abort();
  await t.rejects(copying);
});

t.test('a restore interrupts the snapshot of its disks', { skip: await noQemu() }, async (t) => {
  const { data, directory, disks, snapshots } = await host(t, { speed: 128 * 1024 });
  const other = idFrom('snapshot', 'snap-0123456789abcdeg');
  const copying = snapshots.create({ id: other, disks }, signal);
  copying.catch(() => undefined);
  await until('the copy runs', () => existsSync(join(directory, 'snapshots', `${other}.new`)));
  await snapshots.restore(snapshot, disks.slice(1), signal);
  t.equal(readFileSync(data).subarray(0, 6).toString(), 'before');
  await t.rejects(copying, { name: 'CopyInterrupted' }, 'no snapshot has old and new disks');
});

t.test(
  'the rest of a restore that was killed takes no space of the next attempt',
  { skip: await noQemu() },
  async (t) => {
    const { disk, data, pool, disks, make } = await host(t);
    const rests = [`${disk}.new`, `${data}.0123456789abcdef.new`];
    const remaining = () => rests.filter((path) => existsSync(path));
    for (const path of rests) writeFileSync(path, 'a part');
    await t.rejects(make({ speed: 0, free: 0 }).restore(snapshot, disks, signal), { code: 'no_capacity' });
    t.strictSame(remaining(), []);
    writeFileSync(rests[1] ?? '', 'a part');
    await pool.removeIncomplete?.();
    t.strictSame(remaining(), [], 'at the start of the agent');
    t.ok(existsSync(data));
  },
);

/** Returns a file system whose disk takes only the first few MiB. A write succeeds, and only a flush then shows the error. */
function lossyDirectory(t: Test): string {
  const directory = temporaryDirectory(t);
  const [disk, files] = [join(directory, 'disk'), join(directory, 'files')];
  for (const path of [disk, files]) mkdirSync(path);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=5m', 'tmpfs', disk]);
  // The kernel releases the loop device, which has the image open, some time after its file system.
  t.teardown(() => eventually(() => execFileSync('umount', [disk], { stdio: 'pipe' })));
  const image = join(disk, 'image');
  writeFileSync(image, '');
  truncateSync(image, 64 * MiB);
  execFileSync('mkfs.ext4', ['-q', '-O', '^has_journal', '-E', 'lazy_itable_init=0,nodiscard', image]);
  execFileSync('mount', ['-o', 'loop,errors=continue', image, files]);
  t.teardown(() => execFileSync('umount', [files]));
  return files;
}

t.test(
  'a restore fails if the disk of the host loses its last writes',
  { skip: (await noQemu()) || noLoop },
  async (t) => {
    const directory = temporaryDirectory(t);
    chmodSync(directory, 0o700);
    const [content, target] = [join(directory, 'content'), join(lossyDirectory(t), 'target')];
    writeFileSync(content, randomBytes(8 * MiB));
    writeFileSync(target, '');
    const process = { id: snapshot, uid: 777_776, socket: join(directory, 'socket'), speed: 0, signal };
    await t.rejects(writeOverlay({ content, target, size: 8 * MiB }, process), /No space left|Input\/output error/);
  },
);
