/** Orders: they open, change and end with their objects. Prices, quotes and budgets, and all that is refused. */
import t, { type Test } from 'tap';
import { startApi } from '../../backend/api/start.ts';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put, readAll } from '../../backend/store/collection.ts';
import type { Store } from '../../backend/store/store.ts';
import { ApiClient, type Body, createVmPrerequisites, startTestApi } from '../support/api.ts';
import { onBothStores, stopSharedEtcd, type TestDatabase } from '../support/both-stores.ts';
import { until } from '../support/eventually.ts';
import { silentLogger } from '../support/silent-logger.ts';

t.teardown(stopSharedEtcd);

const GiB = 2 ** 30;
const address = { street: 'Bahnhofstrasse 1', postcode: '8750', city: 'Glarus', country: 'CH' };
const entity = (name: string, more: object = {}) => ({
  ...{
    name,
    legal_name: 'Example Cloud AG',
    address,
    email: 'billing@example.com',
    number_series: `${name}-`.toUpperCase(),
  },
  ...more,
});
const account = (name: string, legal_entity: string, more: object = {}) => ({
  ...{ name, legal_entity, currency: 'CHF', legal_name: 'ACME AG', address, email: 'accounting@acme.example' },
  ...more,
});

/** Makes a product with a price from now on. Returns the product. */
async function sell(operator: ApiClient, meter: string, price: object, product: object = {}): Promise<Body> {
  const made = await operator.create('products', { name: meter.replaceAll('_', '-'), meter, ...product });
  await operator.create('prices', { product: made.id, currency: 'CHF', ...price });
  return made;
}

async function makeAccount(operator: ApiClient, name: string, more: object = {}): Promise<Body> {
  const company = await operator.create('legal-entities', entity(`${name}-co`));
  return operator.create('billing-accounts', account(name, company.id, more));
}

type Item = { readonly meter: string; readonly quantity: number };
interface Order extends Body {
  readonly object?: string;
  readonly items: readonly (Body & Item)[];
  readonly replaces?: string;
  readonly opened_at: string;
  readonly ended_at: string;
  readonly end: string;
}
const quantities = ({ items }: Order) => Object.fromEntries(items.map(({ meter, quantity }) => [meter, quantity]));

async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const each of source) all.push(each);
  return all;
}
const usesOf = async (store: Store, resource: string) =>
  (await collect(readAll(store, records.usage)))
    .filter(({ value }) => value.resource === resource)
    .flatMap(({ value: { until, uses } }) =>
      uses.map(({ meter, since, quantity }) => ({ meter, since, until, quantity })),
    );

