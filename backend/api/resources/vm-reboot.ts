/** Creates a reboot operation, which the agent of the VM's host carries out. */
import { UcloudError } from '../../contract/errors.ts';
import * as records from '../../model/records/index.ts';
import { present, unchanged } from '../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import type { ResourceDescriptor } from '../requests/descriptor.ts';
import { findToChange } from '../requests/objects.ts';
import { mutate } from '../transaction/mutate.ts';
import { operationOn } from './operation-requests.ts';

/** Handles the reboot of a VM. @throws UcloudError `not_found`, `forbidden`, and the refusals of the guards */
export async function rebootVm(
  api: ApiContext,
  request: ApiRequest,
  vms: ResourceDescriptor<records.VmRecord>,
): Promise<ApiAnswer> {
  const { id: target = '' } = request.params;
  const { force } = request.body as { force: boolean };
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
    return operationOn(api, request, stored, {
      kind: 'vm_reboot',
      options: { force },
      guards: [{ condition: unchanged(stored) }, { condition: present(records.schedules, target) }],
      reason: 'reboot_requested',
      message: `Reboot of ${value.name} requested.`,
    });
  });
}
