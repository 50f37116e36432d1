/** Composed products: what they include is not charged, the rest is, and parts of a month still add up. */
import fc from 'fast-check';
import t from 'tap';
import { type IncludedMeter, includedMeters } from '../../backend/contract/resources/meters.ts';
import { estimate } from '../../backend/model/billing/estimate.ts';
import { inclusionProblem, withoutIncluded } from '../../backend/model/billing/inclusions.ts';
import { type Metered, partKey, vmQuantities } from '../../backend/model/billing/meters.ts';
import { type PriceFacts, PriceList, type ProductFacts } from '../../backend/model/billing/price-list.ts';
import { QuantitySums } from '../../backend/model/billing/quantity-sums.ts';
import { chargesUpTo, monthOf, type Use } from '../../backend/model/billing/rating.ts';

const march = monthOf(Date.parse('2026-03-05T00:00:00Z'));
const from = march.from;
const GiB = 2 ** 30;

const product = (meter: IncludedMeter, includes?: ProductFacts['includes']): ProductFacts => ({
  ...{ id: `prod-${meter}`, name: meter, meter },
  ...(includes && { includes }),
});
const price = (meter: IncludedMeter, more: Partial<PriceFacts> = {}): PriceFacts => ({
  ...{ id: `price-${meter}-${more.validFrom ?? 0}-${more.per ?? ''}`, product: `prod-${meter}`, currency: 'CHF' },
  ...{ amount: 1n, per: 'hour', minimumMs: 0, validFrom: 0, ...more },
});
const quantityOf = (prices: PriceList, uses: readonly Use[], meter: IncludedMeter, until = march.to) =>
  chargesUpTo(prices, uses, march, until)
    .filter((charge) => charge.price.product === `prod-${meter}`)
    .reduce((sum, { amount }) => sum + amount, 0n);
const use = (meter: IncludedMeter, quantity: number, begin: number, end?: number, resource = 'vm-1'): Use => ({
  ...{ resource, meter, quantity, from: from + begin },
  ...(end !== undefined && { to: from + end }),
});

t.test('a VM with its disk', async (t) => {
  const products = [product('vm', [{ meter: 'vm_disk', quantity: 20 * GiB }]), product('vm_disk')];
  const prices = new PriceList('CHF', products, [price('vm'), price('vm_disk')]);
  const disk = (...uses: Use[]) => quantityOf(prices, uses, 'vm_disk') / BigInt(GiB);
  const vm = use('vm', 1, 0, 100);
  t.equal(disk(vm, use('vm_disk', 20 * GiB, 0, 100)), 0n);
  t.equal(disk(vm, use('vm_disk', 5 * GiB, 0, 100)), 0n, 'never negative');
  t.equal(disk(vm, use('vm_disk', 30 * GiB, 0, 100)), 1_000n, 'the rest');
  t.equal(disk(vm, use('vm_disk', 20 * GiB, 0, 40), use('vm_disk', 50 * GiB, 40, 100)), 1_800n, 'after a resize');
  t.equal(disk(vm, use('vm_disk', 30 * GiB, 0, 100, 'vm-2')), 3_000n, 'only of the same object');
  t.equal(disk(vm, use('vm_disk', 30 * GiB, 0, 200)), 4_000n, 'only while the VM exists');
  t.equal(quantityOf(prices, [vm, use('vm_disk', 30 * GiB, 0, 100)], 'vm'), 100n, 'the VM itself is charged');
});

t.test('a deletion in the instant of the creation includes, too', async (t) => {
  const products = [product('vm', [{ meter: 'vm_disk', quantity: 20 }]), product('vm_disk')];
  const minimum = { minimumMs: 3_600_000 };
  const prices = new PriceList('CHF', products, [price('vm', minimum), price('vm_disk', minimum)]);
  t.equal(quantityOf(prices, [use('vm', 1, 5, 5), use('vm_disk', 20, 5, 5)], 'vm_disk'), 0n);
  t.equal(quantityOf(prices, [use('vm', 1, 5, 5), use('vm_disk', 21, 5, 5)], 'vm_disk'), 3_600_000n);
  t.equal(
    quantityOf(prices, [use('vm', 1, 5, 9), use('vm_disk', 30, 5, 5), use('vm_disk', 20, 5, 9)], 'vm_disk'),
    36_000_000n,
  );
});

