/**
 * The database as the API sees it. Each commit that creates, resizes or deletes an object that is charged also opens, replaces
 * or ends its order. So no code of the API, also none that is written later, can forget an order.
 *
 * The mirror contains the open orders. An order changes only in a commit that writes its object. A commit whose conditions
 * on the object hold therefore finds the order as in the mirror, or fails and is decided again.
 */

import { isIdOf } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import type { Store } from '../../store/store.ts';
import type { ApiMirror } from '../read-model/mirror.ts';
import { type OrderFacts, withOrders } from './order-commits.ts';

/** Returns the open order of an object in the mirror. */
export const openOrderOf = (mirror: Pick<ApiMirror, 'by'>, object: string) =>
  mirror.by(records.orders, 'object').get(object);

/** Returns the last term of a project. The keys are in the order of time. */
export const lastTerm = (mirror: Pick<ApiMirror, 'list'>, project: string) =>
  [...mirror.list(records.accountTerms, `${project}/`)].at(-1)?.value;

/** Returns the facts about orders in the mirror. */
export const orderFacts = (mirror: Pick<ApiMirror, 'by' | 'get' | 'list'>): OrderFacts => ({
  order: (object) => openOrderOf(mirror, object),
  termOf: (project) => lastTerm(mirror, project)?.since,
  running(vm) {
    const report = isIdOf('vm', vm) ? mirror.get(records.reports, vm)?.value : undefined;
    return report?.phase === 'running' ? report.resources : undefined;
  },
});

/** Returns the store with orders. */
export function orderingStore(store: Store, mirror: Pick<ApiMirror, 'by' | 'get' | 'list'>): Store {
  const { watchRanges } = store;
  return {
    get: (key) => store.get(key),
    list: (prefix, options) => store.list(prefix, options),
    commit: (commit) => store.commit(withOrders(commit, orderFacts(mirror), new Date())),
    watch: (prefix, from, signal) => store.watch(prefix, from, signal),
    ...(watchRanges && { watchRanges: (listener) => watchRanges.call(store, listener) }),
    lease: (ttl) => store.lease(ttl),
    compact: (revision) => store.compact(revision),
    close: () => store.close(),
  };
}
