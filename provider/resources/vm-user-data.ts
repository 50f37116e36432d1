/**
 * User data of a VM. `user_data_change` selects the effect of a change:
 *
 *   replace   Terraform replaces the VM
 *   restart   the provider changes the user data of the VM and restarts the VM
 *   ignore    the VM keeps its user data. The state contains the user data of VMs that are created later
 *
 * Neither plan nor state contains the write-only `user_data_wo`, so its version shows a change. A new `user_data_change`
 * alone changes nothing. If its old value was `ignore`, the next apply also makes the ignored changes.
 *
 * A restart takes two requests, and the provider may be killed between them. So the provider does not rely on changes: it
 * sends the wanted user data, and reboots the VM while the API says that user data waits for a start
 * (`status.pending_changes`). A plan for such a VM contains an update, even without other changes.
 */

import type { Client } from '../client/client.ts';
import type { Item } from '../client/item.ts';
import { completeItem } from '../client/omitted-fields.ts';
import { ApiError, explain } from '../client/problem.ts';
import type { PlanContext, UpdateContext } from '../derive/contexts.ts';
import { normalUserData, sameUserData, warningForUserData } from '../derive/user-data.ts';
import type { WaitContext } from '../derive/wait-context.ts';
import { waitFor } from '../derive/wait-for-state.ts';
import { DiagnosticError, UNKNOWN, type ValidateContext, type Value, type Values } from '../framework/index.ts';
import type { components } from '../schema/api.gen.ts';
import { schemaOf } from '../schema/resources.gen.ts';

type Operation = components['schemas']['Operation'];

const { path } = schemaOf('vm');
const operations = '/v1/operations';

/** The values of `user_data_change`. */
export const changes = ['replace', 'restart', 'ignore'] as const;

/** Returns true if user data waits for the next start, by the status of a VM. */
const owesRestart = (status: unknown): boolean => {
  const { pending_changes: pending } = (status ?? {}) as { readonly pending_changes?: unknown };
  return Array.isArray(pending) && pending.includes('user_data');
};

/** Returns the configured user data of the VM. */
const wanted = (config: Values, planned: Values): Value | undefined =>
  config.user_data_wo === null ? planned.user_data : config.user_data_wo;

/** Plans the user data of a VM, and the replacement or the restart of the VM. */
export async function planUserData(ctx: PlanContext): Promise<void> {
  const { planned, prior, config } = ctx;
  const hidden = config.user_data_wo !== null;
  if (hidden) Object.assign(planned, { user_data: null });
  warnOfUserData(ctx, hidden ? 'user_data_wo' : 'user_data');
  if (!prior || planned.user_data_change === 'ignore') return;
  if (planned.user_data_change === 'restart') return planRestart(ctx, prior);
  // After an import, or a move of the text from `user_data` to `user_data_wo`, the text may be the same.
  if (hidden && prior.user_data_wo_version === null && sameUserData(prior.user_data, config.user_data_wo)) return;
  if (prior.user_data_change === 'ignore' && ctx.client) {
    if (!(await wasIgnored(ctx, prior, ctx.client))) return;
    ctx.requiresReplace('user_data_change');
  }
  ctx.requiresReplace('user_data_wo_version');
  if (!hidden || prior.user_data_wo_version === null) ctx.requiresReplace('user_data');
}

/** Warns of new user data that will not run. Terraform plans a replacement twice, and shows the warnings of one plan. */
function warnOfUserData({ config, changed, diagnostics }: PlanContext, name: string): void {
  const given = config[name];
  const fresh = changed('user_data') || changed('user_data_wo_version');
  if (typeof given !== 'string' || !fresh) return;
  const warning = warningForUserData(given);
  if (warning) diagnostics.warning(warning.summary, warning.detail, [name]);
}

type Result = NonNullable<components['schemas']['Vm']['status']['user_data']>;

/** Explanations for the reports of a guest whose user data did not run successfully. */
const troubles: Readonly<Partial<Record<Result, string>>> = {
  failed:
    'The user data ended with an error. Its output is in the guest: /var/log/ucloud-init-user-data.log, or /var/log/cloud-init-output.log with cloud-init.',
  ignored:
    'The guest ignored the user data: ucloud-init runs only a script that begins with `#!`, and cloud-init runs user data only at the first boot.',
  interrupted:
    'The guest stopped while it ran the user data. The guest does not run the same user data again, but runs changed user data.',
  unavailable: 'The guest could not get the user data. It tries again at its next boot.',
};

/** Warns if this apply set user data and the guest did not run it successfully. */
export function warnOfFailedUserData(item: Item, { created, changes, diagnostics, planned }: WaitContext): void {
  const status = item.status as components['schemas']['Vm']['status'];
  const trouble = status.user_data && troubles[status.user_data];
  if (!trouble || !status.ready || !(created || changes.includes('user_data'))) return;
  const code = status.user_data_exit_code === undefined ? '' : ` Its exit code is ${status.user_data_exit_code}.`;
  const path = planned.user_data_wo_version === null ? 'user_data' : 'user_data_wo';
  diagnostics.warning(
    `VM "${String(item.name)}" is ready, but its user data did not run successfully`,
    `${trouble}${code}`,
    [path],
  );
}

