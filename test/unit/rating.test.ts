/** The charges of uses: by hand, against a calculation second by second, and over any parts of a month. */
import fc from 'fast-check';
import t, { type Test } from 'tap';
import type { Meter } from '../../backend/contract/resources/meters.ts';
import { type PriceFacts, PriceList, type ProductFacts } from '../../backend/model/billing/price-list.ts';
import { chargesUpTo, monthOf, type Use } from '../../backend/model/billing/rating.ts';

const second = 1_000;
const hour = 3_600 * second;
const day = 24 * hour;
const at = (text: string) => Date.parse(text);
const march = monthOf(at('2026-03-05T00:00:00Z'));
/** An amount in 10⁻⁸ units. */
const money = (text: string) => BigInt(Math.round(Number(text) * 1e8));

let count = 0;
const product = (meter: Meter, more: Partial<ProductFacts> = {}): ProductFacts => ({
  ...{ id: `prod-${count++}`, name: meter, meter },
  ...more,
});
const price = (of: ProductFacts, amount: string, more: Partial<PriceFacts> = {}): PriceFacts => ({
  id: `price-${count++}`,
  product: of.id,
  currency: 'CHF',
  amount: money(amount),
  per: 'hour',
  minimumMs: 0,
  validFrom: 0,
  ...more,
});
const use = (meter: Meter, quantity: number, from: number, to?: number, more: Partial<Use> = {}): Use => ({
  ...{ resource: 'vm-1', meter, quantity, from, to },
  ...more,
});
const total = (list: PriceList, uses: readonly Use[], month = march, until = month.to): number =>
  chargesUpTo(list, uses, month, until).reduce(
    (sum, { numerator, denominator }) => sum + Number(numerator) / Number(denominator) / 1e8,
    0,
  );
const close = (t: Test, value: number, wanted: number, name: string) =>
  t.ok(Math.abs(value - wanted) < 1e-9, `${name}: ${value}, not ${wanted}`);

const cpu = product('vm_cpu');
const list = (...prices: PriceFacts[]) => new PriceList('CHF', [cpu], prices);
const from = march.from;

t.test('time is charged to the millisecond, in the calendar month', async (t) => {
  const hourly = list(price(cpu, '0.36'));
  close(t, total(hourly, [use('vm_cpu', 2, from, from + 10 * second)]), 0.002, 'two CPUs for ten seconds');
  close(t, total(hourly, [use('vm_cpu', 1, from - day, from + hour)]), 0.36, 'only the part in March');
  close(t, total(hourly, [use('vm_cpu', 1, from)], march, from + hour), 0.36, 'a use that goes on, up to now');
  close(t, total(hourly, [use('vm_cpu', 1, from)]), 0.36 * 744, 'the whole month');
  const monthly = list(price(cpu, '31', { per: 'month' }));
  close(t, total(monthly, [use('vm_cpu', 1, from, from + day)]), 1, 'a day of 31');
  const leap = monthOf(at('2028-02-29T12:00:00Z'));
  const leapDay = use('vm_cpu', 1, at('2028-02-29T00:00:00Z'), at('2028-03-01T00:00:00Z'));
  close(t, total(list(price(cpu, '29', { per: 'month' })), [leapDay], leap), 1, 'a day of 29');
});

t.test('a price that has ended leaves its time as it was, and no earlier price returns', async (t) => {
  const month = [use('vm_cpu', 1, from)];
  const [first, next] = [
    price(cpu, '1', { validTo: from + 5 * hour }),
    price(cpu, '2', { validFrom: from + 2 * hour, validTo: from + 4 * hour }),
  ];
  close(t, total(list(first), month), 5, 'five hours');
  close(t, total(list(first, next), month), 2 + 4, 'two hours, and two at the next price');
  close(t, total(list(first, next, price(cpu, '10', { validFrom: march.to - hour })), month), 16, 'a later one');
  const minimum = price(cpu, '1', { minimumMs: 100 * hour, validTo: from + 5 * hour });
  close(t, total(list(minimum), [use('vm_cpu', 1, from, from + hour)]), 5, 'the rest of the minimum duration is free');
  const once = list(price(cpu, '7', { per: 'once', validTo: from + hour }));
  close(t, total(once, [use('vm_cpu', 1, from + hour)]), 0, 'an order after the end');
  close(t, total(once, [use('vm_cpu', 1, from + hour - 1)]), 7, 'an order before the end');
  const [general, fast] = [product('volume'), product('volume', { pool: 'stp-fast' })];
  const again = product('volume', { pool: 'stp-fast' });
  const rows = [
    price(general, '1'),
    price(fast, '3', { validTo: from + hour }),
    price(again, '5', { validFrom: from + 2 * hour }),
  ];
  const stored = [use('volume', 2 ** 30, from, from + 3 * hour, { pool: 'stp-fast' })];
  close(t, total(new PriceList('CHF', [general, fast, again], rows), stored), 3 + 1 + 5, 'the general price returns');
});

