/** The price lists of all currencies, from the mirror. They are made when they are needed, and again after a change. */
import { priceFacts, productFacts } from '../../model/billing/facts.ts';
import { PriceList } from '../../model/billing/price-list.ts';
import * as records from '../../model/records/index.ts';
import type { Mirror } from '../../store/mirror.ts';

const changing: ReadonlySet<string> = new Set([records.products.prefix, records.prices.prefix]);

/** The price lists. */
export class PriceLists {
  readonly #mirror: Mirror;
  readonly #lists = new Map<string, PriceList>();
  readonly #stop: () => void;

  constructor(mirror: Mirror) {
    this.#mirror = mirror;
    this.#stop = mirror.subscribe(({ changes }) => {
      if (changes.some(({ kind }) => changing.has(kind.prefix))) this.#lists.clear();
    });
  }

  /** Returns the price list of a currency. */
  of(currency: string): PriceList {
    const known = this.#lists.get(currency);
    if (known) return known;
    const products = [...this.#mirror.list(records.products)].map(({ value }) => productFacts(value));
    const prices = [...this.#mirror.list(records.prices)].flatMap(({ value }) =>
      value.currency === currency ? [priceFacts(value)] : [],
    );
    const list = new PriceList(currency, products, prices);
    this.#lists.set(currency, list);
    return list;
  }

  /** Returns the currencies with prices, sorted. */
  currencies(): string[] {
    return [...new Set([...this.#mirror.list(records.prices)].map(({ value }) => value.currency))].toSorted();
  }

  close(): void {
    this.#stop();
    this.#lists.clear();
  }
}
