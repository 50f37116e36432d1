/** ETag and If-Match (RFC 9110). */
import t from 'tap';
import { startTestApi } from '../support/api.ts';

t.test('versions: ETag and If-Match', async (t) => {
  const test = await startTestApi(t);
  const { operator } = test;
  const made = await operator.expect(201, 'POST', '/v1/projects', { name: 'a' });
  const path = `/v1/projects/${made.body.id}`;
  const etag = made.headers.get('etag') ?? '';
  t.match(etag, /^"\d+"$/);
  t.equal((await operator.expect(200, 'GET', path)).headers.get('etag'), etag);
  const first = await operator.expect(200, 'PATCH', path, { description: 'one' }, { 'if-match': etag });
  t.not(first.headers.get('etag'), etag);
  t.match(await operator.request('PATCH', path, { description: 'two' }, { 'if-match': etag }), {
    status: 412,
    body: { code: 'precondition_failed', errors: [{ pointer: '#header/If-Match' }] },
  });
  await operator.expect(412, 'DELETE', path, undefined, { 'if-match': `W/${first.headers.get('etag')}` });
  await operator.expect(200, 'PATCH', path, { description: 'three' }, { 'if-match': '*' });
  const both = await Promise.all(
    ['x', 'y'].map(async (description) => {
      const { headers } = await operator.expect(200, 'GET', path);
      return { description, etag: headers.get('etag') ?? '' };
    }),
  );
  const racing = await Promise.all(
    both.map((one) => operator.request('PATCH', path, { description: one.description }, { 'if-match': one.etag })),
  );
  t.same(racing.map(({ status }) => status).sort(), [200, 412], 'of two who read the same, one writes');
  const last = (await operator.expect(200, 'GET', path)).headers.get('etag') ?? '';
  await operator.expect(204, 'DELETE', path, undefined, { 'if-match': `"1", ${last}` });
});
