/**
 * The repair of orders, for objects that a version without orders has created, changed or deleted. Their orders begin, change or
 * end at the time of the repair. It has nothing to do for objects of this version.
 */
import { type Chargeable, chargeableOf } from '../../model/billing/meters.ts';
import { orderChange } from '../../model/billing/ordering.ts';
import * as records from '../../model/records/index.ts';
import { absent, unchanged } from '../../store/collection.ts';
import type { RecordKind, Stored } from '../../store/record-kind.ts';
import type { Condition } from '../../store/store.ts';
import { chargeableKinds, orderCommit } from '../billing/order-commits.ts';
import { openOrderOf, orderFacts } from '../billing/ordering-store.ts';
import type { ApiContext } from '../requests/context.ts';
import type { Removal } from './collector.ts';

const kinds: ReadonlyMap<string, RecordKind> = new Map(chargeableKinds.map((kind) => [kind.prefix, kind]));

interface Found {
  readonly condition: Condition;
  readonly after: Chargeable | undefined;
}

/** Returns the object, with the condition that it stays as it is. Undefined if it is of another kind. */
function findObject({ mirror, resources }: ApiContext, id: string): Found | undefined {
  const kind = kinds.get(resources.ofId(id)?.kind.prefix ?? '');
  if (!kind) return undefined;
  const stored: Stored<unknown> | undefined = mirror.get(kind, id);
  if (!stored) return { condition: absent(kind, id), after: undefined };
  return {
    condition: unchanged(stored),
    after: chargeableOf(kind.prefix, stored.value, orderFacts(mirror).running(id)),
  };
}

function changeFor(api: ApiContext, id: string) {
  const found = findObject(api, id);
  if (!found) return undefined;
  const before = openOrderOf(api.mirror, id);
  const change = orderChange(before?.value, found.after, new Date());
  return change && { ...found, before, change };
}

/** The repair of orders, for the collector. */
export const orderRepair: Removal = {
  noun: 'order',
  *initial({ mirror }) {
    for (const kind of chargeableKinds) for (const { id } of mirror.list(kind)) yield id;
    for (const { value } of mirror.list(records.orders)) if (value.object !== undefined) yield value.object;
  },
  *affected({ kind, id, previous }) {
    // A restart changes the shape of a guest.
    if (kinds.has(kind.prefix) || kind.prefix === records.reports.prefix) yield id;
    if (kind.prefix !== records.orders.prefix) return;
    const object = (previous as Stored<records.OrderRecord> | undefined)?.value.object;
    if (object !== undefined) yield object;
  },
  isDue: (api, id) => changeFor(api, id) !== undefined,
  async remove(api, id) {
    const due = changeFor(api, id);
    if (!due) return true;
    const { require, write } = orderCommit(due.before, due.change);
    return (await api.store.commit({ require: [due.condition, ...require], write })).ok;
  },
};
