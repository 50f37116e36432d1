/** Uploads that are interrupted, slow or large. */
import { fork } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import t, { type Test } from 'tap';
import { ensureOperatorToken, ensureProject } from '../../backend/api/tokens/first-operator-token.ts';
import { openEmbeddedStore } from '../../backend/store/embedded.ts';
import { ApiClient, startTestApi } from '../support/api.ts';
import { until, within } from '../support/eventually.ts';
import { sha256Of, startTestFileServer } from '../support/file-server.ts';
import { temporaryDirectory, withStore } from '../support/stores.ts';
import { Uploader } from '../support/uploading.ts';

const MiB = 2 ** 20;
/** The size of the large upload. `npm run test:images` sends 4 GiB. */
const largeMiB = Number(process.env.UCLOUD_UPLOAD_MIB ?? '200');

async function startProcesses(t: Test) {
  const directory = temporaryDirectory(t);
  const [path, root] = [join(directory, 'store.db'), join(directory, 'files')];
  const store = await openEmbeddedStore({ path });
  const token = (await ensureOperatorToken(store))?.secret ?? '';
  const project = await ensureProject(store, 'default');
  await store.close();
  const start = async () => {
    const child = fork(join(import.meta.dirname, '..', 'support', 'upload-process.ts'), [path, root]);
    const ended = once(child, 'exit');
    t.teardown(async () => {
      child.kill('SIGKILL');
      await ended;
    });
    const ask = async () => {
      const answer = within('an answer of the process', once(child, 'message'));
      child.send('memory');
      return ((await answer)[0] as { rss: number }).rss;
    };
    const [{ url }] = (await within('the start', once(child, 'message'))) as [{ url: string }];
    return {
      url,
      rss: ask,
      kill: async () => {
        child.kill('SIGKILL');
        await ended;
      },
      uploader: new Uploader({ url, token }),
      client: new ApiClient(url, token),
    };
  };
  return { root, project, start };
}

t.test('an upload survives kill -9 of the API, as often as it comes', async (t) => {
  const { root, project, start } = await startProcesses(t);
  const content = randomBytes(24 * MiB);
  let api = await start();
  const path = await api.uploader.begin('disk.raw', content, { project });
  let offset = 0;
  for (const stop of [5 * MiB, 12 * MiB, 20 * MiB]) {
    let sent = offset;
    const slowly = async function* () {
      for (; sent < stop + 2 * MiB; sent += 65536) {
        yield content.subarray(sent, sent + 65536);
        if (sent >= stop) await api.kill();
      }
    };
    await api.uploader.write(path, offset, Readable.toWeb(Readable.from(slowly()))).catch(() => undefined);
    api = await start();
    const kept = await api.uploader.offset(path);
    t.ok(kept >= offset && kept <= sent + 65536, `${kept} bytes are kept`);
    t.ok(kept > offset, 'and they are more than before');
    offset = kept;
  }
  const last = await api.uploader.write(path, offset, content.subarray(offset));
  t.equal(last.status, 204, JSON.stringify(last.body));
  const file = await until('the file', async () => (await api.client.list('files', '?name=disk.raw')).items[0]);
  t.equal((file as unknown as { sha256: string }).sha256, sha256Of(content));
  t.same(readdirSync(join(root, '.uploads')), []);
});

t.test('a crash between the last byte and the answer loses nothing', async (t) => {
  const { project, start } = await startProcesses(t);
  const content = randomBytes(MiB);
  let api = await start();
  const path = await api.uploader.begin('disk.raw', content, { project });
  const all = api.uploader.write(path, 0, content).catch(() => undefined);
  await until('the bytes are there', async () => (await api.uploader.offset(path).catch(() => 0)) > 0);
  await api.kill();
  await all;
  api = await start();
  const offset = await api.uploader.offset(path);
  if (offset < content.length) t.equal((await api.uploader.write(path, offset, content.subarray(offset))).status, 204);
  const file = await until('the file', async () => (await api.client.list('files', '?name=disk.raw')).items[0]);
  t.equal((file as unknown as { sha256: string }).sha256, sha256Of(content));
});

