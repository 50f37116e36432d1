/**
 * Orders, as pure rules: random histories of objects against what they declare. `npm test` tries some hundred histories,
 * UCLOUD_CHAOS=all ten thousand.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { orderCommit, withOrders } from '../../backend/api/billing/order-commits.ts';
import { type Meter, type MeterPart, meterTable } from '../../backend/contract/resources/meters.ts';
import { chargeableOf, isOrdered, partKey, vmQuantities } from '../../backend/model/billing/meters.ts';
import { multiplyToMinor } from '../../backend/model/billing/money.ts';
import { notBefore, orderChange } from '../../backend/model/billing/ordering.ts';
import { type PriceFacts, PriceList, type ProductFacts } from '../../backend/model/billing/price-list.ts';
import { type Charge, chargesUpTo, monthOf, type Use } from '../../backend/model/billing/rating.ts';
import * as records from '../../backend/model/records/index.ts';
import { clocks, MemoryDatabase, objectsIn, play, steps, usesIn } from '../support/order-histories.ts';

const numRuns = process.env.UCLOUD_CHAOS === 'all' ? 10_000 : 300;
const seed = process.env.UCLOUD_TEST_SEED;
const runs = { numRuns, ...(seed !== undefined && { seed: Number(seed) }) };
const second = 1_000;
const march = monthOf(Date.parse('2026-03-05T00:00:00Z'));
const april = monthOf(march.to);

const groupKey = (use: Use) => `${use.resource} ${partKey(use)}`;
const shown = (use: Use) => `${groupKey(use)} ${use.quantity} ${use.from} ${use.to ?? ''}`;

t.test(
  'exactly one order is open for each object that is charged, and uses neither overlap nor get lost',
  async (t) => {
    let changes = 0;
    fc.assert(
      fc.property(steps(5_000, 40), clocks(20_000), (history, skews) => {
        const result = play(history, skews, march.from, (database, charged) => {
          const orders = database.list(records.orders);
          assert.deepEqual(orders.map(({ value }) => value.object).toSorted(), [...charged.keys()].toSorted());
          for (const { value } of orders) {
            const quantities = charged.get(value.object ?? '') ?? [];
            const plain = (items: readonly (MeterPart & { quantity: number })[]) =>
              items.map((item) => `${partKey(item)} ${item.quantity}`).toSorted();
            assert.deepEqual(plain(value.use), plain(quantities));
            assert.deepEqual(plain(value.items), plain(quantities.filter(isOrdered)));
          }
        });
        const { database, declared } = result;
        changes += result.changes;
        const stored = usesIn(database);
        // A use without a duration may be stored once for several that are equal.
        assert.deepEqual([...new Set(stored.map(shown))].toSorted(), [...new Set(declared.map(shown))].toSorted());
        for (const group of Map.groupBy(stored, groupKey).values()) {
          let last = Number.NEGATIVE_INFINITY;
          for (const { from, to = Number.POSITIVE_INFINITY } of group.toSorted(
            (a, b) => a.from - b.from || (a.to ?? Number.POSITIVE_INFINITY) - (b.to ?? Number.POSITIVE_INFINITY),
          )) {
            if (from < last || to < from) assert.fail(`${JSON.stringify(group)} overlap or end before they begin`);
            last = to;
          }
        }
        // The orders of an object follow each other without a gap, in the order of their numbers.
        const ended = database.list(records.endedOrders).map(({ value }) => value);
        const open = new Map(database.list(records.orders).map(({ value }) => [value.id, value]));
        const all = new Map<string, records.OrderRecord | records.EndedOrderRecord>([
          ...ended.map((each) => [each.id, each] as const),
          ...open,
        ]);
        assert.equal(all.size, ended.length + open.size, 'each order has ended once, or is open');
        for (const order of all.values()) {
          const before = order.replaces && ended.find(({ id }) => id === order.replaces);
          if (order.replaces !== undefined) {
            assert.partialDeepStrictEqual(before, { end: 'replaced', ended_at: order.opened_at, object: order.object });
          }
          if ('ended_at' in order) assert.ok(order.opened_at <= order.ended_at, 'no order ends before it begins');
        }
        for (const { end, id } of ended) {
          const successors = [...all.values()].filter(({ replaces }) => replaces === id).length;
          assert.equal(successors, end === 'replaced' ? 1 : 0, 'a replaced order has one successor');
        }
      }),
      runs,
    );
    t.comment(`${changes} changes of orders`);
  },
);

// ---- prices

const pools = [undefined, 'stp-0000000000000001'] as const;
const products: readonly ProductFacts[] = [
  ...(Object.keys(meterTable) as Meter[]).map((meter) => ({ id: `prod-${meter}`, name: meter, meter })),
  { id: 'prod-pool', name: 'pool', meter: 'volume', pool: pools[1] },
  { id: 'prod-56', name: '56', meter: 'prefix', length: 56 },
];
const recurring = ['hour', 'month'] as const;
/** The meters of VMs change most often, so they have most of the prices. */
const priced = [...products, ...[...products, ...products].filter(({ meter }) => meter.includes('vm'))].map(
  ({ id }) => id,
);

