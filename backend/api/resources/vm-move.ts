/**
 * Creates an operation that moves a stopped VM to another host. The scheduler carries it out (scheduler/plan.ts). The
 * refusals here say early what the scheduler would refuse, and it checks everything again.
 */
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import { antiAffinityOf } from '../../model/placement/anti-affinity.ts';
import type { PoolRequest } from '../../model/placement/filters.ts';
import { hostSelectorOf } from '../../model/placement/host-selector.ts';
import * as records from '../../model/records/index.ts';
import { isNetworkPool, poolOf } from '../../model/storage/pool.ts';
import { declaredResources, provesStopped } from '../../model/vm/lifecycle.ts';
import { absent, present, unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import { type ApiAnswer, type ApiContext, type ApiRequest, accountOf } from '../requests/context.ts';
import type { ResourceDescriptor } from '../requests/descriptor.ts';
import { findToChange } from '../requests/objects.ts';
import { fieldError } from '../requests/validation.ts';
import { type Guard, mutate } from '../transaction/mutate.ts';
import { operationOn } from './operation-requests.ts';

type StoredVm = Stored<records.VmRecord>;

const stateError = (detail: string, pointer?: string): UcloudError =>
  new UcloudError('invalid_state', detail, pointer === undefined ? {} : { errors: [{ pointer, detail }] });

/**
 * Returns the host of a stopped VM, with the guards that the VM stays stopped.
 * @throws UcloudError `being_deleted`, `invalid_state`
 */
function stoppedOn({ mirror }: ApiContext, stored: StoredVm): { readonly host: Id<'host'>; readonly guards: Guard[] } {
  const { id, value } = stored;
  if (value.deleted_at !== undefined) throw new UcloudError('being_deleted', `${id} is being deleted`);
  const schedule = mirror.get(records.schedules, id);
  const host = schedule?.value.host;
  if (schedule === undefined || host === undefined) throw stateError(`${id} has no host yet, so it cannot move`);
  if (value.power_state !== 'stopped') {
    throw stateError(`${id} must be stopped: set its power_state to stopped (\`ucloud vm stop ${id} --wait\`)`);
  }
  const report = mirror.get(records.reports, id);
  if (!provesStopped(schedule.value, report?.value)) {
    const isAlive = mirror.get(records.alive, host) !== undefined;
    const advice = isAlive
      ? 'wait until its phase is stopped'
      : `its host ${host} gives no sign of life, so the guest may still run`;
    throw stateError(`${id} has not stopped yet: ${advice}`);
  }
  const sameReport = report ? unchanged(report) : absent(records.reports, id);
  return { host, guards: [unchanged(stored), unchanged(schedule), sameReport].map((condition) => ({ condition })) };
}

/**
 * Returns the needs of the disks of the VM in their pools.
 * @throws UcloudError `invalid_state` if only the present host has a disk
 */
function poolsOf({ mirror }: ApiContext, { id, value }: StoredVm): PoolRequest[] {
  const rule = 'a VM moves only with volumes in storage pools of the kinds shared and ceph';
  if (value.root_volume === undefined)
    throw stateError(`${id} has a disk of its own, which stays on its host: ${rule}`);
  const pools = new Map<Id<'storage_pool'>, PoolRequest>();
  for (const { value: attachment } of mirror.by(records.volumeAttachments, 'vm').list(id)) {
    if (attachment.deleted_at !== undefined) continue;
    const volume = mirror.get(records.volumes, attachment.volume)?.value;
    const pool = poolOf(volume ?? {});
    const record = mirror.get(records.storagePools, pool)?.value;
    const name = record?.name ?? pool;
    if (!isNetworkPool(record)) {
      throw stateError(
        `the volume ${attachment.volume} of ${id} lies in the storage pool ${name} on one host: ${rule}`,
      );
    }
    const granted = mirror.get(records.volumePlacements, attachment.volume)?.value.size ?? 0;
    const bytes = Math.max(0, (volume?.size ?? 0) - granted) + (pools.get(pool)?.bytes ?? 0);
    pools.set(pool, { pool, name, bytes });
  }
  return [...pools.values()];
}

/** Handles the move of a VM. @throws UcloudError `not_found`, `forbidden`, and the refusals above */
export async function moveVm(
  api: ApiContext,
  request: ApiRequest,
  vms: ResourceDescriptor<records.VmRecord>,
): Promise<ApiAnswer> {
  const { id: target = '' } = request.params;
  const { host: asked } = request.body as { readonly host?: Id<'host'> };
  return mutate(api, request, async () => {
    const stored = findToChange(api, vms, request.caller, target);
    const { value } = stored;
    const { host, guards } = stoppedOn(api, stored);
    if (asked !== undefined && api.mirror.get(records.hosts, asked) === undefined) {
      throw fieldError('invalid_reference', '/host', `must be the id of an existing host: there is no ${asked}`);
    }
    const pools = poolsOf(api, stored);
    const { architecture } = value.boot ?? api.mirror.get(records.images, value.image)?.value ?? {};
    if (architecture === undefined) throw stateError(`the architecture of ${target} is not known: its image is gone`);
    const [antiAffinity, hostSelector] = [antiAffinityOf(value), hostSelectorOf(value)];
    const needs = {
      ...declaredResources(value),
      architecture,
      pools,
      present_host: host,
      ...(antiAffinity && { anti_affinity: antiAffinity }),
      ...(hostSelector && { host_selector: hostSelector }),
    };
    const chosen = await api.hostPool.moveHost(accountOf(request.caller), needs, asked);
    if ('refusal' in chosen) throw stateError(chosen.refusal, asked === undefined ? undefined : '/host');
    return operationOn(api, request, stored, {
      kind: 'vm_move',
      options: { ...(asked !== undefined && { host: asked }) },
      guards: [...guards, ...(asked === undefined ? [] : [{ condition: present(records.hosts, asked) }])],
      reason: 'move_requested',
      message: `Move of ${value.name} requested.`,
    });
  });
}
