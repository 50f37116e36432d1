/** Composed products in quotes, budgets, costs and bills, and those that the API refuses. */
import t from 'tap';
import { startApi } from '../../backend/api/start.ts';
import { ApiClient, createVmPrerequisites, startTestApi } from '../support/api.ts';
import { onBothStores, stopSharedEtcd } from '../support/both-stores.ts';
import { silentLogger } from '../support/silent-logger.ts';

t.teardown(stopSharedEtcd);

const GiB = 2 ** 30;
const party = {
  legal_name: 'Example AG',
  address: { street: 'Bahnhofstrasse 1', postcode: '8750', city: 'Glarus', country: 'CH' },
  email: 'billing@example.com',
};

t.test('a VM with 20 GiB of disk and 1 GiB of memory for each CPU', async (t) => {
  const test = await startTestApi(t);
  const { operator, project } = test;
  const member = await test.member(project);
  const { image, network } = await createVmPrerequisites(test, project);
  const sell = async (meter: string, amount: string, more: object = {}, per = 'month') => {
    const product = await operator.create('products', { name: meter.replaceAll('_', '-'), meter, ...more });
    await operator.create('prices', { product: product.id, currency: 'CHF', amount, per });
    return product;
  };
  const composed = await sell('vm', '5', { includes: [{ meter: 'vm_disk', quantity: 20 * GiB }] });
  t.match(await member.get('products', composed.id), { includes: [{ meter: 'vm_disk', quantity: 20 * GiB }] });
  await sell('vm_disk', '1');
  await sell('vm_cpu', '10', { includes: [{ meter: 'vm_memory', quantity: GiB }] });
  await sell('vm_memory', '2');

  const quote = async (...vms: object[]) => Object((await member.expect(200, 'POST', '/v1/quotes', { vms })).body);
  const vm = (disk: number, memory = 1) => ({ cpus: 1, memory: `${memory}GiB`, disk_size: `${disk}GiB` });
  t.match(await quote(vm(20)), { monthly: '15.00', lines: [{ name: 'vm' }, { name: 'vm-cpu' }] });
  t.equal((await quote(vm(20))).lines.length, 2);
  t.match(await quote(vm(30, 3)), { monthly: '29.00' });
  const both = await quote({ ...vm(10), count: 2 }, vm(30));
  t.match(both, { monthly: '55.00' }, 'one VM does not use what another one leaves');
  t.match(
    both.lines.find((line: { name: string }) => line.name === 'vm-disk'),
    { quantity: '10', monthly: '10.00' },
  );
  t.match(both.items, [{ monthly: '15.00' }, { monthly: '25.00' }]);

  const entity = await operator.create('legal-entities', { ...party, name: 'issuer', number_series: 'A-' });
  const account = await operator.create('billing-accounts', {
    ...party,
    name: 'acme',
    currency: 'CHF',
    legal_entity: entity.id,
  });
  await operator.update('projects', project, { billing_account: account.id });
  const budget = await operator.create('budgets', { project, max_monthly_cost: '40' });
  const create = (name: string, disk: number) =>
    member.request('POST', '/v1/vms', { name, image: image.id, ...vm(disk), interfaces: [{ network: network.id }] });
  t.equal((await create('small', 10)).status, 201);
  const { body } = await create('large', 31);
  t.match(body, { code: 'budget_exceeded', detail: /15\.00 CHF are in use, and 26\.00 CHF more/ });
  const added = { vms: [vm(31)] };
  const planned = async (plan: object) =>
    Object((await member.expect(200, 'POST', '/v1/capacity-checks', plan)).body).refusals;
  t.match(await planned({ added }), [{ reason: 'budget_exceeded', message: /26\.00/ }]);
  t.strictSame(await planned({ added: { vms: [vm(30)] } }), []);
  const large = await create('large', 30);
  t.equal(large.status, 201);
  t.match((await member.request('PATCH', `/v1/vms/${large.body.id}`, { disk_size: '31GiB' })).body, {
    code: 'budget_exceeded',
    detail: /40\.00 CHF are in use, and 1\.00 CHF more/,
  });
  const leaving = `/v1/vms?dry_run=true&leaving=${large.body.id}`;
  const next = { name: 'next', image: image.id, ...vm(30), interfaces: [{ network: network.id }] };
  t.equal((await member.request('POST', leaving, next)).status, 204, 'a replacement has the room of the old one');
  await operator.remove('budgets', budget.id);

  const costs = Object((await member.expect(200, 'GET', '/v1/costs')).body);
  const disk = (await operator.list('products', '?name=vm-disk')).items[0]?.id;
  const shown = costs.items.filter((each: { product: string }) => each.product === disk);
  t.ok(shown.length <= 1 && shown.every((each: { title: string }) => each.title === 'large'));
  const preview = Object((await operator.expect(200, 'GET', `/v1/billing-accounts/${account.id}/preview`)).body);
  t.notOk(preview.lines.some(({ description }: { description: string }) => /memory/.test(description)));
});