t.test('nothing is included before the first price of the product', async (t) => {
  const products = [product('vm', [{ meter: 'vm_disk', quantity: 20 }]), product('vm_disk')];
  const uses = [use('vm', 1, 0), use('vm_disk', 30, 0)];
  const later = new PriceList('CHF', products, [price('vm_disk'), price('vm', { validFrom: from + 100 })]);
  t.equal(quantityOf(later, uses, 'vm_disk', from + 300), 100n * 30n + 200n * 10n);
  const none = new PriceList('CHF', products, [price('vm_disk'), price('vm', { currency: 'EUR' })]);
  t.equal(quantityOf(none, uses, 'vm_disk', from + 300), 9_000n, 'nor without one in the currency');
  const once = new PriceList('CHF', products, [price('vm_disk'), price('vm', { per: 'once' })]);
  t.equal(quantityOf(once, uses, 'vm_disk', from + 300), 3_000n);
});

t.test('nothing is included after the last price of the product has ended', async (t) => {
  const products = [product('vm', [{ meter: 'vm_disk', quantity: 20 }]), product('vm_disk')];
  const uses = [use('vm', 1, 0), use('vm_disk', 30, 0)];
  const disk = (...prices: PriceFacts[]) =>
    quantityOf(new PriceList('CHF', products, [price('vm_disk'), ...prices]), uses, 'vm_disk', from + 300);
  const first = price('vm', { validTo: from + 100 });
  t.equal(disk(first), 100n * 10n + 200n * 30n);
  t.equal(
    disk(first, price('vm', { validFrom: from + 150 })),
    100n * 10n + 50n * 30n + 150n * 10n,
    'until a later one',
  );
  t.equal(disk(first, price('vm', { per: 'once', validFrom: from + 50 })), 3_000n, 'a price of the other kind stays');
});

t.test('units that are no longer included were ordered before, and begin nothing', async (t) => {
  const products = [product('vm', [{ meter: 'vm_disk', quantity: 20 }]), product('vm_disk')];
  const first = price('vm', { validTo: from + 1_000 });
  const once = price('vm_disk', { per: 'once', amount: 5n });
  const minimum = price('vm_disk', { minimumMs: 30 * 24 * 3_600_000 });
  const uses = [use('vm', 1, 0), use('vm_disk', 30, 0, 5_000)];
  const [ended, again] = [[first], [first, price('vm', { validFrom: from + 2_000 })]];
  for (const vm of [ended, again]) {
    const orders = quantityOf(new PriceList('CHF', products, [...vm, once]), uses, 'vm_disk');
    t.equal(orders, 10n, 'only the units of the order are charged once');
  }
  // 10 units for the whole minimum duration, and 20 units from the end of the inclusion to the end of the use.
  const time = quantityOf(new PriceList('CHF', products, [first, minimum]), uses, 'vm_disk');
  t.equal(time, 10n * 30n * 24n * 3_600_000n + 20n * 4_000n);
});

t.test('what a product can include', async (t) => {
  t.equal(inclusionProblem('vm', 'vm_disk'), undefined);
  t.equal(inclusionProblem('vm', 'running_cpu'), undefined);
  t.equal(inclusionProblem('running_vm', 'running_cpu'), undefined);
  t.match(inclusionProblem('vm', 'vm'), /itself/);
  t.match(inclusionProblem('running_vm', 'vm_disk'), /running/);
});

// ---- properties

const shape = fc.record({
  cpus: fc.integer({ min: 1, max: 4 }),
  memory: fc.integer({ min: 1, max: 6 }),
  disk_size: fc.integer({ min: 0, max: 6 }),
  power_state: fc.constantFrom('running' as const, 'stopped' as const),
});
type Shape = Parameters<typeof vmQuantities>[0];
const changes = fc.array(fc.record({ wait: fc.integer({ min: 0, max: 9 }), shape: fc.option(shape) }), {
  minLength: 1,
  maxLength: 10,
});

