/**
 * The decision of the scheduler for one VM: a pure function of its records. leader-loop.ts finds the host and commits.
 *
 * The states of a VM, by its records:
 *   unscheduled  no schedule: the VM is new
 *   waiting      a schedule without host, with the reason
 *   placed       a schedule with host and fence, and the placement; one transaction writes or removes both
 *
 *   unscheduled, waiting → placed    a host can take the VM; the new fence is the old one plus 1
 *   placed → placed elsewhere        a move is requested, see below; the new fence is the old one plus 1
 *   placed → placed                  the declaration asks for more (the scheduler grants it if the host has room), or
 *                                    for less (the scheduler reclaims it after the guest has stopped using it)
 *   waiting → (none)                 deleted: no host has anything of the VM
 *   placed → (none)                  deleted, and the host has reported `gone` with this fence
 *
 * Invariants:
 * - The sum of a host's placements never exceeds the host's resources, because only the leader adds placements.
 * - A placement covers the resources that the guest uses. The host starts a guest with at most the granted resources.
 *   Its transaction requires the placement unchanged and writes the used resources into the report. The scheduler
 *   reclaims only resources that the report does not contain. Its transaction requires the report unchanged.
 * - A VM keeps its host, even when the host is dead, until an operator moves it. The last actions of a dead host are
 *   unknown, so the scheduler must not start the VM elsewhere.
 * - The operator removes a host's record to say that the host does not come back. The scheduler then releases the
 *   host's deleted VMs without the report `gone`. The other VMs stay placed until their owners delete them.
 *
 * The states of a move, by its operation:
 *   pending → running (50 %)    the VM has its new host. One transaction writes schedule, placement, members of networks
 *                               and placements of volumes. It requires that the VM is declared stopped, and that the
 *                               report still proves that no guest runs (`provesStopped`)
 *   running → succeeded         the new host has reported with the new fence
 *   pending → failed            the VM was started, no host can take it, or its host died without the proof
 *   running → failed            the new host gives no sign of life. The VM stays placed there, and can move again
 *   any → failed                the VM is deleted
 *
 * A start writes a report and requires the placement unchanged. So of a start on the old host and a move, one succeeds.
 * The old host removes its files of the VM afterwards, because the newer fence proves that they are void. A live
 * migration will add a state between pending and running, in which the new host waits for the guest with the new fence.
 */
import type { Id } from '../contract/fields.ts';
import { fits, maxResources, type Resources } from '../model/placement/filters.ts';
import type {
  OperationRecord,
  PlacementRecord,
  ReportRecord,
  ScheduleRecord,
  VmRecord,
} from '../model/records/index.ts';
import { declaredResources, provesStopped } from '../model/vm/lifecycle.ts';

/** The records that a decision depends on. */
export interface VmFacts {
  /** Undefined if the record is gone, which counts as deleted. */
  readonly vm: VmRecord | undefined;
  readonly schedule: ScheduleRecord | undefined;
  readonly placement: PlacementRecord | undefined;
  readonly report: ReportRecord | undefined;
  /** The host of the schedule has a record in `hosts/`. */
  readonly hostExists: boolean;
  /** The host of the schedule is alive. */
  readonly hostAlive: boolean;
  /** The open move of the VM. */
  readonly move: Pick<OperationRecord, 'state' | 'options'> | undefined;
  /** The VM has other members of networks than it should have. */
  readonly hasOtherMembers: boolean;
}

/** The action of the scheduler for one VM. */
export type Decision =
  | { readonly do: 'nothing' }
  | { readonly do: 'place' }
  /** Change the granted resources. If `increases` is true, the host must have enough free resources. */
  | { readonly do: 'grant'; readonly host: Id<'host'>; readonly resources: Resources; readonly increases: boolean }
  /** The granted resources are right: remove the reason from the schedule. */
  | { readonly do: 'clear' }
  /** Write the members of networks, which an earlier version did not write. */
  | { readonly do: 'members' }
  | { readonly do: 'release' }
  /** Give the VM another host: this one, or the best one. */
  | { readonly do: 'move'; readonly from: Id<'host'>; readonly to: Id<'host'> | undefined }
  /** End the open move, with the error if it has failed. */
  | { readonly do: 'end_move'; readonly error?: MoveError };

/** The reason why a move has failed. */
export type MoveError = NonNullable<OperationRecord['error']>;

const noAction: Decision = { do: 'nothing' };

const equalResources = (a: Resources, b: Resources) => a.cpus === b.cpus && a.memory === b.memory && a.disk === b.disk;

/** Returns the end of a move that has failed. */
export const failedMove = (message: string, code = 'invalid_state') =>
  ({ do: 'end_move', error: { code, message } }) as const;

/** Returns the next action of a move; undefined while it waits for a report. */
function decideMove(
  { report, hostAlive }: VmFacts,
  vm: VmRecord,
  schedule: ScheduleRecord & { readonly host: Id<'host'> },
  { state, options }: NonNullable<VmFacts['move']>,
): Decision | undefined {
  const { host, fence } = schedule;
  if (state === 'pending') {
    if (vm.power_state !== 'stopped') return failedMove('The VM was started before it moved.');
    if (provesStopped(schedule, report)) return { do: 'move', from: host, to: options.host };
    if (hostAlive) return undefined;
    return failedMove('The host of the VM gives no sign of life, and has not reported that the VM has stopped.');
  }
  if (report?.host === host && report.fence === fence) return { do: 'end_move' };
  if (hostAlive) return undefined;
  return failedMove('The VM has its new host, but this host gives no sign of life. The VM can move again.');
}

/** Returns the action for the VM; `nothing` if its records are as they should be. */
export function decide(facts: VmFacts): Decision {
  const { vm, schedule, placement, report, hostExists, move, hasOtherMembers } = facts;
  const current = report && schedule && report.host === schedule.host && report.fence === schedule.fence;
  if (vm === undefined || vm.deleted_at !== undefined) {
    if (move !== undefined) return failedMove('The VM was deleted.', 'being_deleted');
    if (schedule === undefined) return hasOtherMembers ? { do: 'members' } : noAction;
    const tornDown = schedule.host === undefined || !hostExists || (current && report.phase === 'gone');
    return tornDown ? { do: 'release' } : noAction;
  }
  if (schedule?.host === undefined) return { do: 'place' };
  if (placement === undefined) return noAction;
  if (hasOtherMembers) return { do: 'members' };
  const next = move && decideMove(facts, vm, { ...schedule, host: schedule.host }, move);
  if (next !== undefined) return next;
  const runsWith = current ? report.resources : undefined;
  const declared = declaredResources(vm);
  const wanted = runsWith ? maxResources(declared, runsWith) : declared;
  if (!equalResources(wanted, placement)) {
    return { do: 'grant', host: schedule.host, resources: wanted, increases: !fits(wanted, placement) };
  }
  return schedule.reason === undefined ? noAction : { do: 'clear' };
}
