/**
 * A resource that is derived from its schema: create, read, update, delete and import are the same for all resources. A
 * resource adds its own behaviour as `extras`.
 */

import type { Client } from '../client/client.ts';
import { type Item, isBeingDeleted } from '../client/item.ts';
import { completeItem } from '../client/omitted-fields.ts';
import { ApiError, actionFor, explain, withHint } from '../client/problem.ts';
import {
  type Attribute,
  type AttributeOptions,
  type AttributePath,
  type Attributes,
  type ClientContext,
  DiagnosticError,
  defineResource,
  type ResourceDefinition,
  UNKNOWN,
  type ValidateContext,
  type Values,
} from '../framework/index.ts';
import { notePricedObject, noteVmBlock } from '../plan-session/earlier-phases.ts';
import type { ManagedObject } from '../plan-session/managed-objects.ts';
import type { PlanSession } from '../plan-session/plan-session.ts';
import { requestBody, requestValue, resourceAttributes, stateOf } from './attributes.ts';
import { warnOfCapacity } from './capacity-warnings.ts';
import type { CreateContext, DeleteContext, PlanContext, ReadContext, UpdateContext } from './contexts.ts';
import { dryRunReplacement } from './dry-run.ts';
import type { ResourceSchema } from './fields.ts';
import { findToImport } from './find.ts';
import { nounInSentence, pluralOf } from './nouns.ts';
import { isPriced, notePrice, planPrice, priceAttribute, priceOfItem, tellPlanCosts } from './prices.ts';
import { refuseDestroy, refuseReplacement } from './protection.ts';
import { checkReferences } from './references.ts';
import { deleteWhenUnused, whenNameIsFree } from './retry-while-blocked.ts';
import type { WaitContext } from './wait-context.ts';
import { duration, timedOut } from './wait-for-state.ts';

/** The behaviour of a resource in addition to the derived behaviour. */
export interface Extras {
  /** Attributes that the API does not have. They keep their planned values. */
  readonly attributes?: Attributes;
  /** Options of derived attributes that differ from the schema. */
  readonly override?: Readonly<Record<string, Partial<AttributeOptions>>>;
  /** Returns fields of a creation that the plan does not contain, such as write-only fields. */
  request?(config: Values): Readonly<Record<string, unknown>>;
  /** Returns the body of an update, for a body that differs from the changed fields. */
  change?(body: Readonly<Record<string, unknown>>, ctx: UpdateContext): Readonly<Record<string, unknown>>;
  /** Returns values that the state keeps instead of the API's. `known` is the plan (in an apply), or the state before. */
  keep?(known: Values, applying: boolean, answer: Values): Values;
  /** Creates the object and returns it, for a resource that the API cannot create with one request. */
  create?(ctx: CreateContext): Promise<Item>;
  /** Changes the object and returns it, for a resource that the API cannot update. Undefined if the object is gone. */
  update?(ctx: UpdateContext): Promise<Item | undefined>;
  validate?(ctx: ValidateContext<Values>): void;
  modifyPlan?(ctx: PlanContext): Promise<void>;
  /** Checks an object that the plan creates, also in place of another one. Terraform shows the warnings of one plan. */
  checkCreation?(ctx: PlanContext): Promise<void>;
  /** Waits until a new or changed object has the requested state, and returns the object after the wait. */
  waitForState?(item: Item, ctx: WaitContext): Promise<Item>;
  /** Carries out a deletion with steps before or after it. `remove` deletes the object and waits until it is gone. */
  delete?(ctx: DeleteContext, remove: () => Promise<void>): Promise<void>;
  /** Returns a hint for an error of a creation; undefined without one. */
  hint?(error: ApiError, config: Readonly<Record<string, unknown>>): string | undefined;
  /** The values of the provider's own attributes for an imported object. */
  readonly imported?: Values;
  readonly timeouts?: ResourceDefinition['timeouts'];
}

/** The time limits for immediate changes, with a busy API and retries. Extras have the limits of longer operations. */
const defaultTimeouts = { create: '5m', update: '5m', delete: '5m' } as const;

