/**
 * The removal of deleted VMs.
 *
 * The deletion of a VM has three steps, each done by the writer of the keys. The API sets `deleted_at`. The host
 * removes the VM from the machine and reports `gone`, and the scheduler then removes schedule and placement. The
 * scheduler never places a VM with `deleted_at`, and removes its schedule at once if it had no host. The collector acts
 * when `deleted_at` is set and no schedule exists. In one transaction with these conditions it removes the declaration,
 * its name, addresses and references, and all observations. The attachments of the VM go first, and so do references of
 * which there are too many for one transaction.
 *
 * So no address is free while a host may use it, and the records of a VM are removed together. Any number of collectors
 * may run: the conditions hold for one of them only.
 */

import { newEvent } from '../../model/events.ts';
import * as records from '../../model/records/index.ts';
import { heldInterfaces } from '../../model/vm/interfaces.ts';
import { absent, noneBelow, put, read, remove, rewrite, unchanged } from '../../store/collection.ts';
import { maxOperations } from '../../store/limits.ts';
import { isChangeOf } from '../../store/mirror.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { Write } from '../../store/store.ts';
import type { ApiMirror } from '../read-model/mirror.ts';
import type { ApiContext } from '../requests/context.ts';
import { freeingWrites, groupsNamedBy } from '../resources/vm-interfaces.ts';
import { releaseName, removeReference } from '../transaction/declarations.ts';
import type { Removal } from './collector.ts';

/** Ends the latest operation of a removed VM: it cannot succeed any more. */
async function endOperation(api: ApiContext, vm: string, at: string) {
  const latest = await read(api.store, records.latestOperations, vm);
  const operation = latest && (await read(api.store, records.operations, latest.value.id));
  if (!operation || operation.value.finished_at !== undefined) return { require: [], write: [] };
  const value: records.OperationRecord = {
    ...operation.value,
    state: 'failed',
    error: { code: 'being_deleted', message: 'The VM was deleted.' },
    finished_at: at,
    updated_at: at,
  };
  return { require: [unchanged(operation)], write: [rewrite(records.operations, operation, value)] };
}

function leftovers(vm: records.VmRecord): { readonly references: Write[]; readonly others: Write[] } {
  const { leaving_interfaces: leaving = [] } = vm;
  const all = [...heldInterfaces(vm.interfaces), ...leaving];
  const used = new Set([
    ...(vm.root_volume === undefined ? [vm.image] : []),
    ...vm.ssh_keys,
    ...[...vm.interfaces, ...leaving].map(({ network }) => network),
    ...groupsNamedBy(vm.interfaces).map(({ group }) => group),
  ]);
  const others = [
    remove(records.vms, vm.id),
    releaseName('vm', vm.project, vm.name),
    ...freeingWrites(vm.id, {
      macs: [...new Set(all.map(({ mac }) => mac))],
      addresses: [...new Set(all.flatMap(({ addresses }) => addresses))],
      networks: [],
    }),
    remove(records.reports, vm.id),
    remove(records.guests, vm.id),
    remove(records.latestOperations, vm.id),
  ];
  return { references: [...used].map((id) => removeReference(id, vm.id)), others };
}

/** Tells whether the VM is deleted and no host has anything of it. */
export const isTornDown = (mirror: ApiMirror, vm: string): boolean =>
  mirror.get(records.vms, vm)?.value.deleted_at !== undefined && mirror.get(records.schedules, vm) === undefined;

/** Returns true if the VM is removed, or must not be removed any more. */
async function removeVm(api: ApiContext, stored: Stored<records.VmRecord>): Promise<boolean> {
  const now = new Date();
  const message = `${stored.value.name} is gone.`;
  const operation = await endOperation(api, stored.id, now.toISOString());
  const { references, others } = leftovers(stored.value);
  const require = [
    unchanged(stored),
    absent(records.schedules, stored.id),
    noneBelow(records.volumeSlots, `${stored.id}/`),
  ];
  const write = [
    ...others,
    ...operation.write,
    put(records.events, ...newEvent(now, stored.value, { severity: 'info', reason: 'deleted', message })),
  ];
  // A VM can have more references than one commit removes. To remove a reference again does nothing.
  const room = maxOperations - write.length;
  for (let first = room; first < references.length; first += maxOperations) {
    const part = await api.store.commit({ require, write: references.slice(first, first + maxOperations) });
    if (!part.ok) return false;
  }
  const { ok } = await api.store.commit({
    require: [...require, ...operation.require],
    write: [...write, ...references.slice(0, room)],
  });
  return ok;
}

/** The removal of VMs, for the collector. The attachments of a VM are removed before it. */
export const vmRemoval: Removal = {
  noun: 'VM',
  *initial({ mirror }) {
    for (const { id } of mirror.list(records.vms)) yield id;
  },
  affected(change) {
    if (isChangeOf(records.vms, change) || isChangeOf(records.schedules, change)) return [change.id];
    const attachment = isChangeOf(records.volumeAttachments, change) ? change.previous : undefined;
    return attachment === undefined ? [] : [attachment.value.vm];
  },
  isDue: ({ mirror }, id) => isTornDown(mirror, id) && mirror.by(records.volumeAttachments, 'vm').get(id) === undefined,
  async remove(api, id) {
    const stored = api.mirror.get(records.vms, id);
    return stored === undefined || removeVm(api, stored);
  },
};
