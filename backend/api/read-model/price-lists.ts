/** The price lists of all currencies, from the mirror. They are made when they are needed, and again after a change. */
import { priceFactsOf, priceKinds } from '../../billing/ledger/price-facts.ts';
import type { PriceList } from '../../model/billing/price-list.ts';
import * as records from '../../model/records/index.ts';
import type { Mirror } from '../../store/mirror.ts';

const changing: ReadonlySet<string> = new Set(priceKinds.map(({ prefix }) => prefix));

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
    const list = priceFactsOf(this.#mirror, currency).prices;
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
