/** The price list: the price of a part of a meter at an instant. Pure. */
import type { IncludedMeter, Meter, MeterPart } from '../../contract/resources/meters.ts';
import { type Inclusion, unionOf } from './inclusions.ts';
import { partKey } from './meters.ts';

/** A product, as far as prices need it. `product` is its own id if it is booked. */
export interface ProductFacts extends MeterPart {
  readonly id: string;
  readonly name: string;
  /** The quantities of other meters of the same object that each unit includes. */
  readonly includes?: readonly { readonly meter: IncludedMeter; readonly quantity: number }[] | undefined;
}

/** The periods of prices. `once`: at the beginning of an order. */
export const pricePeriods = ['hour', 'month', 'once'] as const;
export type PricePeriod = (typeof pricePeriods)[number];

/** A price. It never changes. Amounts are whole numbers of 10⁻⁸ currency units. */
export interface PriceFacts {
  readonly id: string;
  readonly product: string;
  readonly currency: string;
  /** The amount for one unit of the meter. */
  readonly amount: bigint;
  readonly per: PricePeriod;
  /** The time in milliseconds for which each ordered unit is charged at least. */
  readonly minimumMs: number;
  /** The largest amount for one unit in a calendar month. */
  readonly monthlyCap?: bigint | undefined;
  /** The instant from which the price applies, in milliseconds since 1970. */
  readonly validFrom: number;
  /** The instant from which the price applies no longer. No earlier price takes its place. */
  readonly validTo?: number | undefined;
}

/** The time in which one price applies: `[from, to)` in milliseconds. */
export interface PricedTime {
  readonly from: number;
  readonly to: number;
  readonly price: PriceFacts;
}

/** Returns the names of the parts of meters that a use belongs to, the most specific first. */
function candidates(part: MeterPart): string[] {
  const special = partKey(part);
  return special === part.meter ? [special] : [special, part.meter];
}

/** Returns the latest price of a list in the order of `validFrom`, unless it has ended. */
function priceAt(prices: readonly PriceFacts[], at: number): PriceFacts | undefined {
  const latest = prices.findLast(({ validFrom }) => validFrom <= at);
  return latest?.validTo !== undefined && latest.validTo <= at ? undefined : latest;
}

/** Returns the times in which the prices of a list in the order of `validFrom` apply. */
const appliedTimes = (prices: readonly PriceFacts[]) =>
  prices.map(({ validFrom: from, validTo = Number.POSITIVE_INFINITY }, index) => ({
    from,
    to: Math.min(validTo, prices[index + 1]?.validFrom ?? Number.POSITIVE_INFINITY),
  }));

/** All prices of a currency. */
export class PriceList {
  readonly currency: string;
  /** The prices of each part of a meter in the order of time: recurring ones, and those that apply once. */
  readonly #recurring = new Map<string, PriceFacts[]>();
  readonly #once = new Map<string, PriceFacts[]>();
  /** The timelines of the parts of meters, which many uses need. */
  readonly #timelines = new Map<string, readonly PricedTime[]>();
  /** The inclusions of composed products, by the included meter. */
  readonly inclusions: ReadonlyMap<Meter, readonly Inclusion[]>;
  readonly #products: readonly ProductFacts[];
  readonly #prices: readonly PriceFacts[];
  #current: { readonly from: number; readonly to: number; readonly list: PriceList } | undefined;

  constructor(currency: string, products: Iterable<ProductFacts>, prices: Iterable<PriceFacts>) {
    this.currency = currency;
    this.#products = [...products];
    this.#prices = [...prices];
    const parts = new Map(this.#products.map((product) => [product.id, partKey(product)]));
    for (const price of this.#prices) {
      const part = parts.get(price.product);
      if (part === undefined || price.currency !== currency) continue;
      const lists = price.per === 'once' ? this.#once : this.#recurring;
      const list = lists.get(part);
      if (list) list.push(price);
      else lists.set(part, [price]);
    }
    for (const lists of [this.#recurring, this.#once]) {
      for (const list of lists.values()) list.sort((a, b) => a.validFrom - b.validFrom);
    }
    const composed = this.#products.flatMap(({ id, meter: of, includes = [] }) => {
      if (includes.length === 0) return [];
      const own = [this.#recurring, this.#once].map((lists) =>
        (lists.get(of) ?? []).filter(({ product }) => product === id),
      );
      const times = unionOf(own.flatMap(appliedTimes));
      return times.length === 0 ? [] : includes.map((each): Inclusion => ({ ...each, of, times }));
    });
    this.inclusions = Map.groupBy(composed, ({ meter }) => meter);
  }

  /**
   * Returns the price at an instant. A product of the pool or the length precedes a general one from its first price on,
   * until that has ended. A later product therefore never changes the price of an earlier time.
   */
  at(part: MeterPart, kind: 'recurring' | 'once', at: number): PriceFacts | undefined {
    const lists = kind === 'once' ? this.#once : this.#recurring;
    for (const name of candidates(part)) {
      const price = priceAt(lists.get(name) ?? [], at);
      if (price) return price;
    }
    return undefined;
  }

  /** Returns the recurring prices of a part of a meter, one after the other. Times without a price are missing. */
  timeline(part: MeterPart): readonly PricedTime[] {
    const key = partKey(part);
    const known = this.#timelines.get(key);
    if (known) return known;
    const starts = [
      ...new Set(
        candidates(part).flatMap((name) =>
          (this.#recurring.get(name) ?? []).flatMap(({ validFrom, validTo }) =>
            validTo === undefined ? [validFrom] : [validFrom, validTo],
          ),
        ),
      ),
    ].toSorted((a, b) => a - b);
    const timeline = starts.flatMap((from, index): PricedTime[] => {
      const price = this.at(part, 'recurring', from);
      return price ? [{ from, to: starts[index + 1] ?? Number.POSITIVE_INFINITY, price }] : [];
    });
    this.#timelines.set(key, timeline);
    return timeline;
  }

  /** Returns the list of an instant: that without the prices of later times. */
  asOf(at: number): PriceList {
    if (this.#current && this.#current.from <= at && at < this.#current.to) return this.#current.list;
    const begun = this.#prices.filter(({ validFrom }) => validFrom <= at);
    const later = this.#prices.flatMap(({ validFrom }) => (validFrom > at ? [validFrom] : []));
    const list = begun.length === this.#prices.length ? this : new PriceList(this.currency, this.#products, begun);
    const from = begun.reduce((latest, { validFrom }) => Math.max(latest, validFrom), Number.NEGATIVE_INFINITY);
    this.#current = { from, to: Math.min(...later, Number.POSITIVE_INFINITY), list };
    return list;
  }

  /** Tells whether the list has no price. */
  get isEmpty(): boolean {
    return this.#prices.length === 0;
  }

  /** Returns the longest minimum duration of all prices, in milliseconds. */
  get longestMinimumMs(): number {
    const all = [...this.#recurring.values()].flat();
    return all.reduce((longest, { minimumMs }) => Math.max(longest, minimumMs), 0);
  }
}
