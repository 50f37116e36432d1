/** Budgets: the largest monthly cost of a project or of a billing account. The guard of costs enforces them. */
import { UcloudError } from '../../contract/errors.ts';
import { type BudgetBody, type BudgetUpdate, budget } from '../../contract/resources/budgets.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { absent, present, put, remove, rewrite, unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { Write } from '../../store/store.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import { creation, patched, removal, removeReference, replacement } from '../transaction/declarations.ts';
import { type Guard, mutate, raiseFormat } from '../transaction/mutate.ts';

/** The descriptor of budgets. That of an account has no project, so members do not see it. A token of the account does. */
export const budgets: ResourceDescriptor<records.BudgetRecord> = describe(budget, {
  kind: records.budgets,
  scope: 'project',
  payer: (record) => record.billing_account,
  show: (_api, record) => record,
  indexes: ['billing_account'],
  list: { filters: ['billing_account'] },
  alsoMirrored: [records.budgetGuards],
  handlers: { budget_create: createBudget, budget_update: updateBudget, budget_delete: deleteBudget },
});

type Owner = Pick<records.BudgetRecord, 'project' | 'billing_account'>;

/** Returns the id of the project or the account of a budget. @throws UcloudError `rule_violated` */
function ownerOf({ project, billing_account }: Owner): string {
  if (project !== undefined && billing_account !== undefined) {
    throw fieldError('rule_violated', '/billing_account', 'must be missing: a budget is for a project or an account');
  }
  const owner = project ?? billing_account;
  if (owner === undefined) {
    throw fieldError('rule_violated', '/project', 'must be set, unless `billing_account` is');
  }
  return owner;
}

/** Checks that the owner exists. @throws UcloudError `invalid_reference` */
function ownerExists({ mirror }: ApiContext, { project, billing_account }: Owner): Guard {
  if (project !== undefined) {
    if (mirror.get(records.projects, project)) return { condition: present(records.projects, project) };
    throw fieldError('invalid_reference', '/project', `must be the id of an existing project: there is no ${project}`);
  }
  const account = billing_account ?? '';
  if (mirror.get(records.billingAccounts, account)) return { condition: present(records.billingAccounts, account) };
  const rule = `must be the id of an existing billing account: there is no ${account}`;
  throw fieldError('invalid_reference', '/billing_account', rule);
}

/** Returns the error of an owner that has a budget. */
function exists(pointer: string, owner: string, holder: unknown): UcloudError {
  const detail = `${owner} has the budget ${String(holder)}`;
  return new UcloudError('budget_exists', detail, { errors: [{ pointer, detail: `is taken: ${detail}` }] });
}

/** Returns the guards and writes that give an owner its only budget. @throws UcloudError `budget_exists` */
export function takeOwner(
  { mirror }: Pick<ApiContext, 'mirror'>,
  owner: string,
  id: records.BudgetRecord['id'],
  pointer: string,
) {
  const stored = mirror.get(records.budgetGuards, owner);
  if (stored?.value.id !== undefined) throw exists(pointer, owner, stored.value.id);
  const writes = [put(records.uses, `${owner}/${id}`, {})];
  if (stored) {
    // A version without budgets as objects has left this guard.
    const next = { count: stored.value.count + 1, id };
    return {
      guards: [{ condition: unchanged(stored) }],
      writes: [...writes, rewrite(records.budgetGuards, stored, next)],
    };
  }
  const guard: Guard = {
    condition: absent(records.budgetGuards, owner),
    otherwise: ([entry]) => {
      const holder: unknown = entry && JSON.parse(entry.value).id;
      return holder === undefined ? undefined : exists(pointer, owner, holder);
    },
  };
  return { guards: [guard], writes: [...writes, put(records.budgetGuards, owner, { count: 1, id })] };
}

async function createBudget(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const at = request.now.toISOString();
  const body = request.body as BudgetBody;
  const owner = ownerOf(body);
  const record: records.BudgetRecord = { id: newId('budget'), ...body, created_at: at, updated_at: at };
  return mutate(api, request, () => {
    const found = ownerExists(api, body);
    const { guards, writes } = takeOwner(
      api,
      owner,
      record.id,
      body.project === undefined ? '/billing_account' : '/project',
    );
    return creation(api, budgets, record, { guards: [found, ...guards], writes });
  });
}

async function updateBudget(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, budgets, (stored) => {
    const changed: records.BudgetRecord = patched(budget, stored.value, request.body as BudgetUpdate);
    const next = { ...changed, updated_at: request.now.toISOString() };
    const owner = ownerOf(next);
    const count = (api.mirror.get(records.budgetGuards, owner)?.value.count ?? 0) + 1;
    // Changes that were decided with the old amount fail, and are decided again.
    const writes = [put(records.budgetGuards, owner, { count, id: stored.value.id })];
    return replacement(api, request, budgets, stored, next, { writes });
  });
}

async function deleteBudget(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, budgets, (stored) => {
    const owner = ownerOf(stored.value);
    const writes = [removeReference(owner, stored.id), remove(records.budgetGuards, owner)];
    return removal(api, request, budgets, stored, { writes });
  });
}

/** The number of attempts to convert. An attempt fails only if another server was first. */
const attempts = 10;

/** Makes an object of the budget that an earlier version stored as a field of a project or an account. */
async function convert(api: ApiContext, owner: Owner, max_monthly_cost: string, stored: Stored<object>, write: Write) {
  const at = new Date().toISOString();
  const id = newId('budget');
  const record: records.BudgetRecord = {
    ...{ id, ...owner, max_monthly_cost, labels: {}, delete_protection: false, created_at: at, updated_at: at },
  };
  const isObject = api.mirror.get(records.budgetGuards, stored.id)?.value.id !== undefined;
  const { guards, writes } = isObject ? { guards: [], writes: [] } : takeOwner(api, stored.id, id, '');
  // A field beside an object has no effect, so it only goes.
  const all = [write, ...(isObject ? [] : [put(records.budgets, id, record)]), ...writes];
  await raiseFormat(api, all);
  await api.store.commit({ require: [unchanged(stored), ...guards.map(({ condition }) => condition)], write: all });
}

/** Converts all budgets of an earlier version, at the start of a server. */
export async function convertOldBudgets(api: ApiContext): Promise<void> {
  const { mirror } = api;
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const projects = [...mirror.list(records.projects)].filter(({ value }) => value.max_monthly_cost !== undefined);
    const accounts = [...mirror.list(records.billingAccounts)].filter(
      ({ value }) => value.max_monthly_cost !== undefined,
    );
    if (projects.length + accounts.length === 0) return;
    for (const stored of projects) {
      const { max_monthly_cost = '0', ...rest } = stored.value;
      await convert(api, { project: rest.id }, max_monthly_cost, stored, rewrite(records.projects, stored, rest));
    }
    for (const stored of accounts) {
      const { max_monthly_cost = '0', ...rest } = stored.value;
      const write = rewrite(records.billingAccounts, stored, rest);
      await convert(api, { billing_account: rest.id }, max_monthly_cost, stored, write);
    }
    await mirror.refresh();
  }
}
