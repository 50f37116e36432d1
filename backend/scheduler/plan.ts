/**
 * The decision of the scheduler for one VM: a pure function of its records. leader-loop.ts finds the host and commits.
 *
 * The states of a VM, by its records:
 *   unscheduled  no schedule: the VM is new
 *   waiting      a schedule without host, with the reason
 *   placed       a schedule with host and fence, and the placement; one transaction writes or removes both
 *
 *   unscheduled, waiting → placed    a host can take the VM; the new fence is the old one plus 1
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
 * - A VM keeps its host even when the host is dead, because no other host has its disk. The last actions of a dead host
 *   are unknown, so the scheduler must not start the VM elsewhere.
 * - The operator removes a host's record to say that the host does not come back. The scheduler then releases the
 *   host's deleted VMs without the report `gone`. The other VMs stay placed until their owners delete them.
 */
import type { Id } from '../contract/fields.ts';
import { fits, maxResources, type Resources } from '../model/placement/filters.ts';
import type { PlacementRecord, ReportRecord, ScheduleRecord, VmRecord } from '../model/records/index.ts';
import { declaredResources } from '../model/vm/lifecycle.ts';

/** The records that a decision depends on. */
export interface VmFacts {
  /** Undefined if the record is gone, which counts as deleted. */
  readonly vm: VmRecord | undefined;
  readonly schedule: ScheduleRecord | undefined;
  readonly placement: PlacementRecord | undefined;
  readonly report: ReportRecord | undefined;
  /** The host of the schedule has a record in `hosts/`. */
  readonly hostExists: boolean;
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
  | { readonly do: 'release' };

const noAction: Decision = { do: 'nothing' };

const equalResources = (a: Resources, b: Resources) => a.cpus === b.cpus && a.memory === b.memory && a.disk === b.disk;

/** Returns the action for the VM; `nothing` if its records are as they should be. */
export function decide({ vm, schedule, placement, report, hostExists, hasOtherMembers }: VmFacts): Decision {
  const current = report && schedule && report.host === schedule.host && report.fence === schedule.fence;
  if (vm === undefined || vm.deleted_at !== undefined) {
    if (schedule === undefined) return hasOtherMembers ? { do: 'members' } : noAction;
    const tornDown = schedule.host === undefined || !hostExists || (current && report.phase === 'gone');
    return tornDown ? { do: 'release' } : noAction;
  }
  if (schedule?.host === undefined) return { do: 'place' };
  if (placement === undefined) return noAction;
  if (hasOtherMembers) return { do: 'members' };
  const runsWith = current ? report.resources : undefined;
  const declared = declaredResources(vm);
  const wanted = runsWith ? maxResources(declared, runsWith) : declared;
  if (!equalResources(wanted, placement)) {
    return { do: 'grant', host: schedule.host, resources: wanted, increases: !fits(wanted, placement) };
  }
  return schedule.reason === undefined ? noAction : { do: 'clear' };
}
