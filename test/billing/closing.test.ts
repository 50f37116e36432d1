/** The closing of months: final bills with numbers without gaps, whichever process is killed when. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { type ClosingParts, closeMonth } from '../../backend/billing/closing.ts';
import { renderCii, renderUbl } from '../../backend/billing/documents/index.ts';
import { ledgerKinds } from '../../backend/billing/ledger/account-bill.ts';
import { startBilling } from '../../backend/billing/start.ts';
import type { VatAnswer, VatVerifier } from '../../backend/billing/vies/verifier.ts';
import type { Id } from '../../backend/contract/fields.ts';
import { monthText } from '../../backend/model/billing/months.ts';
import { monthOf } from '../../backend/model/billing/rating.ts';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put, readAll } from '../../backend/store/collection.ts';
import { openMirror } from '../../backend/store/mirror.ts';
import type { Store } from '../../backend/store/store.ts';
import { type ApiClient, createVmPrerequisites, startTestApi } from '../support/api.ts';
import { onBothStores, stopSharedEtcd } from '../support/both-stores.ts';
import { brokenRules, schemaProblem } from '../support/en16931.ts';
import { until } from '../support/eventually.ts';
import { silentLogger } from '../support/silent-logger.ts';

t.teardown(stopSharedEtcd);

const exec = promisify(execFile);
const hour = 3_600_000;
const swiss = { street: 'Bahnhofstrasse 1', postcode: '8750', city: 'Glarus', country: 'CH' };
const party = {
  legal_name: 'Example AG',
  address: swiss,
  email: 'billing@example.com',
  vat_number: 'CHE-107.787.577 MWST',
};

interface Bill {
  readonly id: string;
  readonly number: string;
  readonly month: string;
  readonly net: string;
  readonly vat: string;
  readonly gross: string;
  readonly sha256: string;
}
const billsOf = async (operator: ApiClient, account?: string) =>
  (await operator.list('bills', account === undefined ? '' : `?billing_account=${account}`))
    .items as unknown as readonly Bill[];

async function sell(operator: ApiClient, meter: string, price: object): Promise<void> {
  const { id: product } = await operator.create('products', { name: meter.replaceAll('_', '-'), meter });
  await operator.create('prices', { product, currency: 'CHF', ...price });
}

/** Starts the component at a time after the end of the month. */
async function billAfterwards(t: Test, store: Store, verifier?: VatVerifier): Promise<void> {
  const later = monthOf(Date.now()).to + 2 * hour;
  const billing = await startBilling({
    ...{ store, logger: silentLogger, now: () => new Date(later), pollMs: 20 },
    verifier: verifier ?? { verify: async () => ({ answer: 'unknown', reason: 'nobody asks', at: '' }) as VatAnswer },
  });
  t.teardown(() => billing.close());
}

