import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import { Amount, common, DeleteProtection, exampleId, IdOf, Labels, Reference } from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';

/** The resource of budgets. */
export const budget = resource({
  noun: 'budget',
  plural: 'budgets',
  description:
    'The largest monthly cost of a project, or of all projects of a billing account. The API refuses creations and changes beyond it. A project and an account have at most one each. Members see the budget of their project, and a token of role `billing` that of its account.',
  immutable: {
    project: Type.Optional(Reference('project', { description: 'Project. Either this or `billing_account`.' })),
    billing_account: Type.Optional(
      Reference('billing_account', { description: 'Billing account with all its projects. Either this or `project`.' }),
    ),
  },
  mutable: {
    max_monthly_cost: Amount({
      description:
        'Largest cost in a month of 730 hours, before VAT, in the currency of the billing account. A project without an account costs nothing. A lower amount removes nothing.',
    }),
    labels: Labels,
    delete_protection: DeleteProtection,
  },
  readonly: { id: IdOf('budget'), ...common },
  defaulted: ['labels', 'delete_protection'],
  optional: ['project', 'billing_account'],
});
export type Budget = ItemType<typeof budget>;
export type BudgetCreate = CreateType<typeof budget>;
export type BudgetBody = BodyType<typeof budget>;
export type BudgetUpdate = UpdateType<typeof budget>;

const declaration = { project: exampleId('project'), max_monthly_cost: '500.00' };

const example: Budget = {
  id: exampleId('budget'),
  ...declaration,
  labels: {},
  delete_protection: false,
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 8,
};

/** The endpoints of budgets. */
export const budgetEndpoints = crud(budget, {
  read: 'viewer',
  write: 'operator',
  billing: true,
  scoped: true,
  createErrors: ['budget_exists'],
  deleteErrors: ['delete_protected'],
  extraListQuery: {
    billing_account: Type.Optional(Reference('billing_account', { description: 'Only the budget of this account.' })),
  },
  example: { create: declaration, item: example, update: { max_monthly_cost: '800' } },
});
