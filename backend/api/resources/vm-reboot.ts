/** Creates a reboot operation, which the agent of the VM's host carries out. */
import { UcloudError } from '../../contract/errors.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { absent, present, put, read, unchanged } from '../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import type { ResourceDescriptor } from '../requests/descriptor.ts';
import { findToChange } from '../requests/objects.ts';
import { type Guard, mutate } from '../transaction/mutate.ts';
import { operations } from './operations.ts';

const isOpen = (operation: records.OperationRecord): boolean =>
  operation.state === 'pending' || operation.state === 'running';

/**
 * Returns the guard that the object has no open operation. One key contains the latest operation of the object. A new
 * operation rewrites that key, on the condition that the latest one has ended.
 */
async function alone(api: ApiContext, target: string): Promise<Guard> {
  const latest = await read(api.store, records.latestOperations, target);
  if (!latest) return { condition: absent(records.latestOperations, target) };
  const operation = await read(api.store, records.operations, latest.value.id);
  if (operation && isOpen(operation.value)) {
    throw new UcloudError('invalid_state', `${operation.id} on ${target} has not ended yet`);
  }
  return { condition: unchanged(latest) };
}

/** Handles the reboot of a VM. @throws UcloudError `not_found`, `forbidden`, and the refusals of the guards */
export async function rebootVm(
  api: ApiContext,
  request: ApiRequest,
  vms: ResourceDescriptor<records.VmRecord>,
): Promise<ApiAnswer> {
  const { id: target = '' } = request.params;
  const { force } = request.body as { force: boolean };
  const id = newId('operation');
  const at = request.now.toISOString();
  return mutate(api, request, async () => {
    const stored = findToChange(api, vms, request.caller, target);
    const { value } = stored;
    if (value.deleted_at !== undefined) throw new UcloudError('being_deleted', `${target} is being deleted`);
    if (value.power_state === 'stopped') {
      throw new UcloudError('invalid_state', `${target} is declared stopped; its power_state must be running`);
    }
    if (api.mirror.get(records.schedules, target)?.value.host === undefined) {
      throw new UcloudError('invalid_state', `${target} has no host yet; try again when it has one`);
    }
    const record: records.OperationRecord = {
      id,
      project: value.project,
      kind: 'vm_reboot',
      target,
      options: { force },
      state: 'pending',
      progress: 0,
      created_at: at,
      updated_at: at,
    };
    const onlyOne = await alone(api, target);
    return {
      guards: [{ condition: unchanged(stored) }, { condition: present(records.schedules, target) }, onlyOne],
      writes: [put(records.operations, id, record), put(records.latestOperations, target, { id })],
      target,
      project: value.project,
      quotaDelta: undefined,
      reason: 'reboot_requested',
      message: `Reboot of ${value.name} requested.`,
      answer: { status: 202, body: operations.show(api, record), location: `/v1/operations/${id}` },
    };
  });
}
