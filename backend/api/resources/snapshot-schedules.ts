/** Snapshot schedules. The API declares them, and the job in jobs/snapshot-schedules.ts makes their snapshots. */
import type { Id } from '../../contract/fields.ts';
import {
  type SnapshotScheduleBody,
  type SnapshotScheduleUpdate,
  snapshotSchedule,
} from '../../contract/resources/snapshot-schedules.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { type Cron, nextDue, parseCron } from '../../model/snapshot/cron.ts';
import { present, remove } from '../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { refer } from '../requests/objects.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import { creation, readPatch, removal, replacement } from '../transaction/declarations.ts';
import { mutate } from '../transaction/mutate.ts';
import { checkVmStays, ownerOf } from './snapshots.ts';
import { vms } from './vms.ts';
import { checkVolumeStays } from './volume-disk.ts';
import { volumes } from './volumes.ts';

/** The descriptor of snapshot schedules. */
export const snapshotSchedules: ResourceDescriptor<records.SnapshotScheduleRecord> = describe(snapshotSchedule, {
  kind: records.snapshotSchedules,
  scope: 'project',
  show({ mirror }, { since: _since, ...record }) {
    const run = mirror.get(records.snapshotScheduleRuns, record.id)?.value;
    const isActive = hasSource(mirror, record);
    const cron = parseCron(record.cron);
    const next = isActive && typeof cron !== 'string' ? nextDue(cron, new Date()) : undefined;
    return {
      ...record,
      status: {
        phase: isActive ? ('active' as const) : ('source_gone' as const),
        ...(next && { next_at: next.toISOString() }),
        ...(run && {
          last_at: run.due,
          ...(run.snapshot !== undefined && { last_snapshot: run.snapshot }),
          ...(run.reason !== undefined && { reason: run.reason }),
          ...(run.message !== undefined && { message: run.message }),
        }),
      },
    };
  },
  quota: () => ({ snapshot_schedules: 1 }),
  observedBy: [records.snapshotScheduleRuns],
  alsoMirrored: [records.volumes, records.vms],
  handlers: {
    snapshot_schedule_create: createSchedule,
    snapshot_schedule_update: updateSchedule,
    snapshot_schedule_delete: deleteSchedule,
  },
});

/** Tells whether the volume or VM of the schedule is there and stays. */
export function hasSource(
  mirror: ApiContext['mirror'],
  { volume, vm }: Pick<records.SnapshotScheduleRecord, 'volume' | 'vm'>,
): boolean {
  const source = volume === undefined ? mirror.get(records.vms, vm ?? '') : mirror.get(records.volumes, volume);
  return source !== undefined && source.value.deleted_at === undefined;
}

/** @throws UcloudError `rule_violated` */
function checkCron(text: string): Cron {
  const cron = parseCron(text);
  if (typeof cron === 'string') throw fieldError('rule_violated', '/cron', cron);
  return cron;
}

async function createSchedule(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const body = request.body as SnapshotScheduleBody;
  checkCron(body.cron);
  const { volume, vm } = body;
  const id = newId('snapshot_schedule');
  const at = request.now.toISOString();
  return mutate(api, request, () => {
    if ((volume === undefined) === (vm === undefined)) {
      throw fieldError('rule_violated', '/volume', 'exactly one of volume and vm must be set');
    }
    const { project, guard } =
      volume === undefined ? ofVm(api, request, vm as Id<'vm'>) : ofVolume(api, request, volume);
    const times = { since: at, created_at: at, updated_at: at };
    const record: records.SnapshotScheduleRecord = { id, project, ...body, ...times };
    return creation(api, snapshotSchedules, record, { guards: [{ condition: guard }] });
  });
}

function ofVolume(api: ApiContext, request: ApiRequest, id: Id<'volume'>) {
  const owner = ownerOf(request, api.mirror.get(records.volumes, id)?.value);
  const stored = refer(api, volumes, owner, id, '/volume');
  checkVolumeStays(stored);
  return { project: stored.value.project, guard: present(records.volumes, id) };
}

function ofVm(api: ApiContext, request: ApiRequest, id: Id<'vm'>) {
  const owner = ownerOf(request, api.mirror.get(records.vms, id)?.value);
  const stored = refer(api, vms, owner, id, '/vm');
  checkVmStays(stored);
  return { project: stored.value.project, guard: present(records.vms, id) };
}

async function updateSchedule(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const patch = readPatch<SnapshotScheduleUpdate>(snapshotSchedule, request.body as SnapshotScheduleUpdate);
  if (patch.cron !== undefined) checkCron(patch.cron);
  return changeObject(api, request, snapshotSchedules, (stored) => {
    const at = request.now.toISOString();
    const isMoved = patch.cron !== undefined && patch.cron !== stored.value.cron;
    const next = { ...stored.value, ...patch, ...(isMoved && { since: at }), updated_at: at };
    return replacement(api, request, snapshotSchedules, stored, next);
  });
}

async function deleteSchedule(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { id = '' } = request.params;
  return changeObject(api, request, snapshotSchedules, (stored) =>
    removal(api, request, snapshotSchedules, stored, { writes: [remove(records.snapshotScheduleRuns, id)] }),
  );
}
