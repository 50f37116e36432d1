/** Lists in full: pages are the API's matter, not that of people. */
import { type Call, call } from './client.ts';

export interface Listed {
  readonly items: readonly unknown[];
  readonly revision?: number;
  /** There is more. */
  readonly next_page_token?: string;
}

/** Items of one request. */
const pageSize = 500;

/**
 * @param limit most items; the answer has a `next_page_token` if there are more
 * @returns with the revision of the first page: what has changed since is told to whoever waits from there
 */
export async function listUpTo(asked: Call, limit = Number.POSITIVE_INFINITY): Promise<Listed> {
  const items: unknown[] = [];
  let query = asked.query ?? {};
  let revision: number | undefined;
  for (;;) {
    const size = Math.min(pageSize, limit - items.length);
    const page = (await call({ ...asked, query: { ...query, limit: String(size) } })) as Listed;
    items.push(...page.items);
    revision ??= page.revision;
    const { next_page_token: next } = page;
    const more = next !== undefined && next !== query.page_token;
    if (!more || items.length >= limit) {
      return { items, ...(more && { next_page_token: next }), ...(revision !== undefined && { revision }) };
    }
    // Only the first page waits for news.
    query = { ...query, page_token: next, after: undefined, timeout: undefined };
  }
}
