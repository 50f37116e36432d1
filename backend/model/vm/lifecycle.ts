/**
 * The life cycle of a VM on its host. A pure function derives the next step from four inputs: the declaration, the
 * placement, the report and the observed state. The agent carries out the step and asks again until no step is left.
 * After a crash at any step, the next agent asks again.
 *
 * The phases in `reports/<vm>`, and the cause of each change:
 *
 *   (none) → preparing → starting → running    declared `running`: disk, then networks and process
 *   (none) → stopped                           declared `stopped`: the agent creates nothing before the first start
 *   running → stopping → stopped               declared `stopped`, or a reboot, which continues with `starting`
 *   running → stopped → starting → running     the guest ended by itself; the agent starts it again, see below
 *   any → error → (as before)                  a step fails repeatedly; the agent retries with growing delays
 *   any → gone                                 deleted: the host has removed everything. Final for this fence
 *
 * Invariants:
 * - A guest runs only with the fence of the newest placement. Before a start, a transaction writes `starting`. It
 *   requires, in the database and not in a mirror, that placement and declaration are unchanged and that the agent's
 *   own `alive` key still exists. A VM has one placement, so the transaction succeeds on one host only. Of two agents
 *   on one host, the older one fails, because the newer one has replaced the `alive` key.
 * - Every report requires an unchanged placement, so an agent cannot write a report after its placement is gone.
 * - The agent writes `gone` after the hypervisor has removed everything. The scheduler releases the VM only after that.
 *   So a crash leaves either remains with a placement, which the next agent removes, or no remains.
 * - A guest gets at most the granted resources and at most the declared resources. The `starting` transaction writes
 *   the used resources into the report. The agent first gives the scheduler a short time to grant the declared
 *   resources (`grantPending`). So a resize together with a reboot needs no second reboot.
 * - The changes that wait for the next start are derived from declaration and report (`pendingChanges`). No record
 *   stores them, so a crash cannot lose them.
 *
 * The agent starts a guest again that ended by itself, by a crash or by its own shutdown, while `running` is declared.
 * The user declares `stopped` to keep it off. (Other clouds leave such a VM off. Its state then differs from the
 * declaration, and the next `terraform apply` starts it anyway.)
 *
 * A reboot is an operation. It goes from pending to running (10 %), then the agent stops the guest. The transaction
 * that begins the new run sets 50 %, and the transaction that reports the guest as running sets `succeeded`. So a new
 * agent knows from the operation alone whether the old run must still end, and it compares no clocks.
 */
import type { Id } from '../../contract/fields.ts';
import { type RestartField, restartFields } from '../../contract/resources/vms.ts';
import { fits, type Resources } from '../placement/filters.ts';
import type { OperationRecord, PlacementRecord, ReportRecord, ScheduleRecord, VmRecord } from '../records/index.ts';
import { changingInterfaces } from './interfaces.ts';

/** The inputs of `nextStep` for one VM on one host. */
export interface LifecycleFacts {
  readonly host: Id<'host'>;
  readonly vm: VmRecord | undefined;
  /** The placement of the VM on this host. */
  readonly placement: PlacementRecord | undefined;
  /** The report of any host. */
  readonly report: ReportRecord | undefined;
  /** The observed state of the VM on this machine; undefined if the machine has nothing of it. */
  readonly observed: { readonly running: boolean; readonly fence?: number } | undefined;
  /** Whether the guest uses other addresses than the VM declares; undefined while the agent does not know. */
  readonly otherAddresses?: boolean | undefined;
  /** Whether the guest agent has answered lately; undefined while the agent does not know. */
  readonly guestAgent?: boolean | undefined;
  /** The oldest operation that has not ended. */
  readonly operation: OperationRecord | undefined;
}

/** A step of the agent for one VM. */
export type Step =
  | { readonly do: 'nothing' }
  /** The VM is not placed here and the machine has nothing of it: remove the report. */
  | { readonly do: 'remove_report' }
  /** The VM is not placed here, but the machine has something of it: decide whether to destroy it. */
  | { readonly do: 'resolve_orphan' }
  | { readonly do: 'destroy' }
  | { readonly do: 'refuse_operation' }
  | { readonly do: 'begin_operation' }
  | { readonly do: 'stop'; readonly force: boolean }
  | { readonly do: 'report_stopped' }
  /** The guest ended without a request of the agent. */
  | { readonly do: 'report_exit' }
  | { readonly do: 'start' }
  | { readonly do: 'report_running' };

/**
 * Tells whether the operation restores the disks of a stopped VM. No guest starts while it is open (host/restores.ts). A
 * new operation requires the report `stopped` and an unchanged declaration, so it never meets a guest that starts.
 */
export const isRestore = ({ kind }: Pick<OperationRecord, 'kind'>): boolean => kind === 'vm_restore';

/** Tells whether the operation moves a stopped VM to another host. The scheduler carries it out, and no agent. */
export const isMove = ({ kind }: Pick<OperationRecord, 'kind'>): boolean => kind === 'vm_move';

/**
 * Tells whether the records prove that no guest of the VM runs or can start by itself: its host has reported `stopped` with
 * this fence, or nothing with this fence. Every start first writes a report, so the proof holds also for a host that is dead
 * or cut off. A report with a reason belongs to a guest that ended by itself. The agent then writes one more report.
 */
