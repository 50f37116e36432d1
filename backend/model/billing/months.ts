/** Calendar months as texts such as `2026-11` (UTC). Pure. */
import { type Month, monthOf } from './rating.ts';

/** Returns the month of a text. Undefined for other texts. */
export function parseMonth(text: string): Month | undefined {
  if (!/^[0-9]{4}-(0[1-9]|1[0-2])$/.test(text)) return undefined;
  return monthOf(Date.parse(`${text}-01T00:00:00Z`));
}

/** Returns the text of the month that contains an instant. */
export const monthText = (at: number): string => new Date(at).toISOString().slice(0, 7);

/** Returns the text of the day that contains an instant. */
export const dayText = (at: number): string => new Date(at).toISOString().slice(0, 10);

/** Returns the months from that of one instant to that of another, both included, as texts. */
export function monthsBetween(from: number, to: number): string[] {
  const months: string[] = [];
  for (let month = monthOf(from); month.from <= to; month = monthOf(month.to)) months.push(monthText(month.from));
  return months;
}
