/** The facts of the VAT that operators declare, from the API to the final bill. */
import t, { type Test } from 'tap';
import { startBilling } from '../../backend/billing/start.ts';
import { dayText, monthText } from '../../backend/model/billing/months.ts';
import { monthOf } from '../../backend/model/billing/rating.ts';
import type { Store } from '../../backend/store/store.ts';
import { createVmPrerequisites, startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { swissCompany } from '../support/legal-person.ts';
import { silentLogger } from '../support/silent-logger.ts';

const hour = 3_600_000;
const monthEnd = () => dayText(monthOf(Date.now()).to - 1);
const customer = {
  ...{ name: 'customer', currency: 'CHF', legal_name: 'A Customer', email: 'customer@example.com' },
  address: { street: 'Weg 1', postcode: '10115', city: 'Berlin', country: 'DE' },
};

/** Starts the component at a time after the end of the month. VIES never answers. */
async function billAfterwards(t: Test, store: Store): Promise<void> {
  const later = monthOf(Date.now()).to + 2 * hour;
  const billing = await startBilling({
    ...{ store, logger: silentLogger, now: () => new Date(later), pollMs: 20 },
    verifier: { verify: async () => ({ answer: 'unknown', reason: 'MS_UNAVAILABLE', at: '' }) },
  });
  t.teardown(() => billing.close());
}

/** Starts a cloud with a Swiss company, and a customer who has ordered for 5 CHF. */
async function cloudWith(t: Test, account: object) {
  const test = await startTestApi(t);
  const { operator, store, project } = test;
  const { id: product } = await operator.create('products', { name: 'prefix', meter: 'prefix' });
  await operator.create('prices', { product, currency: 'CHF', amount: '5', per: 'once' });
  const entity = await operator.create('legal-entities', { ...swissCompany, name: 'swiss', number_series: 'UC-' });
  const payer = await operator.create('billing-accounts', { ...customer, ...account, legal_entity: entity.id });
  await operator.update('projects', project, { billing_account: payer.id });
  await createVmPrerequisites(test, project);
  const preview = async () =>
    (await operator.expect(200, 'GET', `/v1/billing-accounts/${payer.id}/preview`)).body as unknown as object;
  const bills = async () => (await operator.list('bills')).items;
  const waits = () =>
    until('the bill waits', async () =>
      (await operator.list('events', `?target=${payer.id}`)).items.find((event) => event.reason === 'bill_waits'),
    );
  const document = async (id: string) => (await operator.expect(200, 'GET', `/v1/bills/${id}/document`)).body;
  return { operator, store, entity, payer, preview, bills, waits, document };
}

t.test(
  'a Swiss company has a consumer in Germany: the bill waits until the company is in a one-stop shop',
  async (t) => {
    const { operator, store, entity, preview, bills, waits, document } = await cloudWith(t, {
      customer_kind: 'consumer',
    });
    t.match(entity, { oss: false }, 'no company is in a one-stop shop by default');
    t.match(await preview(), { net: '5.00', vat: undefined, gross: undefined, waits: /in no one-stop shop \(oss\)/ });
    await billAfterwards(t, store);
    t.match(await waits(), { message: /VAT of DE may be due/ });
    t.strictSame(await bills(), []);
    for (const oss of ['yes', 1]) {
      const refused = await operator.request('PATCH', `/v1/legal-entities/${entity.id}`, { oss });
      t.equal(refused.status, 400);
      t.match(refused.body, { errors: [{ pointer: '/oss', detail: /boolean/ }] }, JSON.stringify(oss));
    }
    t.match(await operator.update('legal-entities', entity.id, { oss: true }), { oss: true });
    t.match(await preview(), { vat: '0.95', gross: '5.95' });
    const bill = await until('the bill', async () => (await bills())[0]);
    t.match(bill, { number: 'UC-000001', net: '5.00', vat: '0.95', gross: '5.95' });
    t.match(await document(String(bill.id)), { vat_groups: [{ category: 'S', rate: '19' }] });
  },
);

t.test('VIES never answers: the decision of the operator ends the wait', async (t) => {
  const { operator, store, payer, preview, bills, waits, document } = await cloudWith(t, { vat_number: 'DE136695976' });
  await billAfterwards(t, store);
  t.match(await waits(), { message: /not verified yet/ });
  const path = `/v1/billing-accounts/${payer.id}`;
  const reason = 'Not subject to Swiss VAT: the place of supply is abroad.';
  for (const [status, vat_decision, pointer, detail] of [
    [400, 'O', '/vat_decision', /object/],
    [400, { rate: '19' }, '/vat_decision/category', /./],
    [400, { category: 'Z' }, '/vat_decision/category', /./],
    [400, { category: 'S', rate: 19 }, '/vat_decision/rate', /string/],
    [400, { category: 'S', rate: '0' }, '/vat_decision/rate', /percent above 0/],
    [400, { category: 'S', rate: '100.5' }, '/vat_decision/rate', /percent above 0/],
    [400, { category: 'S', rate: '8.10' }, '/vat_decision/rate', /percent above 0/],
    [400, { category: 'O', reason: '' }, '/vat_decision/reason', /./],
    [400, { category: 'O', reason: 'two\nlines' }, '/vat_decision/reason', /one line of text/],
    [400, { category: 'O', reason, note: 'x' }, '/vat_decision/note', /./],
    [422, { category: 'S' }, '/vat_decision/rate', /must be set with the category S/],
    [422, { category: 'S', rate: '19', reason }, '/vat_decision/reason', /must be missing with the category S/],
    [422, { category: 'G' }, '/vat_decision/reason', /must be set with the category G/],
    [422, { category: 'O', rate: '19', reason }, '/vat_decision/rate', /must be missing with the category O/],
  ] as const) {
    const refused = await operator.request('PATCH', path, { vat_decision });
    t.equal(refused.status, status, JSON.stringify(vat_decision));
    t.match(refused.body, { errors: [{ pointer, detail }] }, JSON.stringify(vat_decision));
  }
  const reverse = await operator.request('PATCH', path, { vat_number: null, vat_decision: { category: 'AE', reason } });
  t.match([reverse.status, reverse.body], [422, { errors: [{ pointer: '/vat_decision/category' }] }]);
  t.match(await preview(), { waits: /not verified yet/ }, 'refused changes changed nothing');
  t.match(await operator.get('billing-accounts', payer.id), { vat_decision: undefined });

  await operator.update('billing-accounts', payer.id, { vat_decision: { category: 'O', reason } });
  const bill = await until('the bill', async () => (await bills())[0]);
  t.match(bill, { net: '5.00', vat: '0.00', gross: '5.00' });
  t.match(await document(String(bill.id)), { vat_groups: [{ category: 'O', rate: '0', reason }], notes: [reason] });
  const taken = await operator.update('billing-accounts', payer.id, { vat_decision: null });
  t.equal(Object.hasOwn(taken, 'vat_decision'), false, 'null takes the decision back');
});

t.test('a customer in Büsingen: the decision precedes the rules of areas', async (t) => {
  const { operator, payer, preview, bills, store, document } = await cloudWith(t, {
    address: { street: 'Weg 1', postcode: '78266', city: 'Büsingen', country: 'DE' },
    customer_kind: 'consumer',
  });
  t.match(await preview(), { waits: /Büsingen/ });
  await operator.update('billing-accounts', payer.id, { vat_decision: { category: 'S', rate: '8.1' } });
  t.match(await preview(), { net: '5.00', vat: '0.41', gross: '5.41', waits: undefined });
  await billAfterwards(t, store);
  const bill = await until('the bill', async () => (await bills())[0]);
  t.match(await document(String(bill.id)), { vat_groups: [{ category: 'S', rate: '8.1', amount: '0.41' }] });
});

t.test('rates of the operator precede those that ucloud knows', async (t) => {
  const { operator, store, preview, bills, document } = await cloudWith(t, { address: swissCompany.address });
  t.match(await preview(), { vat: '0.41' });
  const first = `${monthText(Date.now())}-01`;
  const good = { country: 'CH', rate: '8.5', valid_from: first };
  for (const [status, change, pointer, detail] of [
    [400, { country: 'EL' }, '/country', /./],
    [400, { country: undefined }, '/country', /./],
    [400, { rate: '0' }, '/rate', /percent above 0/],
    [400, { rate: '8.50' }, '/rate', /percent above 0/],
    [400, { rate: 8.5 }, '/rate', /string/],
    [400, { valid_from: '2026-1-1' }, '/valid_from', /a day/],
    [400, { note: 'x' }, '/note', /./],
    [422, { country: 'MC' }, '/country', /must be FR/],
    [422, { country: 'AX' }, '/country', /vat_decision/],
    [422, { valid_from: '2026-02-30' }, '/valid_from', /a day that exists/],
  ] as const) {
    const refused = await operator.request('POST', '/v1/vat-rates', { ...good, ...change });
    t.equal(refused.status, status, JSON.stringify(change));
    t.match(refused.body, { errors: [{ pointer, detail }] }, JSON.stringify(change));
  }
  t.strictSame((await operator.list('vat-rates')).items, []);
  t.match(await preview(), { vat: '0.41' });

  const attempts = await Promise.all([1, 2].map(() => operator.request('POST', '/v1/vat-rates', good)));
  t.strictSame(attempts.map(({ status }) => status).toSorted(), [201, 409], 'a country has one rate from a day on');
  t.match(
    attempts.find(({ status }) => status === 409),
    { body: { code: 'vat_rate_exists', errors: [{ pointer: '/valid_from' }] } },
  );
  const future = await operator.create('vat-rates', { ...good, rate: '50', valid_from: '2099-01-01' });
  t.match(await preview(), { net: '5.00', vat: '0.43', gross: '5.43' });
  const [present] = (await operator.list('vat-rates')).items.filter(({ id }) => id !== future.id);
  const kept = await operator.request('DELETE', `/v1/vat-rates/${present?.id}`);
  t.match([kept.status, kept.body], [409, { code: 'invalid_state' }], 'a rate that applies stays');
  await operator.expect(204, 'DELETE', `/v1/vat-rates/${future.id}`);
  await operator.create('vat-rates', { ...good, rate: '51', valid_from: '2099-01-01' });
  t.equal((await operator.request('PATCH', `/v1/vat-rates/${present?.id}`, { rate: '1' })).status, 405);

  await billAfterwards(t, store);
  const bill = await until('the bill', async () => (await bills())[0]);
  t.match(bill, { vat: '0.43', gross: '5.43' });
  t.match(await document(String(bill.id)), { vat_groups: [{ category: 'S', rate: '8.5' }] });
  await operator.create('vat-rates', { ...good, rate: '20', valid_from: monthEnd() });
  t.match(await document(String(bill.id)), { vat_groups: [{ rate: '8.5' }] }, 'a final bill keeps its VAT');
});
