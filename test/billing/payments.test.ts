/** Payments by hand, and the balance of an account. */
import t from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { dayText } from '../../backend/model/billing/months.ts';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import type { Store } from '../../backend/store/store.ts';
import { type ApiClient, contentOf, startTestApi } from '../support/api.ts';

const party = {
  ...{ legal_name: 'Example AG', email: 'billing@example.com', vat_number: 'CHE-107.787.577 MWST' },
  address: { street: 'Bahnhofstrasse 1', postcode: '8750', city: 'Glarus', country: 'CH' },
};
const dayMs = 24 * 3_600_000;

async function customer(operator: ApiClient, name: string, currency = 'CHF') {
  const series = `${name.toUpperCase()}-`;
  const entity = await operator.create('legal-entities', { ...party, name: `co-${name}`, number_series: series });
  const account = await operator.create('billing-accounts', { ...party, name, currency, legal_entity: entity.id });
  return { account: account.id as Id<'billing_account'>, entity: entity.id as Id<'legal_entity'> };
}

/** Writes a final bill, as the billing component does. */
async function billed(
  store: Store,
  { account, entity }: Awaited<ReturnType<typeof customer>>,
  fields: {
    readonly number: string;
    readonly gross: string;
    readonly issue_date: string;
    readonly due_date: string;
  } & Pick<records.BillRecord, 'kind' | 'corrects'>,
): Promise<Id<'bill'>> {
  const id = newId('bill');
  const at = new Date().toISOString();
  await store.commit({
    write: [
      put(records.bills, id, {
        ...{ id, labels: {}, billing_account: account, legal_entity: entity, month: fields.issue_date.slice(0, 7) },
        ...{ ...fields, currency: 'CHF', net: fields.gross, vat: '0.00', sha256: '', created_at: at, updated_at: at },
      }),
      put(records.uses, `${account}/${id}`, {}),
    ],
  });
  return id;
}

