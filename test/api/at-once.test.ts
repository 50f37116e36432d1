/** Requests that come at the same time, and requests that come twice. */
import t, { type Test } from 'tap';
import { openEtcdStore } from '../../backend/store/etcd.ts';
import type { Store } from '../../backend/store/store.ts';
import { contentOf, createVmPrerequisites, startTestApi } from '../support/api.ts';
import { needsEtcd, startEtcd } from '../support/etcd.ts';
import { testPublicKey } from '../support/ssh-keys.ts';
import { withStore } from '../support/stores.ts';

const count = 500;

async function createManyVms(t: Test, store: Store): Promise<void> {
  const test = await startTestApi(t, { store });
  const { operator, project } = test;
  const prerequisites = await createVmPrerequisites(test, project);
  const before = await contentOf(store);
  const answers = await Promise.all(
    Array.from({ length: count }, (_, i) =>
      operator.request(
        'POST',
        '/v1/vms',
        {
          name: `vm-${i}`,
          project,
          image: prerequisites.image.id,
          disk_size: '1GiB',
          ssh_keys: [prerequisites.sshKey.id],
          interfaces: [{ network: prerequisites.network.id }],
        },
        { 'idempotency-key': `create-${i}` },
      ),
    ),
  );
  t.same([...new Set(answers.map(({ status }) => status))], [201], 'nobody is told of a conflict');
  const vms = answers.map(({ body }) => body);
  t.equal(new Set(vms.map(({ id }) => id)).size, count);
  t.equal(new Set(vms.map(({ interfaces }) => interfaces[0]?.mac)).size, count, 'each has a MAC address of its own');
  t.equal(new Set(vms.map(({ address }) => address)).size, count, 'and an address of its own');
  const listed: string[] = [];
  for (let page = await operator.list('vms', '?limit=100'); ; ) {
    listed.push(...page.items.map(({ id }) => id));
    if (page.next_page_token === undefined) break;
    page = await operator.list('vms', `?limit=100&page_token=${page.next_page_token}`);
  }
  t.same(listed, vms.map(({ id }) => id).sort());
  await Promise.all(vms.map(({ id }) => operator.remove('vms', id)));
  t.same(await contentOf(store), before, 'after their deletion the store holds what it held before');
}

t.test(`${count} VMs at once on the embedded store`, async (t) => {
  await createManyVms(t, await withStore(t));
});

t.test(`${count} VMs at once on etcd`, needsEtcd(), async (t) => {
  const server = await startEtcd(t);
  const store = await openEtcdStore(server.options);
  t.teardown(() => store.close());
  await createManyVms(t, store);
});

