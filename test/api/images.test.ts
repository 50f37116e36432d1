/** An image, from its creation to its end. */
import t from 'tap';
import * as records from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { startTestApi } from '../support/api.ts';

t.test('an image', async (t) => {
  const test = await startTestApi(t);
  const { operator, store } = test;
  const other = await operator.create('projects', { name: 'other' });
  const member = await test.member(test.project);
  const stranger = await test.member(other.id);
  const image = await member.create('images', { name: 'debian', source: 'file:debian.qcow2' });
  t.match(image, { status: { phase: 'pending' }, architecture: 'x86_64', visibility: 'project' });

  const sha256 = 'a'.repeat(64);
  const reports = put(records.imageReports, image.id, { phase: 'available', sha256, size: 2 ** 31 + 512, at: 'now' });
  await store.commit({ write: [reports] });
  const seen = await member.get('images', image.id, `?after=${image.revision}&timeout=10`);
  t.match(seen, { status: { phase: 'available' }, sha256, size: '2049MiB' }, 'what the scanner found shows');

  await stranger.expect(404, 'GET', `/v1/images/${image.id}`);
  await member.expect(403, 'PATCH', `/v1/images/${image.id}`, { visibility: 'public' });
  await operator.update('images', image.id, { visibility: 'public' });
  t.equal((await stranger.get('images', image.id)).name, 'debian', 'public images are everybody’s to read');
  const own = await stranger.create('images', { name: 'debian', source: 'file:debian.qcow2' });
  t.same(
    (await stranger.list('images')).items.map(({ id }) => id),
    [own.id, image.id].sort(),
  );
  t.same(
    (await stranger.list('images', `?project=${other.id}`)).items.map(({ id }) => id),
    [own.id],
  );
  t.equal((await stranger.list('images', '?name=debian')).items.length, 2);
  const refused = await stranger.expect(403, 'DELETE', `/v1/images/${image.id}`);
  t.match(refused.body, { code: 'forbidden' }, 'but not to change');

  for (const [source, status, pointer] of [
    ['https://example.net/a.raw', 422, '/sha256'],
    ['http://example.net/a.raw', 422, '/source'],
    ['https://user:secret@example.net/a.raw', 400, '/source'],
    ['https://[zz]/a.raw', 400, '/source'],
    ['file:../../etc/passwd', 400, '/source'],
    ['file:/etc/passwd', 400, '/source'],
    ['file:.hidden', 400, '/source'],
    ['ftp://example.net/a', 400, '/source'],
  ] as const) {
    const answer = await member.request('POST', '/v1/images', { name: 'x', source });
    t.match(answer, { status, body: { errors: [{ pointer }] } }, source);
  }
  const url = 'https://example.net/a.raw';
  const sha512 = 'b'.repeat(128);
  const both = await member.request('POST', '/v1/images', { name: 'x', source: url, sha256, sha512 });
  t.match(both, { status: 422, body: { errors: [{ pointer: '/sha512' }] } }, 'a URL has one checksum');
  const short = await member.request('POST', '/v1/images', { name: 'x', source: url, sha512: sha256 });
  t.match(short, { status: 400, body: { errors: [{ pointer: '/sha512' }] } });
  const long = await member.create('images', { name: 'long', source: url, sha512 });
  await store.commit({
    write: [
      put(records.imageReports, long.id, { phase: 'importing', step: 'converting', percent: 70, sha256, at: 'now' }),
    ],
  });
  const running = await member.get('images', long.id, `?after=${long.revision}&timeout=10`);
  t.match(running, { sha512, status: { phase: 'importing', step: 'converting', progress: 70 } });
  t.notOk('sha256' in running, 'a copy of the answer can be declared again');
  const [importing] = (await member.list('operations', `?target=${long.id}`)).items;
  t.match(
    importing,
    { kind: 'image_import', target: long.id, state: 'pending', progress: 0 },
    'an import is an operation',
  );
  await member.remove('images', long.id);
  const ended = await member.get('operations', importing?.id ?? '', `?after=${importing?.revision}&timeout=10`);
  t.match(ended, { state: 'failed', error: { code: 'being_deleted' }, finished_at: String }, 'it ends with its image');
  t.equal(await store.get(`latest-operations/${long.id}`), undefined);
  await member.create('images', { name: 'file', source: 'file:a.raw', sha256, sha512 });
  await operator.create('images', { name: 'lan', project: test.project, source: 'http://example.net/a.raw', sha256 });
  await member.create('images', { name: 'web', source: 'https://example.net/a.raw', sha256 });
  await operator.remove('images', image.id);
  t.equal(await store.get(`image-reports/${image.id}`), undefined);
});
