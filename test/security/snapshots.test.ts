/** Attacks on snapshots by QEMU processes that their guests have taken over. */
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { addFile, copyDisks } from '../../backend/host/hypervisor/qemu/disk-copy.ts';
import { Pause } from '../../backend/host/hypervisor/qemu/pause.ts';
import { Qmp, QmpError } from '../../backend/host/hypervisor/qemu/qmp.ts';
import { takeTogether } from '../../backend/host/hypervisor/qemu/snapshot-parts.ts';
import { Snapshots } from '../../backend/host/hypervisor/qemu/snapshots.ts';
import type { AtInstant, PoolSnapshots, VolumeSource } from '../../backend/host/storage/pools/pool-driver.ts';
import { Pools } from '../../backend/host/storage/pools/pools.ts';
import { SnapshotFiles } from '../../backend/host/storage/snapshot-files.ts';
import { copySparse } from '../../backend/host/storage/sparse-copy.ts';
import { run } from '../../backend/host/system/command.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { until } from '../support/eventually.ts';
import { noContents, noPool } from '../support/no-pool.ts';
import { noQemu } from '../support/qemu.ts';
import { temporaryDirectory } from '../support/stores.ts';

const MiB = 1024 ** 2;
const snapshot = idFrom('snapshot', 'snap-0123456789abcdef');
const vm = idFrom('vm', 'vm-0123456789abcdef');
const image = idFrom('image', 'img-0123456789abcdef');
const volume = idFrom('volume', 'vol-0123456789abcdef');
const { signal } = new AbortController();
const unused = async () => {
  throw new Error('is not used');
};

async function serve(t: Test, answer: (command: string) => unknown): Promise<{ path: string; commands: string[] }> {
  const path = join(temporaryDirectory(t), 'monitor');
  const commands: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.write('{"QMP": {}}\n');
    const lines = createInterface({ input: socket });
    lines.on('error', () => undefined);
    lines.on('line', (line) => {
      const { id, execute } = JSON.parse(line) as { id: number; execute: string };
      commands.push(execute);
      socket.write(`${JSON.stringify({ return: answer(execute), id })}\n`);
    });
  });
  server.listen(path);
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { path, commands };
}

t.test('a process that answers falsely about a copy gets an error in time', async (t) => {
  const job = { id: `${snapshot}-0`, status: 'running', 'current-progress': 0 };
  const answers: Readonly<Record<string, unknown>> = {
    null: null,
    'a number': 7,
    'an empty list': [],
    'other forms': [null, 7, { id: { toString: 1 } }],
    'a job that never ends': [job],
    'thousands of jobs': Array.from({ length: 5_000 }, () => job),
  };
  for (const [name, jobs] of Object.entries(answers)) {
    const { path, commands } = await serve(t, (command) =>
      command === 'query-jobs' ? jobs : command.startsWith('query') ? [] : {},
    );
    const qmp = await Qmp.connect(path, 5_000);
    let opened = 0;
    const disk = {
      node: 'disk',
      open: async () => {
        opened++;
        await addFile(qmp, `${snapshot}-0`, '/dev/fdset/1');
      },
    };
    const fault = await copyDisks(qmp, [disk], { id: snapshot, speed: 0, signal }).then(
      () => undefined,
      (error: unknown) => error,
    );
    t.ok(fault instanceof QmpError, `${name}: ${fault}`);
    t.ok(opened <= 1, `${name}: at most its own file is passed`);
    t.ok(commands.length < 2_000, `${name}: ${commands.length} commands`);
    qmp.close();
  }
});

/** The snapshots of a host without guests, with the disk of a stopped VM. */
function idleHost(t: Test, speed = 0) {
  const directory = temporaryDirectory(t);
  chmodSync(directory, 0o700);
  const [disk, base] = [join(directory, 'disk'), join(directory, 'image')];
  const files = new SnapshotFiles(directory, run);
  const volumes = new Pools(directory, run).builtIn;
  const pathOf = (id: string) => join(directory, 'volumes', `${id}.raw`);
  const snapshots = new Snapshots({
    ...{ files, volumes, uid: 777_777, speed, guest: () => undefined, pool: noPool, contents: noContents },
    disk: () => disk,
    image: async () => base,
    socket: async () => join(directory, 'socket'),
  });
  return { directory, disk, base, files, volumes, pathOf, snapshots };
}

/** Returns the processes of a user. */
const processesOf = (uid: number): number[] =>
  readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const isOwn = readFileSync(`/proc/${name}/status`, 'utf8').includes(`\nUid:\t${uid}\t`);
      return isOwn ? [Number(name)] : [];
    } catch {
      return [];
    }
  });

