/** The writes of the scheduler. Each VM has one part of a commit: the conditions and writes that belong together. */

import type { Id } from '../contract/fields.ts';
import { type EventDetails, newEvent } from '../model/events.ts';
import { type GroupsOfInterface, type Member, memberChanges, membersOf } from '../model/network/members.ts';
import type { PlacedResources, PlacementFailure, Resources } from '../model/placement/filters.ts';
import { placementId } from '../model/placement/placement-id.ts';
import {
  attachmentReports,
  events,
  guests,
  hosts,
  type NetworkMemberRecord,
  networkMembers,
  type OperationRecord,
  operations,
  type PlacementRecord,
  placements,
  type ReportRecord,
  reports,
  type ScheduleRecord,
  schedules,
  type VmRecord,
  vms,
  volumeSlots,
} from '../model/records/index.ts';
import { moved } from '../model/vm/lifecycle.ts';
import { rootSlot, volumeSlotKey } from '../model/vm/volumes.ts';
import { absent, present, put, remove, rewrite, unchanged } from '../store/collection.ts';
import type { Stored } from '../store/record-kind.ts';
import type { Condition, Write } from '../store/store.ts';
import type { MoveError } from './plan.ts';

/** The records of one VM that a decision was based on. */
export interface VmRecords {
  readonly id: Id<'vm'>;
  readonly vm: Stored<VmRecord> | undefined;
  readonly schedule: Stored<ScheduleRecord> | undefined;
  readonly placement: Stored<PlacementRecord> | undefined;
  readonly report: Stored<ReportRecord> | undefined;
  /** Its members of networks. */
  readonly members: readonly Stored<NetworkMemberRecord>[];
  /** Returns the security groups of its interfaces. */
  readonly groupsOf: GroupsOfInterface;
}

/** The conditions and writes for one VM, volume or snapshot. */
export interface CommitPart {
  readonly id: Id<'vm'> | Id<'volume'> | Id<'snapshot'>;
  /** The volumes that are placed together with the VM. */
  readonly volumes?: readonly Id<'volume'>[];
  readonly require: readonly Condition[];
  readonly write: readonly Write[];
  /** The host whose resources the part changes. */
  readonly host?: Id<'host'>;
}

const recordsUnchanged = (records: VmRecords): Condition[] => [
  records.vm ? unchanged(records.vm) : absent(vms, records.id),
  records.schedule ? unchanged(records.schedule) : absent(schedules, records.id),
];

const eventWrite = (vm: VmRecord, now: Date, details: EventDetails): Write =>
  put(events, ...newEvent(now, vm, details));

/**
 * Returns what gives the VM these members of networks. A member that goes must be the one that was read: another VM may have got
 * the MAC address meanwhile, and with it the key.
 */
function memberChange(
  { members }: VmRecords,
  wanted: readonly Member[],
): { readonly require: Condition[]; readonly write: Write[] } {
  const { put: changed = [], remove: gone = [] } = memberChanges(wanted, members) ?? {};
  const leaving = new Set(gone);
  return {
    require: members.filter(({ id }) => leaving.has(id)).map((member) => unchanged(member)),
    write: [
      ...changed.map(({ id, value }) => put(networkMembers, id, value)),
      ...gone.map((id) => remove(networkMembers, id)),
    ],
  };
}

/** Returns the members of networks that the VM should have, by its records. */
export function wantedMembers({ vm, schedule, groupsOf }: Pick<VmRecords, 'vm' | 'schedule' | 'groupsOf'>): Member[] {
  const { host, fence } = schedule?.value ?? {};
  return vm && host !== undefined && fence !== undefined ? membersOf(vm.value, host, fence, groupsOf) : [];
}

/** Corrects the members of networks. */
export function setMembers(records: VmRecords): CommitPart {
  const { require, write } = memberChange(records, wantedMembers(records));
  return { id: records.id, require: [...recordsUnchanged(records), ...require], write };
}

/** Places the VM on the host, with a new fence. */
export function placeVm(
  records: VmRecords,
  vm: VmRecord,
  host: Id<'host'>,
  name: string,
  resources: PlacedResources,
  now: Date,
): CommitPart {
  const fence = (records.schedule?.value.fence ?? 0) + 1;
  const at = now.toISOString();
  const members = memberChange(records, membersOf(vm, host, fence, records.groupsOf));
  return {
    id: records.id,
    host,
    // The operator may remove the record of a host that has just died.
    require: [...recordsUnchanged(records), ...members.require, present(hosts, host)],
    write: [
      put(schedules, records.id, { host, fence, at }),
      put(placements, placementId(host, records.id), { fence, ...resources, at }),
      ...members.write,
      eventWrite(vm, now, { severity: 'info', reason: 'scheduled', message: `Placed on ${name}.` }),
    ],
  };
}

const isUnchangedReport = ({ id, report }: VmRecords): Condition => (report ? unchanged(report) : absent(reports, id));

/** The records of a VM that moves. */
export interface MovingVm extends VmRecords {
  readonly schedule: Stored<ScheduleRecord>;
  readonly operation: Stored<OperationRecord>;
}

/** The way of a VM, and the slots of its volumes. */
export interface MoveWay {
  readonly from: { readonly host: Id<'host'>; readonly name: string };
  readonly to: { readonly host: Id<'host'>; readonly name: string };
  readonly usedSlots: ReadonlySet<number>;
}

