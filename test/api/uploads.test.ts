/** Uploads of files, from their beginning to the file. */
import { existsSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import t, { type Test } from 'tap';
import { Upload } from 'tus-js-client';
import * as records from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { sha256Of, startTestFileServer } from '../support/file-server.ts';
import { temporaryDirectory, withStore } from '../support/stores.ts';
import { metadataOf, Uploader } from '../support/uploading.ts';

async function start(t: Test) {
  const root = join(temporaryDirectory(t), 'files');
  const test = await startTestApi(t, { filesDir: root, store: await withStore(t) });
  const server = await startTestFileServer(t, test, { root, limits: { quietMs: 5000 } });
  const member = await test.member(test.project);
  const staged = () => {
    const directory = join(root, '.uploads');
    return existsSync(directory) ? readdirSync(directory) : [];
  };
  return { test, server, root, member, uploader: new Uploader(member), staged };
}

t.test('an upload in parts becomes a file', async (t) => {
  const { test, server, uploader, member, staged } = await start(t);
  const content = Buffer.alloc(300_000, 'content');
  const path = await uploader.begin('disk.raw', content);
  t.equal(await uploader.offset(path), 0);
  const first = await uploader.write(path, 0, content.subarray(0, 100_000));
  t.equal(first.status, 204);
  t.equal(first.headers.get('upload-offset'), '100000');
  t.match(await member.get('projects', `${test.project}/usage`), { used: { files: 1, file_bytes: '1MiB' } });
  const last = await uploader.write(path, 100_000, content.subarray(100_000));
  t.equal(last.status, 204);
  t.equal(last.headers.get('upload-offset'), '300000');
  const file = await server.appears('disk.raw', content);
  t.equal(file.id, last.headers.get('ucloud-file'));
  t.same(staged(), [], 'nothing remains beside the file');
  t.equal(await uploader.offset(path), 300_000, 'a client that lost the last answer learns that it is complete');
  await until('the upload no longer counts', async () => {
    const usage = await member.get('projects', `${test.project}/usage`);
    return (usage as unknown as { used: { files: number } }).used.files === 1;
  });
});

t.test('an upload replaces the file of its name, and an empty file needs no bytes', async (t) => {
  const { server, uploader } = await start(t);
  for (const content of ['old', 'new']) {
    const path = await uploader.begin('same', content);
    t.equal((await uploader.write(path, 0, content)).status, 204);
    await server.appears('same', content);
  }
  await uploader.begin('empty', '');
  await server.appears('empty', '');
});

t.test('tus-js-client uploads', async (t) => {
  const { server, test, member } = await start(t);
  const content = Buffer.alloc(5_000_000, 'tus');
  await new Promise<void>((resolve, reject) => {
    const upload = new Upload(content, {
      endpoint: `${test.url}/v1/uploads`,
      chunkSize: 1_000_000,
      headers: { authorization: `Bearer ${member.token}` },
      metadata: { name: 'tus.raw', sha256: sha256Of(content) },
      onSuccess: () => resolve(),
      onError: reject,
    });
    upload.start();
  });
  await server.appears('tus.raw', content);
});

t.test('another content than the declared one leaves nothing', async (t) => {
  const { server, uploader, staged } = await start(t);
  const path = await uploader.begin('disk', 'declared');
  t.match(await uploader.write(path, 0, 'tampered'), {
    status: 422,
    body: { code: 'rule_violated', errors: [{ pointer: '#header/Upload-Metadata', detail: /sha256/ }] },
  });
  t.same(staged(), []);
  t.notOk(existsSync(join(server.directory, 'disk')));
  t.equal((await uploader.send('HEAD', path)).status, 404);
});

t.test('a wrong offset, too many bytes and a read are refused and change nothing', async (t) => {
  const { uploader } = await start(t);
  const path = await uploader.begin('disk', 'content');
  await uploader.write(path, 0, 'con');
  for (const offset of [0, 2, 4, 7, 100])
    t.match(await uploader.write(path, offset, 'x'), { status: 409, body: { code: 'conflict' } }, `offset ${offset}`);
  t.match(await uploader.write(path, 3, 'tent and more'), { status: 413, body: { code: 'payload_too_large' } });
  t.match(await uploader.send('GET', path), { status: 405, body: { code: 'method_not_allowed' } });
  t.match(await uploader.send('GET', '/v1/uploads'), { status: 405 });
  t.match(await uploader.write(path, 3, 'tent', { 'content-type': 'application/json' }), {
    status: 415,
    body: { code: 'unsupported_media_type' },
  });
  t.match(await uploader.write(path, 3, 'tent', { 'tus-resumable': '0.2.2' }), { status: 412 });
  t.equal((await uploader.write(path, 3, 'tent', { 'upload-offset': '3x' })).status, 400);
  t.equal(await uploader.offset(path), 3);
  const chunked = Readable.toWeb(Readable.from([Buffer.from('tent'), Buffer.from(' and more')]));
  t.equal((await uploader.write(path, 3, chunked)).status, 413, 'also without a length');
});

t.test('bad declarations are refused by their field', async (t) => {
  const { uploader, test, member } = await start(t);
  const sha256 = sha256Of('x');
  for (const name of ['', '.', '..', '.hidden', 'a/b', '../a', 'a\0b', 'a\nb', '\u202ea', 'x'.repeat(256)]) {
    const answer = await uploader.create(name, 1, sha256);
    t.match(answer, { status: 400, body: { errors: [{ pointer: '#header/Upload-Metadata' }] } }, JSON.stringify(name));
  }
  for (const wrong of ['', 'x', sha256.toUpperCase(), `${sha256}0`])
    t.match(await uploader.create('a', 1, wrong), { status: 400, body: { detail: /sha256|valid/ } });
  for (const metadata of ['name', '=,=', 'name !!!', `name ${'A'.repeat(5000)}`])
    t.equal(
      (await uploader.send('POST', '/v1/uploads', { 'upload-length': '1', 'upload-metadata': metadata })).status,
      400,
    );
  const metadata = { 'upload-metadata': metadataOf({ name: 'a', sha256 }) };
  for (const length of ['-1', '1.5', '1e3', 'x', '99999999999999999999'])
    t.equal((await uploader.send('POST', '/v1/uploads', { ...metadata, 'upload-length': length })).status, 400, length);
  t.equal((await uploader.create('a', 2 ** 40 + 1, sha256)).status, 413);
  t.equal((await uploader.send('POST', '/v1/uploads', { ...metadata, 'upload-defer-length': '1' })).status, 400);
  const other = await test.operator.create('projects', { name: 'other' });
  t.equal((await uploader.create('a', 1, sha256, { project: other.id })).status, 422);
  const stranger = new Uploader(await test.member(other.id));
  const path = await uploader.begin('mine', 'x');
  for (const method of ['HEAD', 'DELETE']) t.equal((await stranger.send(method, path)).status, 404);
  t.equal((await stranger.write(path, 0, 'x')).status, 404);
  t.equal((await new Uploader(await test.member(test.project, 'viewer')).create('a', 1, sha256)).status, 403);
  t.equal((await new Uploader({ url: test.url, token: 'none' }).create('a', 1, sha256)).status, 401);
  t.equal((await uploader.send('DELETE', path)).status, 204);
  t.equal(
    ((await member.get('projects', `${test.project}/usage`)) as unknown as { used: { files: number } }).used.files,
    0,
  );
});

t.test('unfinished uploads count in the quota, and expire', async (t) => {
  const { uploader, test, staged } = await start(t);
  await test.operator.update('projects', test.project, { quota: { files: 2, file_bytes: '2MiB' } });
  const path = await uploader.begin('a', Buffer.alloc(2 ** 20));
  await uploader.write(path, 0, 'part');
  t.match(await uploader.create('b', 2 ** 20 + 1, sha256Of('b')), { status: 403, body: { code: 'quota_exceeded' } });
  await uploader.begin('b', 'b');
  t.match(await uploader.create('c', 0, sha256Of('')), { status: 403, body: { code: 'quota_exceeded' } });
  t.equal(staged().length, 2);
  const stored = await test.store.list('uploads/');
  for (const { value } of stored.entries) {
    const record = JSON.parse(value) as records.UploadRecord;
    await test.store.commit({
      write: [put(records.uploads, record.id, { ...record, expires_at: '2026-01-01T00:00:00.000Z' })],
    });
  }
  await until('the upload has expired', async () => (await uploader.send('HEAD', path)).status === 404);
  t.equal((await uploader.write(path, 4, 'x')).status, 404);
});

t.test('a name that is a link or a directory', async (t) => {
  const { uploader, server, root, staged } = await start(t);
  const outside = join(root, '..', 'outside');
  writeFileSync(outside, 'outside');
  symlinkSync(outside, join(server.directory, 'link'));
  const path = await uploader.begin('link', 'uploaded');
  t.equal((await uploader.write(path, 0, 'uploaded')).status, 204);
  await server.appears('link', 'uploaded');
  t.equal(readFileSync(outside, 'utf8'), 'outside', 'the link is replaced, and not followed');
  t.same(staged(), []);
});