export function provesStopped(schedule: ScheduleRecord, report: ReportRecord | undefined): boolean {
  const current = report?.host === schedule.host && report?.fence === schedule.fence;
  return !current || (report?.phase === 'stopped' && report.reason === undefined);
}

/** Progress of a move, in percent, after the VM has its new host. */
export const moved = 50;

/** Progress of a reboot, in percent, after the agent has accepted it. */
export const rebootAccepted = 10;
/** Progress of a reboot, in percent, after the new run has begun. */
export const rebootRestarted = 50;

/** Returns the resources that the VM record declares. */
export const declaredResources = (vm: VmRecord): Resources => ({
  cpus: vm.cpus,
  memory: vm.memory,
  disk: vm.disk_size,
});

/** Returns the resources of a guest at its start: the declared amounts, limited to the granted ones. */
export const startResources = (vm: VmRecord, granted: Resources): Resources => ({
  cpus: Math.min(vm.cpus, granted.cpus),
  memory: Math.min(vm.memory, granted.memory),
  disk: Math.min(vm.disk_size, granted.disk),
});

/**
 * Returns the fields whose change takes effect at the next start of the guest, compared with the report of its last
 * start. A new name or label takes effect at once and is not included. Sizes are compared by value. User data is
 * compared by generation, so a change counts even if the user has reverted it.
 */
export function pendingChanges(
  vm: VmRecord,
  {
    resources,
    generation,
    interfaces,
    interfaces_wait,
  }: Pick<ReportRecord, 'resources' | 'generation' | 'interfaces' | 'interfaces_wait'>,
): RestartField[] {
  // An adopted guest may have no report of its start. The code then assumes that every size has changed.
  const resized = (wanted: number, had: number | undefined) =>
    had === undefined ? generation !== vm.generation : had !== wanted;
  const waits: Readonly<Record<RestartField, boolean>> = {
    cpus: resized(vm.cpus, resources?.cpus),
    memory: resized(vm.memory, resources?.memory),
    disk_size: resized(vm.disk_size, resources?.disk),
    user_data: (generation ?? 0) < (vm.user_data_generation ?? 0),
    interfaces:
      interfaces === undefined
        ? (generation ?? 0) < (vm.interfaces_generation ?? 0)
        : interfaces_wait === true && changingInterfaces(vm, interfaces).length > 0,
  };
  return restartFields.filter((field) => waits[field]);
}

/**
 * Tells whether the scheduler must still decide about the growth of a VM. The scheduler either grants the resources or
 * writes into the schedule that the host has no room.
 */
export const grantPending = (vm: VmRecord, granted: Resources, schedule: ScheduleRecord | undefined): boolean =>
  schedule?.reason === undefined && !fits(declaredResources(vm), granted);

/**
 * Tells whether the scheduler may start a running VM on another host while this host is unreachable. The agent of this host
 * must then stop the VM before that. Only operators move VMs, and only stopped ones, so no agent has to stop one.
 */
export const restartableElsewhere = (_vm: VmRecord): boolean => false;

/** The reason in the report of a running VM whose guest uses other addresses. */
export const otherAddressesReason = 'other_addresses';

/** Returns the next step for the VM; `nothing` when no step is left. */
export function nextStep(facts: LifecycleFacts): Step {
  const { host, vm, placement, report, observed, otherAddresses, guestAgent } = facts;
  const restores = facts.operation !== undefined && isRestore(facts.operation);
  const operation = restores ? undefined : facts.operation;
  if (placement === undefined) {
    if (observed) return { do: 'resolve_orphan' };
    return report?.host === host ? { do: 'remove_report' } : { do: 'nothing' };
  }
  const current = report?.host === host && report.fence === placement.fence ? report : undefined;
  if (vm === undefined || vm.deleted_at !== undefined) {
    return current?.phase === 'gone' && !observed ? { do: 'nothing' } : { do: 'destroy' };
  }
  const running = observed?.running === true;
  // The guest runs with the fence of an earlier placement, so the agent must not adopt it.
  if (running && observed.fence !== placement.fence) return { do: 'stop', force: false };
  if (vm.power_state === 'stopped') {
    if (operation) return { do: 'refuse_operation' };
    if (running) return { do: 'stop', force: false };
    const reported = current?.phase === 'stopped' && current.reason === undefined;
    return reported ? { do: 'nothing' } : { do: 'report_stopped' };
  }
  if (restores && !running) return { do: 'nothing' };
  if (operation?.state === 'pending') return { do: 'begin_operation' };
  if (running) {
    if (operation && operation.progress < rebootRestarted) {
      return { do: 'stop', force: operation.options.force === true };
    }
    // A report with another reason belongs to a failed step, so the agent must report the running guest again.
    const others = current?.reason === otherAddressesReason;
    const right = others ? otherAddresses !== false : current?.reason === undefined && otherAddresses !== true;
    const agentReported = guestAgent === undefined || guestAgent === (current?.guest_agent === true);
    const reported = current?.phase === 'running' && right && agentReported;
    return reported && !operation ? { do: 'nothing' } : { do: 'report_running' };
  }
  return current?.phase === 'running' ? { do: 'report_exit' } : { do: 'start' };
}
