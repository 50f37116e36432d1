/** Prepaid accounts that run empty. Pure. */
import type { PrepaidState } from '../../contract/resources/payments.ts';
import type { Amount } from './money.ts';

/** The days left at which an account is warned, the first warning first. */
export const warningDays = [7, 3, 1] as const;
/** The days left from which the warnings begin anew. More than the first warning, so that the state does not flap. */
export const recoveredDays = 9;

/** The state of an account. */
export interface Prepaid {
  readonly state: PrepaidState;
  /** The begin of the state; of `empty` for `lapsed`. In milliseconds since 1970. */
  readonly since: number;
  /** The days of the last warning, for `low`. */
  readonly warned?: number | undefined;
}

/** The facts about an account. */
export interface PrepaidFacts {
  /** The balance minus the preliminary bills of open months. */
  readonly available: Amount;
  /** The cost of a day at the present rate. */
  readonly daily: Amount;
  readonly graceDays: number;
  /** In milliseconds since 1970. */
  readonly now: number;
}

const dayMs = 24 * 3_600_000;

/** Tells whether the money lasts for a number of days at most. */
const lastsAtMost = ({ available, daily }: PrepaidFacts, days: number): boolean => available <= daily * BigInt(days);

/** Returns the state of an account after the state before. It is the same object while nothing has to be told. */
export function nextPrepaid(before: Prepaid | undefined, facts: PrepaidFacts): Prepaid {
  const { available, graceDays, now } = facts;
  if (available <= 0n) {
    if (before?.state === 'lapsed') return before;
    if (before?.state !== 'empty') return { state: 'empty', since: now };
    return now - before.since >= graceDays * dayMs ? { state: 'lapsed', since: before.since } : before;
  }
  const due = warningDays.findLast((days) => lastsAtMost(facts, days));
  if (before?.state === 'low') {
    if (!lastsAtMost(facts, recoveredDays)) return { state: 'ok', since: now };
    return due !== undefined && due < (before.warned ?? Number.POSITIVE_INFINITY) ? { ...before, warned: due } : before;
  }
  if (due !== undefined) return { state: 'low', since: now, warned: due };
  return before?.state === 'ok' ? before : { state: 'ok', since: now };
}

/** Tells whether VMs must stop, and nothing may begin or grow. */
export const isOutOfMoney = (state: PrepaidState): boolean => state === 'empty' || state === 'lapsed';
