/** The files of projects, as they arrive, change and go. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { filesOf, sha256Of, startTestFileServer } from '../support/file-server.ts';
import { temporaryDirectory } from '../support/stores.ts';

t.test('files are recorded when they arrive, change, are renamed and go', async (t) => {
  const test = await startTestApi(t);
  const stranger = await test.member((await test.operator.create('projects', { name: 'other' })).id);
  const server = await startTestFileServer(t, test);
  const path = join(server.directory, 'disk.raw');

  writeFileSync(path, 'first');
  const first = await server.appears('disk.raw', 'first');
  t.match(first, { project: test.project, size: 5, server: server.server, status: { phase: 'available' } });
  t.equal(first.sha256, sha256Of('first'));
  await stranger.expect(404, 'GET', `/v1/files/${first.id}`);
  t.same((await stranger.list('files')).items, [], 'another project does not see it');

  writeFileSync(path, 'second');
  const second = await server.appears('disk.raw', 'second');
  t.equal(second.id, first.id, 'a changed file keeps its id');
  t.equal(second.created_at, first.created_at);

  renameSync(path, join(server.directory, 'renamed.raw'));
  await server.appears('renamed.raw', 'second');
  await server.vanishes('disk.raw');

  unlinkSync(join(server.directory, 'renamed.raw'));
  await server.vanishes('renamed.raw');
});

t.test('a change that keeps size and time is found by the times that users cannot set', async (t) => {
  const test = await startTestApi(t);
  const server = await startTestFileServer(t, test);
  const path = join(server.directory, 'a');
  writeFileSync(path, 'one');
  await server.appears('a', 'one');
  const { atime, mtime } = statSync(path);
  writeFileSync(path, 'two');
  utimesSync(path, atime, mtime);
  await server.appears('a', 'two');
});

t.test('a deletion by the API removes the file', async (t) => {
  const test = await startTestApi(t);
  const member = await test.member(test.project);
  const viewer = await test.member(test.project, 'viewer');
  const server = await startTestFileServer(t, test);
  writeFileSync(join(server.directory, 'old'), 'old');
  const file = await server.appears('old');
  await viewer.expect(403, 'DELETE', `/v1/files/${file.id}`);
  await server.stop();
  t.match(
    (
      await until('the scanner is gone', async () => {
        const seen = await member.get('files', file.id);
        return seen.status.phase === 'unavailable' && seen;
      })
    ).status.message,
    /does not run/,
  );
  const { body } = await member.expect(202, 'DELETE', `/v1/files/${file.id}`);
  t.equal(body.status.phase, 'deleting');
  await member.expect(202, 'DELETE', `/v1/files/${file.id}`);
  t.ok(existsSync(join(server.directory, 'old')), 'no scanner, so it is still there');
  await server.start();
  await member.gone('files', file.id, body.revision);
  t.notOk(existsSync(join(server.directory, 'old')));
});

t.test('a file that is being written is not recorded', async (t) => {
  const test = await startTestApi(t);
  const server = await startTestFileServer(t, test);
  const open = openSync(join(server.directory, 'open'), 'w');
  writeSync(open, 'part');
  writeFileSync(join(server.directory, 'whole'), 'whole');
  await server.appears('whole');
  // Scans go on meanwhile.
  writeFileSync(join(server.directory, 'later'), 'later');
  await server.appears('later');
  t.notOk((await filesOf(test.operator, test.project)).has('open'), 'a process has it open for writing');
  writeSync(open, 'and rest');
  closeSync(open);
  await server.appears('open', 'partand rest');
});

t.test('a scanner that starts again finds what changed meanwhile', async (t) => {
  const test = await startTestApi(t);
  const server = await startTestFileServer(t, test);
  for (const name of ['same', 'changed', 'gone']) writeFileSync(join(server.directory, name), name);
  for (const name of ['same', 'changed', 'gone']) await server.appears(name);
  const same = await server.appears('same');
  await server.stop();
  appendFileSync(join(server.directory, 'changed'), '!');
  rmSync(join(server.directory, 'gone'));
  await server.start();
  await server.appears('changed', 'changed!');
  await server.vanishes('gone');
  t.equal((await server.appears('same')).revision, same.revision, 'an unchanged file is not written again');
});

t.test('two file servers have each their own files', async (t) => {
  const test = await startTestApi(t);
  const one = await startTestFileServer(t, test);
  const two = await startTestFileServer(t, test, { name: 'files2' });
  writeFileSync(join(one.directory, 'disk'), 'one');
  writeFileSync(join(two.directory, 'disk'), 'two');
  const first = await one.appears('disk', 'one');
  const second = await two.appears('disk', 'two');
  t.not(first.id, second.id);
  unlinkSync(join(one.directory, 'disk'));
  await one.vanishes('disk');
  t.equal((await test.operator.get('files', second.id)).status.phase, 'available');
  t.same((await test.operator.list('file-servers')).items.map(({ name }) => name).sort(), ['files1', 'files2']);
});

t.test('10,000 files are recorded', async (t) => {
  const test = await startTestApi(t);
  const server = await startTestFileServer(t, test);
  const count = 10_000;
  for (let i = 0; i < count; i++) writeFileSync(join(server.directory, `file-${i}`), `${i}`);
  const started = performance.now();
  const usage = () => test.operator.get('projects', `${test.project}/usage`);
  await until(
    'all are recorded',
    async () => ((await usage()) as unknown as { used: { files: number } }).used.files === count,
  );
  t.comment(`${count} files in ${Math.round(performance.now() - started)} ms`);
  for (let i = 0; i < count; i += 2) unlinkSync(join(server.directory, `file-${i}`));
  await until(
    'half are gone',
    async () => ((await usage()) as unknown as { used: { files: number } }).used.files === count / 2,
  );
});

const sshd = '/usr/sbin/sshd';
const needsSshd =
  existsSync(sshd) && process.getuid?.() === 0 ? {} : { skip: 'needs root and sshd (package openssh-server)' };

t.test('files arrive over SFTP', needsSshd, async (t) => {
  const test = await startTestApi(t);
  const server = await startTestFileServer(t, test);
  const home = temporaryDirectory(t);
  const key = (name: string) => {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(home, name)]);
    return join(home, name);
  };
  const [hostKey, userKey] = [key('host'), key('user')];
  writeFileSync(join(home, 'authorized'), readFileSync(`${userKey}.pub`));
  const config = join(home, 'sshd_config');
  writeFileSync(
    config,
    [
      `HostKey ${hostKey}`,
      `AuthorizedKeysFile ${join(home, 'authorized')}`,
      'StrictModes no',
      'UsePAM no',
      'PermitRootLogin yes',
      `PidFile ${join(home, 'pid')}`,
      `Subsystem sftp internal-sftp -d ${server.directory}`,
      'ForceCommand internal-sftp -d '.concat(server.directory),
    ].join('\n'),
  );
  mkdirSync('/run/sshd', { recursive: true });
  const port = await freePort();
  const child = spawn(sshd, ['-D', '-e', '-f', config, '-o', `ListenAddress=[::1]:${port}`], { stdio: 'pipe' });
  const ended = once(child, 'exit');
  let said = '';
  child.stderr.on('data', (data: Buffer) => {
    said += data.toString();
  });
  t.teardown(async () => {
    child.kill();
    await ended;
  });
  await until('sshd listens', () => said.includes('Server listening'));
  const content = Buffer.alloc(3_000_000, 'disk');
  writeFileSync(join(home, 'local.raw'), content);
  const options = ['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', `Port=${port}`];
  const batch = join(home, 'batch');
  writeFileSync(batch, `put ${join(home, 'local.raw')} dropped.raw\n`);
  const put = spawnSync('sftp', ['-q', '-i', userKey, ...options, '-b', batch, 'root@[::1]'], { encoding: 'utf8' });
  t.equal(put.status, 0, put.stderr);
  t.match(await server.appears('dropped.raw', content), { size: content.length });
});

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '::1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}
