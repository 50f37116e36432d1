/**
 * A replacement destroys first and creates then. So what only the API knows of a creation, such as that an address is
 * taken, is asked while planning, by a dry run in which the old object counts as gone.
 *
 * What stands in the way may be an object that this plan deletes, too. Terraform does not tell what else it is about to
 * plan, so a refusal is an error only if it stands even without all objects of the kind that Terraform manages here.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '../client/client.ts';
import { ApiError, attributePath, diagnosticsOf } from '../client/problem.ts';
import { isWhollyKnown, type Values } from '../framework/index.ts';
import { requestBody } from './attributes.ts';
import type { PlanContext } from './contexts.ts';
import type { Field, ResourceSchema } from './fields.ts';
import { nounInSentence, pluralOf } from './nouns.ts';

/** How long deletions may take to be planned, in milliseconds. */
const moment = 250;
/** The maximum number of ids in one request. */
const mostLeaving = 500;

/** Refusals that other objects are the reason of. */
const obstructed: ReadonlySet<string> = new Set(['name_taken', 'address_taken', 'no_capacity', 'quota_exceeded']);

/** Left out, it is chosen by the server, or demanded: the answer would be to another question. */
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
  leaving: readonly string[],
  signal: AbortSignal,
): Promise<ApiError | undefined> {
  const query = {
    dry_run: 'true',
    ...(leaving.length > 0 && { leaving: leaving.slice(0, mostLeaving).join(',') }),
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

/** Of the new object of a replacement, with all that is known of it. `more` are fields that are in no plan. */
export async function rehearse(
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
  const ask = (leaving: readonly string[]) =>
    refusal(client, schema.path, body, [...new Set([replaced, ...leaving])], signal);
  const leaving = () => session.managed.idsOf(kind).filter((id) => session.deletions.has(id));

  let refused = await ask(leaving());
  if (!refused) return;
  let certain = !obstructed.has(refused.code);
  if (!certain) {
    const final = await ask(session.managed.idsOf(kind));
    if (final && final.code === refused.code) certain = true;
    else {
      await sleep(moment);
      refused = await ask(leaving());
      if (!refused) return;
    }
  }
  // The quota is told of by the check whether there is room.
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
