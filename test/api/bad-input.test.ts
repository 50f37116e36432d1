/** Every bad request gets a problem that names the field. It changes nothing, and the server lives. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { Agent, request } from 'undici';
import { contentOf, createVmPrerequisites, startTestApi } from '../support/api.ts';
import { makeCertificates } from '../support/etcd.ts';
import { socketClosed } from '../support/socket-closed.ts';
import { testPublicKey } from '../support/ssh-keys.ts';
import { temporaryDirectory } from '../support/stores.ts';

/** Sends bytes as they are; answers everything that comes back. */
async function raw(url: string, bytes: string): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname.slice(1, -1));
  await once(socket, 'connect');
  let text = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  socket.write(bytes, 'latin1');
  await socketClosed(socket);
  return text;
}

t.test('bad input', async (t) => {
  const test = await startTestApi(t);
  const { operator, project, store } = test;
  const prerequisites = await createVmPrerequisites(test, project);
  const vm = {
    name: 'x',
    project,
    image: prerequisites.image.id,
    disk_size: '1GiB',
    interfaces: [{ network: prerequisites.network.id }],
  };
  const existing = await operator.create('vms', { ...vm, name: 'existing' });
  const before = await contentOf(store);

  const key = (change: object) => ({ name: 'k', project, public_key: testPublicKey, ...change });
  const deep = (depth: number) =>
    `{"name":"x","project":"${project}","public_key":"${testPublicKey}","labels":${'['.repeat(depth)}${']'.repeat(depth)}}`;
  const wide = (fields: number) => `{${Array.from({ length: fields }, (_, i) => `"f${i}":1`).join(',')}}`;
  const cases: readonly (readonly [
    what: string,
    path: string,
    body: unknown,
    status: number,
    pointer: string | RegExp,
  ])[] = [
    ['a number for a name', '/v1/ssh-keys', key({ name: 7 }), 400, '/name'],
    ['null for a name', '/v1/ssh-keys', key({ name: null }), 400, '/name'],
    ['an object for a name', '/v1/ssh-keys', key({ name: { $ne: '' } }), 400, '/name'],
    ['an empty name', '/v1/ssh-keys', key({ name: '' }), 400, '/name'],
    ['a name that climbs', '/v1/ssh-keys', key({ name: '../../etc/passwd' }), 400, '/name'],
    ['a name with quotes', '/v1/ssh-keys', key({ name: `a'; DROP TABLE vms; --"` }), 400, '/name'],
    ['a name for a shell', '/v1/ssh-keys', key({ name: '$(reboot)' }), 400, '/name'],
    ['a name with NUL', '/v1/ssh-keys', key({ name: 'a\0b' }), 400, '/name'],
    ['a name with a line break', '/v1/ssh-keys', key({ name: 'a\nb' }), 400, '/name'],
    ['a name that ends in a line break', '/v1/ssh-keys', key({ name: 'a\n' }), 400, '/name'],
    ['a name in another script', '/v1/ssh-keys', key({ name: 'облако' }), 400, '/name'],
    ['a name of 64 letters', '/v1/ssh-keys', key({ name: 'a'.repeat(64) }), 400, '/name'],
    ['a name of 900 kB', '/v1/ssh-keys', key({ name: 'a'.repeat(900_000) }), 400, '/name'],
    ['a name of 10 MB', '/v1/ssh-keys', key({ name: 'a'.repeat(10_000_000) }), 413, ''],
    ['an unknown field', '/v1/ssh-keys', key({ nmae: 'x' }), 400, '/nmae'],
    ['a read-only field', '/v1/ssh-keys', key({ id: 'key-0123456789abcdef' }), 400, '/id'],
    ['a field with a slash', '/v1/ssh-keys', key({ 'a/b~c': 1 }), 400, '/a~1b~0c'],
    ['5,000 unknown fields', '/v1/ssh-keys', wide(5000), 400, /^\//],
    ['20,000 unknown fields', '/v1/ssh-keys', wide(20_000), 400, ''],
    ['deep JSON', '/v1/ssh-keys', deep(200_000), 400, ''],
    ['JSON as deep as is read', '/v1/ssh-keys', deep(63), 400, '/labels'],
    ['JSON deeper by one', '/v1/ssh-keys', deep(64), 400, ''],
    ['deep JSON behind a text with quotes', '/v1/ssh-keys', deep(200_000).replace('"x"', '"\\\\\\"\\\\"'), 400, ''],
    ['__proto__', '/v1/ssh-keys', `{"__proto__":{"role":"operator"},"name":"a"}`, 400, ''],
    ['constructor.prototype', '/v1/ssh-keys', `{"constructor":{"prototype":{"role":"operator"}}}`, 400, ''],
    ['a label named __proto__', '/v1/ssh-keys', `{"name":"k","labels":{"__proto__":"x"}}`, 400, ''],
    ['a label with a bad key', '/v1/ssh-keys', key({ labels: { 'a b': 'x' } }), 400, '/labels/a b'],
    ['a label with a bad value', '/v1/ssh-keys', key({ labels: { a: 'x y' } }), 400, '/labels/a'],
    ['a label that is a number', '/v1/ssh-keys', key({ labels: { a: 1 } }), 400, '/labels/a'],
    [
      '65 labels',
      '/v1/ssh-keys',
      key({ labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`l${i}`, ''])) }),
      400,
      '/labels',
    ],
    [
      'a description with control characters',
      '/v1/projects',
      { name: 'p', description: 'a\u001b[2Jb' },
      400,
      '/description',
    ],
    ['a description with NUL', '/v1/projects', { name: 'p', description: 'a\0b' }, 400, '/description'],
    ['half a surrogate pair', '/v1/projects', '{"name":"p","description":"\\ud800"}', 400, '/description'],
    ['an array for a body', '/v1/projects', [], 400, ''],
    ['null for a body', '/v1/projects', 'null', 400, ''],
    ['text for a body', '/v1/projects', '"x"', 400, ''],
    ['malformed JSON', '/v1/projects', '{"name":', 400, ''],
    ['no body', '/v1/projects', '', 400, ''],
    ['a negative size', '/v1/vms', { ...vm, memory: '-1GiB' }, 400, '/memory'],
    ['a size of zero', '/v1/vms', { ...vm, memory: '0MiB' }, 400, '/memory'],
    ['a size without a unit', '/v1/vms', { ...vm, memory: 1024 }, 400, '/memory'],
    ['a size beyond all bounds', '/v1/vms', { ...vm, disk_size: '999999999TiB' }, 400, '/disk_size'],
    ['a fraction of a processor', '/v1/vms', { ...vm, cpus: 1.5 }, 400, '/cpus'],
    ['minus one processor', '/v1/vms', { ...vm, cpus: -1 }, 400, '/cpus'],
    [
      '1e400 processors',
      '/v1/vms',
      JSON.stringify({ ...vm, cpus: 1 }).replace('"cpus":1', '"cpus":1e400'),
      400,
      '/cpus',
    ],
    ['a processor as text', '/v1/vms', { ...vm, cpus: '1' }, 400, '/cpus'],
    ['the id of something else', '/v1/vms', { ...vm, image: prerequisites.network.id }, 400, '/image'],
    ['an image that is not there', '/v1/vms', { ...vm, image: 'img-0000000000000000' }, 422, '/image'],
    ['a name for an id', '/v1/vms', { ...vm, image: 'debian' }, 400, '/image'],
    [
      'an address outside of the network',
      '/v1/vms',
      { ...vm, interfaces: [{ ...vm.interfaces[0], address: '::1' }] },
      422,
      '/interfaces/0/address',
    ],
    ['nine interfaces', '/v1/vms', { ...vm, interfaces: Array(9).fill(vm.interfaces[0]) }, 400, '/interfaces'],
    [
      'a key twice',
      '/v1/vms',
      { ...vm, ssh_keys: [prerequisites.sshKey.id, prerequisites.sshKey.id] },
      400,
      '/ssh_keys',
    ],
    ['a state that is none', '/v1/vms', { ...vm, power_state: 'on' }, 400, '/power_state'],
    ['user data beyond 32 KiB', '/v1/vms', { ...vm, user_data: 'x'.repeat(32_769) }, 400, '/user_data'],
    ['a prefix that is none', '/v1/prefix-pools', { name: 'q', cidr: '10.0.0.0/8' }, 400, '/cidr'],
    ['a prefix with host bits', '/v1/prefix-pools', { name: 'q', cidr: 'fd00::1/48' }, 400, '/cidr'],
    [
      'a prefix inside another',
      '/v1/prefix-pools',
      { name: 'q', cidr: prerequisites.pool.cidr.replace('/48', '/56') },
      409,
      '/cidr',
    ],
    [
      'a prefix around another',
      '/v1/prefix-pools',
      { name: 'q', cidr: '2001:db8::/32', default_length: 56 },
      409,
      '/cidr',
    ],
    [
      'an IPv4 resolver',
      '/v1/networks',
      { name: 'n', project, prefix: prerequisites.prefix.id, dns_servers: ['1.1.1.1'] },
      400,
      '/dns_servers/0',
    ],
    ['a project that is not there', '/v1/ssh-keys', key({ project: 'prj-0000000000000000' }), 422, '/project'],
    ['no project', '/v1/ssh-keys', key({ project: undefined }), 400, '/project'],
    [
      'a time that is none',
      '/v1/tokens',
      { name: 't', project, expires_at: '2026-13-45T00:00:00Z' },
      400,
      '/expires_at',
    ],
    ['an operator of a project', '/v1/tokens', { name: 't', project, role: 'operator' }, 422, '/project'],
  ];
  for (const [what, path, body, status, pointer] of cases) {
    const answer = await operator.request('POST', path, body, { 'content-type': 'application/json' });
    t.match(answer, { status, body: { errors: [{ pointer }] } }, what);
    t.equal(answer.headers.get('content-type')?.split(';')[0], 'application/problem+json', what);
    t.ok((answer.body.detail?.length ?? 0) < 5000, `${what}: nothing huge is sent back`);
  }

  const several = await operator.request('POST', '/v1/vms', {
    name: 'A',
    cpus: 0,
    nonsense: 1,
    memory: '1',
    interfaces: [{}],
  });
  t.same(
    several.body.errors?.map(({ pointer }) => pointer).sort(),
    ['/cpus', '/interfaces/0/network', '/memory', '/name', '/nonsense'],
    'all fields at fault are named at once',
  );

  const requests: readonly (readonly [
    method: string,
    path: string,
    headers: Record<string, string>,
    status: number,
    pointer?: string,
  ])[] = [
    ['GET', '/v1/vms/..%2f..%2fetc%2fpasswd', {}, 400, '#path/id'],
    ['GET', '/v1/vms/%00', {}, 400, '#path/id'],
    ['GET', '/v1/vms/%zz', {}, 400, '#path'],
    ['GET', '/v1/vms/%c3%28', {}, 400],
    ['GET', `/v1/vms/${'a'.repeat(5000)}`, {}, 400],
    ['GET', `/v1/vms/${prerequisites.image.id}`, {}, 400, '#path/id'],
    ['GET', '/v1/vms/vm-0000000000000000', {}, 404],
    ['GET', '/v1/nothing', {}, 404],
    ['PUT', `/v1/vms/${existing.id}`, {}, 405],
    ['DELETE', '/v1/vms', {}, 405],
    ['OPTIONS', '/v1/vms', {}, 405],
    ['GET', `/v1/vms/${existing.id}?timeout=61`, {}, 400, '#query/timeout'],
    ['GET', `/v1/vms/${existing.id}?after=-1`, {}, 400, '#query/after'],
    ['GET', `/v1/vms/${existing.id}?after=1e3x`, {}, 400, '#query/after'],
    ['GET', `/v1/vms/${existing.id}?after=99999999999999999999`, {}, 400, '#query/after'],
    ['GET', '/v1/vms?limit=1&limit=2', {}, 400, '#query/limit'],
    ['GET', '/v1/vms?__proto__=a', {}, 400, '#query/__proto__'],
    ['GET', `/v1/vms?ids=${Array(101).fill(existing.id).join(',')}`, {}, 400, '#query/ids'],
    ['GET', '/v1/vms?selector=%00', {}, 400, '#query/selector'],
    ['GET', '/v1/vms?name=%27', {}, 400, '#query/name'],
    ['GET', '/v1/vms?project=prj-0000000000000000', {}, 404],
    ['GET', '/v1/vms', { 'ucloud-min-revision': 'x' }, 400, '#header/UCloud-Min-Revision'],
    ['DELETE', `/v1/vms/${existing.id}`, { 'if-match': '"1"' }, 412, '#header/If-Match'],
    ['DELETE', `/v1/vms/${existing.id}`, { 'if-match': 'x'.repeat(65) }, 400, '#header/If-Match'],
    ['POST', '/v1/projects', { 'idempotency-key': 'a b' }, 400, '#header/Idempotency-Key'],
    ['POST', '/v1/projects', { 'idempotency-key': 'a'.repeat(256) }, 400, '#header/Idempotency-Key'],
  ];
  for (const [method, path, headers, status, pointer] of requests) {
    const body = method === 'POST' ? { name: 'y' } : undefined;
    const answer = await operator.request(method, path, body, headers);
    t.match(
      answer,
      { status, body: pointer === undefined ? {} : { errors: [{ pointer }] } },
      `${method} ${path.slice(0, 60)}`,
    );
    t.equal(answer.headers.get('content-type')?.split(';')[0], 'application/problem+json');
  }
  const allow = (await operator.request('PUT', `/v1/vms/${existing.id}`)).headers.get('allow');
  t.equal(allow, 'GET, HEAD, PATCH, DELETE');

  for (const [type, body] of [
    ['text/plain', '{"name":"y"}'],
    ['application/x-www-form-urlencoded', 'name=y'],
    ['multipart/form-data; boundary=x', '--x--'],
    ['nonsense', '{}'],
    ['application/json; charset=iso-8859-1', '{"name":"y"}'],
  ] as const) {
    const answer = await operator.request('POST', '/v1/projects', body, { 'content-type': type });
    t.match(answer, { status: 415, body: { code: 'unsupported_media_type' } }, type);
  }

  const auth = `Authorization: Bearer ${test.operatorToken}\r\nHost: x\r\nConnection: close\r\n`;
  const bare: readonly (readonly [what: string, bytes: string, status: number])[] = [
    ['no HTTP at all', 'EHLO example.net\r\n\r\n', 400],
    ['two lengths', `POST /v1/projects HTTP/1.1\r\n${auth}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`, 400],
    [
      'length and chunks',
      `POST /v1/projects HTTP/1.1\r\n${auth}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}`,
      400,
    ],
    ['headers of 64 kB', `GET /v1/vms HTTP/1.1\r\n${auth}X: ${'x'.repeat(65_536)}\r\n\r\n`, 431],
    [
      'a body that is not UTF-8',
      `POST /v1/projects HTTP/1.1\r\n${auth}Content-Type: application/json\r\nContent-Length: 30\r\n\r\n{"name":"y","description":"\xff"}`,
      400,
    ],
    ['a method of one’s own', `BREW /v1/vms HTTP/1.1\r\n${auth}\r\n`, 400],
    ['an absolute path that climbs', `GET /v1/../../etc/passwd HTTP/1.1\r\n${auth}\r\n`, 404],
    [
      'more than 1 MiB in chunks',
      `POST /v1/projects HTTP/1.1\r\n${auth}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n120000\r\n${' '.repeat(0x120000)}\r\n0\r\n\r\n`,
      413,
    ],
  ];
  for (const [what, bytes, status] of bare) {
    const text = await raw(test.url, bytes);
    t.match(text, new RegExp(`^HTTP/1.1 ${status} [^]*content-type: application/problem\\+json`, 'i'), what);
  }

  t.same(await contentOf(store), before, 'nothing has changed');
  t.match((await operator.expect(200, 'GET', '/healthz')).body, { status: 'ok' });
  t.equal(({} as { role?: string }).role, undefined, 'no prototype was changed');
  t.equal((await operator.get('vms', existing.id)).name, 'existing');
});

