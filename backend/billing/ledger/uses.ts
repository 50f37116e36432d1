/** The uses of projects in the database. They are read at one revision, together with the open orders of a mirror. */
import type { Id } from '../../contract/fields.ts';
import { monthsBetween, monthText } from '../../model/billing/months.ts';
import type { Use } from '../../model/billing/rating.ts';
import * as records from '../../model/records/index.ts';
import { parseRecord } from '../../store/record-codec.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { Revision, Store } from '../../store/store.ts';

/** A use with the facts that costs are shown by. */
export interface DescribedUse extends Use {
  readonly title: string;
  readonly labels: Readonly<Record<string, string>>;
}

const at = (time: string): number => Date.parse(time);

/** Returns the uses of an open order. */
export const openUses = ({ id, object, title, labels, use }: records.OrderRecord): DescribedUse[] =>
  use.map(({ since, ...item }) => ({ ...item, resource: object ?? id, title, labels, from: at(since) }));

const endedUses = ({ resource, title, labels, until, uses }: records.UsageRecord): DescribedUse[] =>
  uses.map(({ since, ...item }) => ({ ...item, resource, title, labels, from: at(since), to: at(until) }));

/** The place where open orders come from: the mirror, with its revision. */
export interface OpenOrders {
  readonly revision: Revision;
  of(project: Id<'project'>): Iterable<Stored<records.OrderRecord>>;
}

/**
 * Returns the uses of a project that end after an instant, up to the revision of the open orders.
 * @param from the instant, in milliseconds since 1970
 * @param now the present, in milliseconds since 1970
 * @throws CompactedError if the revision is compacted
 */
export async function usesSince(
  store: Store,
  open: OpenOrders,
  project: Id<'project'>,
  from: number,
  now: number,
): Promise<DescribedUse[]> {
  const { revision } = open;
  const uses = [...open.of(project)].flatMap(({ value }) => openUses(value));
  const base = `${records.usage.prefix}${project}/`;
  // Clocks of servers may be ahead, so the next month is read as well.
  const months = [...monthsBetween(from, now), monthText(now + 31 * 24 * 3_600_000)];
  for (const month of new Set(months)) {
    const prefix = `${base}${month}/`;
    let after: string | undefined;
    for (;;) {
      const page = await store.list(prefix, { limit: 1000, revision, ...(after !== undefined && { after }) });
      for (const entry of page.entries) uses.push(...endedUses(parseRecord(records.usage, entry).value));
      after = page.entries.at(-1)?.key;
      if (!page.more) break;
    }
  }
  return uses;
}
