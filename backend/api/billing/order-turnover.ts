/**
 * Slows down a project that changes its objects in a loop. Each change of an order leaves records that nobody may remove before
 * they are billed. Every server sees the orders of all servers in its mirror, so all count the same bytes without a record.
 * After a start, a server counts from zero.
 *
 * A deletion is never refused. A schedule that exceeds the allowance makes no snapshot.
 */
import { UcloudError } from '../../contract/errors.ts';
import { Allowances } from '../../model/quota/order-allowance.ts';
import * as records from '../../model/records/index.ts';
import type { Mirror } from '../../store/mirror.ts';
import type { Stored } from '../../store/record-kind.ts';

/** The bytes that a change needs: its ended order and its ended uses have up to 64 labels each. */
const largestChange = 64 * 1024;
/** The bytes of the keys and the times of both. */
const overhead = 512;
const sweepMs = 3_600_000;

/** The bytes that changes of orders leave, by project. */
export class OrderTurnover {
  readonly #allowances: Allowances;
  readonly #now: () => number;
  readonly #stop: () => void;
  #sweptAt: number;

  constructor(mirror: Mirror, allowances = new Allowances(), now: () => number = () => performance.now()) {
    this.#allowances = allowances;
    this.#now = now;
    this.#sweptAt = now();
    this.#stop = mirror.subscribe(({ changes }) => {
      for (const { kind, previous, stored } of changes) {
        if (kind.prefix !== records.orders.prefix || previous === undefined) continue;
        this.#take((previous as Stored<records.OrderRecord>).value, stored !== undefined);
      }
    });
  }

  /** The ended uses repeat what the order contains, and so does the ended order. */
  #take(order: records.OrderRecord, stays: boolean): void {
    const now = this.#now();
    this.#allowances.take(order.project, overhead + JSON.stringify(order).length * (stays ? 1 : 2), now);
    if (now - this.#sweptAt < sweepMs) return;
    this.#sweptAt = now;
    this.#allowances.sweep(now);
  }

  /** @throws UcloudError `rate_limited` if the project has changed its orders too often */
  check(project: string): void {
    const seconds = this.#allowances.secondsUntil(project, largestChange, this.#now());
    if (seconds === 0) return;
    const detail =
      'the project has created, resized, started, stopped and deleted objects too often: each change leaves an order that is billed later';
    throw new UcloudError('rate_limited', `${detail}; wait ${seconds} seconds`, { retryAfter: seconds });
  }

  close(): void {
    this.#stop();
  }
}