/** Makes the uses of a VM, as orders do: a quantity that stays keeps its begin. Without a shape, the VM is deleted. */
function usesOf(begin: number, steps: readonly { readonly wait: number; readonly shape: Shape | null }[]): Use[] {
  const ended: Use[] = [];
  let open = new Map<string, Use>();
  let now = from + begin;
  for (const { wait, shape } of steps) {
    const next = new Map((shape ? vmQuantities(shape) : []).map((item) => [partKey(item), item]));
    const staying = [...open].filter(([key, { quantity }]) => next.get(key)?.quantity === quantity);
    const stays = new Set(staying.map(([key]) => key));
    for (const [key, each] of open) if (!stays.has(key)) ended.push({ ...each, to: now });
    const begun = [...next].filter(([key]) => !stays.has(key));
    open = new Map([
      ...staying,
      ...begun.map(([key, item]) => [key, { ...item, resource: 'vm-1', from: now }] as const),
    ]);
    now += wait;
  }
  return [...ended, ...open.values()];
}

/** Compositions that the API permits: no meter is included and composed at once. */
const composition = fc
  .record({
    wholes: fc.subarray([...includedMeters], { minLength: 1, maxLength: 3 }),
    quantities: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 7, maxLength: 7 }),
    starts: fc.array(fc.integer({ min: -20, max: 60 }), { minLength: 7, maxLength: 7 }),
    lengths: fc.array(fc.option(fc.integer({ min: 0, max: 60 })), { minLength: 7, maxLength: 7 }),
  })
  .map(({ wholes, quantities, starts, lengths }) => ({
    /** The times of the prices, by meter. */
    times: starts.map((start, index) => {
      const length = lengths[index] ?? null;
      return { validFrom: from + start, ...(length !== null && { validTo: from + start + length }) };
    }),
    products: includedMeters.map((meter) =>
      wholes.includes(meter)
        ? product(
            meter,
            includedMeters.flatMap((each, index) =>
              wholes.includes(each) || inclusionProblem(meter, each) !== undefined
                ? []
                : [{ meter: each, quantity: quantities[index] ?? 1 }],
            ),
          )
        : product(meter),
    ),
  }));

t.test('billed quantity = used - included, and never negative', async () => {
  fc.assert(
    fc.property(
      composition,
      changes,
      fc.integer({ min: -20, max: 20 }),
      fc.integer({ min: 0, max: 90 }),
      (made, steps, begin, end) => {
        const { products, times } = made;
        const isPriced = (meter: string, at: number) => {
          const { validFrom, validTo = Number.MAX_VALUE } = times[includedMeters.indexOf(meter as IncludedMeter)] ?? {
            validFrom: 0,
          };
          return validFrom <= at && at < validTo;
        };
        const prices = new PriceList(
          'CHF',
          products,
          includedMeters.map((meter, index) => price(meter, times[index])),
        );
        const uses = usesOf(begin, steps);
        return includedMeters.every((meter) => {
          let wanted = 0;
          for (let at = from; at < from + end; at++) {
            const used = (of: string) =>
              uses
                .filter((each) => each.meter === of && each.from <= at && (each.to ?? Number.MAX_VALUE) > at)
                .reduce((sum, { quantity }) => sum + quantity, 0);
            const included = products.flatMap(({ meter: of, includes = [] }) =>
              isPriced(of, at)
                ? includes.filter((each) => each.meter === meter).map(({ quantity }) => quantity * used(of))
                : [],
            );
            if (!isPriced(meter, at)) continue;
            wanted += Math.max(0, used(meter) - included.reduce((sum, each) => sum + each, 0));
          }
          return quantityOf(prices, uses, meter, from + end) === BigInt(wanted);
        });
      },
    ),
    { numRuns: 1_000 },
  );
});