/** Prices of the products that apply from different instants on, as multiples of a second around the begin of the month. */
const prices = (rules: 'plain' | 'all'): fc.Arbitrary<PriceFacts[]> =>
  fc
    .array(
      fc.record({
        product: fc.constantFrom(...priced),
        amount: fc.integer({ min: 0, max: 1_000_000_000 }),
        per: rules === 'plain' ? fc.constantFrom(...recurring) : fc.constantFrom(...recurring, 'once' as const),
        minimum: rules === 'plain' ? fc.constant(0) : fc.integer({ min: 0, max: 90 }),
        cap: rules === 'plain' ? fc.constant(undefined) : fc.option(fc.nat(4_000_000), { nil: undefined }),
        validFrom: fc.integer({ min: -60, max: 60 }),
      }),
      { minLength: 3, maxLength: 16 },
    )
    .map((rows) => {
      const starts = new Set<string>();
      return rows.flatMap(({ product, amount, per, minimum, cap, validFrom }, index): PriceFacts[] => {
        const start = `${product} ${per === 'once'} ${validFrom}`;
        if (starts.has(start)) return [];
        starts.add(start);
        return [
          {
            ...{ id: `price-${index}`, product, currency: 'CHF', amount: BigInt(amount), per },
            ...{ minimumMs: per === 'once' ? 0 : minimum * second, validFrom: march.to + validFrom * second },
            ...(cap !== undefined && per === 'hour' && { monthlyCap: BigInt(cap) }),
          },
        ];
      });
    });

/** Returns the price at an instant, by search: that of the pool or the length from its first price on, else the general one. */
function priceAt(all: readonly PriceFacts[], part: MeterPart, once: boolean, at: number): PriceFacts | undefined {
  const matching = products.filter(
    ({ meter, pool, length }) =>
      meter === part.meter && (pool ?? part.pool) === part.pool && (length ?? part.length) === part.length,
  );
  const special = ({ pool, length }: ProductFacts) => pool !== undefined || length !== undefined;
  for (const product of [...matching.filter(special), ...matching.filter((each) => !special(each))]) {
    const begun = all.filter(
      (each) => each.product === product.id && (each.per === 'once') === once && each.validFrom <= at,
    );
    const latest = begun.toSorted((a, b) => b.validFrom - a.validFrom)[0];
    if (latest) return latest;
  }
  return undefined;
}

const amountsOf = (charges: readonly Charge[]) =>
  Object.fromEntries(charges.map(({ price, amount }) => [price.id, amount]));
const nonzero = (amounts: Record<string, bigint>) =>
  Object.fromEntries(
    Object.entries(amounts)
      .filter(([, amount]) => amount !== 0n)
      .toSorted(),
  );

t.test('the billed milliseconds at each price are the declared ones', async () => {
  fc.assert(
    fc.property(
      steps(9_000, 30),
      clocks(3_000),
      prices('plain'),
      fc.integer({ min: -60_000, max: 120_000 }),
      (history, skews, facts, end) => {
        const { database, declared } = play(history, skews, march.to - 60_000);
        const list = new PriceList('CHF', products, facts);
        const stored = usesIn(database);
        for (const month of [march, april]) {
          const until = march.to + end;
          const wanted: Record<string, bigint> = {};
          for (const use of declared) {
            const [from, to] = [Math.max(use.from, month.from), Math.min(use.to ?? until, until, month.to)];
            const inside = facts.map(({ validFrom }) => validFrom).filter((at) => at > from && at < to);
            const edges = [from, ...[...new Set(inside)].toSorted((a, b) => a - b), to];
            for (const [index, edge] of edges.slice(1).entries()) {
              const begin = edges[index] ?? edge;
              const price = edge > begin ? priceAt(facts, use, false, begin) : undefined;
              if (!price) continue;
              wanted[price.id] = (wanted[price.id] ?? 0n) + BigInt(use.quantity) * BigInt(edge - begin);
            }
          }
          assert.deepEqual(nonzero(amountsOf(chargesUpTo(list, stored, month, until))), nonzero(wanted));
        }
      },
    ),
    runs,
  );
});