/** Returns the resource for a schema and its extras. */
export function deriveResource(
  schema: ResourceSchema,
  extras: Extras = {},
): ResourceDefinition<Values, Client, PlanSession> {
  const { path, fields, noun } = schema;
  const derived = Object.entries(resourceAttributes(schema)).map(([name, attr]): [string, Attribute] => [
    name,
    { ...attr, ...extras.override?.[name] },
  ]);
  const priced = isPriced(schema);
  const attributes: Attributes = {
    ...Object.fromEntries(derived),
    ...extras.attributes,
    ...(priced && priceAttribute),
  };
  const names = new Set(Object.keys(attributes));
  const kind = pluralOf(schema);
  const updatable = Object.entries(fields).filter(([, field]) => field.update);
  /** The secrets that users may set. */
  const secrets = Object.keys(fields).filter((name) => fields[name]?.sensitive && fields[name]?.create === 'optional');
  const called = (name: unknown) => `${nounInSentence(noun)}${typeof name === 'string' ? ` "${name}"` : ''}`;
  const state = (item: Item, known: unknown, applying = true): Values => {
    const answer = stateOf(fields, item) as Values;
    return { ...answer, ...extras.keep?.(known as Values, applying, answer) };
  };
  const failing = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      const explained = explain(error, what, names);
      // The diagnostic at a field has no advice, and an exceeded quota needs some.
      const advice = error instanceof ApiError && error.code === 'quota_exceeded' ? actionFor(error.code) : undefined;
      throw advice === undefined ? explained : withHint(explained, advice);
    }
  };

  /** Adds fields that the list does not contain. The state supplies those that the token of a viewer may not see. */
  const shownWhole = async ({ client, state: known, signal }: ReadContext, item: Item) => {
    const kept = extras.keep?.(known, false, stateOf(fields, item) as Values) ?? {};
    const found = await completeItem(client, path, { ...item, ...kept }, known, signal);
    const hidden = secrets.filter((name) => found?.[name] === undefined && typeof known[name] === 'string');
    if (!found || hidden.length === 0 || (await client.role(signal)) !== 'viewer') return found;
    return { ...found, ...Object.fromEntries(hidden.map((name) => [name, known[name]])) };
  };

  const waitUntilGone = async (ctx: DeleteContext, leaving: Item): Promise<void> => {
    let last: Item | undefined = leaving;
    const gone = (now: Item | undefined): boolean => {
      last = now;
      return now === undefined;
    };
    try {
      await ctx.client.wait(path, leaving, gone, ctx.signal);
    } catch (error) {
      if (!timedOut(ctx.signal)) throw error;
      const within = ctx.timeout === undefined ? '' : ` within ${duration(ctx.timeout)}`;
      const { message } = (last?.status ?? {}) as { message?: string };
      ctx.diagnostics.error(
        `${called(ctx.state.name)} is not gone${within}`,
        `The API accepted the deletion, which continues${message ? `: ${message}` : '.'} To wait longer, set \`timeouts\`.`,
      );
    }
  };

  /** Returns the state, after the wait of the resource if it has one. */
  const stateWhenReached = async (item: Item, ctx: CreateContext, changes?: string[]): Promise<Values> => {
    const waiting = { ...ctx, created: changes === undefined, changes: changes ?? [] };
    const reached = state(extras.waitForState ? await extras.waitForState(item, waiting) : item, ctx.planned);
    return priced && ctx.planned.price === UNKNOWN
      ? { ...reached, price: await priceOfItem(schema, reached, ctx) }
      : reached;
  };

  const replacing = derived.flatMap(([name, { requiresReplace }]) => (requiresReplace ? [name] : []));
  /** Returns true if the plan replaces the object. */
  const modifyPlan = async (ctx: PlanContext): Promise<boolean> => {
    const demanded: AttributePath[] = [];
    await extras.modifyPlan?.({
      ...ctx,
      requiresReplace(...path) {
        demanded.push(path);
        ctx.requiresReplace(...path);
      },
    });
    return ctx.prior !== null && [...replacing.map((name) => [name]), ...demanded].some((path) => ctx.changed(...path));
  };

  /** Notes a planned replacement in the session. */
  const noteManaged = ({ session, planned, prior }: PlanContext, id: string, replacing: boolean): void => {
    if (!replacing) return;
    session?.deletions.add(id);
    // Terraform plans the new object by this name, and does not say which object it replaces.
    session?.managed.note(kind, planned.project, planned.name, { ...managed(prior ?? {}), tried: true });
  };

  const dryRun = async (ctx: PlanContext, old: string): Promise<void> => {
    if (!schema.creatable) return;
    await dryRunReplacement(schema, ctx, old, extras.request?.(ctx.config as Values) ?? {}, names);
  };

  /** Returns the object that the new one replaces, as far as the plan knows it. */
  const replacedBy = ({ session, action, planned }: PlanContext): ManagedObject | undefined => {
    const old = action === 'create' ? session?.managed.named(kind, planned.project, planned.name) : undefined;
    // An object that gets another name is not replaced: its name becomes free for the new object.
    return old && session?.names.keeps(old.id, String(planned.name)) === false ? undefined : old;
  };

  const checkCreationOrChange = async (ctx: PlanContext, replaced: ManagedObject | undefined): Promise<void> => {
    const { session, planned, diagnostics } = ctx;
    const keeps = replaced && session?.names.keeps(replaced.id, String(planned.name));
    if (replaced) session?.deletions.add(replaced.id);
    await warnOfCapacity(schema, ctx);
    if (!replaced) return;
    if (replaced.protected) refuseReplacement({ noun, name: planned.name, diagnostics }, keeps === true);
    if (!replaced.tried) await dryRun(ctx, replaced.id);
  };

  const read = async (ctx: ReadContext, id: string): Promise<Values | undefined> => {
    const what = `${called(ctx.state.name ?? id)} cannot be read`;
    let item = await failing(what, () => ctx.client.read(path, id, ctx.signal));
    if (item && schema.deletesLater && isBeingDeleted(item)) item = await untilGone(ctx, path, item);
    item &&= await failing(what, () => shownWhole(ctx, item as Item));
    if (!item) return undefined;
    ctx.session.managed.note(kind, item.project, item.name, managed(item));
    const own: { [name: string]: Values[string] } = {};
    for (const name of Object.keys(extras.attributes ?? {})) {
      if (attributes[name]?.writeOnly) continue;
      own[name] = ctx.state[name] ?? extras.imported?.[name] ?? null;
    }
    const found = { ...state(item, ctx.state, false), ...own };
    if (priced) notePricedObject();
    await notePrice(schema, found, ctx);
    // An import has only the id. The price of any other object stays, also that of states without the attribute.
    const imported = priced && (ctx.state.name ?? null) === null;
    return imported ? { ...found, price: await priceOfItem(schema, found, ctx) } : found;
  };

  return defineResource<Values, Client, PlanSession>({
    description: schema.description,
    attributes,
    timeouts: { ...defaultTimeouts, ...extras.timeouts },
    validate(ctx) {
      if (schema.noun === 'vm' && !ctx.configured) noteVmBlock();
      extras.validate?.(ctx);
    },

    async modifyPlan(ctx) {
      const what = `${called(ctx.planned.name)} cannot be planned`;
      await failing(what, () => planProject(schema, ctx));
      const plan = async () => {
        const { id } = ctx.prior ?? {};
        if (typeof id === 'string') ctx.session?.names.note(id, ctx.planned.name);
        planSecrets(schema, ctx);
        const [replaced] = await Promise.all([modifyPlan(ctx), checkReferences(fields, ctx)]);
        const replacing = replaced && ctx.prior !== null;
        if (replacing && ctx.prior?.delete_protection === true) {
          refuseReplacement({ noun, name: ctx.prior.name, diagnostics: ctx.diagnostics });
        }
        if (typeof id === 'string') noteManaged(ctx, id, replacing);
        if (replacing || ctx.action === 'create') await extras.checkCreation?.(ctx);
        const old = replacedBy(ctx);
        await Promise.all([
          planPrice(schema, ctx, { replacing, replaced: old?.id }),
          replacing ? typeof id === 'string' && dryRun(ctx, id) : checkCreationOrChange(ctx, old),
        ]);
      };
      const planned = () => failing(what, plan);
      // Terraform drops the warnings of the second plan of a replacement.
      if (!ctx.session || replacedBy(ctx)?.tried) return planned();
      await ctx.session.costs.during(planned);
      await tellPlanCosts(ctx);
    },

    async planDestroy(ctx) {
      const { session, state, diagnostics } = ctx;
      if (state.delete_protection === true) {
        refuseDestroy({ noun, name: state.name, diagnostics });
        return;
      }
      if (typeof state.id !== 'string' || !session) return;
      const id = state.id;
      session.deletions.add(id);
      await session.costs.during(async () => {
        await notePrice(schema, state, ctx);
        session.costs.remove(id);
      });
      if (priced) session.costs.planDestroy();
      await tellPlanCosts(ctx);
    },

    async create(ctx) {
      ctx.session.beginApply();
      const what = `${called(ctx.planned.name)} was not created`;
      const post = () => {
        const body = { ...requestBody(fields, ctx.planned), ...extras.request?.(ctx.config as Values) };
        const create = () => ctx.client.create(path, body, ctx.signal);
        return whenNameIsFree({ ...ctx, schema }, body, create).catch((error: unknown) => {
          const hint =
            error instanceof ApiError ? (nameHint(schema, error) ?? extras.hint?.(error, ctx.config)) : undefined;
          throw hint === undefined ? error : withHint(explain(error, what, names), hint);
        });
      };
      const item = await failing(what, () => (extras.create ? extras.create(ctx) : post()));
      ctx.save(state(item, ctx.planned));
      return stateWhenReached(item, ctx);
    },

    async read(ctx) {
      const { id } = ctx.state;
      if (typeof id !== 'string') return undefined;
      ctx.session.costs.planOrRead();
      return ctx.session.costs.during(() => read(ctx, id));
    },

    async update(ctx) {
      ctx.session.beginApply();
      const id = String(ctx.prior.id);
      const what = `${called(ctx.planned.name)} was not changed`;
      const derived: Record<string, unknown> = {};
      for (const [name, field] of updatable) {
        const value = ctx.planned[name];
        if (ctx.changed(name) && value !== UNKNOWN) derived[name] = value === null ? null : requestValue(field, value);
      }
      const body = extras.change?.(derived, ctx) ?? derived;
      const item = await failing(what, async () =>
        extras.update
          ? extras.update(ctx)
          : Object.keys(body).length > 0
            ? whenNameIsFree({ ...ctx, schema }, ctx.planned, () => ctx.client.update(path, id, body, ctx.signal))
            : ctx.client.read(path, id, ctx.signal),
      );
      if (!item)
        throw new DiagnosticError(what, 'The object does not exist any more. Plan again: the new plan creates it.');
      ctx.save(state(item, ctx.planned));
      return stateWhenReached(item, ctx, Object.keys(body));
    },

    async delete(ctx) {
      ctx.session.beginApply();
      const id = String(ctx.state.id);
      ctx.session.noteDeletion(path, id);
      await failing(`${called(ctx.state.name)} was not deleted`, async () => {
        const remove = async () => {
          const leaving = await deleteWhenUnused(ctx.client, path, id, ctx.signal);
          if (leaving) await waitUntilGone(ctx, leaving);
        };
        await (extras.delete ? extras.delete(ctx, remove) : remove());
      });
    },

    async import(given, ctx) {
      // Shell scripts may add blanks and line ends to an id or a name.
      const text = given.trim();
      const pattern = fields.id?.pattern;
      if (pattern && new RegExp(pattern).test(text)) return { id: text };
      return failing(`${called(text)} cannot be imported`, async () => {
        const item = await findToImport(ctx.client, schema, text, ctx.signal);
        return item && { id: item.id };
      });
    },
  });
}

