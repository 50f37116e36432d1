/** What a user does with each kind of object, from its making to its end. */
import t from 'tap';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put, read } from '../../backend/store/collection.ts';
import { startTestApi, testPublicKey } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { hostRecord } from '../support/host-record.ts';

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

t.test('an SSH key', async (t) => {
  const test = await startTestApi(t);
  const member = await test.member(test.project);
  const key = await member.create('ssh-keys', { name: 'alice', public_key: testPublicKey });
  t.equal(key.fingerprint, 'SHA256:l7xkKioszelBEcKA/5du+vi64xlSepJOs27r/KeAgNk', 'as ssh-keygen -l prints it');
  const wrong = testPublicKey.replace('ssh-ed25519', 'ssh-rsa');
  t.match(await member.request('POST', '/v1/ssh-keys', { name: 'b', public_key: wrong }), {
    status: 400,
    body: { errors: [{ pointer: '/public_key', detail: /must be a key of the type that it names, ssh-rsa/ }] },
  });
  const short = testPublicKey.replace(/8o3c7T .*/, '');
  t.match(await member.request('POST', '/v1/ssh-keys', { name: 'b', public_key: short }), {
    status: 400,
    body: { errors: [{ pointer: '/public_key', detail: /is cut off/ }] },
  });
  const file = await member.create('ssh-keys', { name: 'file', public_key: `${testPublicKey}\n` });
  t.match(file, { public_key: testPublicKey, fingerprint: key.fingerprint }, 'the line end of a file means nothing');
  await member.remove('ssh-keys', file.id);
  const taken = await member.expect(409, 'POST', '/v1/ssh-keys', { name: 'alice', public_key: testPublicKey });
  t.match(taken.body, { code: 'name_taken', errors: [{ pointer: '/name', detail: new RegExp(key.id) }] });
  const other = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl alice';
  t.match(await member.request('PATCH', `/v1/ssh-keys/${key.id}`, { public_key: wrong }), {
    status: 400,
    body: { errors: [{ pointer: '/public_key' }] },
  });
  t.match(await member.request('PATCH', `/v1/ssh-keys/${key.id}`, { public_key: null }), { status: 400 });
  const rotated = await member.update('ssh-keys', key.id, { public_key: other });
  t.match(rotated, { id: key.id, name: 'alice', public_key: other });
  t.not(rotated.fingerprint, key.fingerprint, 'the fingerprint is that of the new key');
  t.match(await member.update('ssh-keys', key.id, { public_key: testPublicKey }), { fingerprint: key.fingerprint });
  await member.update('ssh-keys', key.id, { name: 'alice-2' });
  await member.create('ssh-keys', { name: 'alice', public_key: testPublicKey });
  t.match(await member.request('PATCH', `/v1/ssh-keys/${key.id}`, { name: 'alice' }), {
    status: 409,
    body: { code: 'name_taken' },
  });
  t.match(await member.request('PATCH', `/v1/ssh-keys/${key.id}`, { name: null }), {
    status: 400,
    body: { errors: [{ pointer: '/name' }] },
  });
  await member.remove('ssh-keys', key.id);
  await member.expect(404, 'DELETE', `/v1/ssh-keys/${key.id}`);
});

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
  await operator.create('images', { name: 'lan', project: test.project, source: 'http://example.net/a.raw', sha256 });
  await member.create('images', { name: 'web', source: 'https://example.net/a.raw', sha256 });
  await operator.remove('images', image.id);
  t.equal(await store.get(`image-reports/${image.id}`), undefined);
});

t.test('what is protected stays until the protection is taken off', async (t) => {
  const { operator, store } = await startTestApi(t);
  const { id: project } = await operator.create('projects', { name: 'kept' });
  const delete_protection = true;
  const pool = await operator.create('prefix-pools', { name: 'main', cidr: '2001:db8::/40', delete_protection });
  const prefix = await operator.create('prefixes', { name: 'site', project, delete_protection });
  const network = await operator.create('networks', { name: 'web', project, prefix: prefix.id, delete_protection });
  for (const [plural, { id }] of [
    ['networks', network] as const,
    ['prefixes', prefix] as const,
    ['prefix-pools', pool] as const,
  ]) {
    t.match(
      await operator.expect(409, 'DELETE', `/v1/${plural}/${id}`),
      { body: { code: 'delete_protected' } },
      plural,
    );
    t.match(await operator.update(plural, id, { delete_protection: false }), { delete_protection: false });
    if (plural === 'prefixes') {
      // As an earlier version has written it.
      const stored = await read(store, records.prefixes, id);
      if (!stored) throw new Error('the prefix is there');
      const { delete_protection: _none, ...older } = stored.value;
      await store.commit({ write: [put(records.prefixes, id, older)] });
      await until(
        'the older record shows',
        async () => (await operator.get('prefixes', id)).revision > stored.revision,
      );
      t.match(await operator.get('prefixes', id), { delete_protection: false });
    }
    await operator.remove(plural, id);
  }
});

