/** Prepaid accounts that run empty: warnings, the stop of VMs, and refusals, whoever is killed or races. */
import fc from 'fast-check';
import t, { type Test } from 'tap';
import type { ClosingParts } from '../../backend/billing/closing.ts';
import { dunningKinds } from '../../backend/billing/dunning.ts';
import { ledgerKinds } from '../../backend/billing/ledger/account-bill.ts';
import { dailyCost, prepaidKinds, watchPrepaid } from '../../backend/billing/prepaid.ts';
import { startBilling } from '../../backend/billing/start.ts';
import type { Id } from '../../backend/contract/fields.ts';
import { formatAmount } from '../../backend/model/billing/money.ts';
import { nextPrepaid, type Prepaid, type PrepaidFacts, warningDays } from '../../backend/model/billing/prepaid.ts';
import * as records from '../../backend/model/records/index.ts';
import { put, readAll } from '../../backend/store/collection.ts';
import { openMirror } from '../../backend/store/mirror.ts';
import type { Store } from '../../backend/store/store.ts';
import { createVmPrerequisites, startTestApi } from '../support/api.ts';
import { bound } from '../support/bound-store.ts';
import { until } from '../support/eventually.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { withStore } from '../support/stores.ts';

const never = new AbortController().signal;
const dayMs = 24 * 3_600_000;
const facts = (available: bigint, daily = 10n, day = 0, payments = 0): PrepaidFacts => ({
  ...{ available, daily, graceDays: 14, payments, now: day * dayMs },
});
const sent = (days: number, day = 0, payments = 0) => ({ [days]: { at: day * dayMs, payments } });

t.test('states by hand', async (t) => {
  const ok: Prepaid = { state: 'ok', since: 0 };
  const low = (warned: number): Prepaid => ({ state: 'low', since: 0, warned, warnings: sent(warned) });
  const rows: readonly (readonly [
    before: Prepaid | undefined,
    given: PrepaidFacts,
    after: Prepaid,
    tells: 'told' | 'silent',
  ])[] = [
    [undefined, facts(1_000n), { state: 'ok', since: 0 }, 'silent'],
    [undefined, facts(0n), { state: 'empty', since: 0 }, 'told'],
    [undefined, facts(1n, 0n), { state: 'ok', since: 0 }, 'silent'],
    [ok, facts(71n), ok, 'silent'],
    [ok, facts(70n, 10n, 1), { state: 'low', since: dayMs, warned: 7, warnings: sent(7, 1) }, 'told'],
    [ok, facts(5n), { state: 'low', since: 0, warned: 1, warnings: sent(1) }, 'told'],
    [low(7), facts(31n), low(7), 'silent'],
    [low(7), facts(30n), { ...low(3), warnings: { ...sent(7), ...sent(3) } }, 'told'],
    [low(3), facts(89n), low(3), 'silent'],
    [low(3), facts(91n, 10n, 2), { state: 'ok', since: 2 * dayMs, warnings: sent(3) }, 'silent'],
    [low(3), facts(91n, 10n, 2, 1), { state: 'ok', since: 2 * dayMs, warnings: sent(3) }, 'told'],
    [{ state: 'low', since: 0, warned: 3 }, facts(91n, 10n, 2), { state: 'ok', since: 2 * dayMs }, 'told'],
    [
      { ...ok, warnings: sent(7, 1) },
      facts(70n, 10n, 1.9),
      { ...low(7), since: 1.9 * dayMs, warned: undefined, warnings: sent(7, 1) },
      'silent',
    ],
    [
      { ...ok, warnings: sent(7, 1) },
      facts(70n, 10n, 1.9, 1),
      { ...low(7), since: 1.9 * dayMs, warnings: sent(7, 1.9, 1) },
      'told',
    ],
    [
      { ...ok, warnings: sent(7, 1) },
      facts(70n, 10n, 2),
      { ...low(7), since: 2 * dayMs, warnings: sent(7, 2) },
      'told',
    ],
    [{ state: 'low', since: 0, warnings: sent(7, 1) }, facts(70n, 10n, 2), { ...low(7), warnings: sent(7, 2) }, 'told'],
    [low(1), facts(-1n, 10n, 3), { state: 'empty', since: 3 * dayMs, warnings: sent(1) }, 'told'],
    [{ state: 'empty', since: 0 }, facts(-1n, 10n, 13), { state: 'empty', since: 0 }, 'silent'],
    [{ state: 'empty', since: 0 }, facts(-1n, 10n, 14), { state: 'lapsed', since: 0 }, 'told'],
    [{ state: 'lapsed', since: 0 }, facts(0n, 10n, 99), { state: 'lapsed', since: 0 }, 'silent'],
    [{ state: 'lapsed', since: 0 }, facts(1_000n, 10n, 99), { state: 'ok', since: 99 * dayMs }, 'told'],
    [
      { state: 'empty', since: 0 },
      facts(20n, 10n, 1),
      { state: 'low', since: dayMs, warned: 3, warnings: sent(3, 1) },
      'told',
    ],
  ];
  const plain = (state: Prepaid | undefined) => JSON.parse(JSON.stringify(state ?? null));
  for (const [index, [before, given, after, tells]] of rows.entries()) {
    const { next, isTold } = nextPrepaid(before, given);
    t.same(plain(next), plain(after), `row ${index}`);
    t.equal(isTold, tells === 'told', `row ${index}: ${tells}`);
    if (JSON.stringify(before) === JSON.stringify(after)) t.equal(next, before, 'nothing changes');
  }
});

