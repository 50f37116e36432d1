/** Tokens of billing accounts: they read their account with its bills and costs, and nothing else. */
import t from 'tap';
import { startBilling } from '../../backend/billing/start.ts';
import { endpoints } from '../../backend/contract/index.ts';
import { monthOf } from '../../backend/model/billing/rating.ts';
import { startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { swissCompany } from '../support/legal-person.ts';
import { operations } from '../support/openapi.ts';
import { silentLogger } from '../support/silent-logger.ts';

t.test('a token of a billing account', async (t) => {
  const test = await startTestApi(t);
  const { operator, project, store } = test;
  const other = (await operator.create('projects', { name: 'other' })).id;
  const entity = await operator.create('legal-entities', { ...swissCompany, name: 'swiss', number_series: 'UC-' });
  const account = (name: string) =>
    operator.create('billing-accounts', { ...{ ...swissCompany, name, currency: 'CHF', legal_entity: entity.id } });
  const [mine, theirs] = [await account('mine'), await account('theirs')];
  await operator.update('projects', project, { billing_account: mine.id });
  await operator.update('projects', other, { billing_account: theirs.id });
  const budget = (of: object) => operator.create('budgets', { ...of, max_monthly_cost: '1000' });
  const own = await budget({ billing_account: mine.id });
  const foreign = [await budget({ billing_account: theirs.id }), await budget({ project: other })];
  const product = await operator.create('products', { name: 'work', meter: 'booked' });
  await operator.create('prices', { product: product.id, currency: 'CHF', amount: '100', per: 'once' });
  for (const each of [project, other])
    await operator.create('orders', { project: each, product: product.id, quantity: 2 });
  const made = await operator.create('tokens', { name: 'books', role: 'billing', billing_account: mine.id });
  const books = test.client(String(Object(made).secret));
  const later = monthOf(Date.now()).to + 2 * 3_600_000;
  const verifier = { verify: async () => ({ answer: 'unknown' as const, reason: 'nobody asks', at: '' }) };
  const billing = await startBilling({
    ...{ store, logger: silentLogger, now: () => new Date(later), pollMs: 20, verifier },
  });
  t.teardown(() => billing.close());
  const all = await until('two bills', async () => {
    const { items } = await operator.list('bills');
    return items.length === 2 ? (items as unknown as { id: string; billing_account: string }[]) : undefined;
  });
  const of = (id: string) => all.find(({ billing_account }) => billing_account === id)?.id;

  await t.test('reads its account, bills, documents, costs and the prices', async (t) => {
    t.match((await books.expect(200, 'GET', '/v1/token')).body, { role: 'billing', billing_account: mine.id });
    const objects = { 'billing-accounts': mine.id, bills: of(mine.id), projects: project, budgets: own.id };
    for (const [plural, id] of Object.entries(objects)) {
      t.strictSame(
        (await books.list(plural)).items.map((each) => each.id),
        [id],
        plural,
      );
      t.equal((await books.get(plural, id ?? '')).id, id);
    }
    t.match((await books.expect(200, 'GET', `/v1/bills/${of(mine.id)}/document`)).body, { kind: 'bill' });
    t.match((await books.expect(200, 'GET', `/v1/billing-accounts/${mine.id}/preview`)).body, { currency: 'CHF' });
    t.match((await books.expect(200, 'GET', `/v1/costs?project=${project}`)).body, { total: '200.00' });
    t.equal((await books.list('prices')).items.length, 1);
    t.equal((await books.list('products')).items.length, 1);
  });

  await t.test('sees nothing of other accounts', async (t) => {
    const hidden = [
      `bills/${of(theirs.id)}`,
      `bills/${of(theirs.id)}/document`,
      `billing-accounts/${theirs.id}`,
      `billing-accounts/${theirs.id}/preview`,
      `projects/${other}`,
      ...foreign.map(({ id }) => `budgets/${id}`),
      `costs?project=${other}`,
    ];
    for (const path of hidden) t.equal((await books.request('GET', `/v1/${path}`)).status, 404, path);
    t.strictSame((await books.list('bills', `?billing_account=${theirs.id}`)).items, []);
    t.strictSame((await books.list('bills', `?ids=${of(theirs.id)}`)).items, []);
  });

  await t.test('may call no other operation', async (t) => {
    const open = new Set(endpoints.filter(({ billing }) => billing).map(({ id }) => id));
    t.strictSame(
      [...open].filter((id) => !/_(get|list|self|document|preview|balance)$/.test(id)),
      [],
      'it only reads',
    );
    let refused = 0;
    for (const { operationId, method, path, access, body } of operations.values()) {
      if (open.has(operationId) || path.startsWith('/v1/uploads')) continue;
      if (access === 'public' || access === 'signed') continue;
      const url = path.replace(/{[a-z]+}/g, 'none');
      t.match(await books.request(method, url, body), { status: 403, body: { code: 'forbidden' } }, operationId);
      refused++;
    }
    t.ok(refused > 50);
  });

  await t.test('sees nothing of the time after its project has moved to another account', async (t) => {
    const member = await test.member(project);
    const volumes = await operator.create('products', { name: 'disk', meter: 'volume' });
    await operator.create('prices', { product: volumes.id, currency: 'CHF', amount: '1000', per: 'once' });
    const volume = await member.create('volumes', { name: 'data', size: '1GiB', labels: { of: 'mine' } });
    const before = (await member.expect(200, 'GET', '/v1/costs')).body;
    t.match(before, { total: '1200.00' });
    await operator.update('projects', project, { billing_account: theirs.id });
    await member.update('volumes', volume.id, { name: 'secret', labels: { of: 'theirs' } });
    await member.update('volumes', volume.id, { size: '2GiB' });
    const seen = JSON.stringify((await books.expect(200, 'GET', `/v1/costs?project=${project}`)).body);
    t.match(seen, /"total":"1200\.00"/);
    t.match(seen, /"title":"data"/);
    t.notMatch(seen, /secret|theirs/);
    t.match((await member.expect(200, 'GET', '/v1/costs')).body, { total: '2200.00' }, 'a member sees both accounts');
    await operator.update('projects', project, { billing_account: mine.id });
  });

  await t.test('comes only from an operator, and only with an account', async (t) => {
    const member = await test.member(project);
    const body = { name: 'mine', role: 'billing', billing_account: mine.id };
    t.equal((await member.request('POST', '/v1/tokens', body)).status, 403);
    const wrong: [object, string, string][] = [
      [{ name: 'a', role: 'billing' }, 'rule_violated', '/billing_account'],
      [{ name: 'a', role: 'operator', billing_account: mine.id }, 'rule_violated', '/billing_account'],
      [{ name: 'a', role: 'viewer', project, billing_account: mine.id }, 'rule_violated', '/billing_account'],
      [{ ...body, project }, 'rule_violated', '/project'],
      [{ ...body, billing_account: 'acc-0000000000000000' }, 'invalid_reference', '/billing_account'],
    ];
    for (const [each, code, pointer] of wrong) {
      const answer = await operator.request('POST', '/v1/tokens', each);
      t.match(answer.body, { errors: [{ pointer }] }, `${code} ${pointer}`);
    }
    t.notOk(
      (await member.list('tokens')).items.some(({ id }) => id === made.id),
      'members do not see it',
    );
  });

  await t.test('ends with its account', async (t) => {
    const empty = await account('empty');
    const { secret } = Object(
      await operator.create('tokens', { name: 'e', role: 'billing', billing_account: empty.id }),
    );
    const short = test.client(String(secret));
    const waiting = short.request('GET', `/v1/billing-accounts/${empty.id}?after=1000000&timeout=60`);
    t.equal((await short.request('GET', '/v1/token')).status, 200);
    await operator.expect(204, 'DELETE', `/v1/billing-accounts/${empty.id}`);
    t.equal((await short.request('GET', '/v1/token')).status, 401);
    t.ok([401, 404].includes((await waiting).status), 'also a request that waits');
  });
});
