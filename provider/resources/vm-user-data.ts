/**
 * User data of a VM, and what a change of it does, which `user_data_change` says:
 *
 *   replace   the VM is made anew
 *   restart   the VM is given it and restarted
 *   ignore    nothing: it is for VMs that are made later. The state has what such a VM would get
 *
 * The write-only twin is in neither plan nor state: there the version tells of a change. Another choice alone changes
 * nothing; what was ignored is made good when it is ignored no more.
 *
 * A restart is two requests, and the provider may be killed between them. So neither asks what has changed, but what is:
 * user data is sent as it should be, and the VM is rebooted as long as the API says that its user data waits for a start
 * (`status.pending_changes`). A plan that finds such a VM plans an update, whatever else there is to do.
 */

import type { Client } from '../client/client.ts';
import type { Item } from '../client/item.ts';
import { completeItem } from '../client/omitted-fields.ts';
import { ApiError, explain } from '../client/problem.ts';
import type { PlanContext, UpdateContext } from '../derive/contexts.ts';
import { normalUserData, oddUserData, sameUserData } from '../derive/user-data.ts';
import type { WaitContext } from '../derive/wait-context.ts';
import { waitFor } from '../derive/wait-for-state.ts';
import { DiagnosticError, UNKNOWN, type ValidateContext, type Value, type Values } from '../framework/index.ts';
import type { components } from '../schema/api.gen.ts';
import { schemaOf } from '../schema/resources.gen.ts';

type Operation = components['schemas']['Operation'];

const { path } = schemaOf('vm');
const operations = '/v1/operations';

export const changes = ['replace', 'restart', 'ignore'] as const;

/** Returns true if user data waits for the next start, by the status of a VM. */
const owesRestart = (status: unknown): boolean => {
  const { pending_changes: pending } = (status ?? {}) as { readonly pending_changes?: unknown };
  return Array.isArray(pending) && pending.includes('user_data');
};

/** The user data that the configuration gives the VM. */
const wanted = (config: Values, planned: Values): Value | undefined =>
  config.user_data_wo === null ? planned.user_data : config.user_data_wo;

export async function planUserData(ctx: PlanContext): Promise<void> {
  const { planned, prior, config } = ctx;
  const hidden = config.user_data_wo !== null;
  if (hidden) Object.assign(planned, { user_data: null });
  warnOfUserData(ctx, hidden ? 'user_data_wo' : 'user_data');
  if (!prior || planned.user_data_change === 'ignore') return;
  if (planned.user_data_change === 'restart') return planRestart(ctx, prior);
  // An imported VM, or one whose user data was in the configuration: it may be the same.
  if (hidden && prior.user_data_wo_version === null && sameUserData(prior.user_data, config.user_data_wo)) return;
  if (prior.user_data_change === 'ignore' && ctx.client) {
    if (!(await wasIgnored(ctx, prior, ctx.client))) return;
    ctx.requiresReplace('user_data_change');
  }
  ctx.requiresReplace('user_data_wo_version');
  if (!hidden || prior.user_data_wo_version === null) ctx.requiresReplace('user_data');
}

/** Says that what a VM is to be given will not run. Terraform plans a replacement twice, and shows the warnings of one. */
function warnOfUserData({ config, changed, diagnostics }: PlanContext, name: string): void {
  const given = config[name];
  const fresh = changed('user_data') || changed('user_data_wo_version');
  if (typeof given !== 'string' || !fresh) return;
  const odd = oddUserData(given);
  if (odd) diagnostics.warning(odd.summary, odd.detail, [name]);
}

type Result = NonNullable<components['schemas']['Vm']['status']['user_data']>;

/** Explains the guest's report on user data that did not run as it should. */
const troubles: Readonly<Partial<Record<Result, string>>> = {
  failed: 'Its user data ended with an error. What it printed is in /var/log/ucloud-init-user-data.log of the guest.',
  ignored: 'Its user data was ignored: ucloud-init runs only a script that begins with `#!`.',
  interrupted:
    'The guest went down while it ran its user data. What has begun once is not run again; a change of it is.',
  unavailable: 'The guest could not get its user data. It asks again at its next boot.',
};

/** Tells what the guest has reported of user data that it was given just now. */
export function tellOfUserData(item: Item, { created, changes, diagnostics, planned }: WaitContext): void {
  const status = item.status as components['schemas']['Vm']['status'];
  const trouble = status.user_data && troubles[status.user_data];
  if (!trouble || !status.ready || !(created || changes.includes('user_data'))) return;
  const code = status.user_data_exit_code === undefined ? '' : ` Its exit code is ${status.user_data_exit_code}.`;
  const path = planned.user_data_wo_version === null ? 'user_data' : 'user_data_wo';
  diagnostics.warning(`VM "${String(item.name)}" is ready, but its user data did not run well`, `${trouble}${code}`, [
    path,
  ]);
}

/** Returns true if the VM has other user data than is wanted; where changes were ignored, only the API knows. */
async function wasIgnored(ctx: PlanContext, prior: Values, client: Client): Promise<boolean> {
  const known = await client.read(path, String(prior.id), ctx.signal);
  const item =
    known && (await completeItem(client, path, known, { user_data: wanted(ctx.config, ctx.planned) }, ctx.signal));
  return !sameUserData(item?.user_data ?? null, wanted(ctx.config, ctx.planned) ?? null);
}