t.test('a month becomes a bill with its documents', async (t) => {
  const test = await startTestApi(t);
  const { operator, store, project } = test;
  const member = await test.member(project);
  const { image, network } = await createVmPrerequisites(test, project);
  await sell(operator, 'vm_cpu', { amount: '1', per: 'hour', minimum_seconds: 3600 });
  await sell(operator, 'volume', { amount: '5', per: 'once' });
  const entity = await operator.create('legal-entities', { ...party, name: 'swiss', number_series: 'UC-' });
  const account = await operator.create('billing-accounts', {
    ...{ ...party, name: 'acme', currency: 'CHF', legal_entity: entity.id, email: 'acme@example.com' },
  });
  await operator.update('projects', project, { billing_account: account.id });
  const vm = await member.create('vms', {
    name: 'web',
    image: image.id,
    cpus: 2,
    interfaces: [{ network: network.id }],
    disk_size: '1GiB',
  });
  await member.expect(202, 'DELETE', `/v1/vms/${vm.id}`);
  await member.create('volumes', { name: 'data', size: '1GiB' });

  const preview = (await operator.expect(200, 'GET', `/v1/billing-accounts/${account.id}/preview`)).body;
  t.match(preview, { month: monthText(Date.now()), currency: 'CHF', net: '5.00', vat: '0.41', gross: '5.41' });
  t.match((await member.expect(200, 'GET', '/v1/costs')).body, {
    project,
    currency: 'CHF',
    total: '5.00',
    items: [{ title: 'data', cost: '5' }],
  });
  t.strictSame(await billsOf(operator), []);

  await billAfterwards(t, store);
  const bill = await until('the bill', async () => (await billsOf(operator))[0]);
  t.match(bill, {
    number: 'UC-000001',
    billing_account: account.id,
    month: monthText(Date.now()),
    net: '7.00',
    vat: '0.57',
    gross: '7.57',
  });
  const document = async (format: string) => {
    const response = await fetch(`${test.url}/v1/bills/${bill.id}/document?format=${format}`, {
      headers: { authorization: `Bearer ${test.operatorToken}` },
    });
    t.equal(response.status, 200, format);
    return { type: response.headers.get('content-type'), bytes: Buffer.from(await response.arrayBuffer()) };
  };
  const json = await document('json');
  t.equal(createHash('sha256').update(json.bytes).digest('hex'), bill.sha256);
  const content = JSON.parse(json.bytes.toString());
  t.match(content.lines, [
    {
      description: 'vm-cpu',
      quantity: '2',
      unit: { label: 'CPU hours' },
      unit_price: '1.00',
      net: '2.00',
      vat: { category: 'S', rate: '8.1' },
    },
    { description: 'volume', quantity: '1', net: '5.00' },
  ]);
  const pdf = await document('pdf');
  t.equal(pdf.type, 'application/pdf');
  t.equal(pdf.bytes.subarray(0, 6).toString(), '%PDF-1');
  const environment = { ...process.env, UCLOUD_ENDPOINT: test.url, UCLOUD_TOKEN: test.operatorToken };
  const words = ['backend/cli/main.ts', 'bill', 'document', bill.id, '--format', 'pdf'];
  const { stdout } = await exec(process.execPath, words, { encoding: 'buffer', env: environment });
  t.ok(stdout.equals(pdf.bytes), 'the command writes the same bytes');
  t.match((await document('xrechnung')).bytes.toString(), /<cbc:ID>UC-000001<\/cbc:ID>/);
  t.match((await document('cii')).bytes.toString(), /UC-000001/);
  for (const client of [member, test.client(undefined)]) {
    t.ok((await client.request('GET', `/v1/bills/${bill.id}/document`)).status >= 401);
    t.ok((await client.request('GET', '/v1/bills')).status >= 401);
  }
  t.equal((await operator.request('DELETE', `/v1/bills/${bill.id}`)).status, 405, 'a bill cannot be deleted');
  t.equal((await operator.request('PATCH', `/v1/bills/${bill.id}`, {})).status, 405, 'nor changed');
  for (const path of [`/v1/billing-accounts/${account.id}`, `/v1/legal-entities/${entity.id}`]) {
    t.match((await operator.request('DELETE', path)).body, { code: 'in_use' });
  }
  t.equal((await operator.request('GET', '/v1/costs?month=2026-13')).status, 400);
});