t.test('what is refused', async (t) => {
  const { operator, member, project } = await startTestApi(t);
  const refused = async (body: object, pointer: string, code = 'rule_violated', detail = /must/) =>
    t.match((await operator.request('POST', '/v1/products', { name: 'bad', ...body })).body, {
      code,
      errors: [{ pointer, detail }],
    });
  const disk = { meter: 'vm_disk', quantity: 1 };
  await refused({ meter: 'vm', includes: [{ meter: 'vm', quantity: 1 }] }, '/includes/0/meter');
  await refused({ meter: 'vm', includes: [disk, disk] }, '/includes/1/meter', 'rule_violated', /once/);
  await refused({ meter: 'running_vm', includes: [disk] }, '/includes/0/meter', 'rule_violated', /running/);
  for (const meter of ['volume', 'snapshot', 'prefix', 'booked', 'image'])
    await refused({ meter, includes: [disk] }, '/includes', 'rule_violated', /missing/);
  await refused({ meter: 'vm', includes: [{ meter: 'volume', quantity: 1 }] }, '/includes/0/meter', 'invalid_input');
  await refused({ meter: 'vm', includes: [] }, '/includes', 'invalid_input');
  for (const quantity of [0, -1, 1.5, 2 ** 41, '1'])
    await refused({ meter: 'vm', includes: [{ meter: 'vm_disk', quantity }] }, '/includes/0/quantity', 'invalid_input');
  const vm = await operator.create('products', {
    name: 'vm',
    meter: 'vm',
    includes: [{ meter: 'vm_cpu', quantity: 1 }],
  });
  await refused({ meter: 'vm_cpu', includes: [disk] }, '/includes', 'rule_violated', new RegExp(vm.id));
  await refused(
    { meter: 'vm_memory', includes: [{ meter: 'vm', quantity: 1 }] },
    '/includes/0/meter',
    'rule_violated',
    new RegExp(vm.id),
  );
  t.match((await operator.request('PATCH', `/v1/products/${vm.id}`, { includes: [disk] })).body, {
    code: 'invalid_input',
  });
  t.equal((await (await member(project)).request('POST', '/v1/products', { name: 'x', meter: 'vm' })).status, 403);
  await operator.remove('products', vm.id);
  const cpu = await operator.create('products', { name: 'cpu', meter: 'vm_cpu', includes: [disk] });
  await operator.remove('products', cpu.id);
});

await onBothStores(t, 'two servers never make a chain of composed products', async (t, fresh) => {
  const database = await fresh();
  const { operator, operatorToken } = await startTestApi(t, { store: await database.connect() });
  const other = await startApi({
    ...{ store: await database.connect(), listen: { host: '::1', port: 0 }, logger: silentLogger },
  });
  t.teardown(() => other.close());
  const second = new ApiClient(other.url, operatorToken);
  for (let round = 0; round < 5; round++) {
    const make = (client: ApiClient, meter: string, included: string) =>
      client.request('POST', '/v1/products', {
        ...{ name: meter.replace('_', '-'), meter, includes: [{ meter: included, quantity: 1 }] },
      });
    const answers = await Promise.all([make(operator, 'vm', 'vm_cpu'), make(second, 'vm_cpu', 'vm_memory')]);
    t.strictSame(answers.map(({ status }) => status).toSorted(), [201, 422]);
    const made = answers.find(({ status }) => status === 201);
    await operator.remove('products', made?.body.id ?? '');
  }
});
