/**
 * Many files in the directory of one project. `npm test` tries 20,000; `npm run test:images` tries a million, which takes
 * up to an hour.
 */
import { execFile } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  promises,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { setImmediate as immediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import t from 'tap';
import { fileDirectories, files } from '../../backend/model/records/index.ts';
import { read, readAll } from '../../backend/store/collection.ts';
import { startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { startTestFileServer } from '../support/file-server.ts';
import type { ManyFiles } from '../support/many-files.ts';
import { temporaryDirectory } from '../support/stores.ts';

const exec = promisify(execFile);
const count = Number(process.env.UCLOUD_FILES ?? '20000');
/** Files of wrong bytes, with a quota for three of four of them. */
const quota = Math.floor(count * 0.75);
/** The heap of the process, with its store: a base, and what each recorded file may take. */
const heapMiB = Math.ceil(128 + (quota * 400) / 2 ** 20);

t.comment(`${count} files`);
t.test('many files take bounded memory, and hold up no other project', { timeout: 7_200_000 }, async (t) => {
  const { stdout } = await exec(process.execPath, [
    `--max-old-space-size=${heapMiB}`,
    '--disable-warning=ExperimentalWarning',
    'test/support/many-files.ts',
    temporaryDirectory(t),
    `${count}`,
    `${quota}`,
  ]);
  const measured = JSON.parse(stdout) as ManyFiles;
  t.comment(JSON.stringify({ heapMiB, ...measured }));
  t.ok(measured.otherSeconds < measured.allSeconds / 2, 'the other project does not wait for the end');
  t.equal(measured.events, 1, 'one event tells of the files beyond the quota');
  t.equal(measured.logLines, 0, 'files beyond the quota are no matter for the log');
});

const tmpfs = '/dev/shm';
const needsTmpfs = existsSync(tmpfs) ? {} : { skip: 'needs /dev/shm' };

t.test('files that others replace during scans keep their records', needsTmpfs, async (t) => {
  const test = await startTestApi(t);
  const directory = mkdtempSync(join(tmpfs, 'ucloud-test-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const server = await startTestFileServer(t, test, {
    root: join(directory, 'files'),
    limits: { intervalMs: 20, pauseMs: 1 },
  });
  const path = (i: number) => join(server.directory, `file-${i}`);
  const count = 2000;
  for (let i = 0; i < count; i++) writeFileSync(path(i), '');
  const all = async () => {
    const found = new Map<string, string>();
    for await (const { value } of readAll(test.store, files)) {
      if (value.name.startsWith('file-')) found.set(value.name, value.created_at);
    }
    return found.size === count && found;
  };
  const before = await until('all files', all);
  // On tmpfs a file that replaces another one has a new place in the directory, and a listing in progress misses it.
  let ended = false;
  const replacing = (async () => {
    for (let round = 0; !ended; round++) {
      writeFileSync(join(server.directory, '.new'), `${round}`);
      renameSync(join(server.directory, '.new'), path((round * 7) % count));
      await immediate();
    }
  })();
  // Each of these takes at least one scan.
  for (const name of ['one', 'two']) {
    writeFileSync(join(server.directory, name), name);
    await server.appears(name);
  }
  ended = true;
  await replacing;
  const after = await until('all files', all);
  const lost = [...before].filter(([name, createdAt]) => after.get(name) !== createdAt);
  t.same(lost, []);
});

t.test('a change in a large directory is found without a list of all files', async (t) => {
  const test = await startTestApi(t);
  const server = await startTestFileServer(t, test, { limits: { intervalMs: 3_600_000 } });
  for (let i = 0; i < 6000; i++) writeFileSync(join(server.directory, `file-${i}`), '');
  const directory = async () => (await read(test.store, fileDirectories, `${server.server}/${test.project}`))?.value;
  await until('all files', async () => (await directory())?.files === 6000);

  const real = promises.opendir;
  const listed: string[] = [];
  promises.opendir = ((path, options) => {
    listed.push(String(path));
    return real(path, options);
  }) as typeof real;
  syncBuiltinESMExports();
  t.teardown(() => {
    promises.opendir = real;
    syncBuiltinESMExports();
  });
  const path = (name: string) => join(server.directory, name);
  const change = async (round: number) => {
    writeFileSync(path('file-7'), `changed ${round}`);
    await server.appears('file-7', `changed ${round}`);
    writeFileSync(path('new'), 'new');
    await server.appears('new', 'new');
    renameSync(path('new'), path('renamed'));
    const renamed = await server.appears('renamed', 'new');
    await server.vanishes('new');
    rmSync(path('file-8'));
    await server.vanishes('file-8');
    await test.operator.remove('files', renamed.id);
    await server.vanishes('renamed');
    t.notOk(existsSync(path('renamed')));
    writeFileSync(path('file-8'), 'again');
    await server.appears('file-8', 'again');
  };
  // A scan of the whole directory may still be due once more.
  let round = 0;
  await until('changes without a list of the directory', async () => {
    const before = listed.length;
    await change(round++);
    return listed.length === before;
  });
  t.equal((await directory())?.files, 6000);

  // A burst of changes is no reason to lose one.
  for (let i = 0; i < 12_000; i++) writeFileSync(join(server.directory, `burst-${i}`), '');
  await until('all files', async () => (await directory())?.files === 18_000);
});

t.test('files that never rest do not hold up others of their project', async (t) => {
  const test = await startTestApi(t);
  const server = await startTestFileServer(t, test);
  let ended = false;
  const writing = (async () => {
    for (let i = 0; !ended; i++) {
      appendFileSync(join(server.directory, `busy-${i % 200}`), 'x');
      await immediate();
    }
  })();
  for (const name of ['one', 'two', 'three']) {
    writeFileSync(join(server.directory, name), name);
    await server.appears(name, name);
  }
  ended = true;
  await writing;
  t.pass('they have records');
});

/** Tells whether this process, which has the scanner, reads the file. */
const isOpen = (path: string): boolean =>
  readdirSync('/proc/self/fd').some((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false;
    }
  });

t.test('a small file does not wait for a large one of its project', async (t) => {
  const test = await startTestApi(t);
  const server = await startTestFileServer(t, test);
  const recorded = async (name: string) => {
    for await (const { value } of readAll(test.store, files)) if (value.name === name) return true;
    return false;
  };
  writeFileSync(join(server.directory, 'large'), '');
  truncateSync(join(server.directory, 'large'), 4 * 2 ** 30);
  await until('the large file is being read', () => isOpen(join(server.directory, 'large')));
  writeFileSync(join(server.directory, 'small'), 'small');
  await server.appears('small', 'small');
  t.notOk(await recorded('large'), 'the large file is still being read');
  truncateSync(join(server.directory, 'large'), 1);
  await server.appears('large');
});