/** Writes an account with terms and uses of the past, without an API. */
async function past(
  store: Store,
  name: string,
  entity: Id<'legal_entity'>,
  more: Partial<records.BillingAccountRecord> = {},
) {
  const at = new Date().toISOString();
  const id = newId('billing_account');
  await store.commit({
    write: [
      put(records.billingAccounts, id, {
        ...{ id, name, labels: {}, ...party, currency: 'CHF', legal_entity: entity, customer_kind: 'business' },
        ...{ payment: 'bill', payment_days: 30, delete_protection: false, created_at: at, updated_at: at },
        ...more,
      }),
    ],
  });
  return id;
}
async function company(store: Store, series: string, country = 'CH', more: Partial<records.LegalEntityRecord> = {}) {
  const at = new Date().toISOString();
  const id = newId('legal_entity');
  await store.commit({
    write: [
      put(records.legalEntities, id, {
        ...{
          id,
          name: series.toLowerCase(),
          labels: {},
          ...party,
          address: { ...swiss, country },
          number_series: series,
        },
        ...{ delete_protection: false, created_at: at, updated_at: at },
        ...more,
      }),
    ],
  });
  return id;
}
async function price(store: Store, amount: string, valid_from: string) {
  const at = new Date().toISOString();
  const existing = await (async () => {
    for await (const each of readAll(store, records.products)) return each.id as Id<'product'>;
    return undefined;
  })();
  const product = existing ?? newId('product');
  const id = newId('price');
  const declared = { labels: {}, created_at: at, updated_at: at };
  await store.commit({
    write: [
      put(records.products, product, {
        id: product,
        name: 'volume',
        meter: 'volume',
        description: '',
        delete_protection: false,
        ...declared,
      }),
      put(records.prices, id, {
        id,
        product,
        currency: 'CHF',
        amount,
        per: 'hour',
        valid_from,
        minimum_seconds: 0,
        ...declared,
      }),
    ],
  });
}
const GiB = 2 ** 30;
async function used(store: Store, project: Id<'project'>, resource: string, since: string, to: string, size = GiB) {
  const order = newId('order');
  await store.commit({
    write: [
      put(records.usage, `${project}/${to.slice(0, 7)}/${resource}/${to}/${order}/${since}`, {
        ...{ project, order, resource, title: resource, labels: {}, until: to },
        uses: [{ meter: 'volume', quantity: size, since }],
      }),
    ],
  });
}
const pays = (store: Store, project: Id<'project'>, account: Id<'billing_account'> | undefined, since: string) =>
  store.commit({
    write: [
      put(records.accountTerms, `${project}/${since}`, { project, name: 'web', since, ...(account && { account }) }),
    ],
  });

const march = monthOf(Date.parse('2026-03-15T00:00:00Z'));

async function closing(t: Test, store: Store, at = '2026-04-02T00:00:00Z'): Promise<ClosingParts> {
  const mirror = await openMirror(store, {
    prefixes: [''],
    kinds: [...ledgerKinds, records.closedMonths, records.billGuards, records.bills, records.payments],
    logger: silentLogger,
  });
  t.teardown(() => mirror.close());
  const orders = mirror.index(records.orders, ({ value }) => value.project);
  return {
    store,
    mirror,
    logger: silentLogger,
    holds: [],
    now: () => new Date(at),
    sendsMails: false,
    ordersOf: (project) => orders.list(project),
    bills: mirror.index(records.bills, ({ value }) => value.billing_account),
    payments: mirror.index(records.payments, ({ value }) => value.billing_account),
  };
}
const allBills = async (store: Store) => {
  const all: records.BillRecord[] = [];
  for await (const { value } of readAll(store, records.bills)) all.push(value);
  return all.toSorted((a, b) => (a.number < b.number ? -1 : 1));
};
const documentOf = async (store: Store, { id }: { readonly id: string }) =>
  JSON.parse(JSON.parse((await store.get(`${records.billDocuments.prefix}${id}`))?.value ?? '').json);

await onBothStores(t, 'by hand: a price rise, a resize, and a project that moves in mid-month', async (t, fresh) => {
  const store = await (await fresh()).connect();
  const entity = await company(store, 'H-');
  const [first, second] = [await past(store, 'first', entity), await past(store, 'second', entity)];
  const project = newId('project');
  await price(store, '0.01', '2026-01-01T00:00:00.000Z');
  await price(store, '0.02', '2026-03-11T00:00:00.000Z');
  await pays(store, project, first, '2026-02-20T00:00:00.000Z');
  await pays(store, project, second, '2026-03-21T00:00:00.000Z');
  // 10 GiB from before March until the 6th, then 20 GiB until the 26th.
  await used(store, project, 'vol-a', '2026-02-10T00:00:00.000Z', '2026-03-06T00:00:00.000Z', 10 * GiB);
  await used(store, project, 'vol-a', '2026-03-06T00:00:00.000Z', '2026-03-26T00:00:00.000Z', 20 * GiB);
  const parts = await closing(t, store);
  for (const { id, ...stored } of [...parts.mirror.list(records.billingAccounts)])
    t.equal((await closeMonth(parts, { id, ...stored }, march)).outcome, 'closed');
  const bills = await allBills(store);
  const of = (account: string) => bills.find((each) => each.billing_account === account);
  // 5 days × 24 h × 10 × 0.01 = 12; 5 × 24 × 20 × 0.01 = 24; 10 × 24 × 20 × 0.02 = 96.
  t.match(of(first), { net: '132.00', vat: '10.69', gross: '142.69' });
  // 5 days × 24 h × 20 × 0.02 = 48.
  t.match(of(second), { net: '48.00', vat: '3.89', gross: '51.89' });
  t.strictSame(
    bills.map(({ number }) => number),
    ['H-000001', 'H-000002'],
  );
  const { lines } = await documentOf(store, of(first) as Bill);
  t.match(lines, [
    { quantity: '3600', net: '36.00' },
    { quantity: '4800', net: '96.00' },
  ]);
  const [account] = [...parts.mirror.list(records.billingAccounts)];
  if (!account) throw new Error('no account');
  t.equal((await closeMonth(parts, account, march)).outcome, 'already', 'a second closing changes nothing');
  t.equal((await allBills(store)).length, 2);
});

