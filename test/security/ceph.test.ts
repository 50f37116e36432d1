/** The keys of Ceph pools, the programs that use them, and pools that do not answer. */
import { execFile } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { CephCommands, type CephSettings, uidOfPool } from '../../backend/host/storage/pools/ceph-commands.ts';
import { readKey } from '../../backend/host/storage/pools/ceph-key.ts';
import { CephPool } from '../../backend/host/storage/pools/ceph-pool.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { cephCluster, keyOf, noCeph } from '../support/ceph.ts';
import { eventually, until } from '../support/eventually.ts';
import { temporaryDirectory } from '../support/stores.ts';

const exec = promisify(execFile);
const skip = await noCeph();
const pool = idFrom('storage_pool', 'stp-0000000000000001');
const volume = idFrom('volume', 'vol-0000000000000001');
const MiB = 1024 ** 2;

const faultOf = (work: Promise<unknown>): Promise<Error> =>
  work.then(
    () => new Error('no error'),
    (error: Error) => error,
  );

/** Returns the programs of Ceph that this process has started, by their ids. */
const programs = (): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
        return /\((rbd|rados|ceph)\) [^Z]/.test(stat) && Number(stat.split(') ').at(-1)?.split(' ')[1]) === process.pid;
      } catch {
        return false; // It has ended meanwhile.
      }
    });