/** Gives a stopped VM another host, with a new fence. The volumes of the VM move in the same transaction. */
export function moveVm(
  records: MovingVm,
  vm: VmRecord,
  resources: PlacedResources,
  { from, to, usedSlots }: MoveWay,
  now: Date,
): CommitPart {
  const { id, operation, schedule } = records;
  const fence = schedule.value.fence + 1;
  const at = now.toISOString();
  const members = memberChange(records, membersOf(vm, to.host, fence, records.groupsOf));
  const change = { state: 'running', progress: moved, updated_at: at } as const;
  const freeSlots = Array.from({ length: rootSlot + 1 }, (_, slot) => slot).filter((slot) => !usedSlots.has(slot));
  return {
    id,
    host: to.host,
    require: [
      ...recordsUnchanged(records),
      ...members.require,
      unchanged(operation),
      isUnchangedReport(records),
      present(hosts, to.host),
      // A volume that the VM gets at the same moment may lie on the old host alone.
      ...freeSlots.map((slot) => absent(volumeSlots, volumeSlotKey(id, slot))),
    ],
    write: [
      put(schedules, id, { host: to.host, fence, at }),
      remove(placements, placementId(from.host, id)),
      put(placements, placementId(to.host, id), { fence, ...resources, at }),
      ...members.write,
      rewrite(operations, operation, { ...operation.value, ...change }),
      eventWrite(vm, now, { severity: 'info', reason: 'moved', message: `Moved from ${from.name} to ${to.name}.` }),
    ],
  };
}

/** Ends the move of a VM. */
export function endMove(
  records: VmRecords & { readonly operation: Stored<OperationRecord> },
  error: MoveError | undefined,
  now: Date,
): CommitPart {
  const { id, vm, operation } = records;
  const at = now.toISOString();
  const end = { progress: 100, finished_at: at, updated_at: at } as const;
  const change = error === undefined ? { state: 'succeeded' as const } : { state: 'failed' as const, error };
  const message = `The move failed. ${error?.message ?? ''}`;
  return {
    id,
    require: [...recordsUnchanged(records), unchanged(operation), isUnchangedReport(records)],
    write: [
      rewrite(operations, operation, { ...operation.value, ...end, ...change }),
      ...(error && vm ? [eventWrite(vm.value, now, { severity: 'warning', reason: 'move_failed', message })] : []),
    ],
  };
}

const filtersOf = (refusals: ScheduleRecord['refusals']) => (refusals ?? []).map(({ filter }) => filter).join();

/** Tells whether the failure has other reasons than the schedule. New numbers alone do not count. */
export const hasNewReason = (schedule: ScheduleRecord | undefined, { refusals }: PlacementFailure): boolean =>
  schedule?.reason !== 'no_host' || filtersOf(schedule.refusals) !== filtersOf([...refusals]);

/** Writes into the schedule why no host can take the VM, and adds an event if the reasons are new. */
export function recordPlacementFailure(
  records: VmRecords,
  vm: VmRecord,
  { refusals, message }: PlacementFailure,
  now: Date,
): CommitPart {
  const schedule = records.schedule?.value;
  const record: ScheduleRecord = {
    fence: schedule?.fence ?? 0,
    reason: 'no_host',
    message,
    refusals: [...refusals],
    at: now.toISOString(),
  };
  const newReason = hasNewReason(schedule, { refusals, message });
  return {
    id: records.id,
    require: recordsUnchanged(records),
    write: [
      put(schedules, records.id, record),
      ...(newReason
        ? [eventWrite(vm, now, { severity: 'warning', reason: 'no_host', message: `No host: ${message}.` })]
        : []),
    ],
  };
}

/** Changes the granted resources of a placement. */
export function changeGrant(
  records: VmRecords & { readonly schedule: Stored<ScheduleRecord>; readonly placement: Stored<PlacementRecord> },
  host: Id<'host'>,
  resources: Resources,
): CommitPart {
  const { reason, message: _message, ...schedule } = records.schedule.value;
  return {
    id: records.id,
    host,
    require: [...recordsUnchanged(records), unchanged(records.placement), isUnchangedReport(records)],
    write: [
      rewrite(placements, records.placement, { ...records.placement.value, ...resources }),
      ...(reason === undefined ? [] : [rewrite(schedules, records.schedule, schedule)]),
    ],
  };
}

/** Writes into the schedule why the VM does not get the declared resources; `undefined` removes the reason. */
export function setResizeNote(
  records: VmRecords & { readonly schedule: Stored<ScheduleRecord> },
  message: string | undefined,
): CommitPart {
  const { reason: _reason, message: _message, ...schedule } = records.schedule.value;
  const record = message === undefined ? schedule : { ...schedule, reason: 'resize_waits', message };
  return { id: records.id, require: recordsUnchanged(records), write: [rewrite(schedules, records.schedule, record)] };
}

/**
 * Removes the schedule and the placement of a deleted VM that no host has anything of. If the host's record is gone, it
 * also removes the reports of the VM and its attachments, because no agent does that.
 */
export function releaseVm(records: VmRecords, hostExists: boolean, attachments: readonly string[]): CommitPart {
  const host = records.schedule?.value.host;
  const orphaned = host !== undefined && !hostExists;
  const members = memberChange(records, []);
  return {
    id: records.id,
    ...(host && { host }),
    require: [...recordsUnchanged(records), ...members.require, ...(orphaned ? [absent(hosts, host)] : [])],
    write: [
      remove(schedules, records.id),
      ...members.write,
      ...(host === undefined ? [] : [remove(placements, placementId(host, records.id))]),
      ...(orphaned ? [remove(reports, records.id), remove(guests, records.id)] : []),
      ...(orphaned ? attachments.map((id) => remove(attachmentReports, id)) : []),
    ],
  };
}
