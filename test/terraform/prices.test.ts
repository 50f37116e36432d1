/** The cost of a plan in the plan: attributes, the sum of the plan, budgets, and the data source of quotes. */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { buildProvider } from '../../provider/build.ts';
import { providerBlock, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { demoImage } from '../support/hcl.ts';
import { sampleBill, sampleLines, storeBill } from '../support/sample-bills.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { TerraformDirectory, terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;

/** The amounts of one unit in a month. */
const monthlyAmounts = { vm_cpu: '10', vm_memory: '2', vm_disk: '0.1', volume: '0.2', prefix: '1', snapshot: '0.05' };

interface PricedCloud extends TestCloud {
  /** Makes another price of a product, from now on. */
  reprice(meter: keyof typeof monthlyAmounts, amount: string): Promise<void>;
}

async function pricedCloud(t: Test): Promise<PricedCloud> {
  const cloud = await startTestCloud(t);
  const { operator } = cloud.api;
  const products = new Map<string, string>();
  const price = (meter: string, amount: string, per: string) =>
    operator.create('prices', { product: products.get(meter), currency: 'CHF', amount, per });
  for (const meter of ['vm', ...Object.keys(monthlyAmounts)]) {
    products.set(meter, (await operator.create('products', { name: meter.replaceAll('_', '-'), meter })).id);
  }
  await price('vm', '5', 'once');
  for (const [meter, amount] of Object.entries(monthlyAmounts)) await price(meter, amount, 'month');
  return { ...cloud, reprice: async (meter, amount) => void (await price(meter, amount, 'month')) };
}

const configuration = ({ cpus = 2, vms = 3, volume = '100GiB', user_data = 'null' } = {}) => `${demoImage}
resource "ucloud_prefix" "this" {
  name   = "site"
  length = 56
}
resource "ucloud_network" "this" {
  name   = "web"
  prefix = ucloud_prefix.this.id
}
resource "ucloud_volume" "data" {
  name = "data"
  size = "${volume}"
}
resource "ucloud_vm" "web" {
  count      = ${vms}
  name       = "web-\${count.index}"
  image      = data.ucloud_image.demo.id
  cpus       = ${cpus}
  memory     = "4GiB"
  disk_size  = "20GiB"
  user_data  = ${user_data}
  interfaces = [{ network = ucloud_network.this.id }]
}
`;

/** Returns the sums that a plan shows. */
async function sums(directory: TerraformDirectory, command: 'plan' | 'apply' = 'plan', ...args: string[]) {
  const all = await directory.diagnostics(command, ...args);
  return all.filter(({ summary }) => summary.startsWith('Cost of')).map(({ summary }) => summary);
}

t.test('the life of priced objects', { skip }, async (t) => {
  const cloud = await pricedCloud(t);
  const directory = cloud.configuration(t, configuration());
  const priceOf = async (address: string) => (await directory.resource(address)).values.price;

  await t.test('a plan shows the cost of each object, and one sum', async (t) => {
    const plan = await directory.plan();
    const price = (address: string) =>
      plan.resource_changes?.find((each) => each.address === address)?.change.after?.price;
    // 2 × 10 + 4 × 2 + 20 × 0.1
    t.strictSame(price('ucloud_vm.web[0]'), { currency: 'CHF', monthly: '30.00', once: '5.00' });
    t.strictSame(price('ucloud_volume.data'), { currency: 'CHF', monthly: '20.00', once: '0.00' });
    t.strictSame(price('ucloud_prefix.this'), { currency: 'CHF', monthly: '1.00', once: '0.00' });
    t.match(plan.text, /Warning: Cost of this plan: \+111\.00 CHF per month, 15\.00 CHF once/);
    t.equal(plan.text.match(/Cost of this plan/g)?.length, 1, 'once, although the VMs depend on the prefix');
  });

  await t.test('a second plan is empty, also after a new price', async (t) => {
    await directory.apply();
    t.strictSame(await directory.pending(), []);
    t.strictSame(await sums(directory), []);
    await cloud.reprice('vm_cpu', '11');
    t.strictSame(await directory.pending(), []);
    t.match(await priceOf('ucloud_vm.web[0]'), { monthly: '30.00' });
    t.match(await directory.run('plan', '-no-color'), /No changes/);
  });

  await t.test('a change shows the difference at the new price', async (t) => {
    directory.write({ 'main.tf': configuration({ cpus: 4, volume: '150GiB' }) });
    t.strictSame(await sums(directory), ['Cost of this plan: +76.00 CHF per month']);
    await directory.apply();
    t.strictSame(await directory.pending(), []);
    t.match(await priceOf('ucloud_vm.web[2]'), { monthly: '54.00', once: '5.00' });
    t.match(await priceOf('ucloud_volume.data'), { monthly: '30.00' });
  });

  await t.test('a deletion subtracts, and a replacement adds only what is charged once', async (t) => {
    directory.write({ 'main.tf': configuration({ cpus: 4, volume: '150GiB', vms: 2 }) });
    t.strictSame(await sums(directory), ['Cost of this plan: -54.00 CHF per month']);
    await directory.apply();
    directory.write({
      'main.tf': configuration({ cpus: 4, volume: '150GiB', vms: 2, user_data: '"#!/bin/sh\\n"' }),
    });
    t.strictSame(await sums(directory), ['Cost of this plan: 10.00 CHF once']);
    directory.write({ 'main.tf': configuration({ cpus: 4, volume: '150GiB', vms: 2 }) });
    t.strictSame(await sums(directory, 'plan', '-destroy'), ['Cost of this plan: -139.00 CHF per month']);
  });

  await t.test('a state without the attribute plans empty', async (t) => {
    const state = JSON.parse(await directory.run('state', 'pull')) as {
      serial: number;
      resources: { type: string; instances: { attributes: { price?: unknown } }[] }[];
    };
    for (const { instances } of state.resources) for (const { attributes } of instances) delete attributes.price;
    state.serial += 1;
    directory.write({ 'old.tfstate': JSON.stringify(state) });
    await directory.run('state', 'push', 'old.tfstate');
    t.strictSame(await directory.pending(), []);
    await directory.apply();
    t.equal(await priceOf('ucloud_vm.web[0]'), null);
    directory.write({ 'main.tf': configuration({ cpus: 5, volume: '150GiB', vms: 2 }) });
    await directory.apply();
    t.match(await priceOf('ucloud_vm.web[0]'), { monthly: '65.00' }, 'a change has a price again');
    t.strictSame(await directory.pending(), []);
  });
  await directory.destroy();
});

t.test('each phase with a process of its own, as Terraform starts the provider', { skip }, async (t) => {
  const cloud = await pricedCloud(t);
  const dist = temporaryDirectory(t);
  const { mirror } = await buildProvider(dist);
  const environment = {
    UCLOUD_ENDPOINT: cloud.api.url,
    UCLOUD_TOKEN: String(cloud.member.token),
    UCLOUD_CREDENTIALS: join(dist, 'none.json'),
    TMPDIR: dist,
  };
  const files = { 'provider.tf': providerBlock, 'main.tf': configuration() };
  const directory = new TerraformDirectory(files, { mirror, environment });
  t.teardown(() => directory.remove());
  await directory.run('init', '-no-color');
  t.strictSame(await sums(directory), ['Cost of this plan: +111.00 CHF per month, 15.00 CHF once']);
  await directory.apply();
  t.strictSame(await directory.pending(), []);
  t.strictSame(await sums(directory, 'plan', '-destroy'), ['Cost of this plan: -111.00 CHF per month']);
  await directory.destroy();
});

t.test('what the plan cannot know yet', { skip }, async (t) => {
  const cloud = await pricedCloud(t);
  const directory = cloud.configuration(
    t,
    `${configuration({ vms: 1 }).replace('  length = 56\n', '').replace('cpus       = 2', 'cpus       = 1 + terraform_data.more.output')}
resource "terraform_data" "more" {
  input = 1
}
resource "ucloud_snapshot" "data" {
  name       = "data"
  volume     = ucloud_volume.data.id
  depends_on = [ucloud_vm.web]
}`.replace('interfaces = [{', 'volumes = [ucloud_volume.data.id]\n  interfaces = [{'),
  );
  const plan = await directory.plan();
  const unknown = (address: string) =>
    plan.resource_changes?.find((each) => each.address === address)?.change.after_unknown.price;
  for (const address of ['ucloud_prefix.this', 'ucloud_vm.web[0]', 'ucloud_snapshot.data'])
    t.equal(unknown(address), true, address);
  t.match(plan.text, /Cost of this plan: \+20\.00 CHF per month[\s\S]*not contain [23] objects whose\s+sizes/);
  await directory.apply();
  t.strictSame(await directory.pending(), []);
  const price = async (address: string) => (await directory.resource(address)).values.price;
  t.match(await price('ucloud_vm.web[0]'), { monthly: '30.00' });
  t.match(await price('ucloud_prefix.this'), { monthly: '1.00' });
  t.match(await price('ucloud_snapshot.data'), { monthly: '5.00' });
  await directory.destroy();
});

t.test('without prices there is no price and no sum', { skip }, async (t) => {
  const cloud = await startTestCloud(t);
  const directory = cloud.configuration(t, configuration({ vms: 1 }));
  t.notMatch((await directory.plan()).text, /Cost of/);
  await directory.apply();
  t.equal((await directory.resource('ucloud_vm.web[0]')).values.price, null);
  const { operator } = cloud.api;
  const product = await operator.create('products', { name: 'cpu', meter: 'vm_cpu' });
  await operator.create('prices', { product: product.id, currency: 'CHF', amount: '10', per: 'month' });
  t.strictSame(await directory.pending(), [], 'nor does the first price change a plan');
  await directory.destroy();
});

t.test('budgets and accounts', { skip }, async (t) => {
  const cloud = await pricedCloud(t);
  const { operator } = cloud.api;
  const directory = cloud.configuration(t, configuration());
  const warnings = async () =>
    (await directory.diagnostics('plan')).map(({ summary, detail }) => [summary, detail]).toReversed();

  await operator.expect(200, 'PATCH', '/v1/settings', { billing: 'required' });
  t.match(
    (await warnings()).filter(([summary]) => summary?.includes('billing account')),
    [[/needs a billing account/, /Apply will fail here/]],
    'one warning for the plan',
  );
  const address = { street: 'Bahnhofstrasse 1', postcode: '8750', city: 'Glarus', country: 'CH' };
  const company = { legal_name: 'Example AG', address, email: 'billing@example.com' };
  const issuer = await operator.create('legal-entities', { name: 'issuer', number_series: 'A-', ...company });
  const account = await operator.create('billing-accounts', {
    ...{ name: 'acme', legal_entity: issuer.id, currency: 'CHF', ...company },
  });
  await operator.update('projects', cloud.project, { billing_account: account.id });
  const budget = await operator.create('budgets', { project: cloud.project, max_monthly_cost: '110' });
  t.match(await warnings(), [
    [
      /The budget does not allow this plan/,
      /budget of the project test is 110 CHF per month, 0\.00 CHF are in use, and 111\.00/,
    ],
    [/Cost of this plan: \+111\.00 CHF per month/, /before VAT/],
  ]);
  await t.rejects(directory.apply(), /budget/);
  await operator.update('budgets', budget.id, { max_monthly_cost: '111' });
  t.match(await warnings(), [[/Cost of this plan/, /VAT/]]);
  await directory.apply();
  directory.write({ 'main.tf': configuration({ volume: '101GiB' }) });
  t.match(await warnings(), [
    [/The budget/, /111\.00 CHF are in use, and 0\.20/],
    [/Cost of this plan: \+0\.20/, /VAT/],
  ]);
  await directory.destroy();
});

t.test('a quote in a check block', { skip }, async (t) => {
  const cloud = await pricedCloud(t);
  const check = (limit: number) => `
data "ucloud_quote" "web" {
  vms       = [{ count = 3, cpus = 2, memory = "4096MiB", disk_size = "20GiB" }, { cpus = 1, power_state = "stopped" }]
  volumes   = [{ size = "100GiB" }]
  snapshots = [{ size = "100GiB" }]
  prefixes  = [{ length = 48 }]
}
check "cost" {
  assert {
    condition     = data.ucloud_quote.web.monthly <= ${limit}
    error_message = "The servers cost \${data.ucloud_quote.web.monthly} \${data.ucloud_quote.web.currency}."
  }
}
output "quote" {
  value = data.ucloud_quote.web
}`;
  const directory = cloud.configuration(t, check(100));
  t.match(await directory.diagnostics('plan'), [
    { severity: 'warning', summary: 'Check block assertion failed', detail: /The servers cost 127\.00 CHF/ },
  ]);
  directory.write({ 'main.tf': check(200) });
  t.match(await directory.diagnostics('plan'), []);
  await directory.apply();
  const { quote } = (await directory.outputs()) as { quote: { lines: object[] } };
  t.match(quote, { currency: 'CHF', monthly: '127.00', once: '20.00', project: cloud.project });
  t.match(quote.lines[0], { name: 'vm', quantity: '4', unit: 'VM', once: '20.00' });
  directory.write({ 'main.tf': check(200).replace('length = 48', 'length = 99').replace('cpus = 1,', 'cpus = 0,') });
  t.match(await directory.diagnostics('plan'), [{ severity: 'error', detail: /between 1 and 256/ }]);
});

t.test('costs and bills as data sources', { skip }, async (t) => {
  const cloud = await startTestCloud(t);
  const { operator, store } = cloud.api;
  const address = { street: 'Bahnhofstrasse 1', postcode: '8750', city: 'Glarus', country: 'CH' };
  const company = { legal_name: 'Example AG', address, email: 'billing@example.com' };
  const issuer = await operator.create('legal-entities', { name: 'issuer', number_series: 'A-', ...company });
  const payer = async (name: string) =>
    (await operator.create('billing-accounts', { name, legal_entity: issuer.id, currency: 'CHF', ...company })).id;
  const [acme, other] = [await payer('acme'), await payer('other')];
  await operator.update('projects', cloud.project, { billing_account: acme });
  const product = await operator.create('products', { name: 'volume', meter: 'volume' });
  await operator.create('prices', { product: product.id, currency: 'CHF', amount: '0.5', per: 'once' });
  await cloud.member.create('volumes', { name: 'data', size: '3GiB', labels: { team: 'red' } });
  const bill = (number: string, billing_account: string) =>
    storeBill(store, sampleBill(sampleLines(2), { number }), { billing_account, legal_entity: issuer.id });
  const first = await bill('A-000001', acme);
  await bill('A-000002', other);

  const check = (limit: number) => `
data "ucloud_costs" "this" {}
check "costs" {
  assert {
    condition     = tonumber(data.ucloud_costs.this.total) <= ${limit}
    error_message = "The month costs \${data.ucloud_costs.this.total} \${data.ucloud_costs.this.currency}."
  }
}
output "costs" {
  value = data.ucloud_costs.this
}`;
  const directory = cloud.configuration(t, check(1));
  t.match(await directory.diagnostics('plan'), [{ severity: 'warning', detail: /The month costs 1\.50 CHF/ }]);
  directory.write({ 'main.tf': check(2) });
  t.strictSame(await directory.diagnostics('plan'), []);
  await directory.apply();
  t.match(await directory.outputs(), {
    costs: {
      ...{ project: cloud.project, month: /^\d{4}-\d\d$/, currency: 'CHF', total: '1.50' },
      items: [{ title: 'data', product: product.id, labels: { team: 'red' }, cost: '1.5' }],
    },
  });
  for (const [month, detail] of [
    ['2026-13', /Must be a calendar month/],
    ['1999-01', /`month` must be the present month/],
  ] as const) {
    directory.write({ 'main.tf': `data "ucloud_costs" "this" {\n  month = "${month}"\n}\n` });
    t.match(await directory.diagnostics('plan'), [{ severity: 'error', detail }]);
  }

  directory.write({ 'main.tf': 'data "ucloud_bills" "all" {}\n' });
  t.match(await directory.diagnostics('plan'), [{ severity: 'error' }], 'a member does not see bills');
  const bills = `
provider "ucloud" {
  alias = "operator"
  endpoint = "${cloud.api.url}"
  token    = "${cloud.api.operatorToken}"
}
data "ucloud_bills" "acme" {
  provider = ucloud.operator
  billing_account = "${acme}"
}
data "ucloud_bill" "first" {
  provider = ucloud.operator
  number = "A-000001"
}
data "ucloud_bill" "same" {
  provider = ucloud.operator
  id = data.ucloud_bill.first.id
}
output "bills" {
  value = { listed = data.ucloud_bills.acme.bills[*].number, id = data.ucloud_bill.first.id, gross = data.ucloud_bill.same.gross }
}`;
  directory.write({ 'main.tf': bills });
  await directory.apply();
  const { gross } = Object(await operator.get('bills', first));
  t.strictSame(await directory.outputs(), { bills: { listed: ['A-000001'], id: first, gross } });
  directory.write({ 'main.tf': bills.replace('"A-000001"', '"A-9"') });
  t.match(await directory.diagnostics('plan'), [{ severity: 'error', summary: /no bill for the number "A-9"/ }]);
});

t.test('composed products', { skip }, async (t) => {
  const cloud = await startTestCloud(t);
  const { operator } = cloud.api;
  const disk = await operator.create('products', { name: 'disk', meter: 'vm_disk' });
  await operator.create('prices', { product: disk.id, currency: 'CHF', amount: '1', per: 'month' });
  const product = (gib: number) => `
provider "ucloud" {
  alias    = "operator"
  endpoint = "${cloud.api.url}"
  token    = "${cloud.api.operatorToken}"
}
resource "ucloud_product" "vm" {
  provider = ucloud.operator
  name     = "vm"
  meter    = "vm"
  includes = [{ meter = "vm_disk", quantity = ${gib} * 1024 * 1024 * 1024 }]
}`;
  const directory = cloud.configuration(t, product(10));
  await directory.apply();
  t.strictSame(await directory.pending(), []);
  const { includes } = (await directory.resource('ucloud_product.vm')).values as { includes: object[] };
  t.strictSame(includes, [{ meter: 'vm_disk', quantity: 10 * 2 ** 30 }]);
  directory.write({ 'main.tf': product(12) });
  t.match(
    await directory.pending(),
    [/ucloud_product\.vm: .*(delete|replace|create)/],
    'another inclusion is another product',
  );
  await directory.apply();
  const [vm] = (await operator.list('products', '?name=vm')).items;
  await operator.create('prices', { product: vm?.id, currency: 'CHF', amount: '5', per: 'month' });
  directory.write({ 'main.tf': product(12) + configuration({ vms: 2 }) });
  // 2 × (5 + 20 - 12)
  t.match(await sums(directory), ['Cost of this plan: +26.00 CHF per month']);
});
