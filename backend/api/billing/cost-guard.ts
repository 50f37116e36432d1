/**
 * The cost of a project never exceeds its budget, nor that of its billing account, regardless of concurrent requests on
 * several servers.
 *
 * As with quotas (transaction/quota-guard.ts), a change that adds to the cost is committed on the condition that the
 * records with the limits are unchanged. With a budget, it also rewrites a guard. Any other such change would have
 * rewritten the guard, so the sum at the decision is still complete at the commit.
 */
import { UcloudError } from '../../contract/errors.ts';
import { estimate } from '../../model/billing/estimate.ts';
import type { Metered } from '../../model/billing/meters.ts';
import { amountOf, formatAmount, sum } from '../../model/billing/money.ts';
import { cloudSettings } from '../../model/placement/pool-records.ts';
import * as records from '../../model/records/index.ts';
import { absent, put, rewrite, unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { Condition, Write } from '../../store/store.ts';
import { QuantitySums } from '../read-model/project-use.ts';
import type { ApiContext } from '../requests/context.ts';
import { fieldError } from '../requests/validation.ts';
import { chargeableChanges } from './order-commits.ts';
import { openOrderOf } from './ordering-store.ts';

/** The conditions and writes of a change that adds to the cost. */
export interface CostGuard {
  readonly require: readonly Condition[];
  readonly write: readonly Write[];
  /** The key of the mutex under which the change runs. */
  readonly queue?: string;
}

const free: CostGuard = { require: [], write: [] };

/** Returns the cost of quantities in a month, in 10⁻⁸ units. */
export const monthlyCost = (api: ApiContext, currency: string, items: readonly Metered[], at: number): bigint =>
  sum(estimate(api.prices.of(currency), items, at).map(({ monthly }) => monthly));

/** Returns the conditions and writes that a change must be committed with. @throws UcloudError `billing_account_required`, `budget_exceeded` */
export function costGuard(api: ApiContext, writes: readonly Write[], now: Date): CostGuard {
  const changes = chargeableChanges(writes, (object) => openOrderOf(api.mirror, object)).filter(({ after }) => after);
  const [first] = changes;
  if (!first?.after) return free;
  const { project } = first.after;
  const stored = api.mirror.get(records.projects, project);
  if (!stored) return free;
  const settings = api.mirror.get(records.settings, cloudSettings);
  const { billing_account: account, max_monthly_cost: budget, name } = stored.value;
  if (account === undefined) {
    if (settings?.value.billing !== 'required' || changes.every(({ before }) => before)) return free;
    throw fieldError('billing_account_required', '/project', `names the project ${name}, which has no billing account`);
  }
  const payer = api.mirror.get(records.billingAccounts, account);
  if (!payer) return { require: [unchanged(stored)], write: [] };
  const { currency, max_monthly_cost: total } = payer.value;
  if (budget === undefined && total === undefined) return { require: [unchanged(stored), unchanged(payer)], write: [] };

  const at = now.getTime();
  const before = new QuantitySums();
  const after = new QuantitySums();
  for (const change of changes) {
    before.add(change.before?.value.use ?? []);
    after.add(change.after?.quantities ?? []);
  }
  const cost = (items: readonly Metered[]) => monthlyCost(api, currency, items, at);
  const more = cost(after.items) - cost(before.items);
  if (more <= 0n) return free;
  const check = (whose: string, limit: string | undefined, used: bigint) => {
    if (limit === undefined || used + more <= amountOf(limit)) return;
    const [has, costs] = [used, more].map((each) => `${formatAmount(each, currency)} ${currency}`);
    const detail = `the budget of ${whose} is ${limit} ${currency} per month, ${has} are in use, and ${costs} more are asked for`;
    throw new UcloudError('budget_exceeded', detail, {
      errors: [{ pointer: '/project', detail: `exceeds the budget: ${detail}` }],
    });
  };
  check(`the project ${name}`, budget, cost(api.projectUse.of(project)));
  if (total !== undefined) {
    const projects = [...api.mirror.by(records.projects, 'billing_account').list(account)];
    check('the billing account', total, sum(projects.map(({ id }) => cost(api.projectUse.of(id)))));
  }
  const limited = [...(budget === undefined ? [] : [project]), ...(total === undefined ? [] : [account])];
  const guards = limited.map((id) => rewritten(id, api.mirror.get(records.budgetGuards, id)));
  return {
    require: [unchanged(stored), unchanged(payer), ...guards.map(({ condition }) => condition)],
    write: guards.map(({ write }) => write),
    queue: `cost/${account}`,
  };
}

/** Returns the write that counts a guard up, on the condition that nobody else has. */
function rewritten(
  id: string,
  stored: Stored<typeof records.budgetGuards.schema.static> | undefined,
): { condition: Condition; write: Write } {
  const kind = records.budgetGuards;
  if (!stored) return { condition: absent(kind, id), write: put(kind, id, { count: 1 }) };
  return { condition: unchanged(stored), write: rewrite(kind, stored, { count: stored.value.count + 1 }) };
}
