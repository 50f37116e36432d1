/** Times of RFC 3339 with a zone, in the form of the contract. */

const form =
  /^(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/;

const isLeap = (year: number): boolean => year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
const daysIn = (year: number, month: number): number =>
  month === 2 ? (isLeap(year) ? 29 : 28) : [4, 6, 9, 11].includes(month) ? 30 : 31;

/**
 * Parses a time; undefined for other texts. A day outside its month is refused, and so is a leap second, which
 * JavaScript cannot represent. The year in UTC must have four digits.
 */
export function parseTimestamp(text: string): Date | undefined {
  const [, year, month, day] = form.exec(text) ?? [];
  if (year === undefined || Number(day) > daysIn(Number(year), Number(month))) return undefined;
  const time = new Date(text);
  const inUtc = time.getUTCFullYear();
  return inUtc >= 0 && inUtc <= 9999 ? time : undefined;
}
