/** Corrections before a bill is final: bookings that are taken back, and prices that end. */
import t, { type Test } from 'tap';
import { type ClosingParts, closeMonth } from '../../backend/billing/closing.ts';
import { ledgerKinds } from '../../backend/billing/ledger/account-bill.ts';
import { monthOf } from '../../backend/model/billing/rating.ts';
import * as records from '../../backend/model/records/index.ts';
import { openMirror } from '../../backend/store/mirror.ts';
import type { Store } from '../../backend/store/store.ts';
import { startTestApi } from '../support/api.ts';
import { eventually } from '../support/eventually.ts';
import { swissCompany } from '../support/legal-person.ts';
import { silentLogger } from '../support/silent-logger.ts';

async function paidCloud(t: Test) {
  const test = await startTestApi(t);
  const { operator, project } = test;
  const entity = await operator.create('legal-entities', { ...swissCompany, name: 'swiss', number_series: 'UC-' });
  const account = await operator.create('billing-accounts', {
    ...{ ...swissCompany, name: 'acme', currency: 'CHF', legal_entity: entity.id },
  });
  await operator.update('projects', project, { billing_account: account.id });
  const product = await operator.create('products', { name: 'work', meter: 'booked' });
  const price = await operator.create('prices', { product: product.id, currency: 'CHF', amount: '100', per: 'once' });
  const book = (quantity: number) => operator.create('orders', { project, product: product.id, quantity });
  const net = async () =>
    (await operator.expect(200, 'GET', `/v1/billing-accounts/${account.id}/preview`)).body as unknown as {
      net: string;
    };
  return { ...test, account: account.id, product, price, book, net };
}

async function closing(t: Test, store: Store): Promise<ClosingParts> {
  const mirror = await openMirror(store, {
    prefixes: [''],
    kinds: [...ledgerKinds, records.closedMonths, records.billGuards, records.bills, records.payments],
    logger: silentLogger,
  });
  t.teardown(() => mirror.close());
  const orders = mirror.index(records.orders, ({ value }) => value.project);
  const after = monthOf(Date.now()).to + 2 * 3_600_000;
  return {
    ...{ store, mirror, logger: silentLogger, holds: [], now: () => new Date(after) },
    ordersOf: (id) => orders.list(id),
    bills: mirror.index(records.bills, ({ value }) => value.billing_account),
    payments: mirror.index(records.payments, ({ value }) => value.billing_account),
  };
}

t.test('a booking that is taken back costs nothing', async (t) => {
  const { operator, member, project, book, net, product } = await paidCloud(t);
  const [wrong, right] = [await book(3), await book(1)];
  t.match(await net(), { net: '400.00' });
  const path = `/v1/orders/${wrong.id}/cancel`;
  t.equal((await (await member(project)).request('POST', path)).status, 403);
  await operator.expect(204, 'POST', path);
  t.equal((await operator.request('POST', path)).status, 404, 'a second time');
  t.match(await net(), { net: '100.00' });
  t.match((await operator.list('ended-orders', `?project=${project}`)).items, [{ id: wrong.id, end: 'cancelled' }]);
  await operator.expect(204, 'DELETE', `/v1/orders/${right.id}`);
  t.match(await net(), { net: '100.00' }, 'a booking that ends stays charged');
  const volume = await operator.create('volumes', { project, name: 'data', size: '1GiB' });
  const [own] = (await operator.list('orders', `?object=${volume.id}`)).items;
  t.match((await operator.request('POST', `/v1/orders/${own?.id}/cancel`)).body, {
    code: 'invalid_state',
    detail: /only a booking/,
  });
  t.equal((await operator.request('DELETE', `/v1/products/${product.id}`)).status, 409, 'its price applies');
});

t.test('a booking on a final bill stays, and no bill contains one that was taken back', async (t) => {
  const { operator, store, account, book } = await paidCloud(t);
  const [first, second] = [await book(1), await book(2)];
  const parts = await closing(t, store);
  const stored = () => {
    const found = parts.mirror.get(records.billingAccounts, account);
    if (!found) throw new Error('no account');
    return found;
  };
  await eventually(() => {
    if (!parts.mirror.get(records.orders, second.id)) throw new Error('the mirror is behind');
  });
  const month = monthOf(Date.now());
  // The closing has read the uses, and does not know yet of the cancellation before its commit.
  const late: Store = {
    ...store,
    get: (key) => store.get(key),
    list: (prefix, options) => store.list(prefix, options),
    async commit(commit) {
      await operator.expect(204, 'POST', `/v1/orders/${first.id}/cancel`);
      return store.commit(commit);
    },
  };
  t.equal((await closeMonth({ ...parts, store: late }, stored(), month)).outcome, 'conflict');
  await parts.mirror.catchUp({ timeoutMs: 10_000 });
  t.equal((await closeMonth(parts, stored(), month)).outcome, 'closed');
  t.match((await operator.list('bills')).items, [{ number: 'UC-000001', net: '200.00' }]);
  t.match((await operator.request('POST', `/v1/orders/${second.id}/cancel`)).body, {
    code: 'invalid_state',
    detail: /credit note/,
  });
});

t.test('a price ends, its past stays, and product and price can be made again', async (t) => {
  const { operator, project, product, price, book, net } = await paidCloud(t);
  await book(1);
  await operator.expect(204, 'DELETE', `/v1/prices/${price.id}`);
  t.strictSame((await operator.list('prices')).items, []);
  await book(1);
  t.match(await net(), { net: '100.00' }, 'the second booking has no price');
  await operator.expect(204, 'DELETE', `/v1/products/${product.id}`);
  t.match(await net(), { net: '100.00' }, 'the first one keeps its price');

  for (const amount of ['1', '2']) {
    const disk = await operator.create('products', { name: 'disk', meter: 'volume' });
    const row = await operator.create('prices', { product: disk.id, currency: 'CHF', amount, per: 'once' });
    await operator.create('volumes', { project, name: `v${amount}`, size: '1GiB' });
    await operator.expect(204, 'DELETE', `/v1/prices/${row.id}`);
    await operator.expect(204, 'DELETE', `/v1/products/${disk.id}`);
  }
  t.match(await net(), { net: '103.00' }, 'each volume has the price of its time');
  const future = await operator.create('products', { name: 'cpu', meter: 'vm_cpu' });
  const later = { product: future.id, currency: 'CHF', amount: '1', per: 'hour', valid_from: '2090-01-01T00:00:00Z' };
  for (let times = 0; times < 2; times++) {
    const { id } = await operator.create('prices', later);
    await operator.expect(204, 'DELETE', `/v1/prices/${id}`);
  }
});
