/** Raises the format of the database (docs/adr/0014), before a record is written that older versions would misread. */
import type { TSchema } from '@sinclair/typebox';
import { absent, conflict, put, read, retryOnConflict, unchanged } from './collection.ts';
import type { RecordKind } from './record-kind.ts';
import type { Store } from './store.ts';

/** The record with the format. */
export interface FormatRecord {
  readonly kind: RecordKind<TSchema & { static: { reader: number } }>;
  readonly id: string;
}

/**
 * Sets the minimum format that readers must support, unless it is as high already.
 * @throws UcloudError `store_unavailable`
 */
export const raiseFormat = (store: Store, { kind, id }: FormatRecord, needed: number): Promise<unknown> =>
  retryOnConflict(async () => {
    const stored = await read(store, kind, id);
    if ((stored?.value.reader ?? 1) >= needed) return true;
    const require = [stored ? unchanged(stored) : absent(kind, id)];
    const { ok } = await store.commit({ require, write: [put(kind, id, { reader: needed })] });
    return ok || conflict;
  });