t.test('pools, prefixes and networks', async (t) => {
  const test = await startTestApi(t);
  const { operator, project } = test;
  const member = await test.member(project);
  const refused = async (plural: string, body: object, status: number, pointer: string, detail: RegExp) => {
    const answer = await operator.request('POST', `/v1/${plural}`, body);
    t.match(answer, { status, body: { errors: [{ pointer, detail }] } }, JSON.stringify(body));
  };
  const pool = await operator.create('prefix-pools', { name: 'main', cidr: '2001:DB8::/40', default_length: 48 });
  t.equal(pool.cidr, '2001:db8::/40', 'RFC 5952');
  await refused('prefix-pools', { name: 'b', cidr: '2001:db8::1/40' }, 400, '/cidr', /the prefix is 2001:db8::\/40/);
  await refused('prefix-pools', { name: 'b', cidr: 'fe80::/20' }, 422, '/cidr', /global unicast/);
  await refused('prefix-pools', { name: 'b', cidr: '2001:db8::/64' }, 422, '/cidr', /16 to 60/);
  await refused('prefix-pools', { name: 'b', cidr: '2001:db8::/32' }, 409, '/cidr', /overlaps 2001:db8::\/40/);
  await refused('prefix-pools', { name: 'b', cidr: '2001:db8:80::/44' }, 409, '/cidr', /overlaps/);
  await refused('prefix-pools', { name: 'b', cidr: 'fd00::/60' }, 422, '/default_length', /60/);
  await refused('prefix-pools', { name: 'main', cidr: 'fd00::/40' }, 409, '/name', /taken/);

  const first = await member.create('prefixes', { name: 'first' });
  t.match(first, { pool: pool.id, cidr: '2001:db8::/48', length: 48 });
  const small = await member.create('prefixes', { name: 'small', length: 64 });
  t.equal(small.cidr, '2001:db8:1::/64');
  const given = await member.create('prefixes', { name: 'given', cidr: '2001:db8:1:10::/60' });
  t.match(given, { length: 60, pool: pool.id });
  t.equal((await member.create('prefixes', { name: 'next' })).cidr, '2001:db8:2::/48', 'the first free one');
  const p = { project };
  await refused('prefixes', { ...p, name: 'x', cidr: '2001:db8:1:18::/61' }, 409, '/cidr', /overlaps/);
  await refused('prefixes', { ...p, name: 'x', cidr: '2001:db8::/44' }, 409, '/cidr', /overlaps/);
  await refused('prefixes', { ...p, name: 'x', cidr: 'fd00::/48' }, 422, '/cidr', /no prefix pool/);
  await refused(
    'prefixes',
    { ...p, name: 'x', cidr: 'fd00::/48', pool: pool.id },
    422,
    '/cidr',
    /outside the prefix pool main/,
  );
  await refused('prefixes', { ...p, name: 'x', length: 24, pool: pool.id }, 422, '/length', /at least/);
  await refused('prefixes', { ...p, name: 'x', length: 24 }, 507, '/length', /room/);
  await refused('prefixes', { ...p, name: 'x', length: 56, cidr: '2001:db8:3::/48' }, 422, '/length', /48/);
  await refused('prefixes', { ...p, name: 'x', pool: newId('prefix_pool') }, 422, '/pool', /names no prefix pool/);
  t.match(await operator.request('DELETE', `/v1/prefix-pools/${pool.id}`), { status: 409, body: { code: 'in_use' } });

  const net = await member.create('networks', { name: 'web', prefix: given.id });
  t.match(net, { cidr: '2001:db8:1:10::/64', mtu: 1430, gateway: 'fe80::1', dns_servers: [] });
  const fixed = await member.create('networks', { name: 'db', prefix: given.id, cidr: '2001:db8:1:12::/64' });
  t.equal((await member.create('networks', { name: 'c', prefix: given.id })).cidr, '2001:db8:1:11::/64');
  t.equal((await member.create('networks', { name: 'd', prefix: given.id })).cidr, '2001:db8:1:13::/64');
  const n = { ...p, name: 'x', prefix: given.id };
  await refused('networks', { ...n, cidr: '2001:db8:1:12::/64' }, 409, '/cidr', /taken/);
  await refused('networks', { ...n, cidr: '2001:db8:1::/64' }, 422, '/cidr', /outside the prefix given/);
  await refused('networks', { ...n, cidr: '2001:db8:1:14::/63' }, 422, '/cidr', /must be a \/64/);
  await refused('networks', { ...n, prefix: newId('prefix') }, 422, '/prefix', /names no prefix/);
  await refused('networks', { ...n, mtu: 1279 }, 400, '/mtu', />= 1280/);
  const alone = await member.create('networks', { name: 'alone', prefix: small.id });
  t.equal(alone.cidr, small.cidr, 'a /64 holds one network');
  await refused('networks', { ...p, name: 'x', prefix: small.id }, 507, '/prefix', /no free \/64/);
  t.match(await member.request('DELETE', `/v1/prefixes/${given.id}`), {
    status: 409,
    body: { code: 'in_use', detail: /network web/ },
  });

  await member.update('networks', net.id, { dns_servers: ['2001:db8::53'] });
  await member.remove('networks', fixed.id);
  const again = await member.create('networks', { name: 'db', prefix: given.id });
  t.equal(again.cidr, fixed.cidr, 'a freed /64 is given again');
});

