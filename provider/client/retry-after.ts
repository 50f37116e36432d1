/** The header Retry-After (RFC 9110, section 10.2.3), in seconds or as a date. */

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/** The maximum pause in milliseconds, even if a server asks for more. A user does not wait for an hour. */
const maxRetryAfterMs = 10 * 60_000;

/** Returns the pause in milliseconds; undefined without a valid header. A date counts from the server's own clock. */
export function retryAfterMs(headers: Headers, now = Date.now()): number | undefined {
  const { 'retry-after': asked, date } = headers;
  if (typeof asked !== 'string') return undefined;
  const text = asked.trim();
  const serverTimeMs = typeof date === 'string' ? Date.parse(date) : Number.NaN;
  const milliseconds = /^\d+$/.test(text)
    ? Number(text) * 1000
    : Date.parse(text) - (Number.isNaN(serverTimeMs) ? now : serverTimeMs);
  return Number.isNaN(milliseconds) ? undefined : Math.min(maxRetryAfterMs, Math.max(0, milliseconds));
}
