/** Attacks by files that users put into the directories of their projects. */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { filesOf, startTestFileServer } from '../support/file-server.ts';
import { temporaryDirectory } from '../support/stores.ts';

t.test('links, hard links, pipes and directories are not files of a project', async (t) => {
  const test = await startTestApi(t);
  const server = await startTestFileServer(t, test);
  const outside = join(temporaryDirectory(t), 'secret');
  writeFileSync(outside, 'secret');
  const other = join(server.root, 'hard-linked');
  writeFileSync(other, 'secret of another user');
  const inside = (name: string) => join(server.directory, name);
  symlinkSync(outside, inside('link'));
  symlinkSync('.', inside('link-to-directory'));
  linkSync(other, inside('hard-link'));
  execFileSync('mkfifo', [inside('pipe')]);
  mkdirSync(inside('directory'));
  writeFileSync(join(inside('directory'), 'nested'), 'nested');
  writeFileSync(inside('.hidden'), 'hidden');
  writeFileSync(inside('honest'), 'honest');
  await server.appears('honest');
  writeFileSync(inside('later'), 'later');
  await server.appears('later');
  t.same([...(await filesOf(test.operator, test.project)).keys()].sort(), ['honest', 'later']);

  rmSync(other);
  await server.appears('hard-link', 'secret of another user');
  t.pass('with one link left, the file belongs to the directory alone');
});

t.test('a file that becomes a link is no file any more, and its deletion removes the link only', async (t) => {
  const test = await startTestApi(t);
  const server = await startTestFileServer(t, test);
  const outside = join(temporaryDirectory(t), 'precious');
  writeFileSync(outside, 'precious');
  const path = join(server.directory, 'disk');
  writeFileSync(path, 'disk');
  const file = await server.appears('disk');
  await server.stop();
  await test.operator.expect(202, 'DELETE', `/v1/files/${file.id}`);
  rmSync(path);
  symlinkSync(outside, path);
  await server.start();
  await server.vanishes('disk');
  t.equal(readFileSync(outside, 'utf8'), 'precious');
});

t.test('a directory of a project that becomes a link leads nowhere', async (t) => {
  const test = await startTestApi(t);
  const server = await startTestFileServer(t, test);
  writeFileSync(join(server.directory, 'own'), 'own');
  const own = await server.appears('own');
  const outside = temporaryDirectory(t);
  writeFileSync(join(outside, 'secret'), 'secret');
  renameSync(server.directory, `${server.directory}-old`);
  symlinkSync(outside, server.directory);
  await until('the file is unavailable', async () => {
    return (await test.operator.get('files', own.id)).status.phase === 'unavailable';
  });
  t.same([...(await filesOf(test.operator, test.project)).keys()], ['own']);
});

t.test('names in any encoding are shown escaped, and can be deleted', async (t) => {
  const test = await startTestApi(t);
  const server = await startTestFileServer(t, test);
  const names: readonly [Buffer, string][] = [
    [Buffer.from('b\xe4r.raw', 'latin1'), 'b%E4r.raw'],
    [Buffer.from('b%E4r.raw'), 'b%25E4r.raw'],
    [Buffer.from('\x1b[2J\n\u202eraw'), '%1B[2J%0A%E2%80%AEraw'],
    [Buffer.alloc(255, 0xff), '%FF'.repeat(255)],
  ];
  const paths = names.map(([name]) => Buffer.concat([Buffer.from(`${server.directory}/`), name]));
  for (const [i, path] of paths.entries()) writeFileSync(path, `${i}`);
  for (const [i, [, text]] of names.entries()) {
    const file = await server.appears(text, `${i}`);
    const { body } = await test.operator.expect(202, 'DELETE', `/v1/files/${file.id}`);
    await test.operator.gone('files', file.id, body.revision);
  }
  for (const path of paths) t.notOk(existsSync(path));
});