/** Returns the charges of a month up to an instant, unit by unit and second by second, as fractions by price. */
function slowCharges(
  facts: readonly PriceFacts[],
  uses: readonly Use[],
  { from, to }: typeof march,
  until: number,
): Map<string, bigint> {
  const sums = new Map<string, bigint>();
  const monthMs = BigInt(to - from);
  const denominator = 3_600_000n * monthMs;
  const add = (price: PriceFacts, amount: bigint) => sums.set(price.id, (sums.get(price.id) ?? 0n) + amount);
  for (const group of Map.groupBy(uses, groupKey).values()) {
    const [first] = group;
    if (!first) continue;
    const unit = meterTable[first.meter].bytes ? 2 ** 30 : 1;
    const begun = group.filter((use) => use.from < until);
    const most = Math.max(0, ...begun.map(({ quantity }) => quantity / unit));
    for (let each = 1; each <= most; each++) {
      const own = begun.filter(({ quantity }) => quantity / unit >= each).toSorted((a, b) => a.from - b.from);
      // The unit begins where it was not in use the instant before.
      const begins = own.filter(
        (use) => !own.some((other) => other !== use && other.from < use.from && other.to === use.from),
      );
      const starts = [...new Set(begins.map((use) => use.from))];
      for (const at of starts) {
        const once = at >= from && at < to ? priceAt(facts, first, true, at) : undefined;
        if (once) add(once, once.amount * denominator);
      }
      const minimums = starts.map((at) => [at, at + (priceAt(facts, first, false, at)?.minimumMs ?? 0)] as const);
      let spent = 0n;
      const begin = Math.max(from, Math.min(...starts));
      for (let now = begin; now < Math.min(until, to); now += second) {
        const isUsed = own.some((use) => use.from <= now && (use.to ?? Number.POSITIVE_INFINITY) > now);
        if (!isUsed && !minimums.some(([start, end]) => start <= now && now < end)) continue;
        const price = priceAt(facts, first, false, now);
        if (!price) continue;
        const full = price.amount * BigInt(second) * (price.per === 'hour' ? monthMs : 3_600_000n);
        const room = price.monthlyCap === undefined ? full : price.monthlyCap * denominator - spent;
        const charge = full < room ? full : room > 0n ? room : 0n;
        spent += charge;
        add(price, charge);
      }
    }
  }
  return sums;
}

/** The sum of the charges as minor amounts, rounded once. */
const rounded = (charges: readonly Charge[]) =>
  new Map(charges.map((each) => [each.price.id, multiplyToMinor(1n, each, 'CHF')]));

t.test('minimum durations, caps and prices that apply once: as unit by unit, second by second', async () => {
  fc.assert(
    fc.property(
      fc.constantFrom(30, 10, 0),
      steps(9, 14).map((all) => all.map((step) => ({ ...step, wait: step.wait * second }))),
      prices('all'),
      fc.array(fc.integer({ min: -60, max: 200 }), { minLength: 1, maxLength: 4 }),
      (early, history, facts, ends) => {
        const { database } = play(history, [0], march.to - early * second);
        const uses = usesIn(database);
        const list = new PriceList('CHF', products, facts);
        for (const month of [march, april]) {
          const cuts = ends.map((each) => march.to + each * second).toSorted((a, b) => a - b);
          // The bills of the parts are differences. Their sum is the bill of the whole, and none is negative.
          let before = new Map<string, bigint>();
          for (const until of cuts) {
            const charges = chargesUpTo(list, uses, month, until);
            const denominator = 3_600_000n * BigInt(month.to - month.from);
            const exact: Record<string, bigint> = {};
            for (const { price, numerator, denominator: own } of charges) {
              const scaled = numerator * denominator;
              if (scaled % own !== 0n) assert.fail('the charge is not a fraction of milliseconds');
              exact[price.id] = scaled / own;
            }
            const slow = Object.fromEntries(slowCharges(facts, uses, month, until));
            assert.deepEqual(nonzero(exact), nonzero(slow));
            const now = rounded(charges);
            for (const [id, amount] of before)
              assert.ok((now.get(id) ?? -1n) >= amount, 'no part of a month is negative');
            before = now;
          }
        }
      },
    ),
    runs,
  );
});