await onBothStores(t, 'an order opens, is replaced and ends with its object', async (t, fresh) => {
  const store = await (await fresh()).connect();
  const test = await startTestApi(t, { store });
  const member = await test.member(test.project);
  const shared = await createVmPrerequisites(test, test.project);
  const orderOf = async (object: string) =>
    (await member.list('orders', `?object=${object}`)).items[0] as Order | undefined;
  const ended = async () => (await member.list('ended-orders')).items as readonly Order[];

  const vm = await member.create('vms', {
    ...{ name: 'web', image: shared.image.id, cpus: 2, memory: '1GiB', disk_size: '10GiB' },
    interfaces: [{ network: shared.network.id }],
    labels: { tier: 'web' },
  });
  const first = await orderOf(vm.id);
  t.match(first, { project: test.project, object: vm.id, title: 'web', labels: { tier: 'web' } });
  t.strictSame(first && quantities(first), { vm: 1, vm_cpu: 2, vm_memory: GiB, vm_disk: 10 * GiB });
  t.strictSame(await ended(), []);

  await member.update('vms', vm.id, { description: 'changed', labels: { tier: 'db' } });
  t.strictSame(await orderOf(vm.id), first, 'a change that costs nothing is no order');

  await member.update('vms', vm.id, { cpus: 4 });
  const second = await orderOf(vm.id);
  t.match(second, { object: vm.id, replaces: first?.id });
  t.equal(second && quantities(second).vm_cpu, 4);
  t.match(await ended(), [{ id: first?.id, object: vm.id, end: 'replaced', ended_at: second?.opened_at }]);

  await member.update('vms', vm.id, { power_state: 'stopped' });
  t.equal((await orderOf(vm.id))?.id, second?.id, 'a stop ends the use, but not the order');
  const stopped = await usesOf(store, vm.id);
  t.strictSame(stopped.map(({ meter }) => meter).toSorted(), [
    'running_cpu',
    'running_cpu',
    'running_memory',
    'running_vm',
    'vm_cpu',
  ]);
  t.ok(stopped.every(({ since, until }) => since <= until));

  await member.request('DELETE', `/v1/vms/${vm.id}`);
  t.equal(await orderOf(vm.id), undefined, 'the order ends with the request, before the host has removed the VM');
  t.match(
    (await ended()).map(({ end }) => end),
    ['replaced', 'deleted'],
  );
  const all = await usesOf(store, vm.id);
  const cpu = all.filter(({ meter }) => meter === 'vm_cpu').toSorted((a, b) => (a.since < b.since ? -1 : 1));
  t.strictSame(
    cpu.map(({ quantity }) => quantity),
    [2, 4],
  );
  t.equal(cpu[0]?.until, cpu[1]?.since, 'the intervals touch');

  const volume = await member.create('volumes', { name: 'data', size: '5GiB' });
  t.strictSame(quantities((await orderOf(volume.id)) as Order), { volume: 5 * GiB });
  await member.update('volumes', volume.id, { size: '6GiB' });
  t.strictSame(quantities((await orderOf(volume.id)) as Order), { volume: 6 * GiB });
  await member.request('DELETE', `/v1/volumes/${volume.id}`);
  const prefix = await member.create('prefixes', { name: 'mine', length: 56 });
  t.match((await orderOf(prefix.id))?.items, [{ meter: 'prefix', length: 56, quantity: 1 }]);
  await member.remove('prefixes', prefix.id);
  t.equal(await orderOf(prefix.id), undefined);
});

t.test('a guest that runs is charged for its shape until its next start', async (t) => {
  const test = await startTestApi(t);
  const { store, operator, project } = test;
  const { image, network } = await createVmPrerequisites(test, project);
  const interfaces = [{ network: network.id }];
  const vm = await operator.create('vms', {
    ...{ name: 'web', project, image: image.id, interfaces, disk_size: '1GiB', cpus: 4, memory: '2GiB' },
  });
  const ordered = async () => {
    const [order] = (await operator.list('orders', `?object=${vm.id}`)).items;
    const { vm_cpu, vm_memory } = quantities(order as Order);
    return [vm_cpu, vm_memory];
  };
  const report = async (cpus: number, memory: number) => {
    const resources = { cpus, memory, disk: GiB };
    const at = new Date().toISOString();
    const value = { host: newId('host'), fence: 1, phase: 'running', resources, at } as const;
    const result = await store.commit({ write: [put(records.reports, vm.id, value)] });
    if (!result.ok) throw new Error('the report was not written');
  };
  await report(4, 2 * GiB);
  await operator.update('vms', vm.id, { cpus: 1, memory: '512MiB' });
  t.strictSame(await ordered(), [4, 2 * GiB], 'a smaller size takes effect at the next start');
  await operator.update('vms', vm.id, { cpus: 8 });
  t.strictSame(await ordered(), [8, 2 * GiB], 'a larger one is ordered at once');
  await operator.update('vms', vm.id, { cpus: 1 });
  await report(1, GiB / 2);
  await until('the order has the shape of the new start', async () => (await ordered()).join() === `1,${GiB / 2}`);
});

