/** Limits of rate and size hold for a project or a network, for any number of tokens and addresses. */
import fastify, { type FastifyInstance } from 'fastify';
import t from 'tap';
import { authenticate } from '../../backend/api/http/authentication.ts';
import { handleErrors } from '../../backend/api/http/problems.ts';
import { limitRates } from '../../backend/api/http/rate-limit.ts';
import { RepeatLogger } from '../../backend/api/http/repeat-logger.ts';
import type { ApiContext } from '../../backend/api/requests/context.ts';
import { endpoints } from '../../backend/contract/index.ts';
import { sourceNetwork } from '../../backend/model/network/addresses.ts';
import type * as records from '../../backend/model/records/index.ts';
import { startTestApi } from '../support/api.ts';
import { silentLogger } from '../support/silent-logger.ts';

t.test('thirty tokens of a project have the rate of one', async (t) => {
  const test = await startTestApi(t, { rateLimit: { requestsPerMinute: 40 } });
  const { operator } = test;
  const one = await operator.create('projects', { name: 'one' });
  const other = await operator.create('projects', { name: 'other' });
  const tokens = await Promise.all(Array.from({ length: 30 }, () => test.member(one.id)));
  const statuses: number[] = [];
  for (let round = 0; round < 2; round++) {
    for (const token of tokens) statuses.push((await token.request('GET', '/v1/vms')).status);
  }
  t.equal(statuses.filter((status) => status === 200).length, 40);
  t.equal(statuses.filter((status) => status === 429).length, 20);
  t.same(statuses, statuses.toSorted(), 'once the rate is used up it is so for each of them');
  const [first] = tokens;
  t.equal((await first?.request('POST', '/v1/projects', {}))?.status, 429, 'what the role forbids counts, too');
  t.equal((await (await test.member(other.id)).request('GET', '/v1/vms')).status, 200, 'another project has its own');
  t.equal((await operator.request('GET', '/v1/vms')).status, 200, 'and so does an operator');
});

/** Starts a server without tokens. Its requests come from addresses that the test chooses. */
async function strangersServer(failures: number): Promise<FastifyInstance> {
  const app = fastify();
  handleErrors(app, new RepeatLogger(silentLogger));
  await limitRates(app, 1_000_000);
  authenticate(app, {} as ApiContext, failures);
  const endpoint = endpoints.find(({ id }) => id === 'vm_list');
  if (!endpoint) throw new Error('there is no vm_list');
  app.get('/v1/vms', { config: { endpoint } }, async () => ({}));
  app.get('/healthz', async () => ({}));
  return app;
}

t.test('failures are counted by /64, and by address for IPv4', async (t) => {
  const app = await strangersServer(5);
  t.teardown(() => app.close());
  const from = async (remoteAddress: string) => (await app.inject({ url: '/v1/vms', remoteAddress })).statusCode;
  for (let i = 1; i <= 5; i++) t.equal(await from(`2001:db8:0:1::${i}`), 401);
  t.equal(await from('2001:db8:0:1:ffff:ffff:ffff:ffff'), 429, 'another address of the same /64');
  t.equal(await from('2001:db8:0:2::1'), 401, 'another /64');
  for (let i = 1; i <= 5; i++) t.equal(await from('::ffff:192.0.2.1'), 401);
  t.equal(await from('192.0.2.1'), 429, 'the same address in either form');
  t.equal(await from('::ffff:192.0.2.2'), 401, 'another IPv4 address');
  for (let i = 0; i < 6000; i++) await app.inject({ url: '/healthz', remoteAddress: `2001:db9:${i.toString(16)}::1` });
  t.equal(await from('2001:db8:0:1::7'), 429, 'what others ask makes the server forget nothing');
});

t.test('the network of an address', async (t) => {
  for (const [address, network] of [
    ['2001:db8::1', '2001:db8::/64'],
    ['2001:DB8:0:0:FFFF::1', '2001:db8::/64'],
    ['fe80::1%eth0', 'fe80::/64'],
    ['::1', '::/64'],
    ['::ffff:10.0.0.1', '10.0.0.1'],
    ['::FFFF:0a00:0001', '10.0.0.1'],
    ['10.0.0.1', '10.0.0.1'],
    ['::1:0:0:1', '::/64'],
    ['nonsense', 'nonsense'],
  ] as const) {
    t.equal(sourceNetwork(address), network, address);
  }
});

t.test('one request takes no whole pool', async (t) => {
  const test = await startTestApi(t);
  const { operator, store, project } = test;
  const member = await test.member(project);
  const pool = await operator.create('prefix-pools', { name: 'main', cidr: '2001:db8::/32' });
  t.match(pool, { min_length: 48 });
  const taking = (client: typeof member, body: object) =>
    client.request('POST', '/v1/prefixes', { name: 'p', project, ...body });
  const refused = (pointer: string) => ({
    status: 422,
    body: { code: 'rule_violated', errors: [{ pointer, detail: /must be at least 48/ }] },
  });
  for (const client of [member, operator]) {
    for (const more of [{}, { pool: pool.id }]) {
      t.match(await taking(client, { length: 32, ...more }), refused('/length'));
      t.match(await taking(client, { length: 47, ...more }), refused('/length'));
      t.match(await taking(client, { cidr: '2001:db8::/32', ...more }), refused('/cidr'));
      t.match(await taking(client, { cidr: '2001:db8::/33', length: 33, ...more }), refused('/cidr'));
    }
  }
  t.match(await taking(member, { length: 48 }), { status: 201, body: { length: 48 } });

  const set = (body: object) => operator.request('PATCH', `/v1/prefix-pools/${pool.id}`, body);
  t.match(await set({ min_length: 56 }), { status: 200, body: { min_length: 56 } });
  t.match(await taking(member, { length: 55, name: 'q' }), { status: 422 });
  t.match(await set({ min_length: null }), { status: 200, body: { min_length: 48 } }, 'null is the default');
  t.match(await set({ default_length: 40 }), { status: 200, body: { default_length: 40, min_length: 40 } });
  t.match(await taking(member, { name: 'r' }), { status: 201, body: { length: 40 } }, 'the default is allowed');
  t.match(await taking(member, { name: 's', length: 39 }), { status: 422 });
  t.match(await set({ min_length: 15 }), { status: 400 });
  t.match(await set({ min_length: 65 }), { status: 400 });

  for (const [cidr, min_length] of [
    ['fd00:1::/44', 52],
    ['fd00:2::/48', 56],
    ['fd00:3::/56', 56],
    ['fd00:4::/40', 48],
  ] as const) {
    t.match(await operator.create('prefix-pools', { name: `pool-${cidr.slice(5, 6)}`, cidr }), { min_length }, cidr);
  }
  const entry = await store.get(`prefix-pools/${pool.id}`);
  const { min_length: _none, ...old } = JSON.parse(entry?.value ?? '{}') as records.PrefixPoolRecord;
  const value = JSON.stringify({ ...old, default_length: 56 });
  await store.commit({ write: [{ put: `prefix-pools/${pool.id}`, value }] });
  const now = await operator.get('prefix-pools', pool.id, `?after=${entry?.revision}`);
  t.match(now, { min_length: 48 }, 'a pool of an earlier version has the default');
  t.match(await taking(member, { name: 't', length: 32, pool: pool.id }), refused('/length'));
});
