/**
 * Composed products: one unit of a product includes a quantity of another meter of the same object, such as a VM its first
 * 20 GiB of disk. The included part is not charged by the product of the other meter; the rest is. Pure.
 *
 * The included part at an instant depends only on the uses of the object at that instant. So the uses without it are uses again.
 * Units that are no longer included were ordered before: they begin no minimum duration, and cost nothing that applies once.
 */
import type { IncludedMeter, Meter } from '../../contract/resources/meters.ts';
import type { Metered } from './meters.ts';

/** A quantity of a meter that one unit of another meter includes. */
export interface Inclusion {
  /** The meter of the composed product. */
  readonly of: Meter;
  readonly meter: IncludedMeter;
  readonly quantity: number;
  /** The times in which the product has a price, without overlaps. Nothing is included outside. */
  readonly times: readonly Span[];
}

/** A time `[from, to)` in milliseconds since 1970. */
interface Span {
  readonly from: number;
  readonly to: number;
}

/** Returns the times that some of the spans contain. */
export function unionOf(spans: readonly Span[]): Span[] {
  const union: Span[] = [];
  for (const { from, to } of spans.toSorted((a, b) => a.from - b.from)) {
    const last = union.at(-1);
    if (last && from <= last.to) union[union.length - 1] = { from: last.from, to: Math.max(last.to, to) };
    else if (from < to) union.push({ from, to });
  }
  return union;
}

/** A quantity of one object during `[from, to)`. Without `to`, it goes on. */
interface Timed extends Metered {
  readonly from: number;
  readonly to?: number | undefined;
  /** The units were ordered before, and are no longer included. */
  readonly continues?: boolean | undefined;
}

const running = (meter: Meter): boolean => meter.startsWith('running_');

/** Returns why a product of a meter cannot include another meter. Undefined if it can. Both belong to VMs. */
export function inclusionProblem(of: IncludedMeter, meter: IncludedMeter): string | undefined {
  if (of === meter) return 'must not be the meter of the product itself';
  // Each stop would begin new units of the other meter, with their minimum durations.
  if (running(of) && !running(meter)) return `must be a meter of running VMs, as the meter ${of} of the product is`;
  return undefined;
}

/** The included quantity of one meter over time. */
class Included {
  /** The instants of changes, and the quantities from each on. */
  readonly #times: number[] = [];
  readonly #quantities: number[] = [];
  /** The quantities of uses that ended in the instant of their begin. */
  readonly #points = new Map<number, number>();

  constructor(uses: readonly Timed[], inclusions: readonly Inclusion[]) {
    const deltas = new Map<number, number>();
    const change = (at: number, by: number) => deltas.set(at, (deltas.get(at) ?? 0) + by);
    for (const inclusion of inclusions) {
      const points = new Map<number, number>();
      for (const { meter, from, to = Number.POSITIVE_INFINITY, quantity } of uses) {
        if (meter !== inclusion.of) continue;
        const included = quantity * inclusion.quantity;
        for (const time of inclusion.times) {
          const [begin, end] = [Math.max(from, time.from), Math.min(to, time.to)];
          if (begin < end) {
            change(begin, included);
            if (end !== Number.POSITIVE_INFINITY) change(end, -included);
          } else if (from === to && time.from <= from && from < time.to) {
            points.set(from, Math.max(points.get(from) ?? 0, included));
          }
        }
      }
      for (const [at, included] of points) this.#points.set(at, (this.#points.get(at) ?? 0) + included);
    }
    let sum = 0;
    for (const [at, by] of [...deltas].sort(([a], [b]) => a - b)) {
      sum += by;
      this.#times.push(at);
      this.#quantities.push(sum);
    }
  }

  /** Returns the index of the last change until an instant; -1 if there is none. */
  #last(at: number): number {
    let [low, high] = [0, this.#times.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#times[middle] ?? 0) <= at) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** Returns the parts of a use that are not included. */
  *rest<T extends Timed>(use: T): Generator<T> {
    const { from, to = Number.POSITIVE_INFINITY, quantity } = use;
    let index = this.#last(from);
    if (from === to) {
      const before = this.#times[index] === from ? index - 1 : index;
      const near = [index, before].map((each) => this.#quantities[each] ?? 0);
      const left = quantity - Math.max(...near, this.#points.get(from) ?? 0);
      if (left > 0) yield { ...use, quantity: left };
      return;
    }
    for (let at = from; at < to; index++) {
      const next = Math.min(to, this.#times[index + 1] ?? Number.POSITIVE_INFINITY);
      const left = quantity - (this.#quantities[index] ?? 0);
      if (left > 0 && at < next) {
        const to = next === Number.POSITIVE_INFINITY ? undefined : next;
        yield { ...use, from: at, to, quantity: left, ...(at > from && { continues: true }) };
      }
      at = next;
    }
  }
}

/** Returns the uses of one object without what composed products include. */
export function withoutIncluded<T extends Timed>(
  uses: readonly T[],
  inclusions: ReadonlyMap<Meter, readonly Inclusion[]>,
): readonly T[] {
  if (inclusions.size === 0) return uses;
  const included = new Map<Meter, Included>();
  return uses.flatMap((use) => {
    const own = inclusions.get(use.meter);
    if (!own) return use;
    const known = included.get(use.meter) ?? new Included(uses, own);
    included.set(use.meter, known);
    return [...known.rest(use)];
  });
}
