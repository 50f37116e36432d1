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
  /** The days of the last warning of this state, for `low`. */
  readonly warned?: number | undefined;
  /** The last warning for each number of days, in all states. */
  readonly warnings?: Readonly<Record<string, PrepaidWarning>> | undefined;
}

/** A warning that was sent. */
export interface PrepaidWarning {
  /** In milliseconds since 1970. */
  readonly at: number;
  /** The number of payments that the account had received. */
  readonly payments: number;
}

/** The state of an account after a look. */
export interface PrepaidStep {
  readonly next: Prepaid;
  /** The customer gets an event and an e-mail. */
  readonly isTold: boolean;
}

/** The facts about an account. */
export interface PrepaidFacts {
  /** The balance minus the preliminary bills of open months. */
  readonly available: Amount;
  /** The cost of a day at the present rate. */
  readonly daily: Amount;
  readonly graceDays: number;
  /** The number of payments that the account has received. No payment is ever removed. */
  readonly payments: number;
  /** In milliseconds since 1970. */
  readonly now: number;
}

const dayMs = 24 * 3_600_000;

/** Tells whether the money lasts for a number of days at most. */
const lastsAtMost = ({ available, daily }: PrepaidFacts, days: number): boolean => available <= daily * BigInt(days);

/**
 * Tells whether a warning may be sent. Members of projects move the present cost up and down, so a warning comes again only after
 * a payment, and otherwise at most once a day.
 */
function mayWarn(before: Prepaid | undefined, days: number, { payments, now }: PrepaidFacts): boolean {
  const last = before?.warnings?.[days];
  return last === undefined || payments > last.payments || now - last.at >= dayMs;
}

/** Tells whether a payment was recorded after all warnings. */
const isPaidSince = ({ warnings = {} }: Prepaid, { payments }: PrepaidFacts): boolean =>
  Object.values(warnings).every((last) => payments > last.payments);

/** Returns the state of an account after the state before. It is the same object while nothing changes. */
export function nextPrepaid(before: Prepaid | undefined, facts: PrepaidFacts): PrepaidStep {
  const { available, graceDays, now, payments } = facts;
  const warnings = before?.warnings && { warnings: before.warnings };
  const same = (next: Prepaid): PrepaidStep => ({ next, isTold: false });
  if (available <= 0n) {
    if (before?.state === 'lapsed') return same(before);
    if (before?.state !== 'empty') return { next: { state: 'empty', since: now, ...warnings }, isTold: true };
    if (now - before.since < graceDays * dayMs) return same(before);
    return { next: { ...before, state: 'lapsed' }, isTold: true };
  }
  const due = warningDays.findLast((days) => lastsAtMost(facts, days));
  const isLow = before?.state === 'low' ? lastsAtMost(facts, recoveredDays) : due !== undefined;
  if (isLow) {
    const low: Prepaid = before?.state === 'low' ? before : { state: 'low', since: now, ...warnings };
    const isNew = due !== undefined && due < (low.warned ?? Number.POSITIVE_INFINITY);
    if (!isNew || !mayWarn(before, due, facts)) return same(low);
    const told = { ...low.warnings, [due]: { at: now, payments } };
    return { next: { ...low, warned: due, warnings: told }, isTold: true };
  }
  if (before?.state === 'ok') return same(before);
  // The first state of an account with money is no news. Neither is a lower cost.
  const isTold = before !== undefined && (before.state !== 'low' || isPaidSince(before, facts));
  return { next: { state: 'ok', since: now, ...warnings }, isTold };
}

/** Tells whether VMs must stop, and nothing may begin or grow. */
export const isOutOfMoney = (state: PrepaidState): boolean => state === 'empty' || state === 'lapsed';
