/** `ucloud quote`, the cost of dry runs, and the export of prices. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { createVmPrerequisites, startTestApi } from '../support/api.ts';
import { runUcloud } from '../support/cli.ts';
import { temporaryDirectory } from '../support/stores.ts';

t.test('costs on the command line', async (t) => {
  const api = await startTestApi(t);
  const { operator } = api;
  const directory = temporaryDirectory(t);
  const environment = {
    UCLOUD_CREDENTIALS: join(directory, 'none.json'),
    UCLOUD_ENDPOINT: api.url,
    UCLOUD_TOKEN: api.operatorToken,
    UCLOUD_PROJECT: api.project,
  };
  const ucloud = (...args: string[]) => runUcloud(args, environment);
  const three = ['--vm', 'cpus=2,memory=4GiB,disk_size=20GiB,count=3', '--volume', 'size=100GiB'];

  await t.test('without prices', async (t) => {
    t.match(await ucloud('quote', ...three), { code: 0, out: '', err: /no prices/ });
    t.match(await ucloud('price', 'export'), { code: 0, out: '', err: /no prices/ });
  });

  const pool = await operator.create('storage-pools', { name: 'fast', kind: 'shared', path: '/srv/fast' });
  const sell = async (name: string, product: object, amount: string, per = 'month') => {
    const made = await operator.create('products', { name, ...product });
    await operator.create('prices', { product: made.id, currency: 'CHF', amount, per });
  };
  await sell('vm', { meter: 'vm' }, '5', 'once');
  await sell('cpu', { meter: 'vm_cpu' }, '10');
  await sell('memory', { meter: 'vm_memory' }, '2.5');
  await sell('running', { meter: 'running_vm' }, '0.01', 'hour');
  await sell('volume', { meter: 'volume' }, '0.125');
  await sell('fast-volume', { meter: 'volume', pool: pool.id }, '0.5');
  await sell('prefix', { meter: 'prefix' }, '1');

  await t.test('a quote is a table with a sum', async (t) => {
    const { out, code } = await ucloud('quote', ...three, '--volume', 'size=10GiB,pool=fast', '--prefix', 'length=56');
    t.equal(code, 0);
    t.strictSame(
      out.split('\n').map((line) => line.split(/ {2,}/)),
      [
        ['PRODUCT', 'QUANTITY', 'UNIT', 'CHF PER MONTH', 'CHF ONCE'],
        ['vm', '3', 'VM', '0.00', '15.00'],
        ['cpu', '6', 'CPU', '60.00', '0.00'],
        ['memory', '12', 'GiB', '30.00', '0.00'],
        ['running', '3', 'VM', '21.90', '0.00'],
        ['volume', '100', 'GiB', '12.50', '0.00'],
        ['fast-volume', '10', 'GiB', '5.00', '0.00'],
        ['prefix', '1', 'prefix', '1.00', '0.00'],
        ['total', '130.40', '15.00'],
        [''],
      ],
    );
    const body = join(directory, 'quote.json');
    writeFileSync(body, JSON.stringify({ snapshots: [{ size: '1GiB' }], prefixes: [{ length: 48, count: 2 }] }));
    const asJson = await ucloud('quote', '--body', body, '--currency', 'CHF', '--json');
    t.match(JSON.parse(asJson.out), { currency: 'CHF', monthly: '2.00' });
  });

  await t.test('bad input is refused with its option', async (t) => {
    const refused = async (args: string[], message: RegExp) =>
      t.match(await ucloud('quote', ...args), { code: 1, out: '', err: message });
    await refused([], /no option names an object/);
    await refused(['--vm', 'cpu=2'], /--vm: "cpu" is not one of count, cpus/);
    await refused(['--vm', 'cpus=two'], /--vm.cpus: "two" is not a whole number/);
    await refused(['--volume', 'size=1GiB,pool=nowhere'], /nowhere/);
    await refused(['--vm', 'count=1000000'], /vms\.0\.count/);
    await refused(['--vm', 'cpus=1', '--body', 'x.json'], /--body is the whole quote/);
    await refused(['--vm', 'cpus=1', '--currency', 'XXX'], /--currency/);
  });

  await t.test('a dry run tells the cost', async (t) => {
    const { image, network } = await createVmPrerequisites(api, api.project);
    const vm = ['--name', 'web', '--image', image.id, '--interfaces', network.id, '--cpus', '2', '--memory', '4GiB'];
    t.match(await ucloud('vm', 'create', ...vm, '--disk-size', '20GiB', '--dry-run'), {
      code: 0,
      err: /Nothing was created\.\nIt would cost 37\.30 CHF per month, 5\.00 CHF once\.\n/,
    });
    t.match((await ucloud('volume', 'create', '--name', 'data', '--size', '8GiB', '--dry-run')).err, /cost 1\.00 CHF/);
    t.match((await ucloud('prefix', 'create', '--name', 'site', '--length', '60', '--dry-run')).err, /cost 1\.00 CHF/);
    t.match((await ucloud('ssh-key', 'create', '--name', 'x', '--public-key', 'x', '--dry-run')).err, /public-key/);
    t.strictSame((await operator.list('vms')).items, []);
  });

  await t.test('the export has the form of OpenInfraQuote', async (t) => {
    const usage = join(directory, 'usage.json');
    const { out, code } = await ucloud('price', 'export', '--usage', usage);
    t.equal(code, 0);
    const [head, ...rows] = out.trimEnd().split('\n');
    t.equal(head, 'service,product_family,match_set,pricing_match_set,price,price_type,ccy');
    for (const row of [
      'ucloud,vm,type=ucloud_vm,meter=vm_cpu,10,a=values.cpus,CHF',
      'ucloud,vm,type=ucloud_vm&values.memory=4GiB,meter=vm_memory,10,o,CHF',
      'ucloud,vm,type=ucloud_vm&values.memory=512MiB,meter=vm_memory,1.25,o,CHF',
      'ucloud,vm,type=ucloud_vm&values.power_state=running,meter=running_vm,7.3,o,CHF',
      'ucloud,volume,type=ucloud_volume&values.size=100GiB,meter=volume,12.5,o,CHF',
      `ucloud,volume,type=ucloud_volume&values.size=1TiB&values.pool=${pool.id},meter=volume&pool=${pool.id},512,o,CHF`,
      'ucloud,prefix,type=ucloud_prefix&values.length=56,meter=prefix,1,o,CHF',
    ])
      t.ok(rows.includes(row), row);
    t.ok(rows.every((row) => row.split(',').length === 7));
    const entries = JSON.parse(readFileSync(usage, 'utf8')) as { match_query: string; usage?: object }[];
    const entry = (query: string) => entries.find(({ match_query }) => match_query === query);
    t.match(entry('type = ucloud_vm and meter = vm_memory'), { usage: { operations: 1 } });
    t.strictSame(entry('type = ucloud_vm and meter = vm_cpu')?.usage, undefined, 'an attribute multiplies');
    t.ok(entry(`type = ucloud_volume and meter = volume and pool = ${pool.id}`));
    t.ok(entry(`type = ucloud_volume and meter = volume and not (values.pool = ${pool.id})`));
  });
});