t.test('the server does not wait for a slow client', async (t) => {
  const test = await startTestApi(t, { arrivalTimeout: 1000 });
  const vms = await test.operator.list('vms');
  const head = `Host: x\r\nAuthorization: Bearer ${test.operatorToken}\r\n`;
  const slow = [
    `GET /v1/vms HTTP/1.1\r\n${head}X-Slow: `,
    `POST /v1/projects HTTP/1.1\r\n${head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{`,
  ];
  // A thousand at once, and whoever sends a whole request is served meanwhile; long polls are whole.
  const answers = Array.from({ length: 1000 }, (_, i) => raw(test.url, slow[i % 2] ?? ''));
  t.equal((await test.operator.list('vms', `?after=${vms.revision}&timeout=2`)).items.length, 0);
  for (const text of await Promise.all(answers)) {
    if (!/^HTTP\/1.1 408 .*problem\+json.*did not arrive in time/s.test(text)) t.fail(text);
  }
  await test.operator.expect(200, 'GET', '/v1/vms');
});

t.test('limits and headers', async (t) => {
  const test = await startTestApi(t, { rateLimit: { requestsPerMinute: 20, failuresPerMinute: 5 } });
  const { operator } = test;
  const first = await operator.expect(200, 'GET', '/v1/vms');
  t.equal(first.headers.get('ratelimit-limit'), '20');
  t.equal(first.headers.get('ratelimit-remaining'), '19');
  t.match(first.headers.get('ratelimit-reset'), /^\d+$/);
  t.match(first.headers.get('request-id'), /^req-[0-9a-f]{16}$/);
  t.match(first.headers.get('ucloud-revision'), /^\d+$/);
  const named = await operator.expect(404, 'GET', '/v1/vms/vm-0000000000000000', undefined, {
    'request-id': 'my-request.1',
  });
  t.equal(named.headers.get('request-id'), 'my-request.1');
  t.equal(named.body.request_id, 'my-request.1');
  const forged = await operator.expect(200, 'GET', '/v1/vms', undefined, { 'request-id': 'a b<script>' });
  t.match(forged.headers.get('request-id'), /^req-/);

  const nobody = test.client(undefined);
  for (let i = 0; i < 5; i++) await nobody.expect(401, 'GET', '/v1/vms');
  const refused = await nobody.expect(429, 'GET', '/v1/vms');
  t.match(refused.headers.get('retry-after'), /^\d+$/);
  await operator.expect(200, 'GET', '/v1/vms');

  let answer = await operator.request('GET', '/v1/vms');
  for (let i = 0; i < 20 && answer.status === 200; i++) answer = await operator.request('GET', '/v1/vms');
  t.match(answer, { status: 429, body: { code: 'rate_limited' } });
  t.match(answer.headers.get('retry-after'), /^\d+$/);
  t.equal(answer.headers.get('ratelimit-remaining'), '0');

  const yaml = await nobody.expect(200, 'GET', '/openapi.yaml');
  t.match(yaml.headers.get('content-type'), /application\/yaml/);
  const docs = await nobody.expect(200, 'GET', '/docs');
  t.match(docs.headers.get('content-type'), /text\/html/);
  t.notMatch(JSON.stringify(docs.body), /https?:\/\/(?!\[)/, 'the page needs nothing from elsewhere');
});

t.test('TLS', async (t) => {
  const directory = temporaryDirectory(t);
  await makeCertificates(directory);
  const file = (name: string) => readFileSync(join(directory, name), 'utf8');
  const test = await startTestApi(t, { tls: { cert: file('server.pem'), key: file('server-key.pem') } });
  t.match(test.url, /^https:/);
  const dispatcher = new Agent({ connect: { ca: file('ca.pem') } });
  t.teardown(() => dispatcher.close());
  const answer = await request(`${test.url}/v1/token`, {
    headers: { authorization: `Bearer ${test.operatorToken}` },
    dispatcher,
  });
  t.equal(answer.statusCode, 200);
  t.match(await answer.body.json(), { role: 'operator' });
  await t.rejects(request(`${test.url}/healthz`), 'nobody who does not know the authority');
});
