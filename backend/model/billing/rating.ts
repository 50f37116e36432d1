/**
 * Rating: the charges for the uses of objects. Pure. Quotes, plans and bills use it.
 *
 * All charges follow from one function: the charge of a price in a calendar month (UTC) up to an instant. It never falls as
 * the instant moves on. The charge of a period is the difference of two such values, so the charges of any parts of a month
 * add up to that of the month, also after rounding.
 *
 * The rules hold for each unit of a quantity. A unit is charged from its order to its end, and at least for the minimum
 * duration. A unit that stays during a resize keeps its beginning. A unit costs at most the cap in a calendar month. What
 * composed products include is not charged (inclusions.ts).
 */
import { meterTable } from '../../contract/resources/meters.ts';
import { withoutIncluded } from './inclusions.ts';
import { type Metered, partKey } from './meters.ts';
import type { PricedTime, PriceFacts, PriceList } from './price-list.ts';

/** A use: a quantity of one object during `[from, to)`, in milliseconds since 1970. Without `to`, it goes on. */
export interface Use extends Metered {
  readonly resource: string;
  readonly from: number;
  readonly to?: number | undefined;
  /** The units were ordered before `from`. */
  readonly continues?: boolean | undefined;
}

/** A calendar month (UTC): `[from, to)` in milliseconds since 1970. */
export interface Month {
  readonly from: number;
  readonly to: number;
}

/** A charge as an exact fraction of 10⁻⁸ currency units, and the quantity that it is for. */
export interface Charge {
  readonly price: PriceFacts;
  readonly numerator: bigint;
  readonly denominator: bigint;
  /** The sum of quantity times milliseconds; for prices that apply once, the quantity. */
  readonly amount: bigint;
}

/** Returns the calendar month that contains an instant. */
export function monthOf(at: number): Month {
  const date = new Date(at);
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  return { from: Date.UTC(year, month, 1), to: Date.UTC(year, month + 1, 1) };
}

const hourMs = 3_600_000n;
const bytesPerUnit = 2n ** 30n;

interface Run {
  readonly from: number;
  readonly to: number;
  /** The units were ordered before `from`. */
  readonly continues?: boolean | undefined;
}

/** Returns the times in which the quantity is more than `level`, as runs without a gap inside. */
function runsAbove(uses: readonly Use[], level: number, until: number): Run[] {
  const runs: Run[] = [];
  for (const { from, to = until, quantity, continues } of uses) {
    if (quantity <= level) continue;
    const last = runs.at(-1);
    if (last && last.to === from) runs[runs.length - 1] = { ...last, to };
    else runs.push({ from, to, continues });
  }
  return runs;
}

/** Returns the runs with their minimum durations, without overlaps. */
function chargedRuns(runs: readonly Run[], minimumAt: (from: number) => number): Run[] {
  const charged: Run[] = [];
  for (const { from, to, continues } of runs) {
    const end = continues ? to : Math.max(to, from + minimumAt(from));
    const last = charged.at(-1);
    if (last && last.to >= from) charged[charged.length - 1] = { from: last.from, to: Math.max(last.to, end) };
    else charged.push({ from, to: end });
  }
  return charged;
}

const overlap = (a: Run, b: Run): number => Math.max(0, Math.min(a.to, b.to) - Math.max(a.from, b.from));

/** Returns the uses of one part of a meter by one object in the order of time. */
const ordered = (uses: readonly Use[]): Use[] =>
  uses.toSorted((a, b) => a.from - b.from || (a.to ?? Number.MAX_VALUE) - (b.to ?? Number.MAX_VALUE));

class Sums {
  readonly #sums = new Map<string, Charge>();

  add(price: PriceFacts, denominator: bigint, numerator: bigint, amount: bigint): void {
    const before = this.#sums.get(price.id);
    this.#sums.set(price.id, {
      price,
      denominator,
      numerator: (before?.numerator ?? 0n) + numerator,
      amount: (before?.amount ?? 0n) + amount,
    });
  }

  charges(): Charge[] {
    return [...this.#sums.values()];
  }
}

/** Adds the charges of one object's uses of one part of a meter. */
function addCharges(sums: Sums, prices: PriceList, uses: readonly Use[], month: Month, until: number): void {
  const [first] = uses;
  if (!first) return;
  const perUnit = meterTable[first.meter].bytes ? bytesPerUnit : 1n;
  const end = Math.min(until, month.to);
  const monthMs = BigInt(month.to - month.from);
  const timeline = prices.timeline(first);
  const minimumAt = (at: number) => prices.at(first, 'recurring', at)?.minimumMs ?? 0;
  const levels = [...new Set(uses.map(({ quantity }) => quantity))]
    .filter((each) => each > 0)
    .toSorted((a, b) => a - b);
  let below = 0;
  for (const level of levels) {
    const height = BigInt(level - below);
    const runs = runsAbove(uses, below, until);
    const charged = chargedRuns(runs, minimumAt);
    addRecurring(sums, timeline, charged, { month, end, monthMs, height, perUnit });
    for (const { from, continues } of runs) {
      if (continues || from < month.from || from >= end) continue;
      const once = prices.at(first, 'once', from);
      if (once) sums.add(once, perUnit, once.amount * height, height);
    }
    below = level;
  }
}

interface Layer {
  readonly month: Month;
  readonly end: number;
  readonly monthMs: bigint;
  /** The number of units. */
  readonly height: bigint;
  readonly perUnit: bigint;
}

function addRecurring(
  sums: Sums,
  timeline: readonly PricedTime[],
  runs: readonly Run[],
  { month, end, monthMs, height, perUnit }: Layer,
): void {
  // All fractions of a layer have this denominator, so that caps compare exactly.
  const denominator = hourMs * monthMs;
  let spent = 0n;
  for (const { from, to, price } of timeline) {
    const window = { from: Math.max(from, month.from), to: Math.min(to, end) };
    if (window.to <= window.from) continue;
    const time = BigInt(runs.reduce((sum, run) => sum + overlap(run, window), 0));
    if (time === 0n) continue;
    const full = price.amount * time * (price.per === 'hour' ? monthMs : hourMs);
    const room = price.monthlyCap === undefined ? undefined : price.monthlyCap * denominator - spent;
    const charge = room !== undefined && full > room ? (room > 0n ? room : 0n) : full;
    spent += charge;
    sums.add(price, denominator * perUnit, charge * height, time * height);
  }
}

/**
 * Returns the charges of the uses in a calendar month up to an instant, by price.
 * @param uses the uses of all times that may matter: those that end in the month or later, and earlier ones within the
 * longest minimum duration
 * @param until the instant, in milliseconds since 1970. Later times are not charged
 */
export function chargesUpTo(prices: PriceList, uses: Iterable<Use>, month: Month, until: number): Charge[] {
  const sums = new Sums();
  if (until <= month.from) return [];
  // Two steps need far less memory than one map of all parts of all objects.
  for (const own of Map.groupBy(uses, ({ resource }) => resource).values()) {
    const begun = withoutIncluded(own, prices.inclusions).filter(({ from }) => from < until);
    for (const group of Map.groupBy(begun, partKey).values()) addCharges(sums, prices, ordered(group), month, until);
  }
  return sums.charges();
}
