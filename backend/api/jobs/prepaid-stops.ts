/**
 * Stops the VMs of prepaid accounts without money. The commit requires that account, project and VM are as in the mirror, so a
 * payment or a move to another account at the same time prevents it, or comes after it.
 */
import { isOutOfMoney } from '../../model/billing/prepaid.ts';
import { newEvent } from '../../model/events.ts';
import * as records from '../../model/records/index.ts';
import { put, rewrite, unchanged } from '../../store/collection.ts';
import { isChangeOf } from '../../store/mirror.ts';
import type { ApiContext } from '../requests/context.ts';
import type { Removal } from './collector.ts';

/** The ids of this work differ from those of the VMs, which have removals of their own. */
const prefix = 'money of ';

function findDue({ mirror }: ApiContext, id: string) {
  const vm = mirror.get(records.vms, id.slice(prefix.length));
  if (vm?.value.power_state !== 'running' || vm.value.deleted_at !== undefined) return undefined;
  const project = mirror.get(records.projects, vm.value.project);
  const account = project?.value.billing_account;
  if (!project || account === undefined) return undefined;
  const [payer, state] = [mirror.get(records.billingAccounts, account), mirror.get(records.prepaid, account)];
  if (payer?.value.payment !== 'prepaid' || !state || !isOutOfMoney(state.value.state)) return undefined;
  return { vm, project, payer, state };
}

function* vmsOf({ mirror }: Pick<ApiContext, 'mirror'>, account: string): Iterable<string> {
  for (const project of mirror.by(records.projects, 'billing_account').list(account)) {
    for (const { id } of mirror.by(records.vms, 'project').list(project.id)) yield `${prefix}${id}`;
  }
}

/** The stop of VMs without money, for the collector. */
export const prepaidStops: Removal = {
  noun: 'power state',
  *initial(api) {
    for (const { id } of api.mirror.list(records.prepaid)) yield* vmsOf(api, id);
  },
  *affected(change, api) {
    if (isChangeOf(records.vms, change)) yield `${prefix}${change.id}`;
    if (isChangeOf(records.prepaid, change) || isChangeOf(records.billingAccounts, change))
      yield* vmsOf(api, change.id);
    if (isChangeOf(records.projects, change)) {
      for (const { id } of api.mirror.by(records.vms, 'project').list(change.id)) yield `${prefix}${id}`;
    }
  },
  isDue: (api, id) => findDue(api, id) !== undefined,
  async remove(api, id) {
    const due = findDue(api, id);
    if (!due) return true;
    const { vm, project, payer, state } = due;
    const now = new Date();
    const next = {
      ...{ ...vm.value, power_state: 'stopped' as const, generation: vm.value.generation + 1 },
      updated_at: now.toISOString(),
    };
    const message = 'Stopped, because the prepaid account of the project is empty.';
    const event = newEvent(now, vm.value, { severity: 'warning', reason: 'account_empty', message });
    const { ok } = await api.store.commit({
      require: [vm, project, payer, state].map(unchanged),
      write: [rewrite(records.vms, vm, next), put(records.events, ...event)],
    });
    return ok;
  },
};