t.test('a request that is sent again', async (t) => {
  const store = await withStore(t);
  const test = await startTestApi(t, { store });
  const { operator, project } = test;
  const key = (value: string) => ({ 'idempotency-key': value });
  const body = { name: 'ci', project, role: 'member' };

  const first = await operator.expect(201, 'POST', '/v1/tokens', body, key('one'));
  t.equal(first.headers.get('idempotent-replayed'), null);
  const second = await operator.expect(201, 'POST', '/v1/tokens', { role: 'member', name: 'ci', project }, key('one'));
  t.same(second.body, first.body, 'the first answer, its secret included');
  t.equal(second.headers.get('idempotent-replayed'), 'true');
  for (const header of ['etag', 'location', 'ucloud-revision']) {
    t.equal(second.headers.get(header), first.headers.get(header), header);
  }
  const content = JSON.stringify([...(await store.list('')).entries]);
  t.notOk(content.includes(first.body.secret.slice(-64)), 'the secret does not lie in the database');
  const { entries } = await store.list('idempotency/');
  t.equal(entries.length, 1);
  // In quotes, which no encoding of a cipher text has: two letters alone turn up in it by chance.
  t.notOk(/\\?"ci\\?"/.test(entries[0]?.value ?? ''), 'nor what was asked');

  t.match(await operator.request('POST', '/v1/tokens', { ...body, name: 'other' }, key('one')), {
    status: 422,
    body: { code: 'idempotency_key_reused' },
  });
  t.match(await operator.request('POST', '/v1/projects', { name: 'x' }, key('one')), { status: 422 });
  await operator.expect(409, 'POST', '/v1/tokens', body, key('two'));
  const member = test.client(first.body.secret);
  const own = { name: 'mine', public_key: testPublicKey };
  t.not(
    (await member.expect(201, 'POST', '/v1/ssh-keys', own, key('one'))).body.id,
    first.body.id,
    'a key is that of a token',
  );

  await operator.expect(404, 'GET', '/v1/ssh-keys/key-0000000000000000');
  await operator.expect(
    422,
    'POST',
    '/v1/ssh-keys',
    { ...own, name: 'later', project: 'prj-0000000000000000' },
    key('three'),
  );
  await operator.expect(201, 'POST', '/v1/ssh-keys', { ...own, name: 'later', project }, key('three'));
  t.pass('a request that failed may be corrected and sent with the same key');

  await operator.remove('tokens', first.body.id);
  const replay = await operator.expect(201, 'POST', '/v1/tokens', body, key('one'));
  t.equal(replay.body.id, first.body.id, 'what is gone is not made again');

  const twins = await Promise.all(
    Array.from({ length: 20 }, () =>
      operator.request('POST', '/v1/ssh-keys', { ...own, name: 'twin', project }, key('twins')),
    ),
  );
  t.same([...new Set(twins.map(({ status }) => status))], [201]);
  t.equal(new Set(twins.map(({ body }) => body.id)).size, 1, 'of twins, one creates and the others get its answer');
  t.equal(twins.filter(({ headers }) => headers.get('idempotent-replayed') === 'true').length, 19);
});

t.test('concurrent changes of one object', async (t) => {
  const test = await startTestApi(t);
  const { operator, project } = test;
  const made = await operator.create('ssh-keys', { name: 'k', project, public_key: testPublicKey });
  const changes = await Promise.all(
    Array.from({ length: 40 }, (_, i) =>
      operator.request('PATCH', `/v1/ssh-keys/${made.id}`, { labels: { i: `${i}` } }),
    ),
  );
  t.same([...new Set(changes.map(({ status }) => status))], [200], 'all get through, one after the other');
  const revisions = changes.map(({ body }) => body.revision);
  t.equal(new Set(changes.map(({ headers }) => headers.get('etag'))).size, 40, 'each has a version of its own');
  t.equal((await operator.get('ssh-keys', made.id)).revision, Math.max(...revisions));

  const names = await Promise.all(
    Array.from({ length: 40 }, () => operator.request('POST', '/v1/projects', { name: 'wanted' })),
  );
  t.equal(names.filter(({ status }) => status === 201).length, 1, 'a name is given once');
  t.equal(names.filter(({ body }) => body.code === 'name_taken').length, 39);

  const prerequisites = await createVmPrerequisites(test, project);
  const vmBody = {
    project,
    image: prerequisites.image.id,
    disk_size: '1GiB',
    interfaces: [{ network: prerequisites.network.id }],
  };
  const racing = await Promise.all(
    Array.from({ length: 40 }, (_, i) =>
      i % 2
        ? operator.request('DELETE', `/v1/ssh-keys/${prerequisites.sshKey.id}`)
        : operator.request('POST', '/v1/vms', { ...vmBody, name: `vm-${i}`, ssh_keys: [prerequisites.sshKey.id] }),
    ),
  );
  const vms = (await operator.list('vms')).items;
  const key = await operator.request('GET', `/v1/ssh-keys/${prerequisites.sshKey.id}`);
  t.equal(key.status === 200, vms.length > 0, 'a key that VMs refer to is there');
  t.ok(racing.every(({ status }) => [201, 204, 404, 409, 422].includes(status)));
});
