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

/** The maximum number of ids in one request. */
const maxLeaving = 500;

/** The errors whose cause may be another object. */
const blockedByOthers: ReadonlySet<string> = new Set(['name_taken', 'address_taken', 'no_capacity', 'quota_exceeded']);

/** True for a field that the server demands, or chooses itself: without it, the API would check another creation. */
const decides = (field: Field): boolean =>
  field.create === 'required' || (field.default === undefined && (field.always || field.serverChosen)) === true;

/** The creation as far as it is known; undefined where too little is. */
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
    else if (decides(field)) return undefined;
  }
  return { ...(typeof project === 'string' && { project }), ...requestBody(fields, known) };
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
    ...(deletions.length > 0 && { leaving: deletions.slice(0, maxLeaving).join(',') }),
  };
  try {
    await client.call('POST', path, { query, body, retries: 0, signal });
    return undefined;
  } catch (error) {
    // A token that may only read plans without this; so does an API that does not know dry runs.
    const told = error instanceof ApiError ? (error.problem.errors ?? []) : [];
    const given = told.some(({ pointer }) => Object.hasOwn(body, String(attributePath(pointer)?.[0])));
    if (given && !told.some(({ pointer }) => pointer.startsWith('#'))) return error as ApiError;
    return undefined;
  }
}

/** Tries the creation of the new object with all known fields. `more` are fields that a plan does not contain. */
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
    const final = await ask(session.managed.idsOf(kind));
    if (final && final.code === refused.code) certain = true;
    else {
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
      diagnostics.error(summary, `${detail}\n\nThe old one would be destroyed before that is told.`, path);
    } else {
      const hope =
        'It may be an object of this configuration that is in the way: unless the plan deletes or changes it';
      diagnostics.warning(summary, `${detail}\n\n${hope} before, apply will fail here.`, path);
    }
  }
}
