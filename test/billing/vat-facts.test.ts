/** The facts of the VAT that operators declare, from the API to the final bill. */
import t, { type Test } from 'tap';
import { startBilling } from '../../backend/billing/start.ts';
import { monthOf } from '../../backend/model/billing/rating.ts';
import type { Store } from '../../backend/store/store.ts';
import { createVmPrerequisites, startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { silentLogger } from '../support/silent-logger.ts';

const hour = 3_600_000;
const party = {
  legal_name: 'Example AG',
  address: { street: 'Bahnhofstrasse 1', postcode: '8750', city: 'Glarus', country: 'CH' },
  email: 'billing@example.com',
  vat_number: 'CHE-107.787.577 MWST',
};
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
  const entity = await operator.create('legal-entities', { ...party, name: 'swiss', number_series: 'UC-' });
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