await onBothStores(
  t,
  'a hundred closings at once, each of which may be killed: no gap and no duplicate',
  async (t, fresh) => {
    const database = await fresh();
    const store = await database.connect();
    const entity = await company(store, 'K-');
    await price(store, '1', '2026-01-01T00:00:00.000Z');
    const accounts = 25;
    for (let index = 0; index < accounts; index++) {
      const account = await past(store, `a-${index}`, entity);
      const project = newId('project');
      await pays(store, project, account, '2026-02-20T00:00:00.000Z');
      await used(store, project, `vol-${index}`, '2026-03-01T00:00:00.000Z', '2026-03-02T00:00:00.000Z');
    }
    let number = 0;
    /** A process that dies before or after a commit: its call never returns. */
    const dying = (store: Store): Store => ({
      ...store,
      get: (key) => store.get(key),
      list: (prefix, options) => store.list(prefix, options),
      async commit(commit) {
        number = (number * 1103515245 + 12345) % 2 ** 31;
        if (number % 5 === 0) throw new Error('killed before the commit');
        const result = await store.commit(commit);
        if (number % 5 === 1) throw new Error('killed after the commit');
        return result;
      },
    });
    const parts = await closing(t, store);
    const closers = 4;
    for (let round = 0; round < 50; round++) {
      const open = [...parts.mirror.list(records.billingAccounts)];
      const outcomes = await Promise.all(
        Array.from({ length: closers }, () =>
          open.map((stored) =>
            closeMonth({ ...parts, store: dying(store) }, stored, march).catch(() => ({ outcome: 'killed' })),
          ),
        ).flat(),
      );
      if (outcomes.every((each) => each.outcome === 'already')) break;
    }
    const bills = await allBills(store);
    t.strictSame(
      bills.map(({ number }) => number),
      Array.from({ length: accounts }, (_, index) => `K-${String(index + 1).padStart(6, '0')}`),
    );
    t.equal(new Set(bills.map(({ billing_account }) => billing_account)).size, accounts, 'one bill for each account');
    for (const bill of bills) t.equal((await documentOf(store, bill)).number, bill.number);
  },
);