t.test('a large upload takes little memory of the API, also after kill -9', async (t) => {
  const { project, start } = await startProcesses(t);
  let api = await start();
  const piece = randomBytes(MiB);
  const hash = createHash('sha256');
  for (let i = 0; i < largeMiB; i++) hash.update(piece);
  const sha256 = hash.digest('hex');
  const { headers } = await api.uploader.create('large.raw', largeMiB * MiB, sha256, { project });
  const path = headers.get('location') ?? '';
  let growth = 0;
  const send = async (from: number, killAt: number) => {
    const { rss, kill, uploader } = api;
    const before = await rss();
    const body = async function* () {
      // An offset may be in the middle of a piece.
      yield piece.subarray(from % MiB);
      for (let i = Math.floor(from / MiB) + 1; i < largeMiB; i++) {
        if (i === killAt) await kill();
        yield piece;
        if (i % 20 === 0) growth = Math.max(growth, (await rss()) - before);
      }
    };
    const answer = await uploader.write(path, from, Readable.toWeb(Readable.from(body())));
    growth = Math.max(growth, (await rss()) - before);
    return answer;
  };
  await send(0, Math.floor(largeMiB / 2)).catch(() => undefined);
  api = await start();
  const offset = await api.uploader.offset(path);
  t.ok(offset > 0 && offset < largeMiB * MiB, `the kill came after ${offset} bytes`);
  t.equal((await send(offset, -1)).status, 204);
  const file = await until('the file', async () => (await api.client.list('files', '?name=large.raw')).items[0]);
  t.match(file, { size: largeMiB * MiB, sha256 });
  t.comment(`${Math.round(growth / MiB)} MiB more`);
  t.ok(growth < 150 * MiB, `${Math.round(growth / MiB)} MiB more`);
});

t.test('two API servers serve one upload, and a new connection takes it over', async (t) => {
  const root = join(temporaryDirectory(t), 'files');
  const store = await withStore(t);
  const one = await startTestApi(t, { filesDir: root, store: store.session() });
  const two = new (await import('../support/api.ts')).ApiClient('', one.operatorToken);
  const { startApi } = await import('../../backend/api/start.ts');
  const { silentLogger } = await import('../support/silent-logger.ts');
  const second = await startApi({
    store: store.session(),
    logger: silentLogger,
    listen: { host: '::1', port: 0 },
    filesDir: root,
  });
  t.teardown(() => second.close());
  const server = await startTestFileServer(t, one, { root });
  const first = new Uploader({ url: one.url, token: two.token });
  const other = new Uploader({ url: second.url, token: two.token });
  const content = randomBytes(MiB);
  const path = await first.begin('disk', content, { project: one.project });
  const stuck = Promise.withResolvers<void>();
  t.teardown(() => stuck.resolve());
  const half = async function* () {
    yield content.subarray(0, 100_000);
    await stuck.promise;
  };
  const hanging = first.write(path, 0, Readable.toWeb(Readable.from(half()))).catch(() => undefined);
  await until('the first bytes', async () => (await other.offset(path)) === 100_000);
  t.equal((await other.write(path, 100_000, content.subarray(100_000))).status, 204, 'the other server takes over');
  await server.appears('disk', content);
  stuck.resolve();
  await hanging;
});

t.test('an upload without bytes for some time is ended, and one with bytes is not', async (t) => {
  const root = join(temporaryDirectory(t), 'files');
  const test = await startTestApi(t, { filesDir: root, arrivalTimeout: 400 });
  await startTestFileServer(t, test, { root });
  const uploader = new Uploader(await test.member(test.project));
  const path = await uploader.begin('slow', 'x'.repeat(20));
  const send = (bytes: readonly string[], pauseMs: number) => {
    const { hostname, port } = new URL(test.url);
    const socket = connect(Number(port), hostname.slice(1, -1));
    let answer = '';
    socket.on('data', (data: Buffer) => {
      answer += data.toString();
    });
    socket.on('error', () => undefined);
    return {
      socket,
      answer: () => answer,
      async run(token: string | undefined, offset: number) {
        socket.write(
          `PATCH ${path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: ${offset}\r\nContent-Type: application/offset+octet-stream\r\nContent-Length: ${20 - offset}\r\n\r\n`,
        );
        for (const byte of bytes) {
          socket.write(byte);
          const started = performance.now();
          await until('the next byte is due', () => performance.now() - started > pauseMs);
        }
      },
    };
  };
  const { token } = await test.member(test.project);
  const idle = send(['xxxxx'], 0);
  await idle.run(token, 0);
  await until('408', () => idle.answer().startsWith('HTTP/1.1 408'));
  const offset = await until('the lock is free', () => uploader.offset(path));
  const slow = send(
    Array.from({ length: 20 - offset }, () => 'x'),
    100,
  );
  await slow.run(token, offset);
  await until('204', () => slow.answer().startsWith('HTTP/1.1 204'));
  t.pass('a slow upload took longer than the limit for other requests');
});