const managed = ({ id, delete_protection }: Readonly<Record<string, unknown>>): ManagedObject => ({
  id: String(id),
  protected: delete_protection === true,
});

/** Returns advice for a taken name: the user may want to import that object, or replaces it with `create_before_destroy`. */
function nameHint({ noun, fields }: ResourceSchema, { code }: ApiError): string | undefined {
  if (code !== 'name_taken') return undefined;
  const what = nounInSentence(noun).replace(/^[A-Z](?=[a-z])/, (letter) => letter.toLowerCase());
  const scope = fields.project ? 'in a project' : 'in the cloud';
  return `Names are unique ${scope}. To manage the existing ${what} with this configuration, import it by its id (an \`import\` block, or \`terraform import\`). With \`create_before_destroy\`, the old ${what} still has the name during the creation: change the name as well, or replace the ${what} without \`create_before_destroy\`.`;
}

/** Plans the project of a new object without a configured one: that of the provider or its token. It never changes. */
async function planProject(schema: ResourceSchema, ctx: PlanContext): Promise<void> {
  const { project } = schema.fields;
  if (!project?.create || !project.always || ctx.action !== 'create' || ctx.config.project !== null) return;
  if (!ctx.client) return;
  const planned = await ctx.client.project(ctx.signal);
  if (planned === undefined) {
    ctx.diagnostics.error(
      'A project is needed',
      'The token of the provider has no project. Set `project` here, or in the provider block, or UCLOUD_PROJECT.',
      ['project'],
    );
    return;
  }
  Object.assign(ctx.planned, { project: planned });
}

/** Plans null for secrets that are not configured: a new object gets none. */
function planSecrets({ fields }: ResourceSchema, ctx: PlanContext): void {
  if (ctx.action !== 'create') return;
  for (const [name, field] of Object.entries(fields)) {
    if (field.sensitive && field.create === 'optional' && ctx.config[name] === null) {
      Object.assign(ctx.planned, { [name]: null });
    }
  }
}

/** Waits for a running deletion, so that the name is free. Returns the object after 60 s; undefined if it is gone. */
async function untilGone(ctx: ClientContext<Client>, path: string, item: Item): Promise<Item | undefined> {
  const limited = AbortSignal.any([ctx.signal, AbortSignal.timeout(maxDeletionWaitMs)]);
  try {
    return await ctx.client.wait(path, item, (now) => now === undefined, limited);
  } catch (error) {
    if (ctx.signal.aborted || !limited.aborted) throw error;
    return item;
  }
}

/** The maximum wait of a refresh for a running deletion, in milliseconds. */
const maxDeletionWaitMs = 60_000;
