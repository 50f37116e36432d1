/** The provider's uploads: local files, the memory of unfinished uploads, and answers of a hostile API. */
import { appendFileSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Client } from '../../provider/client/client.ts';
import { PendingUpload } from '../../provider/upload/pending.ts';
import { readSource, withParts } from '../../provider/upload/source.ts';
import { upload } from '../../provider/upload/upload.ts';
import { asked } from '../support/cloud.ts';
import { sha256Of } from '../support/file-server.ts';
import { temporaryDirectory } from '../support/stores.ts';

const changed = { diagnostics: [{ summary: 'The source changed', path: ['source'] }] };
const never = new AbortController().signal;

t.test('a local file is read whole, and with its size', async (t) => {
  const path = join(temporaryDirectory(t), 'disk.raw');
  const content = Buffer.alloc(3_000_001, 'content');
  writeFileSync(path, content);
  t.strictSame(await readSource(path, never), { size: content.length, sha256: sha256Of(content) });
  const parts: Buffer[] = [];
  await withParts(path, content.length, async (part) => {
    for (const [start, end] of [
      [0, 1_000_000],
      [1_000_000, content.length],
    ] as const)
      for await (const piece of part(start, end)) parts.push(piece as Buffer);
  });
  t.ok(Buffer.concat(parts).equals(content));
});

t.test('a file that grows while it is read is refused, and the reading ends', async (t) => {
  const path = join(temporaryDirectory(t), 'disk.raw');
  writeFileSync(path, Buffer.alloc(8_000_000));
  let growing = true;
  const grow = () => {
    if (!growing) return;
    appendFileSync(path, 'x');
    setImmediate(grow);
  };
  const reading = readSource(path, never).finally(() => {
    growing = false;
  });
  grow();
  t.match(await reading.catch((error: unknown) => error), changed);
});

t.test('a file that became shorter fails the upload instead of leaving it without an end', async (t) => {
  const path = join(temporaryDirectory(t), 'disk.raw');
  writeFileSync(path, 'content');
  const before = withParts(path, 8, async () => undefined);
  t.match(await before.catch((error: unknown) => error), changed, 'before the first byte');
  const read = withParts(path, 7, async (open) => {
    writeFileSync(path, 'con');
    for await (const piece of open(0, 7)) t.ok(piece);
  });
  t.match(await read.catch((error: unknown) => error), changed, 'in the middle');
});

t.test('the reading of a large file ends with Ctrl-C', async (t) => {
  const path = join(temporaryDirectory(t), 'disk.raw');
  writeFileSync(path, Buffer.alloc(8_000_000));
  const stopped = new AbortController();
  stopped.abort(new Error('interrupted'));
  await t.rejects(readSource(path, stopped.signal), /interrupted/);
});

t.test('the memory of unfinished uploads does not grow without end, and trusts no address', async (t) => {
  const home = temporaryDirectory(t);
  asked(t, { UCLOUD_CREDENTIALS: join(home, 'credentials.json') });
  const directory = join(home, 'terraform-uploads');
  mkdirSync(directory);
  writeFileSync(join(directory, 'old'), '/v1/uploads/upl-0123456789abcdef');
  utimesSync(join(directory, 'old'), 0, 0);
  const pending = new PendingUpload('http://[::1]:1', 'project', 'name', 'hash');
  t.equal(pending.get(), undefined);
  pending.set('/v1/uploads/upl-0123456789abcdef');
  t.equal(pending.get(), '/v1/uploads/upl-0123456789abcdef');
  t.equal(new PendingUpload('http://[::1]:1', 'project', 'name', 'other').get(), undefined);
  const names = readdirSync(directory);
  t.equal(names.length, 1, 'the old one is removed');
  for (const text of ['//evil.example/v1/uploads/upl-0123456789abcdef', '/v1/projects', '']) {
    writeFileSync(join(directory, names[0] ?? ''), text);
    t.equal(pending.get(), undefined, text);
  }
  pending.clear();
  t.strictSame(readdirSync(directory), []);
});

/** Starts an API that answers as `answer` says, and returns the upload of a small file to it. */
async function uploadTo(t: Test, answer: (request: IncomingMessage, response: ServerResponse) => void) {
  const home = temporaryDirectory(t);
  asked(t, { UCLOUD_CREDENTIALS: join(home, 'credentials.json') });
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    request.resume();
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '::1', resolve));
  const endpoint = `http://[::1]:${(server.address() as AddressInfo).port}`;
  const client = new Client({ endpoint, token: 'secret', maxRetries: 0 });
  t.teardown(async () => {
    await client.close();
    server.closeAllConnections();
    server.close();
  });
  const source = join(home, 'disk.raw');
  writeFileSync(source, 'content');
  const wanted = { project: 'p', name: 'disk.raw', source, size: 7, sha256: sha256Of('content') };
  const done = upload(wanted, { client, signal: never, check: () => undefined, uploaded: () => undefined });
  return { done, requests };
}

t.test('the token goes to no address that the answer of an upload names', async (t) => {
  for (const location of ['//evil.example/v1/uploads/upl-0123456789abcdef', 'http://evil.example/', '/v1/vms', '']) {
    const { done, requests } = await uploadTo(t, (_request, response) =>
      response.writeHead(201, { location, 'ucloud-file': 'file-0123456789abcdef' }).end(),
    );
    await t.rejects(done, /does not name the new upload/, location);
    t.strictSame(requests, ['POST /v1/uploads']);
  }
});

t.test('an API whose offset never grows ends the upload with an error', async (t) => {
  const { done, requests } = await uploadTo(t, ({ method, url }, response) => {
    const file = { 'ucloud-file': 'file-0123456789abcdef' };
    if (method === 'POST') response.writeHead(201, { location: '/v1/uploads/upl-0123456789abcdef', ...file }).end();
    else if (method === 'HEAD') response.writeHead(200, { 'upload-offset': '0', ...file }).end();
    else if (url?.startsWith('/v1/files'))
      response
        .writeHead(404, { 'content-type': 'application/problem+json' })
        .end('{"code":"not_found","title":"Nothing"}');
    else response.writeHead(204, { 'upload-offset': '0', ...file }).end();
  });
  await t.rejects(done, /takes no bytes/);
  t.ok(requests.length < 50, `${requests.length} requests`);
});
