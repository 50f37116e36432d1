/** How long a server asks to be left alone: Retry-After (RFC 9110, section 10.2.3), in seconds or as a date. */

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/** The longest pause, in milliseconds, even if a server asks for more: a user does not watch a terminal for an hour. */
const longest = 10 * 60_000;

/** In milliseconds; undefined where nothing is said that can be understood. A date counts from the server's own clock. */
export function retryAfter(headers: Headers, now = Date.now()): number | undefined {
  const { 'retry-after': asked, date } = headers;
  if (typeof asked !== 'string') return undefined;
  const text = asked.trim();
  const there = typeof date === 'string' ? Date.parse(date) : Number.NaN;
  const milliseconds = /^\d+$/.test(text)
    ? Number(text) * 1000
    : Date.parse(text) - (Number.isNaN(there) ? now : there);
  return Number.isNaN(milliseconds) ? undefined : Math.min(longest, Math.max(0, milliseconds));
}
