/** Reads a part of the database at one revision. */
import { CompactedError, type Entry, type Revision, type Store } from './store.ts';

const pageSize = 1000;

/**
 * Returns all entries below the prefix at one revision.
 * @throws UcloudError `store_unavailable`
 */
export async function readAllBelow(
  store: Store,
  prefix: string,
): Promise<{ revision: Revision; entries: Map<string, Entry> }> {
  for (;;) {
    try {
      const first = await store.list(prefix, { limit: pageSize });
      const { revision } = first;
      const entries = new Map<string, Entry>();
      for (let page = first; ; ) {
        for (const entry of page.entries) entries.set(entry.key, entry);
        const after = page.entries.at(-1)?.key;
        if (!page.more || after === undefined) return { revision, entries };
        page = await store.list(prefix, { limit: pageSize, after, revision });
      }
    } catch (error) {
      // The history was compacted between two pages: start again.
      if (!(error instanceof CompactedError)) throw error;
    }
  }
}