await onBothStores(t, 'objects without an order get one, and orders without an object end', async (t, fresh) => {
  const store = await (await fresh()).connect();
  const test = await startTestApi(t, { store });
  const prefixes = await createVmPrerequisites(test, test.project);
  const { prefix } = prefixes;
  const [order] = (await test.operator.list('orders', `?object=${prefix.id}`)).items;
  // An older version created one prefix and deleted another, without orders.
  await store.commit({ write: [{ delete: `${records.orders.prefix}${order?.id}` }] });
  const copy = {
    ...order,
    id: 'ord-0000000000000000',
    object: 'pfx-0000000000000000',
    use: [{ meter: 'prefix', length: 56, quantity: 1, since: order?.created_at }],
  };
  const { revision: _revision, ...record } = copy as Record<string, unknown>;
  await store.commit({
    write: [{ put: `${records.orders.prefix}ord-0000000000000000`, value: JSON.stringify(record) }],
  });
  const second = await startApi({ store, listen: { host: '::1', port: 0 }, logger: silentLogger });
  t.teardown(() => second.close());
  await until('the order is there', async () => {
    const { items } = await test.operator.list('orders', `?object=${prefix.id}`);
    return items.length === 1;
  });
  await until('the other one has ended', async () => {
    const { items } = await test.operator.list('ended-orders');
    return items.some(({ id }) => id === 'ord-0000000000000000');
  });
});

