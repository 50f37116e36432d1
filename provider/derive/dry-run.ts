/**
 * The dry run of a replacement. Terraform destroys the old object before it creates the new one. Only the API knows some
 * reasons to refuse the creation, such as a taken address. So the plan sends the creation as a dry run, in which the old
 * object counts as deleted.
 *
 * The blocking object may be one that this plan deletes as well. Terraform does not say what it plans later. So a refusal
 * is an error only if the API repeats it when all managed objects of the kind count as deleted.
 */

import type { Client } from '../client/client.ts';
import { ApiError, attributePath, diagnosticsOf } from '../client/problem.ts';
import { isWhollyKnown, type Values } from '../framework/index.ts';
import { deletionGrace } from '../plan-session/deletions.ts';
import { requestBody } from './attributes.ts';
import type { PlanContext } from './contexts.ts';
import type { Field, ResourceSchema } from './fields.ts';
import { nounInSentence, pluralOf } from './nouns.ts';

/** The maximum number of deleted objects in one request. */
const maxDeletions = 500;

/** The errors whose cause may be another object. */
const blockedByOthers: ReadonlySet<string> = new Set([
  'name_taken',
  'address_taken',
  'in_use',
  'no_capacity',
  'quota_exceeded',
]);

/**
 * Returns true if the API would check another creation without the field: the server demands it, or chooses its value, or
 * other fields depend on the object.
 */
const isEssential = (field: Field): boolean =>
  field.create === 'required' ||
  field.reference !== undefined ||
  (field.default === undefined && (field.always || field.serverChosen)) === true;

/** Returns the body of the creation with all known fields; undefined if an essential field is unknown. */
export function knownRequest(
  { fields }: ResourceSchema,
  config: Values,
  project: unknown,
): Record<string, unknown> | undefined {
  const known: { [name: string]: Values[string] } = {};
  for (const [name, field] of Object.entries(fields)) {
    const value = config[name] ?? null;
    if (field.create === undefined || value === null) continue;
    if (isWhollyKnown(value)) known[name] = value;
    else if (isEssential(field)) return undefined;
  }
  return { ...(typeof project === 'string' && fields.project?.create && { project }), ...requestBody(fields, known) };
}

/** Returns the refusal of the API; undefined without one, or if the configuration cannot mend it. */
async function refusal(
  client: Client,
  path: string,
  body: Readonly<Record<string, unknown>>,
  deletions: readonly string[],
  signal: AbortSignal,
): Promise<ApiError | undefined> {
  const query = {
    dry_run: 'true',
    ...(deletions.length > 0 && { leaving: deletions.slice(0, maxDeletions).join(',') }),
  };
  try {
    await client.call('POST', path, { query, body, retries: 0, signal });
    return undefined;
  } catch (error) {
    // A read-only token gets an error without such a field, and so does a request to an API without dry runs.
    const fieldErrors = error instanceof ApiError ? (error.problem.errors ?? []) : [];
    const sent = fieldErrors.some(({ pointer }) => Object.hasOwn(body, String(attributePath(pointer)?.[0])));
    if (sent && !fieldErrors.some(({ pointer }) => pointer.startsWith('#'))) return error as ApiError;
    return undefined;
  }
}

/**
 * Sends the creation of the new object as a dry run, with all known fields. Adds a refusal to the diagnostics.
 * @param replaced the id of the old object
 * @param more fields that a plan does not contain
 * @param attributes the names of the existing attributes
 */
export async function dryRunReplacement(
  schema: ResourceSchema,
  ctx: PlanContext,
  replaced: string,
  more: Readonly<Record<string, unknown>>,
  attributes: ReadonlySet<string>,
): Promise<void> {
  const { client, session, config, planned, diagnostics, signal } = ctx;
  const known = client && knownRequest(schema, config as Values, planned.project);
  if (!client || !session || !known || diagnostics.hasErrors) return;
  const body = { ...known, ...more };
  const kind = pluralOf(schema);
  const ask = (deletions: readonly string[]) =>
    refusal(client, schema.path, body, [...new Set([replaced, ...deletions])], signal);
  const deletions = () => session.managed.idsOf(kind).filter((id) => session.deletions.has(id));

  let refused = await ask(deletions());
  if (!refused) return;
  let certain = !blockedByOthers.has(refused.code);
  if (!certain) {
    const blocked = async () => (await ask(session.managed.idsOf(kind)))?.code === refused?.code;
    // Terraform may read the blocking object later, although it manages that one as well.
    if (await blocked()) {
      await session.managed.settled();
      certain = await blocked();
    }
    if (!certain) {
      await deletionGrace();
      refused = await ask(deletions());
      if (!refused) return;
    }
  }
  // The capacity check reports the quota.
  if (!certain && refused.code === 'quota_exceeded') return;
  const name = typeof planned.name === 'string' ? ` "${planned.name}"` : '';
  const what = `${nounInSentence(schema.noun)}${name} cannot be replaced`;
  for (const { summary, detail = '', path } of diagnosticsOf(refused, what, attributes)) {
    if (certain) {
      diagnostics.error(summary, `${detail}\n\nApply would destroy the old object before this error.`, path);
    } else {
      const hope =
        'The obstacle may be an object of this configuration. Apply will fail here unless it deletes or changes that object first.';
      diagnostics.warning(summary, `${detail}\n\n${hope}`, path);
    }
  }
}
