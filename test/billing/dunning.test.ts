/** Dunning: each level of an overdue bill happens once, in its order, whichever process is killed when. */
import fc from 'fast-check';
import t, { type Test } from 'tap';
import type { ClosingParts } from '../../backend/billing/closing.ts';
import { dunAll, dunningKinds } from '../../backend/billing/dunning.ts';
import { ledgerKinds } from '../../backend/billing/ledger/account-bill.ts';
import type { Id } from '../../backend/contract/fields.ts';
import { daysBetween, nextLevel } from '../../backend/model/billing/dunning.ts';
import { dayText } from '../../backend/model/billing/months.ts';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put, readAll } from '../../backend/store/collection.ts';
import { openMirror } from '../../backend/store/mirror.ts';
import type { Store } from '../../backend/store/store.ts';
import { contentOf, startTestApi } from '../support/api.ts';
import { onBothStores, stopSharedEtcd } from '../support/both-stores.ts';
import { silentLogger } from '../support/silent-logger.ts';

t.teardown(stopSharedEtcd);

const never = new AbortController().signal;
const dayMs = 24 * 3_600_000;
const levels = [
  { days_after_due: 10, title: 'Reminder', text: 'Please pay.' },
  { days_after_due: 20, title: 'Second reminder', text: '', fee: '15' },
  { days_after_due: 45, title: 'Last reminder', text: 'Or else.' },
];

t.test('levels by hand', async (t) => {
  const due = '2026-02-28';
  for (const [level, day, today, expected] of [
    [0, undefined, '2026-02-28', undefined],
    [0, undefined, '2026-03-09', undefined],
    [0, undefined, '2026-03-10', 1],
    [0, undefined, '2027-01-01', 1],
    [1, '2026-03-10', '2026-03-19', undefined],
    [1, '2026-03-10', '2026-03-20', 2],
    [1, '2027-01-01', '2027-01-10', undefined],
    [1, '2027-01-01', '2027-01-11', 2],
    [2, '2026-03-20', '2026-04-13', undefined],
    [2, '2026-03-20', '2026-04-14', 3],
    [3, '2026-04-14', '2029-01-01', undefined],
  ] as const) {
    t.equal(nextLevel(levels, { level, day }, { due, today }), expected, `${level} ${today}`);
  }
  t.equal(daysBetween('2028-02-28', '2028-03-01'), 2);
});

t.test('whichever days a component runs on, levels come in their order and with their distances', async () => {
  const start = Date.parse('2026-01-01');
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 0, max: 400 }), { maxLength: 60 }), (days) => {
      let dunned: { level: number; day?: string } = { level: 0 };
      let last: { index: number; days: number } | undefined;
      for (const days_ of days.toSorted((a, b) => a - b)) {
        const today = dayText(start + days_ * dayMs);
        const level = nextLevel(levels, dunned, { due: '2026-01-01', today });
        if (level === undefined) continue;
        const own = levels[level - 1]?.days_after_due ?? 0;
        if (level !== dunned.level + 1 || days_ < own) return false;
        if (last && days_ - last.days < own - (levels[last.index]?.days_after_due ?? 0)) return false;
        dunned = { level, day: today };
        last = { index: level - 1, days: days_ };
      }
      return true;
    }),
  );
});

const party = {
  ...{ legal_name: 'Example AG', email: 'billing@example.com' },
  address: { street: 'Weg 1', postcode: '8750', city: 'Glarus', country: 'CH' },
};

async function overdue(store: Store) {
  const at = '2026-01-01T00:00:00.000Z';
  const declared = { labels: {}, created_at: at, updated_at: at, delete_protection: false };
  const [entity, account, bill] = [newId('legal_entity'), newId('billing_account'), newId('bill')];
  await store.commit({
    write: [
      put(records.legalEntities, entity, {
        ...{ id: entity, name: 'co', ...party, number_series: 'D-', dunning_levels: levels, ...declared },
      }),
      put(records.billingAccounts, account, {
        ...{ id: account, name: 'acme', ...party, currency: 'CHF', legal_entity: entity, customer_kind: 'business' },
        ...{ payment: 'bill', payment_days: 30, ...declared },
      }),
      put(records.bills, bill, {
        ...{ id: bill, labels: {}, number: 'D-000001', billing_account: account, legal_entity: entity },
        ...{ month: '2026-01', issue_date: '2026-02-01', due_date: '2026-02-28', currency: 'CHF', net: '50.00' },
        ...{ vat: '0.00', gross: '50.00', sha256: '', created_at: at, updated_at: at },
      }),
    ],
  });
  return { account, bill };
}
async function pay(store: Store, account: Id<'billing_account'>, kind: 'received' | 'refunded', amount: string) {
  const id = newId('payment');
  const at = new Date().toISOString();
  await store.commit({
    write: [
      put(records.payments, id, {
        ...{ id, billing_account: account, kind, amount, currency: 'CHF', received_on: at.slice(0, 10) },
        ...{ reference: '', created_at: at, updated_at: at },
      }),
    ],
  });
}
async function component(t: Test, store: Store, clock: { now: number }): Promise<ClosingParts> {
  const kinds = [...ledgerKinds, ...dunningKinds, records.mails];
  const mirror = await openMirror(store, { prefixes: [''], kinds, logger: silentLogger });
  t.teardown(() => mirror.close());
  return {
    ...{ store, mirror, logger: silentLogger, holds: [], now: () => new Date(clock.now), sendsMails: true },
    bills: mirror.index(records.bills, ({ value }) => value.billing_account),
    payments: mirror.index(records.payments, ({ value }) => value.billing_account),
    ordersOf: () => [],
  };
}
const eventsOf = async (store: Store) => {
  const found: records.EventRecord[] = [];
  for await (const { value } of readAll(store, records.events)) found.push(value);
  return found;
};
const mailsOf = async (store: Store) => {
  const found: string[] = [];
  for await (const { id } of readAll(store, records.mails)) found.push(id);
  return found.toSorted();
};