await t.test('prices and quotes', async (t) => {
  const test = await startTestApi(t);
  const { operator } = test;
  const viewer = await test.member(test.project, 'viewer');
  const quote = async (body: object) =>
    (await viewer.expect(200, 'POST', '/v1/quotes', body)).body as unknown as {
      currency?: string;
      monthly: string;
      once: string;
      lines: object[];
      items: object[];
    };
  t.match(
    await quote({ vms: [{ cpus: 4 }] }),
    { monthly: '0', once: '0', lines: [] },
    'without prices everything is free',
  );

  await sell(operator, 'vm_cpu', { amount: '0.0125', per: 'hour', monthly_cap: '8' });
  await sell(operator, 'vm_memory', { amount: '3.333', per: 'month' });
  await sell(operator, 'vm', { amount: '10', per: 'once' });
  const volume = await sell(operator, 'volume', { amount: '0.0002', per: 'hour' });
  const three = await quote({
    vms: [{ count: 3, cpus: 2, memory: '4GiB', disk_size: '20GiB' }],
    volumes: [{ size: '100GiB' }],
  });
  t.match(three, { currency: 'CHF', once: '30.00' });
  // 6 × 8 (the cap, because 730 × 0.0125 is more) + 12 × 3.333 + 100 × 0.0002 × 730
  t.equal(three.monthly, '102.60');
  t.match(three.lines, [
    { name: 'vm', once: '30.00', quantity: '3' },
    { name: 'vm-cpu', monthly: '48.00', quantity: '6', unit: 'CPU' },
    { name: 'vm-memory', monthly: '40.00', quantity: '12', unit: 'GiB' },
    { name: 'volume', monthly: '14.60' },
  ]);
  t.strictSame(
    three.items,
    [
      // 2 × 8 + 4 × 3.333
      { pointer: '/vms/0', monthly: '29.33', once: '10.00' },
      { pointer: '/volumes/0', monthly: '14.60', once: '0.00' },
    ],
    'and of a single object of each item',
  );

  await t.test('a price of the future is visible, and does not apply yet', async (t) => {
    const valid_from = new Date(Date.now() + 3_600_000).toISOString();
    const next = await operator.create('prices', {
      product: volume.id,
      currency: 'CHF',
      amount: '9',
      per: 'hour',
      valid_from,
    });
    t.match((await viewer.list('prices', `?product=${volume.id}`)).items.length, 2);
    t.match(await quote({ volumes: [{ size: '100GiB' }] }), { monthly: '14.60' });
    await operator.remove('prices', next.id);
  });

  await t.test('what is refused', async (t) => {
    const product = volume.id;
    const refused = async (code: string, pointer: string, plural: string, body: object, client = operator) => {
      const answer = await client.request('POST', `/v1/${plural}`, body);
      t.match(answer.body, { code, errors: [{ pointer }] }, `${plural} ${JSON.stringify(body)}`);
    };
    const price = { product, currency: 'CHF', amount: '1', per: 'hour' };
    for (const amount of ['-1', '1e3', '01', '1.123456789', 'NaN', '', '1,5', ' 1', '9999999999999']) {
      await refused('invalid_input', '/amount', 'prices', { ...price, amount });
    }
    await refused('invalid_input', '/amount', 'prices', { ...price, amount: 1 });
    await refused('invalid_input', '/currency', 'prices', { ...price, currency: 'XXX' });
    await refused('invalid_input', '/currency', 'prices', { ...price, currency: 'chf' });
    await refused('rule_violated', '/valid_from', 'prices', { ...price, valid_from: '2020-02-29T00:00:00Z' });
    await refused('invalid_input', '/valid_from', 'prices', { ...price, valid_from: '2030-02-29T00:00:00Z' });
    await refused('rule_violated', '/minimum_seconds', 'prices', { ...price, per: 'once', minimum_seconds: 60 });
    await refused('rule_violated', '/monthly_cap', 'prices', { ...price, per: 'month', monthly_cap: '5' });
    await refused('invalid_reference', '/product', 'prices', { ...price, product: 'prod-0000000000000000' });
    const valid_from = '2090-01-01T00:00:00.000Z';
    await operator.create('prices', { ...price, valid_from });
    await refused('price_exists', '/valid_from', 'prices', {
      ...price,
      amount: '2',
      valid_from: '2090-01-01T01:00:00+01:00',
    });
    await operator.create('prices', { ...price, currency: 'EUR', valid_from });
    await refused('meter_taken', '/meter', 'products', { name: 'again', meter: 'vm_cpu' });
    await refused('rule_violated', '/pool', 'products', { name: 'again', meter: 'vm', pool: 'stp-0000000000000000' });
    await refused('rule_violated', '/length', 'products', { name: 'again', meter: 'vm', length: 56 });
    await refused('invalid_input', '/meter', 'products', { name: 'again', meter: 'electricity' });
    await refused('rule_violated', '/currency', 'quotes', { vms: [{}] }, viewer);
    await refused('rule_violated', '', 'quotes', { currency: 'CHF', vms: [{ count: 100_000 }, {}] }, viewer);
    await refused('invalid_input', '/vms/0/count', 'quotes', { vms: [{ count: 1_000_000 }] }, viewer);
    t.match(await operator.request('DELETE', `/v1/products/${product}`), { body: { code: 'in_use' } });
    for (const path of ['products', 'prices', 'legal-entities', 'billing-accounts', 'orders'])
      t.equal((await viewer.request('POST', `/v1/${path}`, {})).status, 403, path);
    for (const path of ['legal-entities', 'billing-accounts'])
      t.equal((await viewer.request('GET', `/v1/${path}`)).status, 403, path);
  });
});

