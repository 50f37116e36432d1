/** Reads all pages of a list. */
import { type Call, call } from './client.ts';

/** A list of the API. */
export interface Listed {
  readonly items: readonly unknown[];
  readonly revision?: number;
  /** Set if the list has more items. */
  readonly next_page_token?: string;
}

/** The number of items in one request. */
const pageSize = 500;

/**
 * Reads a list. Returns the revision of the first page, so that a later wait from there misses no change.
 * @param limit the maximum number of items; a longer list has a `next_page_token` in the result
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
    // Only the first page waits for a change.
    query = { ...query, page_token: next, after: undefined, timeout: undefined };
  }
}