t.test('prefixes taken at the same time do not overlap', async (t) => {
  const test = await startTestApi(t);
  const { operator, project } = test;
  await operator.create('prefix-pools', { name: 'main', cidr: '2001:db8::/40' });
  const lengths = [48, 56, 60, 64];
  const made = await Promise.all(
    Array.from({ length: 80 }, (_, i) =>
      operator.create('prefixes', { name: `p${i}`, project, length: lengths[i % 4] }),
    ),
  );
  t.equal(new Set(made.map(({ cidr }) => cidr)).size, 80);
  const prefix = made.find(({ length }) => length === 56);
  const nets = await Promise.all(
    Array.from({ length: 100 }, (_, i) => operator.create('networks', { name: `n${i}`, project, prefix: prefix?.id })),
  );
  t.equal(new Set(nets.map(({ cidr }) => cidr)).size, 100);
  t.equal(new Set(nets.map(({ vni }) => vni)).size, 100);
});

t.test('a host', async (t) => {
  const test = await startTestApi(t);
  const { operator, store } = test;
  const id = newId('host');
  const capacity = { cpus: 8, memory: 2 ** 34, disk: 2 ** 40 };
  const record = hostRecord({ id, name: 'node1', capacity });
  await store.commit({ write: [put(records.hosts, id, record), put(records.alive, id, { at: 'now' })] });
  const vm = newId('vm');
  await store.commit({
    write: [put(records.placements, `${id}/${vm}`, { fence: 1, cpus: 2, memory: 2 ** 30, disk: 0, at: 'now' })],
  });
  const seen = await operator.expect(200, 'GET', `/v1/hosts/${id}`, undefined, { 'ucloud-min-revision': '4' });
  t.match(seen.body, { alive: true, draining: false, allocated: { cpus: 2, memory: 2 ** 30 }, labels: {} });
  const changed = await operator.update('hosts', id, { draining: true, labels: { rack: '1' } });
  t.match(changed, { draining: true, labels: { rack: '1' } });
  t.equal((await operator.list('hosts', '?selector=rack%3D1')).items.length, 1);
  t.match(await operator.request('DELETE', `/v1/hosts/${id}`), { status: 409, body: { code: 'invalid_state' } });
  await store.commit({ write: [{ delete: `alive/${id}` }] });
  t.match(await operator.request('DELETE', `/v1/hosts/${id}`), { status: 409 });
  await store.commit({ write: [{ delete: `placements/${id}/${vm}` }] });
  await operator.remove('hosts', id);
  t.equal((await operator.list('hosts')).items.length, 0);
});

t.test('lists: selectors, names, ids, pages', async (t) => {
  const test = await startTestApi(t);
  const member = await test.member(test.project);
  const keys = await Promise.all(
    Array.from({ length: 25 }, (_, i) =>
      member.create('ssh-keys', {
        name: `k${i}`,
        public_key: testPublicKey,
        labels: { env: i % 2 ? 'prod' : 'test', ...(i < 5 ? { old: '' } : {}) },
      }),
    ),
  );
  const count = async (selector: string) =>
    (await member.list('ssh-keys', `?selector=${encodeURIComponent(selector)}`)).items.length;
  t.equal(await count('env=prod'), 12);
  t.equal(await count('env==prod,old'), 2);
  t.equal(await count('env!=prod'), 13);
  t.equal(await count('env in (prod, test),!old'), 20);
  t.equal(await count('zone notin (a)'), 25);
  const wrong = await member.request('GET', '/v1/ssh-keys?selector=env%20%3E%203');
  t.match(wrong, { status: 400, body: { errors: [{ pointer: '#query/selector' }] } });

  t.match((await member.list('ssh-keys', '?name=k7')).items, [{ name: 'k7' }]);
  const some = keys.slice(3, 6).map(({ id }) => id);
  t.same(
    (await member.list('ssh-keys', `?ids=${some.join(',')}`)).items.map(({ id }) => id),
    [...some].sort(),
  );

  const seen: string[] = [];
  for (let query = '?limit=10'; ; ) {
    const page = await member.list('ssh-keys', query);
    t.ok(page.items.length <= 10);
    seen.push(...page.items.map(({ id }) => id));
    if (page.next_page_token === undefined) break;
    query = `?limit=10&page_token=${page.next_page_token}`;
  }
  t.same(seen, keys.map(({ id }) => id).sort(), 'pages hold everything once, in order');
  for (const query of [
    '?page_token=nonsense',
    '?limit=0',
    '?limit=1001',
    '?limit=x',
    '?limit=1&limit=2',
    '?nothing=1',
    '?ids=vm-1',
  ]) {
    const answer = await member.request('GET', `/v1/ssh-keys${query}`);
    t.match(answer, { status: 400, body: { errors: [{ pointer: /^#query\// }] } }, query);
  }
});

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