await t.test('accounts and budgets', async (t) => {
  const test = await startTestApi(t);
  const { operator } = test;
  const member = await test.member(test.project);
  await createVmPrerequisites(test, test.project);
  await sell(operator, 'volume', { amount: '1', per: 'month' });
  const volume = (name: string, size: string) => member.request('POST', '/v1/volumes', { name, size });

  await t.test('without an account, the operator decides', async (t) => {
    t.equal((await volume('free', '10GiB')).status, 201);
    await operator.expect(200, 'PATCH', '/v1/settings', { billing: 'required' });
    t.match((await volume('refused', '10GiB')).body, {
      code: 'billing_account_required',
      errors: [{ pointer: '/project' }],
    });
    const [free] = (await member.list('volumes')).items;
    t.match(
      (await member.request('PATCH', `/v1/volumes/${free?.id}`, { size: '11GiB' })).body,
      { code: 'billing_account_required' },
      'an existing object may not grow',
    );
    t.equal((await member.request('PATCH', `/v1/volumes/${free?.id}`, { description: 'x' })).status, 200);
    t.equal((await member.request('POST', '/v1/ssh-keys', { name: 'none', public_key: 'x' })).status, 400);
  });

  const planned = async (plan: object) => {
    const answer = await member.expect(200, 'POST', '/v1/capacity-checks', plan);
    return Object(answer.body).refusals as readonly object[];
  };
  t.match(
    await planned({ added: { volumes: [{ size: '1GiB', count: 2 }] } }),
    [{ pointer: '/added', first: 0, count: 2, reason: 'billing_account_required', message: /no billing account/ }],
    'a plan hears of it before',
  );
  t.strictSame(await planned({ removed: { volumes: [{ size: '1GiB' }] } }), []);

  const payer = await makeAccount(operator, 'acme');
  await operator.create('budgets', { billing_account: payer.id, max_monthly_cost: '120' });
  await operator.update('projects', test.project, { billing_account: payer.id });

  await t.test('a budget refuses creations and changes beyond it', async (t) => {
    const budget = await operator.create('budgets', { project: test.project, max_monthly_cost: '100' });
    const exceeded = { code: 'budget_exceeded', errors: [{ pointer: '/project' }] };
    t.match((await volume('large', '91GiB')).body, exceeded);
    t.match(
      (await volume('large', '91GiB')).body.detail,
      /100 CHF per month, 10\.00 CHF are in use, and 91\.00 CHF more/,
    );
    t.match(
      (await member.request('POST', '/v1/volumes?dry_run=true', { name: 'large', size: '91GiB' })).body,
      exceeded,
    );
    const large = { volumes: [{ size: '91GiB' }] };
    t.match(await planned({ added: large }), [
      { pointer: '/added', count: 1, reason: 'budget_exceeded', message: /and 91\.00 CHF more are asked for/ },
    ]);
    t.strictSame(await planned({ added: large, removed: { volumes: [{ size: '1GiB' }] } }), []);
    t.strictSame(await planned({ added: { volumes: [{ size: '45GiB' }, { size: '44GiB' }] } }), []);
    const unknown = { volumes: [{ size: '1GiB', pool: 'stp-1111111111111111' }] };
    t.match(await member.request('POST', '/v1/capacity-checks', { added: unknown }), {
      status: 422,
      body: { code: 'invalid_reference', errors: [{ pointer: '/added/volumes/0/pool' }] },
    });
    t.equal((await volume('fits', '90GiB')).status, 201);
    const [fits] = (await member.list('volumes', '?name=fits')).items;
    t.match((await member.request('PATCH', `/v1/volumes/${fits?.id}`, { size: '91GiB' })).body, exceeded);
    await operator.update('budgets', budget.id, { max_monthly_cost: '101' });
    const [same] = (await member.list('budgets')).items;
    t.match(same, { id: budget.id, max_monthly_cost: '101' });
    t.equal((await member.request('PATCH', `/v1/volumes/${fits?.id}`, { size: '91GiB' })).status, 200);
    t.equal((await member.request('PATCH', `/v1/budgets/${budget.id}`, { max_monthly_cost: '999' })).status, 403);
    t.equal((await member.request('DELETE', `/v1/budgets/${budget.id}`)).status, 403);
    await operator.update('volumes', fits?.id ?? '', { size: '92GiB' }).then(
      () => t.fail('an operator is bound, too'),
      (error: Error) => t.match(error.message, /budget_exceeded/),
    );
    const without = `/v1/volumes?dry_run=true&leaving=${budget.id}`;
    const small = { name: 'more', size: '1GiB' };
    t.match((await member.request('POST', without, small)).body, exceeded, 'a member cannot delete it');
    t.equal((await operator.request('POST', without, { ...small, project: test.project })).status, 204);
    await operator.remove('budgets', budget.id);
    t.match((await volume('more', '20GiB')).body.detail, /billing account/);
    t.equal((await volume('more', '19GiB')).status, 201);
  });

  await t.test('what is refused', async (t) => {
    const other = await operator.create('projects', { name: 'other' });
    const refused = async (method: string, path: string, body: object | undefined, problem: object) =>
      t.match((await operator.request(method, path, body)).body, problem, `${method} ${path} ${JSON.stringify(body)}`);
    const [project, billing_account] = [other.id, payer.id];
    const budget = (body: object, code: string, pointer: string) =>
      refused('POST', '/v1/budgets', { max_monthly_cost: '5', ...body }, { code, errors: [{ pointer }] });
    await budget({}, 'rule_violated', '/project');
    await budget({ project, billing_account }, 'rule_violated', '/billing_account');
    await budget({ project: 'prj-0000000000000000' }, 'invalid_reference', '/project');
    await budget({ billing_account: 'acct-0000000000000000' }, 'invalid_reference', '/billing_account');
    await budget({ billing_account }, 'budget_exists', '/billing_account');
    for (const amount of ['-1', '1e3', '', 'NaN', '0.123456789', '9999999999999'])
      await budget({ project, max_monthly_cost: amount }, 'invalid_input', '/max_monthly_cost');
    const made = await operator.create('budgets', { project, max_monthly_cost: '0' });
    await budget({ project }, 'budget_exists', '/project');
    const path = `/v1/budgets/${made.id}`;
    await refused('PATCH', path, { max_monthly_cost: null }, { code: 'invalid_input' });
    await refused('PATCH', path, { project: test.project }, { code: 'invalid_input' });
    await refused('DELETE', `/v1/projects/${project}`, undefined, { code: 'in_use', users: [{ id: made.id }] });
    await operator.update('budgets', made.id, { delete_protection: true });
    await refused('DELETE', path, undefined, { code: 'delete_protected' });
    await operator.update('budgets', made.id, { delete_protection: false });
    t.equal((await member.request('GET', path)).status, 404, 'the budget of another project is hidden');
    t.strictSame((await member.list('budgets')).items, [], 'and so is that of an account');
    t.equal((await operator.list('budgets', `?billing_account=${payer.id}`)).items.length, 1);
    t.equal((await member.request('GET', `/v1/budgets?project=${project}`)).status, 404);
    t.strictSame((await member.list('budgets', `?billing_account=${payer.id}`)).items, []);
    await operator.remove('budgets', made.id);
    await operator.remove('budgets', (await operator.create('budgets', { project, max_monthly_cost: '1' })).id);
    await refused(
      'PATCH',
      `/v1/projects/${other.id}`,
      { billing_account: 'acct-0000000000000000' },
      { code: 'invalid_reference', errors: [{ pointer: '/billing_account' }] },
    );
    await refused('DELETE', `/v1/billing-accounts/${payer.id}`, undefined, { code: 'in_use' });
    const {
      items: [company],
    } = await operator.list('legal-entities');
    await refused('DELETE', `/v1/legal-entities/${company?.id}`, undefined, { code: 'in_use' });
    await refused('POST', '/v1/legal-entities', entity('second', { number_series: 'ACME-CO-' }), {
      code: 'rule_violated',
      errors: [{ pointer: '/number_series' }],
    });
    const bad = account('bad', company?.id ?? '');
    await refused(
      'POST',
      '/v1/billing-accounts',
      { ...bad, currency: 'ZZZ' },
      { code: 'invalid_input', errors: [{ pointer: '/currency' }] },
    );
    await refused(
      'POST',
      '/v1/billing-accounts',
      { ...bad, email: 'a@b\nBcc: c@d.example' },
      { code: 'invalid_input', errors: [{ pointer: '/email' }] },
    );
    await refused(
      'POST',
      '/v1/billing-accounts',
      { ...bad, legal_name: 'A\r\nB' },
      { code: 'invalid_input', errors: [{ pointer: '/legal_name' }] },
    );
    await refused(
      'POST',
      '/v1/billing-accounts',
      { ...bad, address: { ...address, country: 'ZZ' } },
      { code: 'invalid_input', errors: [{ pointer: '/address/country' }] },
    );
  });

  await t.test('bookings are orders without an object', async (t) => {
    const hour = await sell(operator, 'booked', { amount: '150', per: 'once' }, { name: 'hour' });
    const booked = await operator.create('orders', {
      project: test.project,
      product: hour.id,
      quantity: 3,
      description: 'Migration',
    });
    t.match(booked, {
      title: 'hour',
      quantity: 3,
      description: 'Migration',
      items: [{ meter: 'booked', product: hour.id, quantity: 3 }],
    });
    t.equal((await member.request('DELETE', `/v1/orders/${booked.id}`)).status, 403);
    t.match((await operator.request('DELETE', `/v1/projects/${test.project}`)).status, 409);
    await operator.expect(204, 'DELETE', `/v1/orders/${booked.id}`);
    t.match((await member.list('ended-orders')).items.at(-1), { id: booked.id, end: 'ended' });
    const [own] = (await member.list('orders')).items;
    t.match((await operator.request('DELETE', `/v1/orders/${own?.id}`)).body, { code: 'invalid_state' });
    const wrong = {
      project: test.project,
      product: (await operator.list('products', '?name=volume')).items[0]?.id,
      quantity: 1,
    };
    t.match((await operator.request('POST', '/v1/orders', wrong)).body, {
      code: 'invalid_reference',
      errors: [{ pointer: '/product' }],
    });
  });
});

