/**
 * The cost of a project never exceeds its budget, nor that of its billing account, regardless of concurrent requests on
 * several servers.
 *
 * As with quotas (transaction/quota-guard.ts), a change that adds to the cost is committed on the condition that the
 * records with the limits are unchanged. With a budget, it also rewrites a guard. Any other such change would have
 * rewritten the guard, so the sum at the decision is still complete at the commit.
 */
import { UcloudError } from '../../contract/errors.ts';
import { type Metered, partKey } from '../../model/billing/meters.ts';
import { amountOf, formatAmount, sum } from '../../model/billing/money.ts';
import { isOrderChange } from '../../model/billing/ordering.ts';
import { isOutOfMoney } from '../../model/billing/prepaid.ts';
import { monthlyCostOf, QuantitySums } from '../../model/billing/quantity-sums.ts';
import { cloudSettings } from '../../model/placement/pool-records.ts';
import * as records from '../../model/records/index.ts';
import { absent, rewrite, unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { Condition, Write } from '../../store/store.ts';
import type { ApiContext } from '../requests/context.ts';
import { fieldError } from '../requests/validation.ts';
import { chargeableChanges } from './order-commits.ts';
import { orderFacts } from './ordering-store.ts';

/** The conditions and writes of a change that adds to the cost. */
export interface CostGuard {
  readonly require: readonly Condition[];
  readonly write: readonly Write[];
  /** The key of the mutex under which the change runs. */
  readonly queue?: string;
}

const free: CostGuard = { require: [], write: [] };

/** Returns the cost of quantities in a month, in 10⁻⁸ units. */
export const monthlyCost = (api: ApiContext, currency: string, sums: QuantitySums, at: number): bigint =>
  monthlyCostOf(api.prices.of(currency), sums, at);

/** The budgets of a project and of its account. */
interface Budgets {
  readonly project: records.BudgetRecord | undefined;
  readonly account: records.BudgetRecord | undefined;
}

/** The limits of the cost of a project, and the records that contain them. */
export interface CostLimits {
  readonly id: string;
  readonly name: string;
  readonly stored: Stored<typeof records.projects.schema.static>;
  /** The account of the project; undefined without one. */
  readonly account: string | undefined;
  /** The operator demands an account. */
  readonly accountRequired: boolean;
  readonly payer: Stored<typeof records.billingAccounts.schema.static> | undefined;
  readonly budgets: Budgets;
}

/** Returns the limits of the cost of a project; undefined if there is no such project. */
export function costLimitsOf(api: ApiContext, project: string): CostLimits | undefined {
  const stored = api.mirror.get(records.projects, project);
  if (!stored) return undefined;
  const { billing_account: account, name } = stored.value;
  const accountRequired = api.mirror.get(records.settings, cloudSettings)?.value.billing === 'required';
  const payer = account === undefined ? undefined : api.mirror.get(records.billingAccounts, account);
  const budgets: Budgets = {
    project: api.mirror.by(records.budgets, 'project').get(project)?.value,
    account: account === undefined ? undefined : api.mirror.by(records.budgets, 'billing_account').get(account)?.value,
  };
  return { id: project, name, stored, account, accountRequired, payer, budgets };
}

/** Returns the budgets that a change would exceed, as sentences; none for a change that does not add to the cost. */
export function budgetProblems(
  api: ApiContext,
  { id, name, account, payer, budgets }: CostLimits,
  { before, after }: { readonly before: QuantitySums; readonly after: QuantitySums },
  at: number,
): string[] {
  if (!payer || account === undefined) return [];
  const { currency } = payer.value;
  if (budgets.project === undefined && budgets.account === undefined) return [];
  const cost = (sums: QuantitySums) => monthlyCost(api, currency, sums, at);
  const more = cost(after) - cost(before);
  if (more <= 0n) return [];
  const problem = (whose: string, budget: records.BudgetRecord | undefined, used: () => bigint): string[] => {
    if (budget === undefined) return [];
    const limit = budget.max_monthly_cost;
    const inUse = used();
    if (inUse + more <= amountOf(limit)) return [];
    const [has, costs] = [inUse, more].map((each) => `${formatAmount(each, currency)} ${currency}`);
    return [
      `the budget of ${whose} is ${limit} ${currency} per month, ${has} are in use, and ${costs} more are asked for`,
    ];
  };
  return [
    ...problem(`the project ${name}`, budgets.project, () => cost(api.projectUse.of(id))),
    ...problem('the billing account', budgets.account, () => {
      const projects = [...api.mirror.by(records.projects, 'billing_account').list(account)];
      return sum(projects.map((each) => cost(api.projectUse.of(each.id))));
    }),
  ];
}

/**
 * Returns the conditions and writes that a change must be committed with.
 * @throws UcloudError `billing_account_required`, `budget_exceeded`, `rate_limited`
 */
export function costGuard(api: ApiContext, writes: readonly Write[], now: Date): CostGuard {
  const changes = chargeableChanges(writes, orderFacts(api.mirror)).filter(({ after }) => after);
  const [first] = changes;
  const limits = first?.after && costLimitsOf(api, first.after.project);
  if (!limits || !changes.some(({ before, after }) => isOrderChange(before?.value, after))) return free;
  const { id, name, stored, account, payer, budgets } = limits;
  api.turnover.check(id);
  if (account === undefined) {
    const grows = changes.some(({ before, after }) => addsQuantity(before?.value.use ?? [], after?.quantities ?? []));
    if (!limits.accountRequired || !grows) {
      const settings = api.mirror.get(records.settings, cloudSettings);
      // A budget, or a demand for an account, that comes meanwhile must know this change.
      return {
        require: [unchanged(stored), settings ? unchanged(settings) : absent(records.settings, cloudSettings)],
        write: [],
      };
    }
    throw fieldError('billing_account_required', '/project', `names the project ${name}, which has no billing account`);
  }
  if (!payer) return { require: [unchanged(stored)], write: [] };
  const grows = changes.some(({ before, after }) => addsQuantity(before?.value.use ?? [], after?.quantities ?? []));
  const money = grows ? moneyGuard(api, limits) : [];
  // No budget may come meanwhile, either.
  const without = [budgets.project ? [] : [id], budgets.account ? [] : [account]].flat();
  const unchangedLimits = [
    unchanged(stored),
    unchanged(payer),
    ...money,
    ...without.map((each) => noBudget(api, each)),
  ];
  if (without.length === 2) return { require: unchangedLimits, write: [] };

  const at = now.getTime();
  const before = new QuantitySums();
  const after = new QuantitySums();
  for (const change of changes) {
    before.add(change.before?.value.use ?? []);
    after.add(change.after?.quantities ?? []);
  }
  const { currency } = payer.value;
  if (monthlyCost(api, currency, after, at) <= monthlyCost(api, currency, before, at)) {
    return { require: money, write: [] };
  }
  const [detail] = budgetProblems(api, limits, { before, after }, at);
  if (detail !== undefined) {
    throw new UcloudError('budget_exceeded', detail, {
      errors: [{ pointer: '/project', detail: `exceeds the budget: ${detail}` }],
    });
  }
  const guards = [id, account].flatMap((each) => rewritten(api.mirror.get(records.budgetGuards, each)));
  return {
    require: [...unchangedLimits, ...guards.map(({ condition }) => condition)],
    write: guards.map(({ write }) => write),
    queue: `cost/${account}`,
  };
}

/** Returns why a prepaid account admits no growth; undefined if it does. */
export function moneyProblem(api: ApiContext, { name, account, payer }: CostLimits): string | undefined {
  const state = account === undefined ? undefined : api.mirror.get(records.prepaid, account)?.value.state;
  if (payer?.value.payment !== 'prepaid' || state === undefined || !isOutOfMoney(state)) return undefined;
  return `the prepaid account of the project ${name} is empty`;
}

/** Returns the condition that the account still has money. @throws UcloudError `account_empty` */
function moneyGuard(api: ApiContext, limits: CostLimits): Condition[] {
  const { account, payer } = limits;
  if (account === undefined || payer?.value.payment !== 'prepaid') return [];
  const detail = moneyProblem(api, limits);
  if (detail !== undefined)
    throw new UcloudError('account_empty', detail, { errors: [{ pointer: '/project', detail }] });
  const state = api.mirror.get(records.prepaid, account);
  return [unchanged(payer), state ? unchanged(state) : absent(records.prepaid, account)];
}

/** Tells whether some quantity is larger afterwards. */
function addsQuantity(before: readonly Metered[], after: readonly Metered[]): boolean {
  const known = new Map(before.map((item) => [partKey(item), item.quantity]));
  return after.some((item) => item.quantity > (known.get(partKey(item)) ?? 0));
}

/** Returns the condition that an owner still has no budget. */
function noBudget({ mirror }: ApiContext, owner: string): Condition {
  const stored = mirror.get(records.budgetGuards, owner);
  return stored ? unchanged(stored) : absent(records.budgetGuards, owner);
}

/** Returns the write that counts the guard of a budget up, on the condition that nobody else has. */
function rewritten(
  stored: Stored<typeof records.budgetGuards.schema.static> | undefined,
): { condition: Condition; write: Write }[] {
  if (stored?.value.id === undefined) return [];
  const next = { ...stored.value, count: stored.value.count + 1 };
  return [{ condition: unchanged(stored), write: rewrite(records.budgetGuards, stored, next) }];
}
