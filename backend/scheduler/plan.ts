/**
 * What the scheduler has to do for one VM. Pure: from records to a decision; term.ts finds the host and commits.
 *
 * States of a VM, by its records:
 *   unscheduled  no schedule: new, or of an older scheduler
 *   waiting      a schedule without host: nothing fits, it says why
 *   placed       a schedule with host and fence, and the placement; both are written and removed in one transaction
 *
 *   unscheduled, waiting → placed    a host fits; the fence is one more than before
 *   placed → placed                  the declaration asks for more (granted if its host has it) or for less (taken back
 *                                    once the guest no longer runs with more)
 *   waiting → (none)                 deleted: nothing to tear down
 *   placed → (none)                  deleted, and its host has reported `gone` for this fence
 *
 * Invariants:
 * - The sum of a host's placements never exceeds what it can give: only the one leader adds to it.
 * - A placement covers what its guest runs with. The host starts a guest with no more than the placement, in a
 *   transaction that requires the placement unchanged, and writes what it took into its report; the scheduler takes
 *   back only what the report does not claim, in a transaction that requires the report unchanged.
 * - A VM keeps its host even when that is dead: its disk is there and nowhere else. What the dead host did last
 *   cannot be known, so nothing may be done elsewhere in its place.
 * - If the record of a host is removed (the operator's word that it does not come back), its deleted VMs are released
 *   without its `gone`; those not deleted stay placed until their owner deletes them.
 */
import type { Id } from '../contract/fields.ts';
import { fits, type Resources } from '../model/placement.ts';
import type { PlacementRecord, ReportRecord, ScheduleRecord, VmRecord } from '../model/records.ts';
import { declaredResources } from '../model/vm-lifecycle.ts';

export interface VmFacts {
  /** Missing: the record is gone, which counts as deleted. */
  readonly vm: VmRecord | undefined;
  readonly schedule: ScheduleRecord | undefined;
  readonly placement: PlacementRecord | undefined;
  readonly report: ReportRecord | undefined;
  /** The host of the schedule is entered in `hosts/`. */
  readonly hostKnown: boolean;
}

export type Decision =
  | { readonly do: 'nothing' }
  | { readonly do: 'place' }
  /** Change what the placement grants; `more`: if its host has that much left. */
  | { readonly do: 'grant'; readonly host: Id<'host'>; readonly resources: Resources; readonly more: boolean }
  /** The grant is right: remove the note that it was not. */
  | { readonly do: 'clear' }
  | { readonly do: 'release' };

const nothing: Decision = { do: 'nothing' };

const larger = (a: Resources, b: Resources): Resources => ({
  cpus: Math.max(a.cpus, b.cpus),
  memory: Math.max(a.memory, b.memory),
  disk: Math.max(a.disk, b.disk),
});
const same = (a: Resources, b: Resources) => a.cpus === b.cpus && a.memory === b.memory && a.disk === b.disk;

export function decide({ vm, schedule, placement, report, hostKnown }: VmFacts): Decision {
  const current = report && schedule && report.host === schedule.host && report.fence === schedule.fence;
  if (vm === undefined || vm.deleted_at !== undefined) {
    if (schedule === undefined) return nothing;
    const tornDown = schedule.host === undefined || !hostKnown || (current && report.phase === 'gone');
    return tornDown ? { do: 'release' } : nothing;
  }
  if (schedule?.host === undefined) return { do: 'place' };
  if (placement === undefined) return nothing;
  const runsWith = current ? report.resources : undefined;
  const declared = declaredResources(vm);
  const wanted = runsWith ? larger(declared, runsWith) : declared;
  if (!same(wanted, placement)) {
    return { do: 'grant', host: schedule.host, resources: wanted, more: !fits(wanted, placement) };
  }
  return schedule.reason === undefined ? nothing : { do: 'clear' };
}
