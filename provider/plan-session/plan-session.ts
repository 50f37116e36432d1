/**
 * The bookkeeping of one run of Terraform over one plan. Terraform plans objects one by one, up to `-parallelism` at once,
 * and does not tell the provider what else is in the plan. So the session remembers what was planned.
 *
 * The server makes one session for each connection, which Terraform opens for each walk over its graph.
 */
import type { Client } from '../client/client.ts';
import type { Item } from '../client/item.ts';
import { CapacityChecks } from './capacity-checks.ts';
import { takeEarlierPhase } from './earlier-phases.ts';
import { ManagedObjects } from './managed-objects.ts';
import { PlanCosts } from './plan-costs.ts';
import { PlannedNames } from './planned-names.ts';
import { Quotes } from './quotes.ts';

/** The bookkeeping of one run. */
export class PlanSession {
  readonly #client: Client;
  readonly #loads = new Map<string, Promise<unknown>>();
  readonly managed = new ManagedObjects();
  readonly names = new PlannedNames();
  /** The ids of the objects that the plan deletes or replaces. */
  readonly deletions = new Set<string>();
  readonly capacity: CapacityChecks;
  readonly quotes: Quotes;
  readonly costs: PlanCosts;

  constructor(client: Client) {
    this.#client = client;
    this.capacity = new CapacityChecks(client, this.deletions);
    this.quotes = new Quotes(client);
    this.costs = new PlanCosts(client, this.quotes, takeEarlierPhase());
  }

  /** Loads a value at most once in this run. After an error, or if nothing was found, the next call loads it again. */
  once<T>(key: string, load: () => Promise<T>): Promise<T> {
    const known = this.#loads.get(key) as Promise<T> | undefined;
    if (known) return known;
    const loading = load();
    this.#loads.set(key, loading);
    const drop = () => void this.#loads.delete(key);
    loading.then((value) => value ?? drop(), drop);
    return loading;
  }

  /**
   * Returns an object that others refer to; undefined if it does not exist. An object that was found is not read again, so
   * its mutable fields may be out of date.
   */
  find(path: string, id: string, signal?: AbortSignal): Promise<Item | undefined> {
    return this.once(`${path}/${id}`, () => this.#client.read(path, id, signal));
  }

  /** Tells the session that an apply has begun: planned objects exist from then on. */
  beginApply(): void {
    this.capacity.end();
    this.costs.end();
  }

  /** Notes that an object is being deleted: it is read again when it is needed. */
  noteDeletion(path: string, id: string): void {
    this.deletions.add(id);
    this.#loads.delete(`${path}/${id}`);
  }
}
