/** A dry run says what a creation would be told, and changes nothing. */
import t from 'tap';
import { endpoints } from '../../backend/contract/index.ts';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { type ApiClient, contentOf, createVmPrerequisites, startTestApi } from '../support/api.ts';
import { operations } from '../support/openapi.ts';
import { testPublicKey } from '../support/ssh-keys.ts';

const dry = (plural: string, leaving: readonly string[] = []) =>
  `/v1/${plural}?dry_run=true${leaving.length > 0 ? `&leaving=${leaving.join(',')}` : ''}`;

t.test('every creation can be tried, and nothing is written', async (t) => {
  const api = await startTestApi(t);
  const { operator, project, store } = api;
  const { network, image, prefix } = await createVmPrerequisites(api, project);
  const interfaces = [{ network: network.id }];
  const vm = await operator.create('vms', { name: 'holder', project, image: image.id, interfaces, disk_size: '1GiB' });
  const volume = await operator.create('volumes', { name: 'held', project, size: '1GiB' });
  const company = (name: string) => ({
    ...{ name, legal_name: 'Example AG', email: 'a@example.com', number_series: name.toUpperCase() },
    address: { street: 'Weg 1', postcode: '8750', city: 'Glarus', country: 'CH' },
  });
  const entity = await operator.create('legal-entities', company('first'));
  const hour = await operator.create('products', { name: 'hour', meter: 'booked' });
  const { number_series: _series, ...customer } = company('payer');
  const payer = await operator.create('billing-accounts', { ...customer, currency: 'CHF', legal_entity: entity.id });
  await operator.update('projects', project, { billing_account: payer.id });
  await store.commit({
    write: [put(records.schedules, vm.id, { host: newId('host'), fence: 1, at: '2026-01-01T00:00:00Z' })],
  });
  await operator.get('vms', vm.id, `?after=${vm.revision}&timeout=10`);
  const bodies: Readonly<Record<string, object>> = {
    projects: { name: 'p' },
    tokens: { name: 't', project },
    'ssh-keys': { name: 'k', project, public_key: testPublicKey },
    images: { name: 'i', project, source: 'file:i.raw' },
    'prefix-pools': { name: 'pool', cidr: '2001:db8:f000::/36' },
    prefixes: { name: 'pre', project },
    networks: { name: 'net', project, prefix: prefix.id },
    'storage-pools': { name: 'fast', kind: 'local', path: '/srv/fast' },
    'bgp-peers': { name: 'spine', address: 'fe80::a%eth0', asn: 65001, local_asn: 65002 },
    volumes: { name: 'vol', project, size: '1GiB' },
    'volume-attachments': { vm: vm.id, volume: volume.id },
    'security-groups': { project: prefix.project, name: 'group', rules: [] },
    'prefix-routes': { name: 'route', prefix: prefix.id, length: 64, vm: vm.id },
    'legal-entities': company('second'),
    'billing-accounts': { ...company('customer'), number_series: undefined, currency: 'CHF', legal_entity: entity.id },
    products: { name: 'memory', meter: 'vm_memory' },
    prices: { product: hour.id, currency: 'CHF', amount: '1', per: 'once', valid_from: '2090-01-01T00:00:00Z' },
    orders: { project, product: hour.id, quantity: 1 },
    'payment-sources': { name: 'bank' },
    'vat-rates': { country: 'CH', rate: '8.8', valid_from: '2028-01-01' },
    payments: { billing_account: payer.id, amount: '1' },
    budgets: { project, max_monthly_cost: '5' },
    snapshots: { name: 'snap', vm: vm.id },
    'snapshot-schedules': { name: 'daily', vm: vm.id, cron: '0 3 * * *', retain: 7 },
    vms: { name: 'vm', project, image: image.id, interfaces: [{ network: network.id }], disk_size: '1GiB' },
  };
  const creations = endpoints.filter(({ dryRun }) => dryRun).map(({ path }) => path.replace('/v1/', ''));
  t.strictSame(Object.keys(bodies).toSorted(), creations.toSorted(), 'every creation is here');
  t.ok(operations.get('vm_create')?.responses['204'], 'and documented');

  const before = await store.list('', { limit: 1000 });
  const content = await contentOf(store);
  for (const [plural, body] of Object.entries(bodies)) {
    const key = { 'idempotency-key': `try-${plural}` };
    for (let i = 0; i < 2; i++) {
      const answer = await operator.request('POST', dry(plural), body, key);
      t.equal(answer.status, 204, `${plural}: ${JSON.stringify(answer.body)}`);
    }
  }
  t.strictSame(await contentOf(store), content);
  t.strictSame(
    (await store.list('', { limit: 1000 })).entries.length,
    before.entries.length,
    'no audit record, no event, no answer kept under the key',
  );
  for (const [plural, body] of Object.entries(bodies)) {
    const key = { 'idempotency-key': `try-${plural}` };
    await operator.expect(201, 'POST', `/v1/${plural}`, body, key);
    // A booking and a payment can be repeated.
    if (plural === 'orders' || plural === 'payments') continue;
    const again = await operator.request('POST', dry(plural), body);
    const real = await operator.request('POST', `/v1/${plural}`, body);
    t.equal(again.status, 409, `${plural} is refused now`);
    t.strictSame(
      { ...again.body, request_id: undefined },
      { ...real.body, request_id: undefined },
      `${plural}: with the error of the creation`,
    );
  }
});

