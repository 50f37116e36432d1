/** `ucloud cost`, `ucloud bill show` and `ucloud bill preview`. */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type ApiClient, startTestApi } from '../support/api.ts';
import { runUcloud } from '../support/cli.ts';
import { sampleBill, sampleLines, storeBill } from '../support/sample-bills.ts';
import { temporaryDirectory } from '../support/stores.ts';

const party = {
  legal_name: 'Example AG',
  address: { street: 'Bahnhofstrasse 1', postcode: '8750', city: 'Glarus', country: 'CH' },
  email: 'billing@example.com',
};

async function sell(operator: ApiClient, name: string, product: object, amount: string, currency = 'CHF') {
  const made = await operator.create('products', { name, ...product });
  await operator.create('prices', { product: made.id, currency, amount, per: 'once' });
  return made.id;
}

t.test('costs and bills on the command line', async (t) => {
  const api = await startTestApi(t);
  const { operator } = api;
  const directory = temporaryDirectory(t);
  const environment = {
    UCLOUD_CREDENTIALS: join(directory, 'none.json'),
    UCLOUD_ENDPOINT: api.url,
    UCLOUD_TOKEN: api.operatorToken,
  };
  const ucloud = (...args: string[]) => runUcloud(args, environment);
  const rows = async (...args: string[]) => {
    const { code, out, err } = await ucloud(...args);
    t.match({ code, err }, { code: 0, err: '' }, args.join(' '));
    return out
      .trimEnd()
      .split('\n')
      .map((line) => line.split(/ {2,}/));
  };

  t.match(await ucloud('cost'), { code: 0, out: '', err: /no costs/ });
  const entity = await operator.create('legal-entities', { ...party, name: 'issuer', number_series: 'A-' });
  const account = (name: string, currency: string) =>
    operator.create('billing-accounts', { ...party, name, currency, legal_entity: entity.id });
  const [swiss, german] = [await account('swiss', 'CHF'), await account('german', 'EUR')];
  const project = async (name: string, billing_account?: string) =>
    (await operator.create('projects', { name, ...(billing_account && { billing_account }) })).id;
  const [web, shop] = [await project('web', swiss.id), await project('shop', swiss.id)];
  const [abroad] = [await project('abroad', german.id), await project('free')];
  const volumes = await sell(operator, 'volumes', { meter: 'volume' }, '0.005');
  await operator.create('prices', { product: volumes, currency: 'EUR', amount: '1', per: 'once' });
  await sell(operator, 'prefixes', { meter: 'prefix' }, '2');
  await operator.create('prefix-pools', { name: 'pool', cidr: '2001:db8:1000::/36' });
  const volume = (project: string, name: string, labels: object) =>
    operator.create('volumes', { project, name, size: '1GiB', labels });
  const data = await volume(web, 'data', { team: 'red' });
  await volume(web, 'more', { team: 'blue' });
  await volume(shop, 'orders', {});
  await volume(abroad, 'far', { team: 'red' });
  await operator.create('prefixes', { project: web, name: 'site' });

  await t.test('the costs of all projects, and of one', async (t) => {
    t.strictSame(await rows('cost'), [
      ['PROJECT', 'CURRENCY', 'COST'],
      ['web', 'CHF', '2.01'],
      ['shop', 'CHF', '0.01'],
      ['abroad', 'EUR', '1.00'],
      ['total', 'CHF', '2.02'],
      ['total', 'EUR', '1.00'],
    ]);
    t.strictSame(await rows('cost', '--project', 'web'), [
      ['PRODUCT', 'CURRENCY', 'COST'],
      ['prefixes', 'CHF', '2.00'],
      ['volumes', 'CHF', '0.01'],
      ['total', 'CHF', '2.01'],
    ]);
    t.strictSame(await rows('cost', '--by', 'label=team'), [
      ['TEAM', 'CURRENCY', 'COST'],
      ['(none)', 'CHF', '2.01'],
      ['blue', 'CHF', '0.01'],
      ['red', 'CHF', '0.01'],
      ['red', 'EUR', '1.00'],
      ['total', 'CHF', '2.02'],
      ['total', 'EUR', '1.00'],
    ]);
    const [head, first, second] = await rows('cost', '--project', 'web', '--by', 'object');
    t.strictSame(head, ['OBJECT', 'ID', 'CURRENCY', 'COST']);
    t.match(
      [first, second],
      [
        ['site', /^pfx-/, 'CHF', '2.00'],
        [/data|more/, /^vol-/, 'CHF', '0.01'],
      ],
    );
    const { out } = await ucloud('cost', '--by', 'object', '--project', 'web', '--json');
    const costs = JSON.parse(out);
    t.match(costs, { by: 'object', totals: [{ currency: 'CHF', cost: '2.01' }] });
    t.match(
      costs.items.find(({ id }: { id: string }) => id === data.id),
      { object: 'data', currency: 'CHF', cost: '0.005' },
    );
  });

  await t.test('a member sees its own project, and the older command stays', async (t) => {
    const member = await api.member(web);
    const own = { ...environment, UCLOUD_TOKEN: String(member.token) };
    t.match(await runUcloud(['cost'], own), { code: 0, out: /^PROJECT .*\nweb +CHF +2\.01\ntotal +CHF +2\.01\n$/ });
    t.match(await runUcloud(['cost', '--project', shop], own), { code: 1, err: /not_found/ });
    t.match(await ucloud('cost', 'list', '--project', 'web', '--json'), { code: 0, out: /"total": "2.01"/, err: '' });
  });

  await t.test('bad input is refused with its option', async (t) => {
    for (const [args, err] of [
      [['--by', 'size'], /--by.*"size" is not one of project, product, object, label=<key>/],
      [['--by', 'label='], /--by/],
      [['--month', '2026-13'], /--month/],
      [['--month', '1999-01'], /--month: must be the present month/],
      [['--project', 'nowhere'], /nowhere/],
    ] as const)
      t.match(await ucloud('cost', ...args), { code: 1, out: '', err }, args.join(' '));
  });

  await t.test('a bill as text, and its document in a file', async (t) => {
    const document = sampleBill(sampleLines(2), { number: 'A-000001' });
    const sample = {
      ...document,
      seller: { ...document.seller, legal_name: 'Red \u001b[31m AG' },
    };
    const id = await storeBill(api.store, sample, { billing_account: swiss.id, legal_entity: entity.id });
    const shown = await ucloud('bill', 'show', 'A-000001');
    t.match(shown, { code: 0, err: '' });
    t.match(shown.out, /^Bill +A-000001\nDate +2026-04-01\nDue +2026-05-01\nPeriod +2026-03-01 to 2026-03-31\n/);
    t.match(shown.out, /^shop +VM web-1, 2 CPUs, 4 GiB +743\.25 +hours +0\.0125 +9\.29$/m);
    t.match(shown.out, /\nNet +\S+ CHF\nVAT 8\.1 % of \S+ +\S+ CHF\nTotal +\S+ CHF\nTo be paid +\S+ CHF\n/);
    t.notOk(shown.out.includes('\u001b'), 'the text cannot control the terminal');
    t.equal((await ucloud('bill', 'show', id)).out, shown.out);
    const file = join(directory, 'bill.pdf');
    t.match(await ucloud('bill', 'show', id, '--format', 'pdf', '--output', file), { code: 0, out: '', err: '' });
    t.equal(readFileSync(file).subarray(0, 6).toString(), '%PDF-1');
    t.match(JSON.parse((await ucloud('bill', 'show', id, '--format', 'json')).out), { number: 'A-000001' });
    t.match((await ucloud('bill', 'show', id, '--format', 'xrechnung')).out, /<cbc:ID>A-000001</);
    mkdirSync(join(directory, 'taken'));
    for (const [args, err] of [
      [['A-000002'], /no bill with the id or number "A-000002"/],
      [['bill-0000000000000000'], /not_found/],
      [[id, '--format', 'doc'], /--format/],
      [[id, '--output', join(directory, 'taken')], /--output/],
    ] as const)
      t.match(await ucloud('bill', 'show', ...args), { code: 1, out: '', err }, args.join(' '));
  });

  await t.test('a preliminary bill as text', async (t) => {
    const { out } = await ucloud('bill', 'preview', 'swiss');
    t.match(out, /^Preliminary bill +\d{4}-\d\d\nAccount +swiss\n/);
    t.match(out, /^web +prefixes +1 +prefix +2\.00 +2\.00$/m);
    t.match(out, /\nNet +2\.02 CHF\nVAT +unknown\nWaits +/);
    t.match(JSON.parse((await ucloud('bill', 'preview', 'swiss', '--json')).out), { net: '2.02' });
    t.match(await ucloud('bill', 'preview', 'swiss', '--month', 'x'), { code: 1, out: '', err: /--month/ });
  });
});