const asUser = (uid: number, ...command: readonly string[]): Promise<{ stdout: string }> =>
  exec('setpriv', [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', ...command]);

t.test('the programs of Ceph', { skip, timeout: 300_000 }, async (t) => {
  const cluster = await cephCluster(t);
  const settings = await cluster.pool('a');
  const key = keyOf(settings);
  await new CephPool(pool, settings).ensure(volume, 8 * MiB);

  await t.test(
    'have no privileges, and show the key to no other user, on no command line and in no error',
    async (t) => {
      cluster.hang();
      try {
        const fault = faultOf(new CephPool(pool, settings, { callMs: 4_000 }).sizeOf(volume));
        const pid = await until('the program runs', () => programs()[0], 4);
        const status = await until('the program has its user', () => {
          const text = readFileSync(`/proc/${pid}/status`, 'utf8');
          return /^Name:\trbd$/m.test(text) && text;
        });
        const uid = uidOfPool(pool);
        for (const field of ['Uid', 'Gid'])
          t.match(status, new RegExp(`^${field}:\t${uid}\t${uid}\t${uid}\t${uid}$`, 'm'));
        for (const set of ['Inh', 'Prm', 'Eff', 'Bnd', 'Amb']) t.match(status, new RegExp(`^Cap${set}:\t0{16}$`, 'm'));
        t.match(status, /^NoNewPrivs:\t1$/m);
        t.match(status, /^Groups:\t ?$/m);
        const bounds = readFileSync(`/proc/${pid}/limits`, 'utf8');
        for (const limit of ['address space', 'cpu time', 'file size', 'core file size', 'open files'])
          t.match(bounds, new RegExp(`^Max ${limit} +\\d+ `, 'm'));
        for (const file of ['cmdline', 'environ'])
          t.notOk(readFileSync(`/proc/${pid}/${file}`, 'latin1').includes(key), file);
        t.equal((await asUser(uid, 'cat', `/proc/${pid}/fd/3`)).stdout, key, 'its own user reads the key');
        await t.rejects(asUser(64_099, 'cat', `/proc/${pid}/fd/3`), { message: /Permission denied/ });
        t.notOk((await fault).message.includes(key));
        t.match(await fault, { message: /does not answer/ });
      } finally {
        cluster.goOn();
      }
      t.not(uidOfPool(pool), uidOfPool('stp-0000000000000002'), 'each pool has a user of its own');
    },
  );

  await t.test('a key opens its own pool only', async (t) => {
    const b = await cluster.pool('b');
    await new CephPool(pool, b).ensure(volume, 8 * MiB);
    const crossed: CephSettings = { ...settings, rbd_pool: 'b' };
    const driver = new CephPool(pool, crossed);
    const calls = [driver.list(), driver.sizeOf(volume), driver.remove(volume), driver.usage()].map(faultOf);
    for (const fault of await Promise.all(calls)) t.match(fault, { message: /Operation not permitted/ });
    t.equal(await new CephPool(pool, b).sizeOf(volume), 8 * MiB);
    const missing = await faultOf(new CephPool(pool, { ...settings, rbd_pool: 'c' }).sizeOf(volume));
    t.match(missing, { message: /the pool c of Ceph: .*error opening pool/ }, 'a missing pool is no missing volume');
  });

  await t.test('a wrong key, a wrong user and a monitor that is absent give an error soon', async (t) => {
    const wrong = join(cluster.directory, 'wrong');
    writeFileSync(wrong, Buffer.alloc(28, 7).toString('base64'), { mode: 0o600 });
    const cases: Partial<CephSettings>[] = [
      { key_file: wrong },
      { key_file: keyFileOf(await cluster.pool('d')) },
      { user: 'nobody' },
      { monitors: ['[::1]:1'] },
    ];
    for (const change of cases) {
      const fault = await faultOf(new CephPool(pool, { ...settings, ...change }, { callMs: 3_000 }).list());
      t.match(fault, { message: /does not answer|in the pool a of Ceph/ }, JSON.stringify(change));
      t.notOk(fault.message.includes(key));
    }
  });

  await t.test('a pool that hangs holds a few programs, and further calls fail at once', async (t) => {
    const commands = new CephCommands(pool, settings, { callMs: 4_000, maxPrograms: 3, end: () => undefined });
    const call = () => faultOf(commands.run('rbd', ['info', '--pool', 'a', `ucloud.${volume}`]));
    cluster.hang();
    try {
      const faults = Promise.all(Array.from({ length: 20 }, call));
      for (const fault of await faults) t.match(fault, { message: /the pool does not answer/ });
      await until('three programs have not ended', () => programs().length === 3, 30);
      const begin = performance.now();
      t.match(await call(), { message: /the pool does not answer/ });
      t.ok(performance.now() - begin < 500, 'a further call fails at once');
      t.equal(programs().length, 3);
    } finally {
      cluster.goOn();
    }
    await until('the programs end', () => programs().length === 0, 60);
    // The end of a program and the news of it are two events.
    const works = async () => (await commands.run('rbd', ['info', '--pool', 'a', `ucloud.${volume}`], 30_000)).ok;
    t.ok(await eventually(works, 60_000), 'the pool works again');
  });
});

const keyFileOf = ({ key_file }: CephSettings): string => key_file;

t.test('a key file that others can read or change is refused', { skip: process.getuid?.() !== 0 }, async (t) => {
  const directory = temporaryDirectory(t);
  const path = (name: string) => join(directory, name);
  const key = Buffer.alloc(28, 9).toString('base64');
  const write = (name: string, text: string, mode = 0o600) => {
    writeFileSync(path(name), text);
    chmodSync(path(name), mode);
    return path(name);
  };
  t.equal(await readKey(write('good', `${key}\n`)), key);
  symlinkSync(path('good'), path('link'));
  mkdirSync(path('directory'), { mode: 0o700 });
  await exec('mkfifo', ['-m', '600', path('pipe')]);
  chownSync(write('owned', key), 64_099, 0);
  const cases: readonly (readonly [string, RegExp])[] = [
    [path('absent'), /does not exist/],
    [path('link'), /ELOOP/],
    [path('directory'), /no regular file/],
    [path('pipe'), /no regular file/],
    [path('owned'), /must belong to root, with mode 600/],
    [write('world', key, 0o604), /must belong to root, with mode 600/],
    [write('group', key, 0o640), /must belong to root, with mode 600/],
    [write('empty', ''), /must contain the key in base64/],
    [write('keyring', `[client.a]\n\tkey = ${key}\n`), /must contain the key in base64/],
    [write('large', key.repeat(200)), /must contain the key in base64/],
    [write('option', '--conf=/etc/shadow'), /must contain the key in base64/],
  ];
  for (const [file, message] of cases) {
    const fault = await faultOf(readKey(file));
    t.match(fault, { message }, file);
    t.match(fault, { message: /^key_file: / });
    t.notOk(fault.message.includes(key));
  }
});
