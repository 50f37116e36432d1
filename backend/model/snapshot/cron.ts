/**
 * Times in the form of cron (POSIX crontab), in UTC: minute, hour, day of the month, month, day of the week. The minute is one
 * number, so a schedule is due at most once an hour. As in cron, a day matches either the day of the month or the day of the
 * week if both are restricted. Pure.
 */

/** The times at which a schedule is due. */
export interface Cron {
  readonly minute: number;
  /** In ascending order. */
  readonly hours: readonly number[];
  readonly days: ReadonlySet<number>;
  readonly months: ReadonlySet<number>;
  /** 0 is Sunday. */
  readonly weekdays: ReadonlySet<number>;
  /** True if a day must match both sets of days, because one of them has all days. */
  readonly both: boolean;
}

const dayMs = 86_400_000;
/** The longest time between two days that match, in days: two 29 February may be eight years apart. */
const maxDays = 8 * 366;

const fields = [
  ['minute', 0, 59],
  ['hour', 0, 23],
  ['day of the month', 1, 31],
  ['month', 1, 12],
  ['day of the week', 0, 7],
] as const;

/** Returns the numbers of one field; undefined if it has another form. */
function numbersOf(text: string, min: number, max: number): number[] | undefined {
  const found = new Set<number>();
  for (const part of text.split(',')) {
    const match = /^(?:(\*)|(\d{1,2})(?:-(\d{1,2}))?)(?:\/(\d{1,2}))?$/.exec(part);
    if (match === null) return undefined;
    const [, all, first, last, every] = match;
    const from = all === undefined ? Number(first) : min;
    // A step after a single number goes on to the end: `2/6` is 2, 8, 14 and 20.
    const to = all !== undefined || (last === undefined && every !== undefined) ? max : Number(last ?? first);
    const step = Number(every ?? 1);
    if (from < min || to > max || from > to || step === 0) return undefined;
    for (let number = from; number <= to; number += step) found.add(number);
  }
  return [...found].sort((a, b) => a - b);
}

/** Parses the text. Returns the rule that it violates as a string. */
export function parseCron(text: string): Cron | string {
  const parts = text.split(' ');
  if (parts.length !== fields.length) return 'must have five fields, with one space between them';
  const all: number[][] = [];
  for (const [index, [name, min, max]] of fields.entries()) {
    const numbers = numbersOf(parts[index] ?? '', min, max);
    if (numbers === undefined)
      return `must have numbers from ${min} to ${max} for the ${name}, as in 1,3 or 1-5 or */2`;
    all.push(numbers);
  }
  const [minutes = [], hours = [], days = [], months = [], weekdays = []] = all;
  const [minute = 0] = minutes;
  if (minutes.length !== 1) return 'must have one number for the minute: a schedule is due at most once an hour';
  const cron = {
    ...{ minute, hours, days: new Set(days), months: new Set(months) },
    weekdays: new Set(weekdays.map((day) => day % 7)),
    both: parts[2] === '*' || parts[4] === '*',
  };
  return nextDue(cron, new Date(0)) === undefined ? 'must name a day that exists' : cron;
}

function matchesDay({ days, months, weekdays, both }: Cron, day: Date): boolean {
  if (!months.has(day.getUTCMonth() + 1)) return false;
  const [month, week] = [days.has(day.getUTCDate()), weekdays.has(day.getUTCDay())];
  return both ? month && week : month || week;
}

/** Returns the times on the day, in ascending order. */
const timesOn = (cron: Cron, day: number): number[] =>
  matchesDay(cron, new Date(day)) ? cron.hours.map((hour) => day + (hour * 60 + cron.minute) * 60_000) : [];

/** Returns the last time that is due at `now` and later than `after`; undefined if there is none. */
export function lastDue(cron: Cron, after: Date, now: Date): Date | undefined {
  const today = Math.floor(now.getTime() / dayMs) * dayMs;
  for (let day = today; day > today - maxDays * dayMs && day + dayMs > after.getTime(); day -= dayMs) {
    const due = timesOn(cron, day).findLast((time) => time <= now.getTime());
    if (due !== undefined) return due > after.getTime() ? new Date(due) : undefined;
  }
  return undefined;
}

/** Returns the first time after `now`; undefined if the days do not exist. */
export function nextDue(cron: Cron, now: Date): Date | undefined {
  const today = Math.floor(now.getTime() / dayMs) * dayMs;
  for (let day = today; day < today + maxDays * dayMs; day += dayMs) {
    const due = timesOn(cron, day).find((time) => time > now.getTime());
    if (due !== undefined) return new Date(due);
  }
  return undefined;
}