t.test('an operator records payments, which pay bills', async (t) => {
  const test = await startTestApi(t);
  const { operator, store } = test;
  const acme = await customer(operator, 'acme');
  const balance = async () => (await operator.expect(200, 'GET', `/v1/billing-accounts/${acme.account}/balance`)).body;
  t.match(await balance(), { currency: 'CHF', balance: '0.00', credit: '0.00', overdue: '0.00', open_bills: [] });
  const first = await billed(store, acme, {
    ...{ number: 'A-000001', gross: '100.00', issue_date: '2026-01-01', due_date: '2026-01-31' },
  });
  const second = await billed(store, acme, {
    ...{ number: 'A-000002', gross: '50.05', issue_date: '2026-02-01', due_date: '9999-12-31' },
  });
  const pay = (body: object) => operator.create('payments', { billing_account: acme.account, ...body });
  t.match(await balance(), {
    ...{ billed: '150.05', balance: '-150.05', overdue: '100.00' },
    open_bills: [
      { bill: first, number: 'A-000001', open: '100.00', overdue: true },
      { bill: second, number: 'A-000002', open: '50.05', overdue: false },
    ],
  });
  t.match(await pay({ amount: '50.05', bill: second, reference: 'A-000002 — thanks' }), {
    ...{ kind: 'received', amount: '50.05', currency: 'CHF', received_on: dayText(Date.now()), bill: second },
  });
  t.match(await pay({ amount: '60', received_on: '2026-02-03' }), { amount: '60.00', received_on: '2026-02-03' });
  t.match(await balance(), { balance: '-40.00', overdue: '40.00', open_bills: [{ bill: first, open: '40.00' }] });
  await pay({ amount: '60', kind: 'refunded', reference: 'a typing error' });
  const last = await pay({ amount: '106' });
  t.match(await balance(), { received: '216.05', refunded: '60.00', balance: '6.00', credit: '6.00', open_bills: [] });
  const listed = await operator.list('payments', `?billing_account=${acme.account}`);
  t.equal(listed.items.length, 4);
  const other = await customer(operator, 'other');
  t.equal((await operator.list('payments', `?billing_account=${other.account}`)).items.length, 0);

  await t.test('the accounting of the customer reads its payments and balance, and records none', async (t) => {
    const { secret } = await operator.create('tokens', {
      ...{ name: 'accounting', role: 'billing', billing_account: acme.account },
    });
    const books = test.client(secret);
    await operator.create('payments', { billing_account: other.account, amount: '3' });
    t.match((await books.expect(200, 'GET', `/v1/billing-accounts/${acme.account}/balance`)).body, { balance: '6.00' });
    t.equal((await books.list('payments')).items.length, 4);
    t.equal((await books.list('payments', `?billing_account=${other.account}`)).items.length, 0);
    t.equal((await books.request('GET', `/v1/billing-accounts/${other.account}/balance`)).status, 404);
    t.equal((await books.request('POST', '/v1/payments', { billing_account: acme.account, amount: '9' })).status, 403);
    t.equal((await books.request('GET', '/v1/payment-sources')).status, 403);
  });

  await t.test('a payment never changes, and keeps its account', async (t) => {
    t.equal((await operator.request('PATCH', `/v1/payments/${last.id}`, { amount: '1' })).status, 405);
    t.equal((await operator.request('DELETE', `/v1/payments/${last.id}`)).status, 405);
    await operator.create('payments', { billing_account: other.account, amount: '1' });
    const answer = await operator.request('DELETE', `/v1/billing-accounts/${other.account}`);
    t.match(answer, { status: 409, body: { code: 'in_use' } });
  });

  await t.test('a request that is sent twice is one payment', async (t) => {
    const body = { billing_account: other.account, amount: '7' };
    const key = { 'idempotency-key': 'bank-1' };
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => operator.request('POST', '/v1/payments', body, key)),
    );
    t.equal(new Set(answers.map((each) => each.body.id)).size, 1);
    t.equal((await operator.list('payments', `?billing_account=${other.account}`)).items.length, 3);
  });

  await t.test('a credit note counts the other way', async (t) => {
    const issued = { issue_date: '2026-03-01', due_date: '2026-03-01' };
    await billed(store, acme, { ...issued, number: 'A-000003', gross: '50.05', kind: 'credit_note', corrects: second });
    t.match(await balance(), { billed: '100.00', balance: '56.05', credit: '56.05', open_bills: [] });
  });

  await t.test('bad input changes nothing', async (t) => {
    const yen = await customer(operator, 'yen', 'JPY');
    const before = await contentOf(store);
    const tomorrow = dayText(Date.now() + dayMs);
    const rows: readonly (readonly [body: object, status: number, pointer: string])[] = [
      [{ amount: '0' }, 422, '/amount'],
      [{ amount: '0.00' }, 422, '/amount'],
      [{ amount: '-1' }, 400, '/amount'],
      [{ amount: '1.001' }, 422, '/amount'],
      [{ amount: '1e3' }, 400, '/amount'],
      [{ amount: 5 }, 400, '/amount'],
      [{ amount: '1234567890123' }, 400, '/amount'],
      [{ amount: '0.5', billing_account: yen.account }, 422, '/amount'],
      [{ amount: '1', received_on: dayText(Date.now() + 2 * dayMs + 1) }, 422, '/received_on'],
      [{ amount: '1', received_on: '2026-02-30' }, 400, '/received_on'],
      [{ amount: '1', received_on: 'today' }, 400, '/received_on'],
      [{ amount: '1', kind: 'lost' }, 400, '/kind'],
      [{ amount: '1', reference: 'a\nb' }, 400, '/reference'],
      [{ amount: '1', reference: 'x'.repeat(201) }, 400, '/reference'],
      [{ amount: '1', bill: 'bill-0000000000000000' }, 422, '/bill'],
      [{ amount: '1', bill: first, billing_account: other.account }, 422, '/bill'],
      [{ amount: '1', billing_account: 'acct-0000000000000000' }, 422, '/billing_account'],
      [{ amount: '1', currency: 'EUR' }, 400, '/currency'],
    ];
    for (const [body, status, pointer] of rows) {
      const answer = await operator.request('POST', '/v1/payments', { billing_account: acme.account, ...body });
      t.match(answer, { status, body: { errors: [{ pointer }] } }, JSON.stringify(body));
    }
    t.same(await contentOf(store), before);
    await operator.create('payments', { billing_account: acme.account, amount: '1', received_on: tomorrow });
  });
});
