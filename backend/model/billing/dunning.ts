/** The dunning of overdue bills. Pure. */

/** A reminder of a legal entity. */
export interface DunningLevel {
  /** Days after the due date of the bill. */
  readonly days_after_due: number;
  readonly title: string;
  readonly text: string;
  /** The e-mail names the fee. No bill contains it. */
  readonly fee?: string | undefined;
}

/** The level that a bill has reached; 0 without a reminder. */
export interface Dunned {
  readonly level: number;
  /** The day of the last reminder. */
  readonly day?: string | undefined;
}

const dayMs = 24 * 3_600_000;

/** Returns the number of days from one day to another. */
export const daysBetween = (from: string, to: string): number =>
  Math.round((Date.parse(`${to}T00:00:00Z`) - Date.parse(`${from}T00:00:00Z`)) / dayMs);

/**
 * Returns the next level of an overdue bill; undefined while none is due. No level is skipped, and two levels have at least
 * their distance between them, also after a time in which nothing was sent.
 */
export function nextLevel(
  levels: readonly DunningLevel[],
  { level, day }: Dunned,
  { due, today }: { readonly due: string; readonly today: string },
): number | undefined {
  const next = levels[level];
  if (!next || daysBetween(due, today) < next.days_after_due) return undefined;
  const last = levels[level - 1];
  const distance = last ? next.days_after_due - last.days_after_due : 0;
  return day !== undefined && daysBetween(day, today) < distance ? undefined : level + 1;
}

/** Returns the problem of levels, with the pointer below the field; undefined for valid ones. */
export function levelsProblem(levels: readonly DunningLevel[]): { pointer: string; rule: string } | undefined {
  const wrong = levels.findIndex(
    (each, index) => index > 0 && each.days_after_due <= (levels[index - 1]?.days_after_due ?? 0),
  );
  if (wrong === -1) return undefined;
  return { pointer: `/${wrong}/days_after_due`, rule: 'must be more than that of the level before' };
}
