/**
 * The quantities that are in use in each project, from the open orders of the mirror. They belong to the mirror's revision,
 * and each process computes them again, so they cannot deviate from the orders.
 */
import { includedMeters, type Meter } from '../../contract/resources/meters.ts';
import { withoutIncluded } from '../../model/billing/inclusions.ts';
import { type Metered, partKey } from '../../model/billing/meters.ts';
import type { PriceList } from '../../model/billing/price-list.ts';
import * as records from '../../model/records/index.ts';
import type { Mirror } from '../../store/mirror.ts';
import type { Stored } from '../../store/record-kind.ts';

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

/** The quantities in use by project. */
export class ProjectUse {
  readonly #byProject = new Map<string, QuantitySums>();
  readonly #stop: () => void;

  constructor(mirror: Mirror) {
    for (const stored of mirror.list(records.orders)) this.#add(stored, 1);
    this.#stop = mirror.subscribe(({ changes }) => {
      for (const { kind, previous, stored } of changes) {
        if (kind.prefix !== records.orders.prefix) continue;
        this.#add(previous as Stored<records.OrderRecord> | undefined, -1);
        this.#add(stored as Stored<records.OrderRecord> | undefined, 1);
      }
    });
  }

  /** Returns the quantities in use in a project. */
  of(project: string): QuantitySums {
    return this.#byProject.get(project) ?? new QuantitySums();
  }

  #add(stored: Stored<records.OrderRecord> | undefined, times: 1 | -1): void {
    if (stored === undefined) return;
    const { project, use } = stored.value;
    const sums = this.#byProject.get(project) ?? new QuantitySums();
    sums.add(use, times);
    if (sums.items.length === 0) this.#byProject.delete(project);
    else this.#byProject.set(project, sums);
  }

  close(): void {
    this.#stop();
    this.#byProject.clear();
  }
}