const terms = fc.array(
  fc.record({
    minimumMs: fc.integer({ min: 0, max: 30 }),
    cap: fc.option(fc.integer({ min: 0, max: 40 }), { nil: undefined }),
    per: fc.constantFrom('hour' as const, 'month' as const, 'once' as const),
  }),
  { minLength: 7, maxLength: 7 },
);

t.test('parts of a month add up, and charges never fall', async () => {
  fc.assert(
    fc.property(
      composition,
      terms,
      changes,
      fc.integer({ min: -20, max: 20 }),
      fc.tuple(fc.nat(90), fc.nat(90)),
      (made, rows, steps, begin, ends) => {
        const prices = new PriceList(
          'CHF',
          made.products,
          includedMeters.map((meter, index) => {
            const { cap, ...row } = rows[index] ?? { minimumMs: 0, per: 'hour' as const, cap: undefined };
            return price(meter, {
              ...row,
              ...made.times[index],
              amount: 1_000n,
              ...(cap !== undefined && { monthlyCap: BigInt(cap) }),
            });
          }),
        );
        const uses = usesOf(begin, steps);
        const [first, last] = ends.toSorted((a, b) => a - b).map((each) => from + each) as [number, number];
        const known = uses
          .filter((each) => each.from < first)
          .map((each) => (each.to !== undefined && each.to > first ? { ...each, to: undefined } : each));
        const exact = (of: readonly Use[], until: number) =>
          new Map(chargesUpTo(prices, of, march, until).map((charge) => [charge.price.id, charge.numerator]));
        const [early, same, late] = [exact(known, first), exact(uses, first), exact(uses, last)];
        for (const [id, numerator] of same) if ((late.get(id) ?? -1n) < numerator) return false;
        const shown = (charges: ReadonlyMap<string, bigint>) =>
          [...charges]
            .filter(([, each]) => each > 0n)
            .sort()
            .join();
        return shown(early) === shown(same);
      },
    ),
    { numRuns: 1_000 },
  );
});

t.test('sums of objects include for each object', async () => {
  fc.assert(
    fc.property(
      composition,
      fc.array(fc.record({ shape, count: fc.integer({ min: 1, max: 3 }) }), { maxLength: 6 }),
      (made, vms) => {
        const prices = new PriceList(
          'CHF',
          made.products,
          includedMeters.map((meter) => price(meter, { per: 'month' })),
        );
        const sums = new QuantitySums();
        const wanted = new Map<string, number>();
        for (const { shape, count } of vms) {
          sums.add(vmQuantities(shape), count);
          const own = vmQuantities(shape).map((item) => ({ ...item, from }));
          for (const { meter, quantity } of withoutIncluded(own, prices.inclusions))
            wanted.set(meter, (wanted.get(meter) ?? 0) + quantity * count);
        }
        const text = (items: Iterable<readonly [string, number]>) => [...items].sort().join();
        const found = sums.charged(prices, from).map(({ meter, quantity }: Metered) => [meter, quantity] as const);
        if (text(found) !== text(wanted)) return false;
        for (const { shape, count } of vms) sums.add(vmQuantities(shape), -count);
        return (
          sums.charged(prices, from).length === 0 && estimate(prices, sums.charged(prices, from), from).length === 0
        );
      },
    ),
  );
});

t.test('a hundred thousand uses of one object are rated in a moment', async (t) => {
  const products = [product('running_vm', [{ meter: 'running_cpu', quantity: 1 }]), product('running_cpu')];
  const prices = new PriceList('CHF', products, [price('running_vm'), price('running_cpu')]);
  const uses = Array.from({ length: 50_000 }, (_, n) => [
    use('running_vm', 1, n * 10, n * 10 + 5),
    use('running_cpu', 2, n * 10, n * 10 + 5),
  ]).flat();
  const begin = performance.now();
  t.equal(quantityOf(prices, uses, 'running_cpu'), 250_000n);
  t.ok(performance.now() - begin < 20_000);
});