t.test('a bill of a part of a month knows what was known then', async () => {
  fc.assert(
    fc.property(steps(20_000, 25), prices('all'), fc.nat(24), (history, facts, cut) => {
      const begin = march.to - 60 * second;
      const list = new PriceList('CHF', products, facts);
      const until = begin + history.slice(0, cut + 1).reduce((sum, { wait }) => sum + wait, 0);
      // Changes at the instant itself belong to the later part.
      const known = history.slice(0, cut + 1);
      const early = usesIn(play(known, [0], begin).database);
      const late = usesIn(play(history, [0], begin).database);
      for (const month of [march, april]) {
        const exact = (uses: readonly Use[]) =>
          Object.fromEntries(chargesUpTo(list, uses, month, until).map((each) => [each.price.id, each.numerator]));
        assert.deepEqual(nonzero(exact(early)), nonzero(exact(late)));
      }
    }),
    runs,
  );
});

// ---- by hand

const at = (ms: number) => new Date(march.from + ms);
const vm = (cpus: number, running: boolean) => ({
  ...{ id: 'vm-0000000000000001', project: 'prj-0000000000000001', name: 'web', labels: {} },
  quantities: vmQuantities({ cpus, memory: 2 ** 30, disk_size: 0, power_state: running ? 'running' : 'stopped' }),
});

t.test('changes of one object at one instant leave a record each', async (t) => {
  const database = new MemoryDatabase();
  const change = (after: ReturnType<typeof vm> | undefined, now: Date) => {
    const before = database.list(records.orders)[0];
    const change = orderChange(before?.value, after, now);
    if (change) t.ok(database.commit(orderCommit(before, change)));
  };
  change(vm(2, true), at(0));
  change(vm(2, false), at(1_000));
  change(vm(4, false), at(1_000));
  change(vm(4, true), at(1_000));
  change(vm(4, false), at(1_000));
  const total = (meter: string) =>
    usesIn(database)
      .filter((use) => use.meter === meter)
      .reduce((sum, { from, to = from, quantity }) => sum + (to - from) * quantity, 0);
  t.equal(total('vm_cpu'), 2_000);
  t.equal(total('running_cpu'), 2_000, 'the use that ended first is not lost');
});

t.test('a clock that is behind begins no use before the end of the last one', async (t) => {
  const first = orderChange(undefined, vm(2, true), at(0))?.open;
  const stopped = orderChange(first, vm(2, false), at(90_000))?.open;
  const started = orderChange(stopped, vm(2, true), at(30_000))?.open;
  const since = started?.use.find(({ meter }) => meter === 'running_cpu')?.since;
  t.equal(since, at(90_000).toISOString());
  t.equal(orderChange(stopped, undefined, at(30_000))?.ended?.ended_at, at(90_000).toISOString());
});

const nothing = { order: () => undefined, running: () => undefined, termOf: () => undefined };

t.test('an order begins no earlier than the account that pays, whatever clocks say', async (t) => {
  const term = at(120_000).toISOString();
  const value = JSON.stringify({
    id: 'vol-0000000000000001',
    project: 'prj-0000000000000001',
    name: 'data',
    labels: {},
    size: 2 ** 30,
  });
  const { write } = withOrders(
    { write: [{ put: 'volumes/vol-0000000000000001', value }] },
    { ...nothing, termOf: () => term },
    at(0),
  );
  const order = write.find((each) => 'put' in each && each.put.startsWith('orders/'));
  t.match(JSON.parse((order as { value: string }).value), { opened_at: term, use: [{ since: term }] });
  t.equal(notBefore(at(0), undefined).getTime(), at(0).getTime());
  t.equal(notBefore(at(200_000), term).getTime(), at(200_000).getTime());
});

t.test('other records and other writes have no order', async (t) => {
  const commit = { write: [{ put: 'networks/net-0000000000000001', value: '{}' }, { delete: 'names/x' }] };
  t.equal(withOrders(commit, nothing, at(0)), commit);
  t.throws(() => withOrders({ write: [{ deletePrefix: 'vms/' }] }, nothing, at(0)), RangeError);
  t.throws(() => withOrders({ write: [{ deletePrefix: '' }] }, nothing, at(0)), RangeError);
  t.equal(chargeableOf('networks/', { id: 'net-1' }), undefined);
  t.equal(chargeableOf(records.snapshots.prefix, { id: 'snap-1', disks: [] }), undefined, 'no size, no order');
  t.strictSame(objectsIn(new MemoryDatabase()), []);
});
