/** The times in which an account pays for a project, from the terms of the project. Pure. */
import type { PaidTime } from './bills.ts';

/** A term: the account that pays from an instant on, in milliseconds since 1970. Undefined: none. */
export interface AccountTerm {
  readonly account: string | undefined;
  readonly since: number;
}

/** Returns the times in which the account pays, in order. */
export function paidTimes(terms: readonly AccountTerm[], account: string): PaidTime[] {
  const sorted = terms.toSorted((a, b) => a.since - b.since);
  return sorted.flatMap(({ account: payer, since }, index) =>
    payer === account ? [{ from: since, to: sorted[index + 1]?.since ?? Number.POSITIVE_INFINITY }] : [],
  );
}