/** Starts two servers on one database, with a price for volumes and an account. */
async function twoServers(t: Test, database: TestDatabase) {
  const test = await startTestApi(t, { store: await database.connect() });
  const { operator } = test;
  const other = await startApi({
    ...{ store: await database.connect(), listen: { host: '::1', port: 0 }, logger: silentLogger },
    rateLimit: { requestsPerMinute: 1_000_000 },
  });
  t.teardown(() => other.close());
  await sell(operator, 'volume', { amount: '1', per: 'month' });
  const payer = await makeAccount(operator, 'acme');
  const servers = [operator, new ApiClient(other.url, test.operatorToken)] as const;
  return { operator, servers, payer };
}

await onBothStores(t, 'two servers keep a budget together', async (t, fresh) => {
  const { operator, servers, payer } = await twoServers(t, await fresh());
  await operator.create('budgets', { billing_account: payer.id, max_monthly_cost: '10' });
  const projects = await Promise.all(
    ['a', 'b'].map((name) => operator.create('projects', { name, billing_account: payer.id })),
  );
  const answers = await Promise.all(
    Array.from({ length: 24 }, (_, index) =>
      servers[index % 2]?.request('POST', '/v1/volumes', {
        name: `v-${index}`,
        size: '1GiB',
        project: projects[(index >> 1) % 2]?.id,
      }),
    ),
  );
  const codes = answers.map((answer) => (answer?.status === 201 ? 'made' : answer?.body.code));
  t.equal(codes.filter((code) => code === 'made').length, 10);
  t.equal(codes.filter((code) => code === 'budget_exceeded').length, 14);
});

