/** The lines of the bill of an account, from the database. The API and the billing component compute them in the same way. */
import type { Id } from '../../contract/fields.ts';
import { type AccountTerm, paidTimes } from '../../model/billing/account-terms.ts';
import { type BilledProject, billLines, type NetLine, type PaidTime } from '../../model/billing/bills.ts';
import type { Month } from '../../model/billing/rating.ts';
import * as records from '../../model/records/index.ts';
import type { Mirror } from '../../store/mirror.ts';
import type { Store } from '../../store/store.ts';
import { priceFactsOf, priceKinds } from './price-facts.ts';
import { type OpenOrders, usesSince } from './uses.ts';

/** The kinds of records that a mirror must contain. */
export const ledgerKinds = [
  records.accountTerms,
  records.orders,
  ...priceKinds,
  records.projects,
  records.billingAccounts,
  records.legalEntities,
  records.vatChecks,
  records.vatRates,
] as const;

/** A mirror with the kinds of `ledgerKinds`, and the open orders of projects. */
export interface Ledger {
  readonly store: Store;
  readonly mirror: Mirror;
  readonly ordersOf: OpenOrders['of'];
}

interface ProjectTerms {
  readonly id: Id<'project'>;
  readonly name: string;
  readonly terms: readonly AccountTerm[];
}

/** The terms of projects by account, at a revision of a mirror. All accounts of a round need them. */
const known = new WeakMap<Mirror, { readonly revision: number; readonly byAccount: Map<string, ProjectTerms[]> }>();

function termsByAccount(mirror: Mirror): Map<string, ProjectTerms[]> {
  const last = known.get(mirror);
  if (last?.revision === mirror.revision) return last.byAccount;
  const projects = new Map<Id<'project'>, { name: string; terms: AccountTerm[] }>();
  for (const { value } of mirror.list(records.accountTerms)) {
    const { project, account, since } = value;
    const before = projects.get(project) ?? { name: value.name, terms: [] };
    before.terms.push({ account, since: Date.parse(since) });
    projects.set(project, { ...before, name: mirror.get(records.projects, project)?.value.name ?? value.name });
  }
  const byAccount = new Map<string, ProjectTerms[]>();
  for (const [id, { name, terms }] of projects) {
    for (const account of new Set(terms.map((term) => term.account))) {
      if (account === undefined) continue;
      const own = byAccount.get(account);
      if (own) own.push({ id, name, terms });
      else byAccount.set(account, [{ id, name, terms }]);
    }
  }
  known.set(mirror, { revision: mirror.revision, byAccount });
  return byAccount;
}

/** Returns the times of the month in which the account pays for each project. */
export function paidProjects(mirror: Mirror, account: string, { from, to }: Month) {
  return (termsByAccount(mirror).get(account) ?? []).flatMap(({ id, name, terms }) => {
    const paid = paidTimes(terms, account).filter((time) => time.from < to && time.to > from);
    return paid.length === 0 ? [] : [{ id, name, paid }];
  });
}

/**
 * Returns the lines of the bill of an account for a part of a month.
 * @param now the present, in milliseconds since 1970
 * @throws CompactedError if the revision of the mirror is compacted
 */
export async function accountLines(
  { store, mirror, ordersOf }: Ledger,
  account: records.BillingAccountRecord,
  month: Month,
  period: PaidTime,
  now: number,
): Promise<NetLine[]> {
  const { products, prices } = priceFactsOf(mirror, account.currency);
  // All parts of the calculation show one revision. No await separates them from the list of projects.
  const open: OpenOrders = { revision: mirror.revision, of: ordersOf };
  const paid = paidProjects(mirror, account.id, month);
  const orders = new Map(paid.map(({ id }) => [id, [...ordersOf(id)]]));
  const from = month.from - prices.longestMinimumMs;
  const projects: BilledProject[] = [];
  for (const project of paid) {
    const own = { ...open, of: () => orders.get(project.id) ?? [] };
    projects.push({ ...project, uses: await usesSince(store, own, project.id, from, now) });
  }
  return billLines({ prices, products, projects, month, period });
}
