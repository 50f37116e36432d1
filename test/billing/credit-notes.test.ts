/** Credit notes: final at once, in the series of the bills, and never more than the bill. */
import t from 'tap';
import { startBilling } from '../../backend/billing/start.ts';
import type { BillDocument } from '../../backend/model/billing/bill-document.ts';
import { monthText } from '../../backend/model/billing/months.ts';
import { monthOf } from '../../backend/model/billing/rating.ts';
import { startTestApi } from '../support/api.ts';
import { brokenRules, schemaProblem } from '../support/en16931.ts';
import { until } from '../support/eventually.ts';
import { swissCompany } from '../support/legal-person.ts';
import { silentLogger } from '../support/silent-logger.ts';

t.test('an operator gives back a part of a bill, and then the rest', async (t) => {
  const test = await startTestApi(t);
  const { operator, store, project } = test;
  const product = await operator.create('products', { name: 'work', meter: 'booked', description: 'Work' });
  await operator.create('prices', { product: product.id, currency: 'CHF', amount: '100', per: 'once' });
  const entity = await operator.create('legal-entities', { ...swissCompany, name: 'swiss', number_series: 'UC-' });
  const account = await operator.create('billing-accounts', {
    ...{ ...swissCompany, name: 'acme', currency: 'CHF', legal_entity: entity.id },
  });
  await operator.update('projects', project, { billing_account: account.id });
  await operator.create('orders', { project, product: product.id, quantity: 3 });
  const later = monthOf(Date.now()).to + 2 * 3_600_000;
  const verifier = { verify: async () => ({ answer: 'unknown' as const, reason: 'nobody asks', at: '' }) };
  const billing = await startBilling({
    ...{ store, logger: silentLogger, now: () => new Date(later), pollMs: 20, verifier },
  });
  t.teardown(() => billing.close());
  const bill = await until('the bill', async () => (await operator.list('bills')).items[0]);
  t.match(bill, { number: 'UC-000001', kind: 'bill', net: '300.00', vat: '24.30', gross: '324.30' });
  const path = `/v1/bills/${bill.id}/credit`;
  const reason = 'One hour too many.';

  const member = await test.member(project);
  t.equal((await member.request('POST', path, { reason })).status, 403);
  t.match((await operator.expect(400, 'POST', path, {})).body, { errors: [{ pointer: '/reason' }] });
  t.match((await operator.expect(400, 'POST', path, { reason: 'a\nb' })).body, { errors: [{ pointer: '/reason' }] });
  t.match((await operator.request('POST', path, { reason, lines: [{ line: '1', net: '300.01' }] })).body, {
    code: 'rule_violated',
    errors: [{ pointer: '/lines/0/net', detail: /at most 300\.00/ }],
  });
  t.equal((await operator.list('bills')).items.length, 1, 'a refusal makes no document');

  const headers = { 'idempotency-key': 'one-hour' };
  const lines = [{ line: '1', net: '100' }];
  const first = (await operator.expect(201, 'POST', path, { reason, lines }, headers)).body;
  t.match(first, {
    number: 'UC-000002',
    kind: 'credit_note',
    corrects: bill.id,
    gross: '108.10',
    month: monthText(Date.now()),
  });
  const again = (await operator.expect(201, 'POST', path, { reason, lines }, headers)).body;
  t.equal(again.id, first.id, 'a repeated request gets the same credit note');

  // Ten requests for the rest at the same time: one of them gets it.
  const rest = await Promise.all(Array.from({ length: 10 }, () => operator.request('POST', path, { reason })));
  t.equal(rest.filter(({ status }) => status === 201).length, 1);
  for (const { status, body } of rest) if (status !== 201) t.match(body, { code: 'rule_violated' });
  const all = (await operator.list('bills')).items as unknown as readonly Record<string, string>[];
  const notes = all.filter(({ kind }) => kind === 'credit_note');
  t.strictSame(notes.map(({ number, net }) => [number, net]).toSorted(), [
    ['UC-000002', '100.00'],
    ['UC-000003', '200.00'],
  ]);
  t.match((await operator.request('POST', `/v1/bills/${first.id}/credit`, { reason })).body, { code: 'invalid_state' });

  const document = async (format: string) => {
    const response = await fetch(`${test.url}/v1/bills/${first.id}/document?format=${format}`, {
      headers: { authorization: `Bearer ${test.operatorToken}` },
    });
    t.equal(response.status, 200, format);
    return response.text();
  };
  const json = JSON.parse(await document('json')) as BillDocument;
  t.match(json, { kind: 'credit_note', corrects: { number: 'UC-000001' }, notes: [reason] });
  const [cii, ubl] = [await document('cii'), await document('xrechnung')];
  t.equal(schemaProblem(cii), undefined, 'CII is valid');
  t.strictSame(brokenRules(cii, 'cii'), []);
  t.strictSame(brokenRules(ubl, 'ubl'), []);
  t.match(ubl, /UC-000001/, 'the credit note names its bill');
  t.match((await document('pdf')).slice(0, 5), '%PDF-');
});
