/**
 * The attribute `price`, and the cost of the plan. The attribute informs only: it keeps its value until a quantity changes
 * that costs money. A new price, a new account or a project without prices therefore never changes a plan.
 */
import { isNotFound } from '../client/problem.ts';
import { type Attributes, attribute, type CallContext, UNKNOWN, type Value, type Values } from '../framework/index.ts';
import { amountOf, decimalsOf, textOf } from '../plan-session/amounts.ts';
import type { PlanSession } from '../plan-session/plan-session.ts';
import { type Cost, type PricedPart, quoteBody } from '../plan-session/quotes.ts';
import { warningOf } from './capacity-warnings.ts';
import type { PlanContext } from './contexts.ts';
import type { ResourceSchema } from './fields.ts';
import { type Finder, pricedParts } from './priced-parts.ts';

const amount = (description: string) => attribute.string({ computed: true, description });

/** The attribute `price`. */
export const priceAttribute: Attributes = {
  price: attribute.single(
    {
      currency: amount('Currency (ISO 4217).'),
      monthly: amount('Cost in a month of 730 hours, before VAT.'),
      once: amount('Cost at the begin, before VAT.'),
    },
    {
      computed: true,
      description:
        'Cost by the prices at the time of the last change, for information. A new price does not change it. Null if there are no prices.',
    },
  ),
};

/** Tells whether objects of the kind cost money. */
export const isPriced = ({ noun }: ResourceSchema): boolean => pricedParts[noun] !== undefined;

/** Returns the parts of an object; undefined if a quantity is not known yet. */
export const partsOf = async (
  { noun }: ResourceSchema,
  values: Values,
  finder: Finder,
): Promise<readonly PricedPart[] | undefined> => pricedParts[noun]?.(values, finder);

/** Returns the attribute for parts; null without prices. @throws ApiError, ConnectionError */
async function priceOf(session: PlanSession, project: string, parts: readonly PricedPart[]): Promise<Value> {
  const costs = await Promise.all(parts.map((part) => session.quotes.of(project, part)));
  const all = costs.filter((cost): cost is Cost => cost !== undefined);
  const [first] = all;
  if (!first) return null;
  const sum = (name: 'monthly' | 'once') =>
    textOf(
      all.reduce((total, cost) => total + amountOf(cost[name]), 0n),
      decimalsOf(first[name]),
    );
  return { currency: first.currency, monthly: sum('monthly'), once: sum('once') };
}

/** Returns the price of an existing object. An API that cannot tell gives none. */
export async function priceOfItem(
  schema: ResourceSchema,
  values: Values,
  ctx: Finder & Pick<CallContext, 'log'>,
): Promise<Value> {
  const { project } = values;
  try {
    const parts = await partsOf(schema, values, ctx);
    return parts && ctx.session && typeof project === 'string' ? await priceOf(ctx.session, project, parts) : null;
  } catch (error) {
    ctx.log.warn('the price is unknown', { error: String(error) });
    return null;
  }
}

/** Plans the attribute, and notes the change for the cost of the plan. `replaced` is the id of the object that this one replaces. */
export async function planPrice(
  schema: ResourceSchema,
  ctx: PlanContext,
  { replacing, replaced }: { readonly replacing: boolean; readonly replaced: string | undefined },
): Promise<void> {
  const { session, planned, prior } = ctx;
  session?.costs.planOrRead();
  if (schema.noun === 'vm' && replaced === undefined) session?.costs.planVm();
  if (!session || !isPriced(schema)) return;
  const { project } = planned;
  const set = (price: Value) => void Object.assign(planned, { price });
  if (replaced !== undefined) session.costs.remove(replaced);
  try {
    const before = prior === null ? undefined : await partsOf(schema, prior, ctx);
    if (typeof prior?.id === 'string' && typeof prior.project === 'string' && before) {
      session.costs.note(prior.id, prior.project, before);
    }
    const after = await partsOf(schema, planned as Values, ctx);
    if (replacing) {
      // Terraform shows no warnings of the plan of the new object, so this plan must know its cost.
      if (typeof prior?.id === 'string' && typeof project === 'string')
        session.costs.replace(prior.id, project, before ?? [], after);
      return set(UNKNOWN);
    }
    if (prior === null) {
      if (typeof project !== 'string') return set(UNKNOWN);
      session.costs.create(project, after);
      await warnOfMissingAccount(schema, ctx, project, after);
    } else if (JSON.stringify(before) === JSON.stringify(after)) {
      return;
    } else if (typeof prior.id === 'string' && typeof project === 'string') {
      session.costs.change(prior.id, project, before ?? [], after);
    }
    set(after && typeof project === 'string' ? await priceOf(session, project, after) : UNKNOWN);
  } catch (error) {
    ctx.log.warn('the price is unknown', { error: String(error) });
    if (prior === null) set(UNKNOWN);
  }
}

/** Notes what an object consists of, for its replacement, which Terraform plans without the old object. */
export async function notePrice(schema: ResourceSchema, values: Values, ctx: Finder): Promise<void> {
  const { id, project } = values;
  if (!isPriced(schema) || typeof id !== 'string' || typeof project !== 'string') return;
  const parts = await partsOf(schema, values, ctx).catch(() => undefined);
  if (parts) ctx.session?.costs.note(id, project, parts);
}

/** Warns once in a plan if the operator demands an account for the project. */
async function warnOfMissingAccount(
  schema: ResourceSchema,
  { session, diagnostics }: PlanContext,
  project: string,
  parts: readonly PricedPart[] | undefined,
): Promise<void> {
  if (!session || !parts?.length) return;
  let asked = false;
  const refusals = await session.once(`account of ${project}`, async () => {
    asked = true;
    return session.costs.refusedCost(project, quoteBody(parts)).catch((error: unknown) => {
      if (isNotFound(error)) return [];
      throw error;
    });
  });
  const missing = refusals.find(({ reason }) => reason === 'billing_account_required');
  if (!asked || !missing) return;
  const { summary, detail } = warningOf(schema.noun, missing);
  diagnostics.warning(summary, detail);
}

/** Adds the cost of the plan to the last call of the plan. */
export async function tellPlanCosts(ctx: Pick<PlanContext, 'session' | 'diagnostics' | 'log'>): Promise<void> {
  if (ctx.diagnostics.hasErrors) return;
  try {
    const costs = await ctx.session?.costs.summary();
    if (!costs) return;
    const { text, unknown, last, refusals } = costs;
    const notes = [
      'The cost of all planned changes at the current prices, before VAT. A month has 730 hours.',
      ...(unknown === 0
        ? []
        : [
            `It does not contain ${unknown === 1 ? '1 object whose size is' : `${unknown} objects whose sizes are`} known after apply.`,
          ]),
      ...(last ? ['Terraform plans the objects one after the other. No further sum follows for later objects.'] : []),
    ];
    if (text !== undefined) ctx.diagnostics.warning(`Cost of this plan: ${text}`, notes.join(' '));
    for (const refusal of refusals) {
      const { summary, detail } = warningOf('plan', refusal);
      ctx.diagnostics.warning(summary, detail);
    }
  } catch (error) {
    ctx.log.warn('the cost of the plan is unknown', { error: String(error) });
  }
}
