/**
 * The quantities that are in use in each project, from the open orders of the mirror. They belong to the mirror's revision,
 * and each process computes them again, so they cannot deviate from the orders.
 */
import { QuantitySums } from '../../model/billing/quantity-sums.ts';
import * as records from '../../model/records/index.ts';
import type { Mirror } from '../../store/mirror.ts';
import type { Stored } from '../../store/record-kind.ts';

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
