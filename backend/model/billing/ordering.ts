/**
 * The rules of orders. Pure. An object that is charged has exactly one open order. The order and the use of the object change
 * in the commit that changes the object.
 */

import type { Id } from '../../contract/fields.ts';
import { idFrom, newId } from '../ids.ts';
import type { EndedOrderRecord, OrderRecord, UsageRecord } from '../records/index.ts';
import { type Chargeable, isOrdered, type Metered, partKey } from './meters.ts';

/** Returns the id of the first order of an object: it has the same random characters. Two processes cannot open two. */
export const firstOrderId = (object: string): Id<'order'> =>
  idFrom('order', `ord-${object.slice(object.indexOf('-') + 1)}`);

/** The change of an order by a commit. A missing part does not change. */
export interface OrderChange {
  /** The order that is open afterwards. Undefined if it stays as it is, or if none is open. */
  readonly open?: OrderRecord;
  /** The order that ends. */
  readonly ended?: EndedOrderRecord;
  /** The quantities that are no longer in use. */
  readonly usage?: UsageRecord;
}

type UseItem = OrderRecord['use'][number];

const amounts = (items: readonly Metered[]): Map<string, number> =>
  new Map(items.map((item) => [partKey(item), item.quantity]));

function haveEqualAmounts(a: readonly Metered[], b: readonly Metered[]): boolean {
  const [left, right] = [amounts(a), amounts(b)];
  return left.size === right.size && [...left].every(([key, quantity]) => right.get(key) === quantity);
}

/** Returns the record of the uses that end, unless none ends. */
function endedUse(
  { id, project, object, title }: OrderRecord,
  uses: readonly UseItem[],
  labels: OrderRecord['labels'],
  until: string,
): Pick<OrderChange, 'usage'> {
  if (uses.length === 0) return {};
  return { usage: { project, order: id, resource: object ?? id, title, labels, until, uses: [...uses] } };
}

/** Returns an order as it is stored after its end. */
function endedOrder(
  { use: _use, created_at: _created, updated_at: _updated, ...facts }: OrderRecord,
  ended_at: string,
  end: EndedOrderRecord['end'],
): EndedOrderRecord {
  return { ...facts, ended_at, end };
}

/** Returns the end of an order and of all its uses. */
export function endOrder(order: OrderRecord, end: EndedOrderRecord['end'], now: Date): OrderChange {
  const at = changeTime(order, now);
  return { ended: endedOrder(order, at, end), ...endedUse(order, order.use, order.labels, at) };
}

/**
 * Returns the time of a change. The clocks of servers differ, but no change of an order precedes the last one. So no use ends
 * before it begins, or begins before the end of the last use.
 */
export function changeTime({ opened_at, updated_at, use }: OrderRecord, now: Date): string {
  const known = [opened_at, updated_at, ...use.map(({ since }) => since)];
  return known.reduce((last, each) => (each > last ? each : last), now.toISOString());
}

/**
 * Returns the time of an order. The clocks of servers differ, but no order begins before the account that pays for it: the order
 * would be on the bill of the account before, or on none.
 */
export const notBefore = (now: Date, term: string | undefined): Date =>
  term !== undefined && term > now.toISOString() ? new Date(term) : now;

function openOrder(object: Chargeable, before: OrderRecord | undefined, use: UseItem[], at: string): OrderRecord {
  const { id, project, name, labels, quantities } = object;
  return {
    id: before === undefined ? firstOrderId(id) : newId('order'),
    ...{ project: idFrom('project', project), object: id, title: name, labels, description: '' },
    items: quantities.filter(isOrdered) as OrderRecord['items'],
    opened_at: at,
    ...(before && { replaces: before.id }),
    ...{ use, created_at: at, updated_at: at },
  };
}

/** Tells whether the order of an object changes. */
export function isOrderChange(before: OrderRecord | undefined, after: Chargeable | undefined): boolean {
  if (before === undefined || after === undefined) return before !== after;
  return !haveEqualAmounts(before.use, after.quantities);
}

/**
 * Returns the change of the order of an object. Undefined if nothing changes.
 * @param before the open order of the object
 * @param after the object after the commit. Undefined: it is no longer charged
 */
export function orderChange(
  before: OrderRecord | undefined,
  after: Chargeable | undefined,
  now: Date,
): OrderChange | undefined {
  if (!isOrderChange(before, after)) return undefined;
  if (after === undefined) return before && endOrder(before, 'deleted', now);
  if (before === undefined) {
    const at = now.toISOString();
    return { open: openOrder(after, undefined, begin(after.quantities, at), at) };
  }
  const at = changeTime(before, now);
  const next = amounts(after.quantities);
  const stays = ({ quantity, ...part }: UseItem) => next.get(partKey(part)) === quantity;
  const staying = before.use.filter(stays);
  const known = new Set(staying.map(partKey));
  const use = [
    ...staying,
    ...begin(
      after.quantities.filter((item) => !known.has(partKey(item))),
      at,
    ),
  ];
  const over = endedUse(
    before,
    before.use.filter((item) => !stays(item)),
    after.labels,
    at,
  );
  if (haveEqualAmounts(before.items, after.quantities.filter(isOrdered)))
    return { open: { ...before, use, updated_at: at }, ...over };
  return { open: openOrder(after, before, use, at), ended: endedOrder(before, at, 'replaced'), ...over };
}

const begin = (quantities: readonly Metered[], since: string): UseItem[] =>
  quantities.map((item) => ({ ...(item as Omit<UseItem, 'since'>), since }));