t.test(
  'a copy without guest goes on after its process has not answered for longer than that of a guest may',
  { skip: await noQemu(), timeout: 90_000 },
  async (t) => {
    const { files, volumes, snapshots } = idleHost(t, MiB);
    await volumes.ensure(volume, 2 * MiB);
    const made = snapshots.create({ id: snapshot, disks: [{ volume, maxSize: 2 * MiB }] }, signal);
    made.catch(() => undefined);
    const [pid] = await until('the process runs', () => {
      const pids = processesOf(777_777);
      return pids.length === 1 && pids;
    });
    if (pid === undefined) return t.fail('no process');
    process.kill(pid, 'SIGSTOP');
    const stoppedMs = performance.now();
    await until('it was silent for longer than 10 s', () => performance.now() - stoppedMs > 11_000);
    process.kill(pid, 'SIGCONT');
    await made;
    t.equal(await files.has(snapshot), true);
  },
);

const qemuImg = (...args: string[]) => execFileSync('qemu-img', args);

t.test(
  'the header of a disk chooses neither its image nor more space than reserved',
  { skip: await noQemu() },
  async (t) => {
    const { directory, disk, base, files, volumes, pathOf, snapshots } = idleHost(t);
    qemuImg('create', '-q', '-f', 'qcow2', base, `${8 * MiB}`);
    const secret = join(directory, 'secret');
    writeFileSync(secret, 'secret'.repeat(1_000));
    truncateSync(secret, 8 * MiB);
    qemuImg('create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', secret, disk, `${8 * MiB}`);
    await volumes.ensure(volume, 4 * MiB);
    writeFileSync(pathOf(volume), 'content', { flag: 'r+' });
    const disks = [
      { vm, image, maxSize: 8 * MiB },
      { volume, maxSize: 4 * MiB },
    ];
    await snapshots.create({ id: snapshot, disks }, signal);
    const copy = files.path(snapshot, 'root');
    t.equal(statSync(copy).size, 8 * MiB);
    t.notOk(readFileSync(copy).includes('secret'), 'the file that the header names is not read');
    t.equal(readFileSync(files.path(snapshot, volume)).subarray(0, 7).toString(), 'content');
    t.ok(statSync(copy).blocks * 512 < MiB, 'the copy is sparse');

    await files.remove(snapshot);
    const small = [{ vm, image, maxSize: 4 * MiB }];
    await t.rejects(
      snapshots.create({ id: snapshot, disks: small }, signal),
      /larger than when the snapshot was requested/,
    );
    const none = [{ volume: idFrom('volume', 'vol-zzzzzzzzzzzzzzzz'), maxSize: MiB }];
    await t.rejects(snapshots.create({ id: snapshot, disks: none }, signal), /is not on its host/);
    t.notOk(await files.has(snapshot));
    t.strictSame(await files.list(), [], 'nothing is left of a copy that failed');
  },
);

t.test(
  'a disk that another process writes is not copied, and an interrupted copy leaves nothing',
  { skip: await noQemu() },
  async (t) => {
    const { directory, volumes, pathOf, files, snapshots } = idleHost(t, 256 * 1024);
    await volumes.ensure(volume, MiB);
    writeFileSync(pathOf(volume), randomBytes(MiB), { flag: 'r+' });
    const disks = [{ volume, maxSize: MiB }];
    const copies = () => (existsSync(join(directory, 'snapshots')) ? readdirSync(join(directory, 'snapshots')) : []);

    // A program like the QEMU of a guest.
    const writer = spawn('qemu-io', ['-f', 'raw', pathOf(volume)], { stdio: ['pipe', 'pipe', 'inherit'] });
    await once(writer.stdout, 'data');
    await t.rejects(snapshots.create({ id: snapshot, disks }, signal), /Failed to get shared .write. lock/);
    t.strictSame(copies(), []);
    writer.kill('SIGKILL');
    await once(writer, 'close');

    const interrupted = snapshots.create({ id: snapshot, disks }, signal);
    interrupted.catch(() => undefined);
    await until('the copy runs', () => copies().length > 0);
    await snapshots.interrupt([volume]);
    await t.rejects(interrupted);
    t.strictSame(copies(), []);
    await snapshots.create({ id: snapshot, disks }, signal);
    t.strictSame(await files.list(), [snapshot], 'the next attempt succeeds');
    const again = await snapshots.create({ id: snapshot, disks }, signal);
    t.strictSame(again, { takenAt: await files.takenAt(snapshot) }, 'a complete copy stays as it is');
  },
);