await onBothStores(t, 'a budget that comes or falls meanwhile is kept, too', async (t, fresh) => {
  const { operator, servers, payer } = await twoServers(t, await fresh());
  const { id: project } = await operator.create('projects', { name: 'a', billing_account: payer.id });
  let made = 0;
  const volumes = (round: string, count: number) =>
    Array.from({ length: count }, async (_, index) => {
      const body = { name: `${round}-${index}`, size: '1GiB', project };
      const answer = await servers[index % 2 === 0 ? 0 : 1].request('POST', '/v1/volumes', body);
      if (answer.status === 201) made++;
      else t.match(answer.body, { code: 'budget_exceeded' });
    });
  // Both servers want to make the budget, while others create objects.
  const twice = servers.map((server) => server.request('POST', '/v1/budgets', { project, max_monthly_cost: '8' }));
  const answers = await Promise.all([...twice, ...volumes('a', 20)]);
  const [first, second] = await Promise.all(twice);
  t.strictSame([first?.status, second?.status].toSorted(), [201, 409]);
  t.equal([first, second].find((each) => each?.status === 409)?.body.code, 'budget_exists');
  t.ok(answers.length === 22 && made <= 20);
  const [budget] = (await operator.list('budgets', `?project=${project}`)).items;
  // After the answer about a lower amount, no creation passes it, on any server.
  await operator.update('budgets', budget?.id ?? '', { max_monthly_cost: String(made + 6) });
  await Promise.all([
    ...volumes('b', 3),
    operator.update('budgets', budget?.id ?? '', { max_monthly_cost: String(made + 3) }),
  ]);
  await Promise.all(volumes('c', 12));
  const used = (await operator.list('volumes', `?project=${project}`)).items.length;
  const { max_monthly_cost } = Object(await operator.get('budgets', budget?.id ?? ''));
  t.equal(used, Number(max_monthly_cost), 'all of the budget is used, and no more');
});

