/** `ucloud file upload`, as a user runs it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t, { type Test } from 'tap';
import { startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { sha256Of, startTestFileServer } from '../support/file-server.ts';
import { startGateway } from '../support/slow-gateway.ts';
import { temporaryDirectory } from '../support/stores.ts';

async function start(t: Test) {
  const home = temporaryDirectory(t);
  const root = join(home, 'files');
  const test = await startTestApi(t, { filesDir: root });
  const server = await startTestFileServer(t, test, { root });
  const { token } = await test.member(test.project);
  const run = (url: string, ...args: string[]) => {
    const child = spawn(resolve('backend/cli/ucloud'), args, {
      env: {
        ...process.env,
        UCLOUD_ENDPOINT: url,
        UCLOUD_TOKEN: token ?? '',
        UCLOUD_CREDENTIALS: join(home, 'credentials.json'),
      },
    });
    let [out, err] = ['', ''];
    child.stdout.on('data', (data: Buffer) => {
      out += data.toString();
    });
    child.stderr.on('data', (data: Buffer) => {
      err += data.toString();
    });
    const ended = once(child, 'close');
    t.teardown(() => child.kill('SIGKILL'));
    return {
      child,
      end: async () => ({ status: ((await ended) as [number | null])[0], out, err }),
    };
  };
  return { test, server, home, run };
}

t.test('a file is uploaded, listed, shown and deleted', async (t) => {
  const { test, server, home, run } = await start(t);
  const local = join(home, 'local.raw');
  writeFileSync(local, 'content');
  const { status, out, err } = await run(test.url, 'file', 'upload', local, '--name', 'disk.raw', '--json').end();
  t.equal(status, 0, err);
  t.match(JSON.parse(out), { name: 'disk.raw', size: 7, sha256: sha256Of('content'), status: { phase: 'available' } });
  t.match((await run(test.url, 'file', 'list').end()).out, /disk\.raw/);
  t.match((await run(test.url, 'file', 'get', 'disk.raw').end()).out, /sha256/);
  const again = await run(test.url, 'file', 'upload', local, '--name', 'disk.raw').end();
  t.equal(again.status, 0, again.err);
  t.equal((await run(test.url, 'file', 'delete', 'disk.raw', '--wait').end()).status, 0);
  await server.vanishes('disk.raw');
  const refused = await run(test.url, 'file', 'upload', local, '--name', '../disk').end();
  t.equal(refused.status, 1);
  t.match(refused.err, /must not/);
  t.equal((await run(test.url, 'file', 'upload', join(home, 'missing')).end()).status, 1);
});

t.test('an interrupted upload resumes, by itself and in another run', async (t) => {
  const { test, server, home, run } = await start(t);
  const local = join(home, 'disk.raw');
  const content = Buffer.alloc(20_000_000, 'content');
  writeFileSync(local, content);
  const gateway = await startGateway(t, test.url);

  gateway.passOnly(6_000_000);
  const first = run(gateway.url, 'file', 'upload', local);
  await until('the connection has broken', () => gateway.broken() > 0);
  gateway.passOnly(Number.POSITIVE_INFINITY);
  const done = await first.end();
  t.equal(done.status, 0, done.err);
  await server.appears('disk.raw', content);

  gateway.passOnly(6_000_000);
  const second = run(gateway.url, 'file', 'upload', local, '--name', 'other.raw');
  await until('the connection has broken', () => gateway.broken() > 1);
  second.child.kill('SIGKILL');
  await second.end();
  gateway.passOnly(Number.POSITIVE_INFINITY);
  const third = await run(gateway.url, 'file', 'upload', local, '--name', 'other.raw').end();
  t.equal(third.status, 0, third.err);
  t.match(third.err, /Resuming at/);
  await server.appears('other.raw', content);
});