t.test('a volume with a part of its data is none, and a removal ends the copy', async (t) => {
  const { directory, volumes, pathOf } = idleHost(t);
  const content = join(directory, 'content');
  writeFileSync(content, randomBytes(MiB));
  const source = {
    size: MiB,
    write: (target: VolumeSource, ending: AbortSignal) =>
      copySparse(content, target.kind === 'file' ? target.path : '', ending),
  };
  const fill = (ending = signal) => volumes.fill(volume, 2 * MiB, source, ending);
  const none = async (message: string) => {
    t.equal(await volumes.sizeOf(volume), undefined, message);
    t.strictSame(await volumes.list(), [], message);
  };
  await t.rejects(fill(AbortSignal.abort()));
  await none('after an interruption');
  // The rest of a copy that ended with its agent.
  writeFileSync(`${pathOf(volume)}.new`, 'a part');
  await none('after a crash');
  await fill();
  t.equal(await volumes.sizeOf(volume), 2 * MiB, 'the next attempt completes it');
  t.ok(readFileSync(pathOf(volume)).subarray(0, MiB).equals(readFileSync(content)));
  const running = fill();
  running.catch(() => undefined);
  await volumes.remove(volume);
  await running.catch(() => undefined);
  await none('a copy does not outlive the removal');
  t.strictSame(readdirSync(join(directory, 'volumes')), []);
});

t.test('only root reads the data of snapshots, and no id leads elsewhere', async (t) => {
  const directory = temporaryDirectory(t);
  const files = new SnapshotFiles(directory, run);
  for (const id of ['../../etc/passwd', 'snap-../../../etc', 'snap-', 'snap-0123456789abcdef/..', volume]) {
    t.throws(() => files.path(id as Id<'snapshot'>, 'root'), /not the id of a snapshot/, id);
    await t.rejects(files.remove(id as Id<'snapshot'>), /not the id of a snapshot/);
  }
  for (const disk of ['', '..', 'root/../x', 'vol-x']) {
    t.throws(() => files.path(snapshot, disk), /not a disk of a snapshot/, disk);
  }
  const paths = await files.begin(snapshot, new Map([['root', MiB]]));
  t.strictSame(await files.list(), [], 'an incomplete copy is no snapshot');
  t.equal(statSync(paths.get('root') ?? '').mode & 0o777, 0o600);
  await files.complete(snapshot, new Date(0));
  t.equal(statSync(join(directory, 'snapshots', snapshot)).mode & 0o777, 0o700);
  t.strictSame(await files.takenAt(snapshot), new Date(0));
  await files.begin(idFrom('snapshot', 'snap-zzzzzzzzzzzzzzzz'), new Map([['root', MiB]]));
  await files.removeIncomplete();
  t.strictSame(await files.list(), [snapshot]);
  await files.remove(snapshot);
  t.strictSame(await files.list(), []);
});

t.test('a guest is not paused for longer than the limit', async (t) => {
  const { path, commands } = await serve(t, (command) => (command === 'query-status' ? { status: 'running' } : {}));
  const qmp = await Qmp.connect(path, 5_000);
  t.teardown(() => qmp.close());
  const pause = new Pause(50);
  const never = () => new Promise<never>(() => undefined);
  await t.rejects(pause.during(qmp, never), /did not make their snapshots/);
  t.strictSame(commands.slice(-3), ['query-status', 'stop', 'cont']);
  await t.rejects(
    pause.during(qmp, async () => Promise.reject(new Error('no snapshot'))),
    /no snapshot/,
  );
  t.strictSame(commands.slice(-2), ['stop', 'cont'], 'also after an error');
  t.equal(await pause.during(qmp, async () => 'made'), 'made');
  t.notOk(pause.active);
});

t.test('a snapshot without copies is never complete', async (t) => {
  const part = { snapshot, volume, maxSize: MiB };
  const made = { create: async () => new Date(), fill: unused, restore: unused, read: unused, remove: unused };
  let copied = 0;
  const copy = async () => {
    copied++;
    return new Date();
  };
  await t.rejects(
    takeTogether({ directories: [], own: [{ ...part, own: made }] }, copy),
    /another host has made a part/,
  );
  t.equal(copied, 0);
  const right = { ...made, create: async (_id: unknown, _of: unknown, _size: unknown, at?: AtInstant) => at?.(unused) };
  const parts = { directories: [], own: [{ ...part, own: right as PoolSnapshots }] };
  t.ok((await takeTogether(parts, copy)) instanceof Date);
  t.equal(copied, 1);
});