/** Plans the restart that is owed already, and tells of one that the plan itself does not show. */
async function planRestart(ctx: PlanContext, prior: Values): Promise<void> {
  const { planned, changed } = ctx;
  if (planned.power_state === 'stopped') return;
  const called = `VM "${String(prior.name)}"`;
  if (owesRestart(prior.status)) {
    Object.assign(planned, { status: UNKNOWN });
    if (changed('user_data') || changed('user_data_wo_version')) return;
    const why = 'An apply was interrupted before the restart, or it was changed elsewhere.';
    ctx.diagnostics.warning(`${called} has user data that waits for a restart`, `${why} This apply restarts the VM.`, [
      'user_data_change',
    ]);
  } else if (prior.user_data_change === 'ignore' && ctx.client && (await wasIgnored(ctx, prior, ctx.client))) {
    ctx.diagnostics.warning(
      `${called} has other user data than is configured`,
      'Changes were ignored so far. This apply gives it what is configured, and restarts it.',
      ['user_data_change'],
    );
  }
}

/** The body of an update: user data is sent only where a restart follows, but then always, since it may have been ignored. */
export function changeUserData(
  { user_data: _derived, ...others }: Readonly<Record<string, unknown>>,
  { planned, prior, config, changed }: UpdateContext,
): Readonly<Record<string, unknown>> {
  const touched = changed('user_data') || changed('user_data_wo_version') || prior.user_data_change === 'ignore';
  if (planned.user_data_change !== 'restart' || !touched) return others;
  const data = wanted(config as Values, planned as Values) ?? null;
  return { ...others, user_data: typeof data === 'string' ? normalUserData(data) : data };
}

/** How often a restart is asked for before what refuses it is told. */
const mostAttempts = 3;

/** Restarts a VM whose user data waits for that, with all else that waits. Returns it as it is then. */
export async function restartForUserData(item: Item, ctx: WaitContext): Promise<Item> {
  const what = `VM "${String(item.name)}" was not restarted`;
  let now = item;
  for (let attempt = 1; attempt <= mostAttempts && owesRestart(now.status); attempt++) {
    const operation = await beginRestart(now, ctx, attempt === mostAttempts).catch((error: unknown) => {
      throw explain(error, what, new Set());
    });
    if (operation) {
      await waitFor(ctx, operations, operation, {
        what,
        reached: ({ state }) => state === 'succeeded',
        failed: (failed) => (failed.state === 'failed' ? reasonOf(failed) : undefined),
        state: () => 'The restart has been asked for and goes on; the next apply waits for it.',
      });
      if (ctx.signal.aborted) return now;
    }
    const fresh = await ctx.client.read(path, item.id, ctx.signal);
    if (!fresh) throw new DiagnosticError(what, 'It was deleted meanwhile.');
    now = fresh;
  }
  return now;
}

function reasonOf(item: Item): string {
  const { error } = item as unknown as Operation;
  const reason = error?.message.replace(/\.$/, '') ?? 'nobody says why';
  return `The restart failed: ${reason}. Its new user data still waits for one; the next apply asks for it again.`;
}

/** The operation to wait for: a new one, or the one that is open. None if that has just ended. */
async function beginRestart({ id }: Item, { client, signal }: WaitContext, last: boolean): Promise<Item | undefined> {
  try {
    const accepted = await client.call('POST', `${path}/${encodeURIComponent(id)}/reboot`, { body: {}, signal });
    return accepted as Item;
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== 'invalid_state') throw error;
    // A restart is under way: of an apply that was interrupted, or somebody else's. It may have begun too early.
    const { items } = await client.list(operations, { target: id, limit: 500 }, signal);
    const open = items.find(({ state }) => state === 'pending' || state === 'running');
    if (!open && last) throw error;
    return open;
  }
}

export function validateUserData({ config, diagnostics }: ValidateContext<Values>): void {
  const { user_data, user_data_wo, user_data_wo_version } = config;
  if (user_data !== null && user_data_wo !== null) {
    diagnostics.error('Set `user_data` or `user_data_wo`, not both', 'They are two ways to give the same.', [
      'user_data_wo',
    ]);
  }
  if ((user_data_wo === null) !== (user_data_wo_version === null)) {
    const [given, missing] = user_data_wo === null ? ['_version', ''] : ['', '_version'];
    diagnostics.error(
      `\`user_data_wo${given}\` needs \`user_data_wo${missing}\``,
      'Terraform keeps no write-only value, so it is the version that tells of a change: count it up.',
      [`user_data_wo${given}`],
    );
  }
}

/** Returns the values that the state keeps instead of the API's. */
export function keepUserData(known: Values, applying: boolean): Values {
  const { user_data = null, user_data_wo_version = null, user_data_change } = known;
  if (user_data_wo_version !== null) return { user_data: null };
  // Not what the VM has, but what its successor would get.
  const kept = user_data_change === 'ignore' || (applying && user_data !== null);
  return kept && user_data !== UNKNOWN ? { user_data } : {};
}
