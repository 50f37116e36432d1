/** Sums of quantities of objects, and their cost in a month. Quotes, budgets and prepaid accounts use the same sums. Pure. */
import { includedMeters, type Meter } from '../../contract/resources/meters.ts';
import { estimate } from './estimate.ts';
import { withoutIncluded } from './inclusions.ts';
import { type Metered, partKey } from './meters.ts';
import { sum } from './money.ts';
import type { PriceList } from './price-list.ts';

/** Equal objects with meters that composed products can include, and their number. */
interface Equal {
  readonly items: readonly Metered[];
  readonly count: number;
}

/** The meters of objects with more than one, whose products can be composed. */
const composable: ReadonlySet<Meter> = new Set(includedMeters);

/** Sums of quantities by part of a meter. */
export class QuantitySums {
  readonly #sums = new Map<string, Metered>();
  /** Composed products hold for each object, so equal objects are counted apart from the sums. */
  readonly #equal = new Map<string, Equal>();

  /** Adds a number of objects with these quantities each. */
  add(items: readonly Metered[], times = 1): this {
    const own = items.filter(({ meter }) => composable.has(meter));
    if (own.length > 0) this.#count({ items: own, count: times });
    for (const item of items) this.#sum(item, times);
    return this;
  }

  /** Adds all objects of other sums. */
  addAll(others: QuantitySums): this {
    for (const equal of others.#equal.values()) this.#count(equal);
    for (const item of others.#sums.values()) this.#sum(item, 1);
    return this;
  }

  #count({ items, count }: Equal): void {
    const key = items.map((item) => `${partKey(item)}=${item.quantity}`).join();
    const sum = (this.#equal.get(key)?.count ?? 0) + count;
    if (sum === 0) this.#equal.delete(key);
    else this.#equal.set(key, { items, count: sum });
  }

  #sum({ meter, pool, length, product, quantity }: Metered, times: number): void {
    const key = partKey({ meter, pool, length, product });
    const sum = (this.#sums.get(key)?.quantity ?? 0) + times * quantity;
    if (sum === 0) this.#sums.delete(key);
    else this.#sums.set(key, { meter, pool, length, product, quantity: sum });
  }

  /** All quantities. */
  get items(): readonly Metered[] {
    return [...this.#sums.values()];
  }

  /** Returns the quantities that are charged at an instant: those that no composed product includes. */
  charged({ inclusions }: PriceList, at: number): readonly Metered[] {
    if (inclusions.size === 0) return this.items;
    const rest = new QuantitySums();
    for (const item of this.#sums.values()) if (!composable.has(item.meter)) rest.#sum(item, 1);
    for (const { items, count } of this.#equal.values()) {
      const uses = items.map((item) => ({ ...item, from: at }));
      for (const { from, ...item } of withoutIncluded(uses, inclusions)) {
        if (from === at) rest.#sum(item, count);
      }
    }
    return rest.items;
  }
}

/** Returns the cost of quantities in a month by the prices of an instant, in 10⁻⁸ units. */
export const monthlyCostOf = (prices: PriceList, sums: QuantitySums, at: number): bigint =>
  sum(estimate(prices, sums.charged(prices, at), at).map(({ monthly }) => monthly));