await onBothStores(t, 'the money of a prepaid account pays its bills, the oldest first', async (t, fresh) => {
  const store = await (await fresh()).connect();
  const entity = await company(store, 'P-');
  const account = await past(store, 'ahead', entity, { payment: 'prepaid' });
  const project = newId('project');
  await price(store, '1', '2026-01-01T00:00:00.000Z');
  await pays(store, project, account, '2026-01-01T00:00:00.000Z');
  for (const month of ['01', '02', '03'])
    await used(store, project, `vol-${month}`, `2026-${month}-01T00:00:00.000Z`, `2026-${month}-02T00:00:00.000Z`);
  // Each month costs 24.00 and 1.94 VAT. The last is not paid, and the one before in part.
  const id = newId('payment');
  await store.commit({
    write: [
      put(records.payments, id, {
        ...{ id, billing_account: account, kind: 'received', amount: '40.00', currency: 'CHF', reference: '' },
        ...{
          received_on: '2026-01-01',
          created_at: '2026-01-01T00:00:00.000Z',
          updated_at: '2026-01-01T00:00:00.000Z',
        },
      }),
    ],
  });
  const parts = { ...(await closing(t, store)), sendsMails: true };
  const stored = parts.mirror.get(records.billingAccounts, account);
  if (!stored) throw new Error('no account');
  // No pause between two closings: the second knows the money that the first has spent.
  for (const month of ['2026-01', '2026-02', '2026-03']) {
    const { outcome } = await closeMonth(parts, stored, monthOf(Date.parse(`${month}-15T00:00:00Z`)));
    t.equal(outcome, 'closed', month);
  }
  const expected = [
    [{ gross: '25.94', prepaid: '25.94', due: '0.00' }, /Nothing is to be paid\./],
    [{ gross: '25.94', prepaid: '14.06', due: '11.88' }, /Please pay the rest of CHF 11\.88 until 2026-05-02\./],
    [{ gross: '25.94', prepaid: undefined, due: '25.94' }, /Please pay it until 2026-05-02\./],
  ] as const;
  const bills = await allBills(store);
  t.equal(bills.length, expected.length);
  for (const [index, [totals, words]] of expected.entries()) {
    const bill = bills[index];
    if (!bill) throw new Error('no bill');
    const document = await documentOf(store, bill);
    t.match(document.totals, totals, bill.number);
    for (const [syntax, render] of [
      ['ubl', renderUbl],
      ['cii', renderCii],
    ] as const) {
      t.same(brokenRules(render(document), syntax), [], `${bill.number}: ${syntax}`);
      t.equal(/Nothing is to be paid/.test(render(document)), totals.due === '0.00');
    }
    t.equal(schemaProblem(renderCii(document)), undefined);
    const mail = JSON.parse((await store.get(`${records.mails.prefix}bill/${bill.id}`))?.value ?? '{}');
    t.match(mail.text, words);
    if (totals.due === '0.00') t.notMatch(mail.text, /[Pp]lease pay/);
  }
});

t.test('a bill waits for the verification of a VAT number, and is never without VAT by mistake', async (t) => {
  const test = await startTestApi(t);
  const { operator, store, project } = test;
  await sell(operator, 'prefix', { amount: '5', per: 'once' });
  const vienna = { ...party, address: { ...swiss, country: 'AT' } };
  const entity = await operator.create('legal-entities', {
    ...vienna,
    name: 'vienna',
    number_series: 'AT-',
    vat_number: 'ATU12011204',
  });
  const account = await operator.create('billing-accounts', {
    ...{ ...party, name: 'berlin', currency: 'CHF', legal_entity: entity.id, vat_number: 'DE136695976' },
    address: { street: 'Weg 1', postcode: '10115', city: 'Berlin', country: 'DE' },
  });
  await operator.update('projects', project, { billing_account: account.id });
  await createVmPrerequisites(test, project);
  const preview = (await operator.expect(200, 'GET', `/v1/billing-accounts/${account.id}/preview`)).body as unknown as {
    waits: string;
    gross?: string;
  };
  t.match(preview.waits, /not verified yet/);
  t.equal(preview.gross, undefined);
  const asked: string[] = [];
  let answer: VatAnswer = { answer: 'unknown', reason: 'MS_UNAVAILABLE', at: '' } as VatAnswer;
  let clock = monthOf(Date.now()).to + 2 * hour;
  const billing = await startBilling({
    ...{ store, logger: silentLogger, now: () => new Date(clock), pollMs: 10 },
    verifier: {
      async verify({ text }) {
        asked.push(text);
        return answer;
      },
    },
  });
  t.teardown(() => billing.close());
  await until('VIES was asked', () => asked.length > 0);
  await until(
    'the answer is stored',
    async () => (await store.get(`${records.vatChecks.prefix}DE136695976`)) !== undefined,
  );
  t.strictSame(await billsOf(operator), []);
  answer = { answer: 'valid', at: new Date().toISOString(), consultation_number: 'WAPI1' } as VatAnswer;
  clock += hour;
  const bill = await until('the bill', async () => (await billsOf(operator))[0]);
  t.match(bill, {
    ...{ net: '5.00', vat: '0.00', gross: '5.00' },
    vat_check: { vat_number: 'DE136695976', answer: 'valid', at: String, consultation_number: 'WAPI1' },
  });
  t.equal(asked.length, 2, 'an unknown answer is not asked for in each round');
  const document = await documentOf(store, bill);
  t.match(document.vat_groups, [{ category: 'AE', reason: /Reverse charge/ }]);
});
