/**
 * Warnings for a plan that exceeds the room on the hosts or the quota. They are no errors, because other users may free or
 * take resources before the apply. For the same reason, a check that fails does not fail the plan.
 */

import { actionFor, sentence } from '../client/problem.ts';
import { isWhollyKnown } from '../framework/index.ts';
import type { CountedKind, PlannedVm, Refusal } from '../plan-session/capacity-checks.ts';
import { countedKinds } from '../schema/resources.gen.ts';
import { requestValue } from './attributes.ts';
import type { PlanContext } from './contexts.ts';
import type { ResourceSchema } from './fields.ts';
import { nounWords, pluralOf } from './nouns.ts';

/** The actions of the user if no host can run a VM, by the field that asks for too much. */
const noHostActions: Readonly<Record<string, string>> = {
  anti_affinity: 'Create fewer VMs of the group, set `mode = "preferred"`, or ask the operator for hosts.',
  host_selector: 'Change `host_selector`, or ask the operator for hosts with these labels.',
};

export function warningOf(noun: string, { reason, message, field }: Refusal): { summary: string; detail: string } {
  const object = nounWords(noun);
  const why = `${sentence(message)} The check counts all objects planned so far. Objects that Terraform plans to delete later make room.`;
  switch (reason) {
    case 'no_host':
      return {
        summary: `No host can run this ${object}`,
        detail: `${why}\n\nApply would create it, and it would wait until a host has room. ${
          noHostActions[field ?? ''] ?? `Make the ${object} smaller, or ask the operator for more hosts.`
        }`,
      };
    case 'host_full':
      return {
        summary: `The host of this ${object} has no room for the change`,
        detail: `${why}\n\nMake a smaller change, or replace the ${object} (\`-replace\`): another host may have room.`,
      };
    case 'budget_exceeded':
      return {
        summary: 'The budget does not allow this plan',
        detail:
          `${sentence(message)}\n\nApply will fail unless the budget has room by then. ${actionFor(reason) ?? ''}`.trimEnd(),
      };
    case 'account_empty':
      return {
        summary: 'The prepaid account is empty',
        detail:
          `${sentence(message)}\n\nApply will fail unless the account has money by then. ${actionFor(reason) ?? ''}`.trimEnd(),
      };
    case 'billing_account_required':
      return {
        summary: `This ${object} needs a billing account`,
        detail: `${sentence(message)}\n\nApply will fail here. ${actionFor(reason) ?? ''}`.trimEnd(),
      };
    case 'quota_exceeded':
      return {
        summary: `The project's quota does not allow this ${object}`,
        detail:
          `${why}\n\nApply will fail here unless the quota has room by then. ${actionFor(reason) ?? ''}`.trimEnd(),
      };
  }
}

const sizes = ['cpus', 'memory', 'disk_size'] as const;

/** Returns the known size of a new VM, or the growth of an existing one; undefined if the VM does not grow. */
function plannedVm({ fields }: ResourceSchema, ctx: PlanContext): PlannedVm | undefined {
  const { action, planned, prior } = ctx;
  const known = (name: string): object => {
    const [field, value] = [fields[name], planned[name]];
    return field === undefined || value === undefined || value === null || !isWhollyKnown(value)
      ? {}
      : { [name]: requestValue(field, value) };
  };
  if (action === 'create')
    return Object.assign({}, ...['image', ...sizes, 'anti_affinity', 'host_selector'].map(known));
  const changed = sizes.filter((name) => ctx.changed(name));
  return changed.length > 0 && typeof prior?.id === 'string'
    ? Object.assign({ vm: prior.id }, ...changed.map(known))
    : undefined;
}

const isCounted = (kind: string): kind is CountedKind => (countedKinds as readonly string[]).includes(kind);

/** Warns if there is no room for an object that is planned to be created or changed in place. */
export async function warnOfCapacity(schema: ResourceSchema, ctx: PlanContext): Promise<void> {
  const { session, action, planned } = ctx;
  const { project } = planned;
  if (!session || typeof project !== 'string') return;
  const kind = pluralOf(schema);
  const what = kind === 'vms' ? plannedVm(schema, ctx) : action === 'create' && isCounted(kind) ? kind : undefined;
  if (what === undefined) return;
  try {
    for (const refusal of await session.capacity.check(project, what)) {
      const { summary, detail } = warningOf(schema.noun, refusal);
      ctx.diagnostics.warning(summary, detail, refusal.field === undefined ? undefined : [refusal.field]);
    }
  } catch (error) {
    ctx.log.warn('the capacity check failed', { error: String(error) });
  }
}