t.test('a directory that disappears keeps the records of its files', async (t) => {
  const test = await startTestApi(t);
  const server = await startTestFileServer(t, test);
  writeFileSync(join(server.directory, 'disk'), 'disk');
  const { id } = await server.appears('disk');
  const phase = (wanted: string) =>
    until(`the phase ${wanted}`, async () => {
      const { status } = await test.operator.get('files', id);
      return status.phase === wanted && status;
    });

  renameSync(server.root, `${server.root}-away`);
  t.match((await phase('unavailable')).message, /missing/);
  mkdirSync(join(server.directory), { recursive: true });
  await until('the empty mount point is noticed', async () => /no id/.test((await phase('unavailable')).message ?? ''));
  rmSync(server.root, { recursive: true });
  renameSync(`${server.root}-away`, server.root);
  await phase('available');

  renameSync(server.directory, `${server.directory}-away`);
  await phase('unavailable');
  mkdirSync(server.directory);
  await until('the empty directory is noticed', async () => /empty/.test((await phase('unavailable')).message ?? ''));
  rmSync(server.directory, { recursive: true });
  renameSync(`${server.directory}-away`, server.directory);
  await phase('available');

  await server.stop();
  renameSync(server.root, `${server.root}-away`);
  await server.start();
  await until('a start without the directory', async () => /missing/.test((await phase('unavailable')).message ?? ''));
  t.equal((await test.operator.list('file-servers')).items.length, 1);
});

t.test('the quota of files and bytes holds, and an event tells of files beyond it', async (t) => {
  const test = await startTestApi(t);
  const { operator, project } = test;
  await operator.update('projects', project, { quota: { files: 3, file_bytes: '1MiB' } });
  const server = await startTestFileServer(t, test);
  const refused = () =>
    until('an event', async () => {
      const { items } = await operator.list('events', `?target=${project}&limit=1000`);
      return items.find(({ reason }) => reason === 'files_refused');
    });
  writeFileSync(join(server.directory, 'large'), Buffer.alloc(2 ** 20 + 1));
  t.match((await refused()).message, /1 files .* exceed the quota/);
  t.equal((await filesOf(operator, project)).size, 0);
  for (let i = 0; i < 10; i++) writeFileSync(join(server.directory, `small-${i}`), 'x');
  await until('three files', async () => (await filesOf(operator, project)).size === 3);
  writeFileSync(join(server.directory, 'another'), 'x');
  await until('a quota that allows all', async () => {
    const { size } = await filesOf(operator, project);
    if (size > 3) throw new Error(`${size} files are offered`);
    await operator.update('projects', project, { quota: { files: 12, file_bytes: '1MiB' } });
    return true;
  });
  await until('all small files', async () => (await filesOf(operator, project)).size === 11);
  const [known] = (await filesOf(operator, project)).keys();
  truncateSync(join(server.directory, known ?? ''), 2 ** 21);
  await server.vanishes(known ?? '');
  t.pass('a file that grows beyond the quota is no longer offered');
});

t.test('a file of one project that takes long does not hold up those of others', async (t) => {
  const test = await startTestApi(t);
  const { operator } = test;
  const server = await startTestFileServer(t, test, { limits: { maxFileBytes: 2 ** 50 } });
  const other = await operator.create('projects', { name: 'other' });
  const vast = join(server.directory, 'vast');
  writeFileSync(vast, '');
  truncateSync(vast, 2 ** 42);
  mkdirSync(join(server.root, other.id), { recursive: true });
  for (const name of ['one', 'two', 'three']) {
    writeFileSync(join(server.root, other.id, name), name);
    await until(name, async () => (await filesOf(operator, other.id)).has(name));
  }
  t.equal((await filesOf(operator, test.project)).size, 0, 'the vast file is still being read');
  await server.stop();
  t.pass('and reading ends with the scanner');
});

t.test('a file that changes while it is read is read again', async (t) => {
  const test = await startTestApi(t);
  const server = await startTestFileServer(t, test, { limits: { quietMs: 1 } });
  const path = join(server.directory, 'log');
  writeFileSync(path, Buffer.alloc(50_000_000));
  for (let i = 0; i < 20; i++) {
    appendFileSync(path, `${i}`);
    const seen = (await filesOf(test.operator, test.project)).get('log');
    if (seen) t.equal(seen.size >= 50_000_000, true);
  }
  await server.appears('log', readFileSync(path));
});
