/**
 * What a host's agent does next for one VM. Pure: from what is declared, granted, reported and observed to one step;
 * the agent carries it out and asks again, until there is nothing to do. Killed after any step, a new agent asks again.
 *
 * Who moves a VM, by the phase in `reports/<vm>`:
 *
 *   (none) → preparing → starting → running    declared `running`: disk, then networks and process
 *   (none) → stopped                           declared `stopped`: nothing is made before it is to run
 *   running → stopping → stopped               declared `stopped`, or a reboot, which then goes on to starting
 *   running → stopped → starting → running     the guest ended by itself; it is started again, see below
 *   any → error → (as before)                  a step keeps failing; it is tried again, ever more slowly
 *   any → gone                                 deleted: destroyed, nothing is left here. Final for this fence
 *
 * Invariants:
 * - A guest runs only with the fence of the newest placement. Before it starts, a transaction writes `starting` and
 *   requires in the database itself (not in a mirror) that placement and declaration are as they were read and that
 *   the agent's sign of life is its own and still there. There is one placement, so no two hosts pass; and of two
 *   agents on one host the older one fails, as the newer has replaced the sign of life.
 * - Every report requires the placement unchanged: what an agent says after its placement has gone is not written.
 * - `gone` is written after the hypervisor has removed everything, and only then may the scheduler release the VM.
 *   So a crash leaves either remains with a placement, which the next agent removes, or no remains.
 * - A guest takes no more than its placement grants and no more than is declared, and the `starting` transaction
 *   enters in the report what it takes. Before it, the scheduler gets a moment to grant what has been declared
 *   (`grantAwaited`), so that a change of size together with a reboot needs no second reboot.
 * - Whatever of the declaration waits for the next start is derived from declaration and report (`pendingChanges`);
 *   nobody stores it, so no crash can lose it.
 *
 * A guest that ends by itself, in a crash or because it shut itself down, is started again while `running` is declared:
 * the declaration says what should be, and whoever wants it off says so there. (Other clouds leave a VM off that has
 * shut itself down; then what runs differs from what was declared, and the next `terraform apply` starts it anyway.)
 *
 * A reboot is an operation: pending → running (10 %) → [stop] → 50 %, in the transaction that begins the new run
 * → succeeded, in the transaction that reports it running. So a new agent knows from the operation alone whether the
 * old run has yet to end; no clocks are compared.
 */
import type { Id } from '../contract/fields.ts';
import { type RestartField, restartFields } from '../contract/vms.ts';
import { fits, type Resources } from './placement.ts';
import type { OperationRecord, PlacementRecord, ReportRecord, ScheduleRecord, VmRecord } from './records.ts';

export interface LifecycleFacts {
  readonly host: Id<'host'>;
  readonly vm: VmRecord | undefined;
  /** Its placement on this host. */
  readonly placement: PlacementRecord | undefined;
  /** By whichever host. */
  readonly report: ReportRecord | undefined;
  /** What this machine has of it; undefined: nothing. */
  readonly observed: { readonly running: boolean; readonly fence?: number } | undefined;
  /** The oldest that is neither succeeded nor failed. */
  readonly operation: OperationRecord | undefined;
}

export type Step =
  | { readonly do: 'nothing' }
  /** Not placed here, and nothing is left here: take back the report. */
  | { readonly do: 'forget' }
  /** Not placed here, but something of it is here. */
  | { readonly do: 'judge_remains' }
  | { readonly do: 'destroy' }
  | { readonly do: 'refuse_operation' }
  | { readonly do: 'begin_operation' }
  | { readonly do: 'stop'; readonly force: boolean }
  | { readonly do: 'report_stopped' }
  /** It ended by itself. */
  | { readonly do: 'report_exit' }
  | { readonly do: 'start' }
  | { readonly do: 'report_running' };

/** Progress of a reboot: accepted by the agent; the new run has begun. */
export const rebootAccepted = 10;
export const rebootRestarted = 50;

export const declaredResources = (vm: VmRecord): Resources => ({
  cpus: vm.cpus,
  memory: vm.memory,
  disk: vm.disk_size,
});

/** What a guest that is started now takes: what is declared, as far as it is granted. */
export const startResources = (vm: VmRecord, granted: Resources): Resources => ({
  cpus: Math.min(vm.cpus, granted.cpus),
  memory: Math.min(vm.memory, granted.memory),
  disk: Math.min(vm.disk_size, granted.disk),
});

/**
 * The fields whose change waits until the guest is next started, for a report that says with what it was started. A new
 * name or label does not wait. Sizes are compared with what the guest has. Of user data the report says only at which
 * generation the guest was started, so a change counts even if it was taken back.
 */
export function pendingChanges(
  vm: VmRecord,
  { resources, generation }: Pick<ReportRecord, 'resources' | 'generation'>,
): RestartField[] {
  // Adopted without a report that says what it was started with: any size may have changed.
  const resized = (wanted: number, had: number | undefined) =>
    had === undefined ? generation !== vm.generation : had !== wanted;
  const waits: Readonly<Record<RestartField, boolean>> = {
    cpus: resized(vm.cpus, resources?.cpus),
    memory: resized(vm.memory, resources?.memory),
    disk_size: resized(vm.disk_size, resources?.disk),
    user_data: (generation ?? 0) < (vm.user_data_generation ?? 0),
  };
  return restartFields.filter((field) => waits[field]);
}

/**
 * Whether the scheduler has yet to decide about a VM that is to grow: it grants more, or notes in the schedule that
 * the host has no more.
 */
export const grantAwaited = (vm: VmRecord, granted: Resources, schedule: ScheduleRecord | undefined): boolean =>
  schedule?.reason === undefined && !fits(declaredResources(vm), granted);

/**
 * Whether a VM may be given to another host while this one cannot be reached, so that this one must stop it before it
 * can. Disks are local: no other host has them, so none of them may, and none has to be stopped.
 */
export const restartableElsewhere = (_vm: VmRecord): boolean => false;

export function nextStep({ host, vm, placement, report, observed, operation }: LifecycleFacts): Step {
  if (placement === undefined) {
    if (observed) return { do: 'judge_remains' };
    return report?.host === host ? { do: 'forget' } : { do: 'nothing' };
  }
  const current = report?.host === host && report.fence === placement.fence ? report : undefined;
  if (vm === undefined || vm.deleted_at !== undefined) {
    return current?.phase === 'gone' && !observed ? { do: 'nothing' } : { do: 'destroy' };
  }
  const running = observed?.running === true;
  // A run of an earlier placement: not one that may be adopted.
  if (running && observed.fence !== placement.fence) return { do: 'stop', force: false };
  if (vm.power_state === 'stopped') {
    if (operation) return { do: 'refuse_operation' };
    if (running) return { do: 'stop', force: false };
    const said = current?.phase === 'stopped' && current.reason === undefined;
    return said ? { do: 'nothing' } : { do: 'report_stopped' };
  }
  if (operation?.state === 'pending') return { do: 'begin_operation' };
  if (running) {
    if (operation && operation.progress < rebootRestarted) {
      return { do: 'stop', force: operation.options.force === true };
    }
    // With a reason, it is the report of a step that failed and is not to be taken any more.
    const said = current?.phase === 'running' && current.reason === undefined;
    return said && !operation ? { do: 'nothing' } : { do: 'report_running' };
  }
  return current?.phase === 'running' ? { do: 'report_exit' } : { do: 'start' };
}
