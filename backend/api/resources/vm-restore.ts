/**
 * Creates a restore operation, which the agent of the VM's host carries out (host/restores.ts). The VM is stopped when the
 * operation begins, and the agent does not start it before the operation has ended.
 */
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import * as records from '../../model/records/index.ts';
import { copyPlace } from '../../model/snapshot/parts.ts';
import { isNetworkPool } from '../../model/storage/pool.ts';
import { unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import type { ResourceDescriptor } from '../requests/descriptor.ts';
import { findToChange } from '../requests/objects.ts';
import { fieldError } from '../requests/validation.ts';
import { type Guard, mutate } from '../transaction/mutate.ts';
import { operationOn } from './operation-requests.ts';
import { checkOwn } from './snapshot-source.ts';

interface Body {
  readonly snapshot: Id<'snapshot'>;
  readonly disks?: readonly string[];
}

const stateError = (detail: string, pointer?: string): UcloudError =>
  new UcloudError('invalid_state', detail, pointer === undefined ? {} : { errors: [{ pointer, detail }] });

/**
 * Returns the host of a stopped VM, with the guards that the VM stays stopped.
 * @throws UcloudError `being_deleted`, `invalid_state`
 */
function stoppedOn({ mirror }: ApiContext, stored: Stored<records.VmRecord>): { host: Id<'host'>; guards: Guard[] } {
  const { id, value } = stored;
  if (value.deleted_at !== undefined) throw new UcloudError('being_deleted', `${id} is being deleted`);
  if (value.power_state !== 'stopped') throw stateError(`${id} must be stopped: its power_state is running`);
  const schedule = mirror.get(records.schedules, id)?.value;
  if (schedule?.host === undefined) throw stateError(`${id} has no disk yet: no host has the VM`);
  const report = mirror.get(records.reports, id);
  const current = report?.value.host === schedule.host && report.value.fence === schedule.fence;
  // A reason means that the guest ended by itself. The agent then writes one more report, and releases the volumes with it.
  const stopped = current && report.value.phase === 'stopped' && report.value.reason === undefined;
  if (report === undefined || !stopped) {
    throw stateError(`${id} has not stopped yet: wait until its phase is stopped`);
  }
  return { host: schedule.host, guards: [{ condition: unchanged(stored) }, { condition: unchanged(report) }] };
}

/** Returns the guards of a volume that the VM has. @throws UcloudError `invalid_state` if the VM does not have it */
function volumeGuards(
  { mirror }: ApiContext,
  { id: vm, host }: { readonly id: string; readonly host: Id<'host'> },
  volume: string,
  pointer: string,
): Guard[] {
  const holder = mirror.get(records.volumeHolders, volume)?.value.id ?? '';
  const attachment = mirror.get(records.volumeAttachments, holder);
  if (attachment?.value.vm !== vm || attachment.value.deleted_at !== undefined) {
    const advice = 'attach it first, or leave it out with the field disks';
    throw stateError(`${vm} does not have the volume ${volume} of the snapshot: ${advice}`, pointer);
  }
  const placement = mirror.get(records.volumePlacements, volume);
  const isFilled = mirror.get(records.volumeReports, volume)?.value.phase === 'available';
  if (placement?.value.host !== host || !isFilled) {
    throw stateError(`the volume ${volume} has no data on the host of ${vm} yet`, pointer);
  }
  return [{ condition: unchanged(attachment) }];
}

/** Checks that the host of the VM reaches the data of a disk. @throws UcloudError `invalid_state` */
function checkPlace(
  { mirror }: ApiContext,
  snapshot: records.SnapshotRecord,
  name: string,
  { vm, host, pointer }: { readonly vm: string; readonly host: Id<'host'>; readonly pointer: string },
): void {
  const place = copyPlace(snapshot, name);
  if (isNetworkPool(mirror.get(records.storagePools, place?.pool ?? '')?.value)) return;
  if (mirror.get(records.snapshotPlacements, place?.snapshot ?? '')?.value.host === host) return;
  throw stateError(`the disk ${name} of ${snapshot.id} lies on another host than ${vm}`, pointer);
}

/**
 * Returns the disks to restore, with the guards that snapshot and disks stay.
 * @throws UcloudError `invalid_reference`, `being_deleted`, `rule_violated`, `invalid_state`
 */
function disksOf(
  api: ApiContext,
  vm: Stored<records.VmRecord>,
  host: Id<'host'>,
  { snapshot: id, disks: asked }: Body,
): { readonly disks: string[]; readonly guards: Guard[] } {
  const stored = api.mirror.get(records.snapshots, id);
  if (stored?.value.project !== vm.value.project) {
    const detail = `must be the id of an existing snapshot of this project: there is no ${id}`;
    throw fieldError('invalid_reference', '/snapshot', detail);
  }
  const { deleted_at, vm: source } = stored.value;
  checkOwn(stored.value);
  if (deleted_at !== undefined) throw new UcloudError('being_deleted', `${id} is being deleted (since ${deleted_at})`);
  const report = api.mirror.get(records.snapshotReports, id);
  if (report?.value.phase !== 'available') {
    throw stateError(`${id} is no complete copy yet: wait until its phase is available`, '/snapshot');
  }
  const names = stored.value.disks.map(({ volume }): string => volume ?? 'root');
  const guards: Guard[] = [{ condition: unchanged(stored) }, { condition: unchanged(report) }];
  const disks = asked ?? names;
  for (const [index, disk] of disks.entries()) {
    const pointer = asked === undefined ? '/snapshot' : `/disks/${index}`;
    if (!names.includes(disk)) {
      throw fieldError('rule_violated', pointer, `must be a disk of the snapshot: ${names.join(', ')}`);
    }
    checkPlace(api, stored.value, disk, { vm: vm.id, host, pointer });
    if (disk !== 'root') guards.push(...volumeGuards(api, { id: vm.id, host }, disk, pointer));
    else if (source !== vm.id) {
      const detail = `the disk root of the snapshot is that of ${source}: it can be restored into this VM only`;
      throw fieldError('rule_violated', pointer, detail);
    }
  }
  return { disks: [...disks], guards };
}

/** Handles the restore of a VM. @throws UcloudError `not_found`, `forbidden`, and the refusals above */
export async function restoreVm(
  api: ApiContext,
  request: ApiRequest,
  vms: ResourceDescriptor<records.VmRecord>,
): Promise<ApiAnswer> {
  const { id: target = '' } = request.params;
  const body = request.body as Body;
  return mutate(api, request, async () => {
    const stored = findToChange(api, vms, request.caller, target);
    const { host, guards } = stoppedOn(api, stored);
    const source = disksOf(api, stored, host, body);
    return operationOn(api, request, stored, {
      kind: 'vm_restore',
      options: { snapshot: body.snapshot, disks: source.disks },
      guards: [...guards, ...source.guards],
      reason: 'restore_requested',
      message: `Restore of ${stored.value.name} from ${body.snapshot} requested.`,
    });
  });
}