/** Returns true if the VM has other user data than the configuration. After ignored changes, only the API knows. */
async function wasIgnored(ctx: PlanContext, prior: Values, client: Client): Promise<boolean> {
  const known = await client.read(path, String(prior.id), ctx.signal);
  const item =
    known && (await completeItem(client, path, known, { user_data: wanted(ctx.config, ctx.planned) }, ctx.signal));
  return !sameUserData(item?.user_data ?? null, wanted(ctx.config, ctx.planned) ?? null);
}

/** Plans a restart that is due. Warns of a restart that the plan does not show. */
async function planRestart(ctx: PlanContext, prior: Values): Promise<void> {
  const { planned, changed } = ctx;
  if (planned.power_state === 'stopped') return;
  const called = `VM "${String(prior.name)}"`;
  if (owesRestart(prior.status)) {
    Object.assign(planned, { status: UNKNOWN });
    if (changed('user_data') || changed('user_data_wo_version')) return;
    const why = 'An apply was interrupted before the restart, or another client changed the user data.';
    ctx.diagnostics.warning(`${called} has user data that waits for a restart`, `${why} This apply restarts the VM.`, [
      'user_data_change',
    ]);
  } else if (prior.user_data_change === 'ignore' && ctx.client && (await wasIgnored(ctx, prior, ctx.client))) {
    ctx.diagnostics.warning(
      `${called} has other user data than its configuration`,
      'Earlier changes were ignored. This apply changes the user data and restarts the VM.',
      ['user_data_change'],
    );
  }
}

/** Returns the body of an update. It contains user data only with `restart`, and also after ignored changes. */
export function changeUserData(
  { user_data: _derived, ...others }: Readonly<Record<string, unknown>>,
  { planned, prior, config, changed }: UpdateContext,
): Readonly<Record<string, unknown>> {
  const touched = changed('user_data') || changed('user_data_wo_version') || prior.user_data_change === 'ignore';
  if (planned.user_data_change !== 'restart' || !touched) return others;
  const data = wanted(config as Values, planned as Values) ?? null;
  return { ...others, user_data: typeof data === 'string' ? normalUserData(data) : data };
}

/** The maximum number of attempts to restart a VM. */
const maxAttempts = 3;

/**
 * Restarts the VM while its user data waits for a start. Returns the VM after the restart.
 * @throws DiagnosticError
 */
export async function restartForUserData(item: Item, ctx: WaitContext): Promise<Item> {
  const what = `VM "${String(item.name)}" was not restarted`;
  let now = item;
  for (let attempt = 1; attempt <= maxAttempts && owesRestart(now.status); attempt++) {
    const operation = await beginRestart(now, ctx, attempt === maxAttempts).catch((error: unknown) => {
      throw explain(error, what, new Set());
    });
    if (operation) {
      await waitFor(ctx, operations, operation, {
        what,
        reached: ({ state }) => state === 'succeeded',
        failed: (failed) => (failed.state === 'failed' ? reasonOf(failed) : undefined),
        state: () => 'The restart has begun and continues. The next apply waits for it.',
      });
      if (ctx.signal.aborted) return now;
    }
    const fresh = await ctx.client.read(path, item.id, ctx.signal);
    if (!fresh) throw new DiagnosticError(what, 'The VM was deleted during the apply.');
    now = fresh;
  }
  return now;
}

function reasonOf(item: Item): string {
  const { error } = item as unknown as Operation;
  const reason = error?.message.replace(/\.$/, '') ?? 'the API gives no reason';
  return `The restart failed: ${reason}. The new user data still waits for a restart. The next apply tries again.`;
}

/** Returns the operation to wait for: a new one, or the one that is open; undefined if the latter has just ended. */
async function beginRestart({ id }: Item, { client, signal }: WaitContext, last: boolean): Promise<Item | undefined> {
  try {
    const accepted = await client.call('POST', `${path}/${encodeURIComponent(id)}/reboot`, { body: {}, signal });
    return accepted as Item;
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== 'invalid_state') throw error;
    // An interrupted apply or another client has begun a restart, maybe before the change of the user data.
    const { items } = await client.list(operations, { target: id, limit: 500 }, signal);
    const open = items.find(({ state }) => state === 'pending' || state === 'running');
    if (!open && last) throw error;
    return open;
  }
}

/** Checks the combination of the attributes for user data. */
export function validateUserData({ config, diagnostics }: ValidateContext<Values>): void {
  const { user_data, user_data_wo, user_data_wo_version } = config;
  if (user_data !== null && user_data_wo !== null) {
    diagnostics.error('Set `user_data` or `user_data_wo`, not both', 'Both set the user data of the VM.', [
      'user_data_wo',
    ]);
  }
  if ((user_data_wo === null) !== (user_data_wo_version === null)) {
    const [given, missing] = user_data_wo === null ? ['_version', ''] : ['', '_version'];
    diagnostics.error(
      `\`user_data_wo${given}\` needs \`user_data_wo${missing}\``,
      'Terraform stores no write-only value. A new version shows that the value has changed.',
      [`user_data_wo${given}`],
    );
  }
}

/** Returns the values that the state keeps instead of the API's. */
export function keepUserData(known: Values, applying: boolean): Values {
  const { user_data = null, user_data_wo_version = null, user_data_change } = known;
  if (user_data_wo_version !== null) return { user_data: null };
  // The state contains the user data of a later replacement, which may differ from that of the VM.
  const kept = user_data_change === 'ignore' || (applying && user_data !== null);
  return kept && user_data !== UNKNOWN ? { user_data } : {};
}