t.test('bytes are charged by the GiB, by pool', async (t) => {
  const [general, fast] = [product('volume'), product('volume', { pool: 'stp-fast' })];
  const prices = new PriceList(
    'CHF',
    [general, fast],
    [price(general, '1'), price(fast, '3', { validFrom: from + hour })],
  );
  const size = 10 * 2 ** 30;
  close(t, total(prices, [use('volume', size, from, from + 2 * hour, { pool: 'stp-slow' })]), 20, 'the general price');
  close(
    t,
    total(prices, [use('volume', size, from, from + 2 * hour, { pool: 'stp-fast' })]),
    40,
    'that of the pool from its begin on',
  );
});

t.test('a new price applies from its instant on', async (t) => {
  const rising = list(price(cpu, '1'), price(cpu, '2', { validFrom: from + 10 * hour }));
  const uses = [use('vm_cpu', 1, from + 9 * hour, from + 12 * hour)];
  close(t, total(rising, uses), 5, 'one hour at the old price, two at the new one');
  const later = [use('vm_cpu', 1, from, from + 10 * hour)];
  close(t, total(rising, later), 10, 'an end at the instant of the change');
});

t.test('a unit costs at most the cap in a month, also after resizes and a new price', async (t) => {
  const capped = list(price(cpu, '1', { monthlyCap: money('100') }));
  close(t, total(capped, [use('vm_cpu', 1, from)]), 100, 'one unit');
  close(
    t,
    total(capped, [use('vm_cpu', 1, from, from + 20 * day), use('vm_cpu', 3, from + 20 * day)]),
    300,
    'each unit has a cap of its own',
  );
  close(
    t,
    total(capped, [use('vm_cpu', 1, from, from + 60 * hour), use('vm_cpu', 1, from + 70 * hour)]),
    100,
    'a gap begins no new cap',
  );
  const two = list(
    price(cpu, '1', { monthlyCap: money('100') }),
    price(cpu, '1', { monthlyCap: money('120'), validFrom: from + 10 * day }),
  );
  close(t, total(two, [use('vm_cpu', 1, from)]), 120, 'the cap of the later price counts what was charged before');
});

t.test('a unit is charged for the minimum duration at least', async (t) => {
  const least = list(price(cpu, '1', { minimumMs: 10 * hour }));
  const charged = (...uses: Use[]) => total(least, uses);
  close(t, charged(use('vm_cpu', 1, from, from)), 10, 'a deletion in the instant of the creation');
  close(t, charged(use('vm_cpu', 2, from, from + hour)), 20, 'each unit');
  close(
    t,
    charged(use('vm_cpu', 4, from, from + hour), use('vm_cpu', 2, from + hour, from + 2 * hour)),
    40,
    'a smaller size changes nothing',
  );
  close(
    t,
    charged(
      use('vm_cpu', 2, from, from + 20 * hour),
      use('vm_cpu', 4, from + 20 * hour, from + 21 * hour),
      use('vm_cpu', 2, from + 21 * hour, from + 22 * hour),
    ),
    64,
    'units that stay keep their beginning',
  );
  close(
    t,
    total(least, [use('vm_cpu', 1, from, from + hour)], march, from + 5 * hour),
    5,
    'the rest follows as time goes on',
  );
  const april = monthOf(march.to);
  const last = use('vm_cpu', 1, march.to - 4 * hour, march.to - 3 * hour);
  close(t, total(least, [last]), 4, 'in March');
  close(t, total(least, [last], april), 6, 'and in April');
});

t.test('a price that applies once is charged for each unit that is ordered', async (t) => {
  const once = list(price(cpu, '5', { per: 'once' }));
  close(t, total(once, [use('vm_cpu', 2, from, from)]), 10, 'also without a duration');
  close(
    t,
    total(once, [use('vm_cpu', 2, from, from + hour), use('vm_cpu', 3, from + hour)]),
    15,
    'a resize adds the new unit',
  );
  close(t, total(once, [use('vm_cpu', 2, from - 1)]), 0, 'in the month of the order only');
});

// ---- properties

