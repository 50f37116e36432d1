/** Times of RFC 3339 with a zone, as the contract takes them. */

const form =
  /^(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/;

const isLeap = (year: number): boolean => year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
const daysIn = (year: number, month: number): number =>
  month === 2 ? (isLeap(year) ? 29 : 28) : [4, 6, 9, 11].includes(month) ? 30 : 31;

/**
 * The time of a text, or undefined if there is none. A day that its month does not have is no time, nor is a leap
 * second, which JavaScript cannot tell. In UTC the year still has four digits.
 */
export function parseTimestamp(text: string): Date | undefined {
  const [, year, month, day] = form.exec(text) ?? [];
  if (year === undefined || Number(day) > daysIn(Number(year), Number(month))) return undefined;
  const time = new Date(text);
  const inUtc = time.getUTCFullYear();
  return inUtc >= 0 && inUtc <= 9999 ? time : undefined;
}
