/**
 * User data can be large and contain secrets. Only callers that may change a VM can read it, for one VM at a time. No other
 * record contains it.
 */
import { createHash } from 'node:crypto';
import t from 'tap';
import { createVmPrerequisites, startTestApi } from '../support/api.ts';

t.test('user data is in no list, and a viewer sees nothing of it', async (t) => {
  const test = await startTestApi(t);
  const { operator, store, project } = test;
  const prerequisites = await createVmPrerequisites(test, project);
  const member = await test.member(project);
  const viewer = await test.member(project, 'viewer');
  const secret = `#!/bin/sh\n# ${'hunter2 '.repeat(4000)}`;
  const sha256 = createHash('sha256').update(secret).digest('hex');
  const body = {
    name: 'web',
    project,
    image: prerequisites.image.id,
    disk_size: '1GiB',
    interfaces: [{ network: prerequisites.network.id }],
    user_data: secret,
  };
  const key = { 'idempotency-key': 'once' };
  const first = await member.expect(201, 'POST', '/v1/vms', body, key);
  t.match(first.body, { user_data: secret, user_data_sha256: sha256 });
  const { id } = first.body;

  t.match(await member.get('vms', id), { user_data: secret, user_data_sha256: sha256 });
  t.match(await operator.get('vms', id), { user_data: secret });
  for (const client of [member, operator]) {
    for (const query of ['', '?name=web', `?ids=${id}`, '?after=0&timeout=1', `?project=${project}`]) {
      const [item] = (await client.list('vms', query)).items;
      t.match(item, { id, user_data_sha256: sha256 }, query);
      t.notOk(Object.hasOwn(item ?? {}, 'user_data'), query);
    }
  }
  const traces = ['vms', `vms/${id}`, `vms?ids=${id}`, `vms/${id}?after=0`, 'events', 'operations', 'token'];
  for (const path of traces) {
    const { status, body: seen } = await viewer.request('GET', `/v1/${path}`);
    t.equal(status, 200, path);
    t.notMatch(JSON.stringify(seen), /hunter2|user_data|"[0-9a-f]{64}"/, `a viewer at ${path}`);
  }
  for (const path of ['events', 'audit-records']) {
    t.notMatch(JSON.stringify((await operator.request('GET', `/v1/${path}`)).body), /hunter2/, path);
  }

  const again = await member.expect(201, 'POST', '/v1/vms', body, key);
  t.equal(again.headers.get('idempotent-replayed'), 'true');
  t.same(again.body, first.body, 'a request that is sent again is answered as the first time');
  const other = await member.request('POST', '/v1/vms', { ...body, user_data: '#!/bin/sh' }, key);
  t.match(other, { status: 422, body: { code: 'idempotency_key_reused' } });
  const { entries } = await store.list('idempotency/', { limit: 100 });
  t.ok(entries.length > 0);
  for (const { value } of entries) t.ok(value.length < 4096, `the record of an answer has ${value.length} bytes`);
});