await onBothStores(t, 'fields of an earlier version become budgets', async (t, fresh) => {
  const database = await fresh();
  const store = await database.connect();
  const test = await startTestApi(t, { store });
  const { operator } = test;
  await sell(operator, 'volume', { amount: '1', per: 'month' });
  const payer = await makeAccount(operator, 'acme');
  const { id: project } = await operator.create('projects', { name: 'a', billing_account: payer.id });
  for (const [key, max_monthly_cost] of [
    [`${records.projects.prefix}${project}`, '3'],
    [`${records.billingAccounts.prefix}${payer.id}`, '5.5'],
  ] as const) {
    const entry = await store.get(key);
    await store.commit({
      write: [{ put: key, value: JSON.stringify({ ...JSON.parse(entry?.value ?? ''), max_monthly_cost }) }],
    });
  }
  await store.commit({ write: [put(records.budgetGuards, project, { count: 7 })] });
  const starts = await Promise.all(
    Array.from({ length: 3 }, async () => {
      const options = { store: await database.connect(), listen: { host: '::1', port: 0 }, logger: silentLogger };
      return startApi(options);
    }),
  );
  t.teardown(() => Promise.all(starts.map((each) => each.close())));
  const client = new ApiClient(starts[2]?.url ?? '', test.operatorToken);
  const { items } = await client.list('budgets');
  t.equal(items.length, 2, 'once, although three servers start at once');
  t.match(
    items.toSorted((a, b) => (Object(a).max_monthly_cost < Object(b).max_monthly_cost ? -1 : 1)),
    [
      { project, max_monthly_cost: '3' },
      { billing_account: payer.id, max_monthly_cost: '5.5' },
    ],
  );
  t.notOk('max_monthly_cost' in (await client.get('projects', project)));
  t.notOk('max_monthly_cost' in (await client.get('billing-accounts', payer.id)));
  const large = await client.request('POST', '/v1/volumes', { project, name: 'large', size: '4GiB' });
  t.match(large.body, { code: 'budget_exceeded' });
  t.equal((await client.request('POST', '/v1/volumes', { project, name: 'fits', size: '3GiB' })).status, 201);
  t.match((await client.request('POST', '/v1/budgets', { project, max_monthly_cost: '9' })).body, {
    code: 'budget_exists',
  });
});