t.test('whatever the cost does, a warning comes again only after a payment or a day', async () => {
  const step = fc.record({
    available: fc.bigInt({ min: -20n, max: 120n }),
    daily: fc.bigInt({ min: 0n, max: 30n }),
    pays: fc.boolean(),
    hours: fc.integer({ min: 0, max: 30 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      let state: Prepaid | undefined;
      let [hours, payments] = [0, 0];
      let paidBefore = -1;
      const told = new Map<number, { readonly hours: number; readonly payments: number }>();
      const isFree = (days: number) => {
        const last = told.get(days);
        return !last || payments > last.payments || hours - last.hours >= 24;
      };
      for (const each of steps) {
        hours += each.hours;
        if (each.pays) payments++;
        const given = facts(each.available, each.daily, hours / 24, payments);
        const { next, isTold } = nextPrepaid(state, given);
        const due = warningDays.findLast((days) => each.available <= each.daily * BigInt(days));
        if (each.available <= 0n !== (next.state === 'empty' || next.state === 'lapsed')) return false;
        if (isTold && next === state) return false;
        if (isTold && next.state === 'low') {
          if (next.warned === undefined || next.warned !== due || !isFree(due)) return false;
          told.set(due, { hours, payments });
        }
        // None is forgotten: a warning that may come has come, or a more urgent one before it.
        if (next.state === 'low' && due !== undefined && isFree(due) && (next.warned ?? 99) > due) return false;
        // Good news needs a payment, or an account that was empty.
        if (isTold && next.state === 'ok' && state?.state === 'low') {
          if (payments === paidBefore) return false;
          paidBefore = payments;
        }
        state = next;
      }
      return true;
    }),
    { numRuns: 1_000 },
  );
});

const party = {
  ...{ legal_name: 'Example AG', email: 'billing@example.com' },
  address: { street: 'Weg 1', postcode: '8750', city: 'Glarus', country: 'CH' },
};

async function prepaidProject(test: Awaited<ReturnType<typeof startTestApi>>) {
  const { operator } = test;
  const entity = await operator.create('legal-entities', { ...party, name: 'co', number_series: 'P-' });
  const account = await operator.create('billing-accounts', {
    ...{ ...party, name: 'acme', currency: 'CHF', legal_entity: entity.id, payment: 'prepaid' },
  });
  const { id: product } = await operator.create('products', { name: 'vm', meter: 'running_vm' });
  await operator.create('prices', { product, currency: 'CHF', amount: '1', per: 'hour' });
  await operator.update('projects', test.project, { billing_account: account.id });
  const member = await test.member(test.project);
  const { image, network } = await createVmPrerequisites(test, test.project);
  const vm = (name: string) => ({
    ...{ name, image: image.id, disk_size: '1GiB', interfaces: [{ network: network.id }] },
  });
  const pay = (amount: string, kind = 'received') =>
    operator.create('payments', { billing_account: account.id, amount, kind });
  const state = async () =>
    (
      (await operator.expect(200, 'GET', `/v1/billing-accounts/${account.id}/balance`)).body as unknown as {
        prepaid: { state?: string; available: string };
      }
    ).prepaid;
  const events = async () =>
    (await operator.list('events', '?limit=1000')).items
      .filter(({ reason }) => reason.startsWith('prepaid_'))
      .map(({ reason }) => reason)
      .toSorted();
  return { operator, member, account: account.id as Id<'billing_account'>, vm, pay, state, events };
}
const powerOf = (vm: unknown): string => (vm as { power_state: string }).power_state;

t.test('an account runs empty, and goes on after a payment', async (t) => {
  const test = await startTestApi(t);
  const { member, vm, pay, state, events, operator } = await prepaidProject(test);
  await pay('1000');
  const billing = await startBilling({ store: test.store, logger: silentLogger, pollMs: 20 });
  t.teardown(() => billing.close());
  await until('the state', async () => (await state()).state === 'ok');
  const made = await member.create('vms', vm('web'));
  const volume = await member.create('volumes', { name: 'data', size: '1GiB' });
  await pay('850', 'refunded');
  await until('the warning', async () => (await state()).state === 'low');
  await pay('150', 'refunded');
  await until('the stop', async () => powerOf(await member.get('vms', made.id)) === 'stopped');
  t.match(await state(), { state: 'empty' });
  const [order] = (await member.list('orders', `?object=${made.id}`)).items as unknown as { id: string }[];
  const stored = await test.store.get(`${records.orders.prefix}${order?.id}`);
  t.notMatch(stored?.value, /running_vm/, 'the order follows: the VM does not count as running');

  const empty = { status: 402, body: { code: 'account_empty' } };
  t.match(await member.request('POST', '/v1/vms', vm('second')), empty);
  t.match(await member.request('POST', '/v1/vms?dry_run=true', vm('second')), empty);
  t.match(await member.request('PATCH', `/v1/vms/${made.id}`, { power_state: 'running' }), empty);
  t.match(await member.request('PATCH', `/v1/vms/${made.id}`, { cpus: 4 }), empty);
  t.match(await member.request('PATCH', `/v1/volumes/${volume.id}`, { size: '2GiB' }), empty);
  t.match(await member.request('POST', '/v1/volumes', { name: 'x', size: '1GiB' }), empty);
  t.match(await operator.request('POST', '/v1/volumes', { name: 'x', size: '1GiB', project: test.project }), empty);
  t.equal((await member.request('PATCH', `/v1/vms/${made.id}`, { description: 'x' })).status, 200);
  t.equal((await member.request('DELETE', `/v1/volumes/${volume.id}`)).status, 202, 'a deletion is never refused');

  await pay('1000');
  await until('the money', async () => (await state()).state === 'ok');
  t.equal(powerOf(await member.get('vms', made.id)), 'stopped', 'users start their VMs themselves');
  t.equal((await member.request('PATCH', `/v1/vms/${made.id}`, { power_state: 'running' })).status, 200);
  t.strictSame(await events(), ['prepaid_empty', 'prepaid_low', 'prepaid_ok']);

  await operator.update('billing-accounts', (await operator.list('billing-accounts')).items[0]?.id ?? '', {
    payment: 'bill',
  });
  await until('the end of the state', async () => {
    const { entries } = await test.store.list(records.prepaid.prefix, { limit: 1 });
    return entries.length === 0;
  });
});

t.test('a start in the instant in which the account becomes empty does not survive', async (t) => {
  const inner = await withStore(t);
  let beforeStart: (() => Promise<unknown>) | undefined;
  const store: Store = {
    ...bound(inner),
    commit: async (commit) => {
      const starts = commit.write.some((write) => 'put' in write && write.put.startsWith(records.vms.prefix));
      const first = starts ? beforeStart : undefined;
      if (first) beforeStart = undefined;
      await first?.();
      return inner.commit(commit);
    },
  };
  const test = await startTestApi(t, { store });
  const { member, account, vm } = await prepaidProject(test);
  const become = (state: 'ok' | 'empty') =>
    inner.commit({ write: [put(records.prepaid, account, { state, since: new Date().toISOString() })] });
  const made = await member.create('vms', { ...vm('web'), power_state: 'stopped' });
  beforeStart = () => become('empty');
  const answer = await member.request('PATCH', `/v1/vms/${made.id}`, { power_state: 'running' });
  t.match(answer, { status: 402, body: { code: 'account_empty' } }, 'from no state');
  await become('ok');
  beforeStart = () => become('empty');
  t.match(await member.request('PATCH', `/v1/vms/${made.id}`, { power_state: 'running' }), { status: 402 });
  await become('ok');
  beforeStart = () => become('empty');
  t.match(await member.request('POST', '/v1/vms', vm('second')), { status: 402 }, 'nor does a creation');
  t.equal(powerOf(await member.get('vms', made.id)), 'stopped');

  await become('ok');
  const all = await Promise.all(Array.from({ length: 6 }, (_, n) => member.create('vms', vm(`many-${n}`))));
  const starts = all.map(({ id }) => member.request('PATCH', `/v1/vms/${id}`, { labels: { a: 'b' } }));
  await become('empty');
  await Promise.all(starts);
  for (const { id } of all) {
    await until('every VM is stopped', async () => powerOf(await member.get('vms', id)) === 'stopped');
  }
});

/** Returns the parts of a billing component, with a clock of its own. */
async function component(t: Test, store: Store, clock: { readonly now: number }): Promise<ClosingParts> {
  const kinds = [...ledgerKinds, ...dunningKinds, ...prepaidKinds, records.closedMonths];
  const mirror = await openMirror(store, { prefixes: [''], kinds, logger: silentLogger });
  t.teardown(() => mirror.close());
  const orders = mirror.index(records.orders, ({ value }) => value.project);
  return {
    ...{ store, mirror, logger: silentLogger, holds: [], now: () => new Date(clock.now), sendsMails: true },
    bills: mirror.index(records.bills, ({ value }) => value.billing_account),
    payments: mirror.index(records.payments, ({ value }) => value.billing_account),
    ordersOf: (project) => orders.list(project),
  };
}

t.test('a member who moves the cost up and down sends no flood of e-mails', async (t) => {
  const test = await startTestApi(t);
  const { member, vm, pay, account } = await prepaidProject(test);
  const clock = { now: Date.now() };
  const parts = await component(t, test.store, clock);
  const look = async () => {
    clock.now += 1_000;
    await watchPrepaid(parts, never);
    await parts.mirror.catchUp({ timeoutMs: 5_000 });
  };
  const mails = async () => {
    const causes: string[] = [];
    for await (const { id } of readAll(test.store, records.mails)) causes.push(id.split('/')[2] ?? '');
    return causes.toSorted();
  };
  await pay('100');
  const made = await member.create('vms', vm('web'));
  await look();
  const toggle = async (times: number) => {
    for (let i = 0; i < times; i++) {
      for (const power_state of ['stopped', 'running']) {
        await member.update('vms', made.id, { power_state });
        await look();
      }
    }
  };
  await toggle(6);
  t.strictSame(await mails(), ['low7']);
  clock.now += 25 * 3_600_000;
  await look();
  t.strictSame(await mails(), ['low7', 'low7'], 'a warning that was held back comes a day later');
  await pay('1');
  await toggle(3);
  t.strictSame(await mails(), ['low7', 'low7', 'low7', 'ok'], 'a payment is answered once');
  const stored = await test.store.get(`${records.prepaid.prefix}${account}`);
  t.match(JSON.parse(stored?.value ?? '{}'), { state: 'low', warnings: { 7: { payments: 2 } } });
});

t.test('an old state ends with the payment in advance', async (t) => {
  const test = await startTestApi(t);
  const { operator, store } = test;
  const { member, account, vm, pay } = await prepaidProject(test);
  const state = () => store.get(`${records.prepaid.prefix}${account}`);
  const become = () =>
    store.commit({ write: [put(records.prepaid, account, { state: 'empty', since: '2026-01-01T00:00:00.000Z' })] });
  await become();
  await operator.update('billing-accounts', account, { name: 'renamed' });
  t.ok(await state(), 'another change leaves it');
  await operator.update('billing-accounts', account, { payment: 'bill' });
  t.equal(await state(), undefined, 'no component has to run');
  const made = await member.create('vms', vm('web'));
  await pay('1000');
  await operator.update('billing-accounts', account, { payment: 'prepaid' });
  await member.create('vms', vm('second'));
  const billing = await startBilling({ store, logger: silentLogger, pollMs: 20 });
  t.teardown(() => billing.close());
  await until('the new state', async () => JSON.parse((await state())?.value ?? '{}').state === 'ok');
  t.equal(powerOf(await member.get('vms', made.id)), 'running', 'nothing was stopped');

  const entity = (await operator.list('legal-entities')).items[0]?.id;
  const idle = await operator.create('billing-accounts', {
    ...{ ...party, name: 'idle', currency: 'CHF', legal_entity: entity, payment: 'prepaid' },
  });
  const idleState = () => store.get(`${records.prepaid.prefix}${idle.id}`);
  await until('the state of an account without money', async () => (await idleState()) !== undefined);
  await billing.close();
  await operator.remove('billing-accounts', idle.id);
  t.equal(await idleState(), undefined, 'it goes with its account');
});

t.test('the rate of cost is that of quotes, also with composed products', async (t) => {
  const test = await startTestApi(t);
  const { operator, store } = test;
  const { member, account, vm } = await prepaidProject(test);
  const sell = async (meter: string, more: object = {}) => {
    const { id: product } = await operator.create('products', {
      name: `of-${meter.replace('_', '-')}`,
      meter,
      ...more,
    });
    await operator.create('prices', { product, currency: 'CHF', amount: '1', per: 'hour' });
  };
  await sell('vm', { includes: [{ meter: 'vm_disk', quantity: 20 * 2 ** 30 }] });
  await sell('vm_disk');
  await member.create('vms', vm('small'));
  const { id: last } = await member.create('vms', { ...vm('large'), disk_size: '23GiB' });
  const parts = await component(t, store, { now: Date.now() });
  const stored = parts.mirror.get(records.billingAccounts, account);
  if (!stored) throw new Error('no account');
  const rate = () =>
    dailyCost(parts, stored.value, [{ id: test.project as Id<'project'> }], { available: 0n, net: 0n, gross: 0n });
  // Each hour: 1 for each VM, 1 for each running VM, and 3 for the disk that the second VM does not include.
  t.equal(formatAmount(rate(), 'CHF'), '168.00');
  await member.expect(202, 'DELETE', `/v1/vms/${last}`);
  await parts.mirror.catchUp({ timeoutMs: 5_000 });
  t.equal(formatAmount(rate(), 'CHF'), '48.00', 'the disk of the first VM does not count');
});

t.test('kills before and after each commit tell each state once', async (t) => {
  const test = await startTestApi(t);
  const { store } = test;
  const { account, pay, events } = await prepaidProject(test);
  const clock = { now: Date.now() };
  const parts = [await component(t, store, clock), await component(t, store, clock)];
  let number = 0;
  const dying: Store = Object.assign(Object.create(store), {
    get: store.get.bind(store),
    list: store.list.bind(store),
    async commit(commit: Parameters<Store['commit']>[0]) {
      number = (number * 1103515245 + 12345) % 2 ** 31;
      if (number % 3 === 0) throw new Error('killed before the commit');
      const result = await store.commit(commit);
      if (number % 3 === 1) throw new Error('killed after the commit');
      return result;
    },
  });
  const rounds = async () => {
    for (let round = 0; round < 8; round++) {
      await Promise.all(parts.map((each) => watchPrepaid({ ...each, store: dying }, never)));
    }
  };
  await rounds();
  t.strictSame(await events(), ['prepaid_empty'], 'an account without a payment is empty');
  clock.now += 13 * dayMs;
  await rounds();
  clock.now += dayMs;
  await rounds();
  t.strictSame(await events(), ['prepaid_empty', 'prepaid_lapsed']);
  await pay('10');
  await rounds();
  t.strictSame(await events(), ['prepaid_empty', 'prepaid_lapsed', 'prepaid_ok']);
  const mails: string[] = [];
  for await (const { id } of readAll(store, records.mails)) mails.push(id.split('/').slice(0, 3).join('/'));
  t.strictSame(
    mails.toSorted(),
    ['empty', 'lapsed', 'ok'].map((state) => `prepaid/${account}/${state}`),
  );
});
