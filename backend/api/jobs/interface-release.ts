/**
 * The release of removed interfaces and addresses, for the collector. They stay taken until the report of the host shows
 * that the guest has lost them (model/vm/interfaces.ts).
 */
import * as records from '../../model/records/index.ts';
import { releaseInterfaces } from '../../model/vm/interfaces.ts';
import { absent, rewrite, unchanged } from '../../store/collection.ts';
import { isChangeOf } from '../../store/mirror.ts';
import type { ApiContext } from '../requests/context.ts';
import { freeingWrites, withLeaving } from '../resources/vm-interfaces.ts';
import type { Removal } from './collector.ts';

/** The ids of this work differ from those of the VMs, which have removals of their own. */
const prefix = 'interfaces of ';

function findRelease({ mirror }: ApiContext, id: string) {
  const vm = mirror.get(records.vms, id.slice(prefix.length));
  const leaving = vm?.value.leaving_interfaces;
  // The removal of a deleted VM frees everything.
  if (vm === undefined || leaving === undefined || vm.value.deleted_at !== undefined) return undefined;
  const report = mirror.get(records.reports, vm.id);
  const { leaving: left, freed } = releaseInterfaces(vm.value, leaving, report?.value);
  if (JSON.stringify(left) === JSON.stringify(leaving)) return undefined;
  return { vm, report, left, freed };
}

/** The release of interfaces that guests have lost. */
export const interfaceRelease: Removal = {
  noun: 'interface',
  *initial({ mirror }) {
    for (const { id, value } of mirror.list(records.vms)) if (value.leaving_interfaces) yield `${prefix}${id}`;
  },
  affected(change, { mirror }) {
    if (!isChangeOf(records.vms, change) && !isChangeOf(records.reports, change)) return [];
    return mirror.get(records.vms, change.id)?.value.leaving_interfaces ? [`${prefix}${change.id}`] : [];
  },
  isDue: (api, id) => findRelease(api, id) !== undefined,
  async remove(api, id) {
    const found = findRelease(api, id);
    if (found === undefined) return true;
    const { vm, report, left, freed } = found;
    const { ok } = await api.store.commit({
      require: [unchanged(vm), report ? unchanged(report) : absent(records.reports, vm.id)],
      write: [rewrite(records.vms, vm, withLeaving(vm.value, left)), ...freeingWrites(vm.value.id, freed)],
    });
    return ok;
  },
};