const steps = fc.array(
  fc.record({ wait: fc.integer({ min: 0, max: 200 }), quantity: fc.integer({ min: 0, max: 4 }) }),
  { minLength: 1, maxLength: 12 },
);
/** Makes the uses of a history: the quantity changes after each wait, in seconds. Zero stands for a deletion. */
function history(begin: number, changes: readonly { wait: number; quantity: number }[]): Use[] {
  const uses: Use[] = [];
  let now = begin;
  for (const { wait, quantity } of changes) {
    const last = uses.at(-1);
    if (last && last.to === undefined) uses[uses.length - 1] = { ...last, to: now };
    if (quantity > 0) uses.push(use('vm_cpu', quantity, now));
    now += wait * second;
  }
  return uses;
}
const prices = fc
  .array(
    fc.record({
      amount: fc.integer({ min: 0, max: 1_000_000 }),
      minimum: fc.integer({ min: 0, max: 300 }),
      cap: fc.option(fc.integer({ min: 0, max: 60_000 }), { nil: undefined }),
      offset: fc.integer({ min: -100, max: 600 }),
      life: fc.option(fc.integer({ min: 1, max: 3_000 }), { nil: undefined }),
      per: fc.constantFrom('hour', 'month', 'once' as const),
    }),
    { minLength: 1, maxLength: 4 },
  )
  .map((rows) =>
    rows.map(({ amount, minimum, cap, offset, life, per }, index) =>
      price(cpu, '0', {
        amount: BigInt(amount) * (per === 'month' ? 1000n : 1n),
        minimumMs: minimum * second,
        ...(cap !== undefined && { monthlyCap: BigInt(cap) }),
        validFrom: from + (offset * 10 + index) * second,
        ...(life !== undefined && { validTo: from + (offset * 10 + index + life) * second }),
        per: per as 'hour',
      }),
    ),
  );

const exact = (charges: ReturnType<typeof chargesUpTo>) =>
  new Map(charges.map(({ price: { id }, numerator, denominator }) => [id, { numerator, denominator }]));

t.test('parts of a month add up to the month, and charges never fall', async () => {
  fc.assert(
    fc.property(
      steps,
      prices,
      fc.integer({ min: -500, max: 2_000 }),
      fc.integer({ min: 0, max: 2_500 }),
      fc.integer({ min: 0, max: 2_500 }),
      (changes, rows, begin, a, b) => {
        const uses = history(from + begin * second, changes);
        const prices = list(...rows);
        const [first, last] = [Math.min(a, b), Math.max(a, b)].map((each) => from + each * second) as [number, number];
        // At the first instant, the later part of the history is not known yet.
        const known = uses
          .filter((each) => each.from < first)
          .map((each) => (each.to !== undefined && each.to > first ? { ...each, to: undefined } : each));
        const early = exact(chargesUpTo(prices, known, march, first));
        const same = exact(chargesUpTo(prices, uses, march, first));
        const late = exact(chargesUpTo(prices, uses, march, last));
        for (const [id, { numerator, denominator }] of same) {
          const before = early.get(id);
          if (before?.numerator !== numerator || before.denominator !== denominator) return false;
          if ((late.get(id)?.numerator ?? -1n) < numerator) return false;
        }
        return early.size === same.size;
      },
    ),
    { numRuns: 1_000 },
  );
});

t.test('without minimum and cap, charged seconds are used seconds, at each price', async () => {
  fc.assert(
    fc.property(steps, prices, fc.integer({ min: 0, max: 2_500 }), (changes, rows, end) => {
      const plain = rows
        .filter(({ per }) => per !== 'once')
        .map((each) => ({ ...each, minimumMs: 0, monthlyCap: undefined }));
      const uses = history(from, changes);
      const until = from + end * second;
      const wanted = new Map<string, bigint>();
      for (let now = from; now < until; now += second) {
        const quantity = uses.find((each) => each.from <= now && (each.to ?? Number.MAX_VALUE) > now)?.quantity ?? 0;
        const valid = plain
          .filter(({ validFrom }) => validFrom <= now)
          .toSorted((a, b) => a.validFrom - b.validFrom)
          .at(-1);
        const applies = valid !== undefined && (valid.validTo === undefined || valid.validTo > now);
        if (applies && quantity > 0) wanted.set(valid.id, (wanted.get(valid.id) ?? 0n) + BigInt(quantity * second));
      }
      const got = new Map(
        chargesUpTo(list(...plain), uses, march, until).map(({ price: { id }, amount }) => [id, amount]),
      );
      return got.size === wanted.size && [...wanted].every(([id, amount]) => got.get(id) === amount);
    }),
    { numRuns: 500 },
  );
});
