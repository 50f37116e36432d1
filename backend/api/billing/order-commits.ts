/** The commits that keep orders together with their objects. */

import { type Chargeable, chargeableOf, chargeablePrefixes, type RunningShape } from '../../model/billing/meters.ts';
import { notBefore, type OrderChange, orderChange } from '../../model/billing/ordering.ts';
import * as records from '../../model/records/index.ts';
import { absent, put, remove, rewrite, unchanged } from '../../store/collection.ts';
import type { RecordKind, Stored } from '../../store/record-kind.ts';
import type { Commit, Condition, Write } from '../../store/store.ts';

type OpenOrder = Stored<records.OrderRecord>;

/** The facts about objects that their records do not contain, at a revision that is not older than that of the object. */
export interface OrderFacts {
  /** Returns the open order of an object. */
  order(object: string): OpenOrder | undefined;
  /** Returns the instant from which the present account pays for a project, or from which none does. */
  termOf(project: string): string | undefined;
  /** Returns the shape of the running guest of a VM. */
  running(vm: string): RunningShape | undefined;
}

/**
 * Returns the key of a record of ended uses. An order can change several times in one millisecond, but each revision of it
 * changes once.
 */
const usageKey = ({ project, order, resource, until }: records.UsageRecord, revision: number): string =>
  [project, until.slice(0, 7), resource, until, order, revision].join('/');

/** Returns the conditions and writes of a change of an order. */
export function orderCommit(before: OpenOrder | undefined, change: OrderChange): Required<Commit> {
  const { open, ended, usage } = change;
  const require: Condition[] = [before ? unchanged(before) : absent(records.orders, open?.id ?? '')];
  const write: Write[] = [];
  if (open && before?.id === open.id) write.push(rewrite(records.orders, before, open));
  else {
    if (open) write.push(put(records.orders, open.id, open));
    if (before) write.push(remove(records.orders, before.id));
  }
  if (ended) write.push(put(records.endedOrders, `${ended.project}/${ended.ended_at}/${ended.id}`, ended));
  if (before && usage) write.push(put(records.usage, usageKey(usage, before.revision), usage));
  return { require, write };
}

/** A change of an object that is charged. */
export interface ChargeableChange {
  readonly object: string;
  readonly before: OpenOrder | undefined;
  /** Undefined: the object is no longer charged. */
  readonly after: Chargeable | undefined;
}

/** The records of writes. The guard of budgets and the commit read the same write. */
const parsed = new WeakMap<Write, object>();

function recordIn(write: Write & { readonly value: string }): object {
  const record = parsed.get(write) ?? (JSON.parse(write.value) as object);
  parsed.set(write, record);
  return record;
}

/**
 * Returns the changes of objects that are charged, among the writes of a commit.
 * @throws RangeError if the commit deletes all objects of a kind at once
 */
export function chargeableChanges(writes: readonly Write[], facts: OrderFacts): ChargeableChange[] {
  return writes.flatMap((write): ChargeableChange[] => {
    if ('deletePrefix' in write) {
      const hit = chargeablePrefixes.find(
        (each) => each.startsWith(write.deletePrefix) || write.deletePrefix.startsWith(each),
      );
      // The commit does not contain the objects, so their orders would stay.
      if (hit !== undefined) throw new RangeError(`${hit} is charged: a commit must delete each object by its key`);
      return [];
    }
    const key = 'put' in write ? write.put : write.delete;
    const prefix = chargeablePrefixes.find((each) => key.startsWith(each));
    if (prefix === undefined) return [];
    const object = key.slice(prefix.length);
    const after = 'put' in write ? chargeableOf(prefix, recordIn(write), facts.running(object)) : undefined;
    return [{ object, before: facts.order(object), after }];
  });
}

/** Returns a commit with the changes of the orders of its objects. */
export function withOrders(commit: Commit, facts: OrderFacts, now: Date): Commit {
  const more = chargeableChanges(commit.write, facts).flatMap(({ before, after }) => {
    const change = orderChange(before?.value, after, after ? notBefore(now, facts.termOf(after.project)) : now);
    return change ? [orderCommit(before, change)] : [];
  });
  if (more.length === 0) return commit;
  return {
    require: [...(commit.require ?? []), ...more.flatMap(({ require }) => require)],
    write: [...commit.write, ...more.flatMap(({ write }) => write)],
  };
}

/** The kinds of records whose objects are charged. */
export const chargeableKinds: readonly RecordKind[] = [
  records.vms,
  records.volumes,
  records.snapshots,
  records.prefixes,
];