await onBothStores(t, 'kills before and after each commit, with two components at once', async (t, fresh) => {
  const store = await (await fresh()).connect();
  const { account, bill } = await overdue(store);
  const clock = { now: Date.parse('2026-03-01T12:00:00Z') };
  const parts = [await component(t, store, clock), await component(t, store, clock)];
  let number = 0;
  const dying = (inner: Store): Store =>
    Object.assign(Object.create(inner), {
      get: (key: string) => inner.get(key),
      async commit(commit: Parameters<Store['commit']>[0]) {
        number = (number * 1103515245 + 12345) % 2 ** 31;
        if (number % 3 === 0) throw new Error('killed before the commit');
        const result = await inner.commit(commit);
        if (number % 3 === 1) throw new Error('killed after the commit');
        return result;
      },
    });
  const rounds = async () => {
    for (let round = 0; round < 6; round++) {
      await Promise.all(parts.map((each) => dunAll({ ...each, store: dying(store) }, never).catch(() => undefined)));
    }
  };
  for (let day = 0; day < 60; day += 5) {
    await rounds();
    clock.now += 5 * dayMs;
  }
  t.strictSame(
    (await eventsOf(store)).map(({ reason, target }) => [reason, target]),
    Array(3).fill(['bill_overdue', account]),
  );
  t.strictSame(
    await mailsOf(store),
    [1, 2, 3].map((level) => `dunning/${bill}/${level}`),
  );
});

t.test('a payment ends it, and its correction goes on where it was', async (t) => {
  const test = await startTestApi(t);
  const { store, operator } = test;
  const { account, bill } = await overdue(store);
  const clock = { now: Date.parse('2026-03-15T12:00:00Z') };
  const parts = await component(t, store, clock);
  await dunAll(parts, never);
  await dunAll(parts, never);
  t.match((await operator.expect(200, 'GET', `/v1/billing-accounts/${account}/balance`)).body, {
    open_bills: [{ bill, open: '50.00', dunning_level: 1 }],
  });
  t.match(await eventsOf(store), [{ message: /D-000001.*CHF 50\.00 are open\. Reminder\./ }]);
  await pay(store, account, 'received', '50.00');
  clock.now += 100 * dayMs;
  await dunAll(parts, never);
  t.equal((await eventsOf(store)).length, 1);
  await pay(store, account, 'refunded', '49.00');
  await dunAll(parts, never);
  await dunAll(parts, never);
  t.match(await eventsOf(store), [{}, { message: /CHF 49\.00 are open\. Second reminder\./ }]);
  t.strictSame(await mailsOf(store), [`dunning/${bill}/1`, `dunning/${bill}/2`]);
});

t.test('bad levels', async (t) => {
  const { operator, store } = await startTestApi(t);
  const entity = { ...party, name: 'co', number_series: 'A-' };
  const before = await contentOf(store);
  for (const [dunning_levels, status, pointer] of [
    [[levels[1], levels[0]], 422, '/dunning_levels/1/days_after_due'],
    [[levels[0], levels[0]], 422, '/dunning_levels/1/days_after_due'],
    [[{ ...levels[0], days_after_due: 0 }], 400, '/dunning_levels/0/days_after_due'],
    [[{ ...levels[0], days_after_due: 1.5 }], 400, '/dunning_levels/0/days_after_due'],
    [[{ ...levels[0], title: '' }], 400, '/dunning_levels/0/title'],
    [[{ ...levels[0], title: 'a\r\nBcc: b@example.com' }], 400, '/dunning_levels/0/title'],
    [[{ ...levels[0], text: 'a\u0000' }], 400, '/dunning_levels/0/text'],
    [[{ ...levels[0], fee: '-1' }], 400, '/dunning_levels/0/fee'],
    [Array.from({ length: 11 }, (_, index) => ({ ...levels[0], days_after_due: index + 1 })), 400, '/dunning_levels'],
    ['x', 400, '/dunning_levels'],
  ] as const) {
    const answer = await operator.request('POST', '/v1/legal-entities', { ...entity, dunning_levels });
    t.match(answer, { status, body: { errors: [{ pointer }] } }, JSON.stringify(dunning_levels).slice(0, 80));
  }
  t.same(await contentOf(store), before);
  const made = await operator.create('legal-entities', { ...entity, dunning_levels: levels });
  t.match(made, { dunning_levels: levels });
  t.match(await operator.update('legal-entities', made.id, { dunning_levels: null }), { dunning_levels: [] });
});