t.test('an object that is leaving counts as deleted, with all that it holds', async (t) => {
  const api = await startTestApi(t);
  const { operator } = api;
  const project = (await operator.create('projects', { name: 'full' })).id;
  const member = await api.member(project);
  const prerequisites = await createVmPrerequisites(api, project);
  const mac = '02:00:00:00:00:01';
  const body = {
    name: 'web',
    image: prerequisites.image.id,
    interfaces: [{ network: prerequisites.network.id, mac }],
    disk_size: '1GiB',
  };
  const vm = await member.create('vms', body);
  await operator.update('projects', project, { quota: { vms: 1, prefixes: 1 } });
  const refused = async (by: ApiClient, path: string, asked: object) => {
    const { body: told } = await by.request('POST', path, asked);
    return [told.code, told.errors?.[0]?.pointer];
  };
  t.strictSame(await refused(member, dry('vms'), body), ['quota_exceeded', '/project']);
  t.strictSame(await refused(member, dry('vms', [vm.id]), body), [undefined, undefined]);
  await member.expect(204, 'POST', dry('vms', [vm.id]), { ...body, name: 'other' });
  await operator.update('projects', project, { quota: {} });
  t.strictSame(await refused(member, dry('vms'), body), ['name_taken', '/name']);
  t.strictSame(await refused(member, dry('vms'), { ...body, name: 'b' }), ['address_taken', '/interfaces/0/mac']);
  t.strictSame(await refused(member, dry('vms', [vm.id]), { ...body, memory: '1GiB' }), [undefined, undefined]);

  const { prefix, pool, network } = prerequisites;
  const same = { name: 'shared', pool: pool.id, cidr: prefix.cidr };
  t.strictSame(await refused(member, dry('prefixes'), { ...same, name: 'b' }), ['address_taken', '/cidr']);
  t.strictSame(await refused(member, dry('prefixes', [prefix.id]), same), [undefined, undefined]);
  const subnet = { name: 'shared', prefix: prefix.id, cidr: network.cidr };
  t.strictSame(await refused(member, dry('networks'), { ...subnet, name: 'b' }), ['address_taken', '/cidr']);
  t.strictSame(await refused(member, dry('networks', [network.id]), subnet), [undefined, undefined]);
  const space = { name: pool.name, cidr: pool.cidr };
  t.strictSame((await refused(operator, dry('prefix-pools'), space))[0], 'address_taken');
  t.strictSame(await refused(operator, dry('prefix-pools', [pool.id]), space), [undefined, undefined]);
  await member.expect(201, 'POST', '/v1/ssh-keys', { name: 'later', public_key: testPublicKey });
  t.match(await member.get('vms', vm.id), { name: 'web' }, 'it is still there');

  await t.test('a VM that is leaving frees its volumes', async (t) => {
    const [data, root] = [
      await operator.create('volumes', { name: 'data', project, size: '1GiB' }),
      await operator.create('volumes', { name: 'system', project, size: '1GiB', image: prerequisites.image.id }),
    ];
    const more = { project, interfaces: [{ network: network.id }], volumes: [data.id], root_volume: root.id };
    const holder = await operator.create('vms', { name: 'boots', ...more });
    const next = { name: 'boots-next', ...more };
    t.match(await operator.request('POST', dry('vms'), next), { status: 409, body: { code: 'in_use' } });
    t.match(await operator.request('POST', dry('vms', [holder.id]), next), { status: 204 });
  });

  await t.test('but not what the token could not delete', async (t) => {
    const stranger = await api.member((await operator.create('projects', { name: 'stranger' })).id);
    const theirs = { name: 'p', cidr: prefix.cidr };
    t.strictSame(await refused(stranger, dry('prefixes', [prefix.id]), theirs), ['address_taken', '/cidr']);
    const own = await createVmPrerequisites(api, (await stranger.request('GET', '/v1/token')).body.project);
    const taken = { ...body, image: own.image.id, interfaces: [{ network: own.network.id, mac }] };
    t.strictSame(await refused(stranger, dry('vms', [vm.id]), taken), ['address_taken', '/interfaces/0/mac']);
    t.strictSame((await refused(stranger, dry('projects', [project]), { name: 'full' }))[0], 'forbidden');
  });

  await t.test('a malformed dry run is refused', async (t) => {
    const viewer = await api.member(project, 'viewer');
    t.strictSame((await refused(viewer, dry('vms'), body))[0], 'forbidden', 'who may not create may not try');
    const wrong = async (query: string) => refused(member, `/v1/vms?${query}`, body);
    t.strictSame(await wrong('dry_run=perhaps'), ['invalid_input', '#query/dry_run']);
    t.strictSame(await wrong('dry_run=true&leaving=web'), ['invalid_input', '#query/leaving']);
    t.strictSame(await wrong(`leaving=${vm.id}`), ['invalid_input', '#query/leaving']);
    t.strictSame(await wrong('dryrun=true'), ['invalid_input', '#query/dryrun'], 'a slip does not create');
    const many = Array.from({ length: 501 }, () => vm.id).join();
    t.strictSame(await wrong(`dry_run=true&leaving=${many}`), ['invalid_input', '#query/leaving']);
  });
});
