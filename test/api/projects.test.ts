/** A project with its tokens, from its creation to its end. */
import t from 'tap';
import * as records from '../../backend/model/records/index.ts';
import { put, read } from '../../backend/store/collection.ts';
import { startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';

t.test('a project with its tokens', async (t) => {
  const test = await startTestApi(t);
  const { operator } = test;
  const project = await operator.create('projects', { name: 'acme', description: 'ACME\nLtd.' });
  t.match(project, { name: 'acme', description: 'ACME\nLtd.', labels: {}, delete_protection: false });
  t.match(await operator.update('projects', project.id, { description: null }), { description: '' });

  const token = await operator.create('tokens', { name: 'ci', project: project.id });
  t.match(token.secret, /^ucloud_[0-9a-z]{16}_[0-9a-f]{64}$/);
  t.equal(token.role, 'member', 'the default of the contract');
  const member = test.client(token.secret);
  t.match(await member.list('tokens'), { items: [{ id: token.id }] });
  t.notOk('secret' in (await member.get('tokens', token.id)), 'the secret is shown once');
  t.equal((await member.expect(200, 'GET', '/v1/token')).body.id, token.id);
  t.match((await member.list('projects')).items, [{ id: project.id }], 'a member sees its own project');
  t.equal((await member.list('projects')).items.length, 1);

  const viewer = await member.create('tokens', { name: 'monitoring', role: 'viewer' });
  t.equal(viewer.project, project.id, 'a token makes tokens of its own project');
  const refused = await member.expect(403, 'POST', '/v1/tokens', { name: 'root', role: 'operator' });
  t.match(refused.body, { code: 'forbidden', errors: [{ pointer: '/role' }] });

  const short = await operator.create('tokens', {
    name: 'short',
    project: project.id,
    expires_at: new Date(Date.now() + 3600_000).toISOString(),
  });
  const guest = test.client(short.secret);
  t.equal((await guest.request('GET', '/v1/vms')).status, 200);
  const stored = await read(test.store, records.tokens, short.id);
  if (!stored) throw new Error('the token lies in the store');
  const expired = { ...stored.value, expires_at: new Date(Date.now() - 1000).toISOString() };
  await test.store.commit({ write: [put(records.tokens, short.id, expired)] });
  await until('the API has heard', async () => (await guest.request('GET', '/v1/vms')).status !== 200);
  t.equal((await guest.request('GET', '/v1/vms')).status, 401, 'an expired token opens nothing');
  const past = await operator.request('POST', '/v1/tokens', {
    name: 'past',
    project: project.id,
    expires_at: '2020-01-01T00:00:00Z',
  });
  t.match(past, { status: 422, body: { errors: [{ pointer: '/expires_at' }] } });

  t.match((await operator.expect(409, 'DELETE', `/v1/projects/${project.id}`)).body, {
    code: 'in_use',
    detail: /token ci/,
  });
  for (const { id } of (await operator.list('tokens', `?project=${project.id}`)).items)
    await operator.remove('tokens', id);
  t.equal((await member.request('GET', '/v1/vms')).status, 401, 'a deleted token opens nothing');
  await operator.update('projects', project.id, { delete_protection: true });
  t.match((await operator.expect(409, 'DELETE', `/v1/projects/${project.id}`)).body, { code: 'delete_protected' });
  await operator.update('projects', project.id, { delete_protection: false });
  await operator.remove('projects', project.id);
  await operator.expect(404, 'GET', `/v1/projects/${project.id}`);
});
