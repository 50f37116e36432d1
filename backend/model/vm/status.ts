/**
 * The status of a VM for its owner. It is derived from five records with different writers: the declaration (API), the
 * schedule (scheduler), the report (host), the readiness of the guest (metadata server) and the `alive` key (host). No
 * record stores the phase, so two writers cannot disagree about it.
 *
 * The phase is the first of these that applies:
 *   deleting   the API has accepted the deletion; it removes the record after the host has removed the VM
 *   pending    no host yet: the schedule contains the reason
 *   unknown    the host has no `alive` key, so the state of the VM there is not known
 *   scheduled  the host has not reported on this placement (a report with another fence does not count)
 *   preparing, starting, running, stopping, stopped, error   as the host reports
 *
 * `restart_required` is true while the last start of the guest used other values than the declaration has now. It is
 * true from the change on, whether the host is alive or not. It is false for a VM with the declared power state
 * `stopped`.
 */
import type { RestartField, Vm } from '../../contract/resources/vms.ts';
import type { GuestRecord, ReportRecord, ScheduleRecord, VmRecord } from '../records/index.ts';
import { changingInterfaces } from './interfaces.ts';
import { pendingChanges } from './lifecycle.ts';

/** The records of the other writers about one VM. */
export interface VmObservations {
  readonly schedule?: ScheduleRecord;
  readonly report?: ReportRecord;
  /** The last report of the guest that it is ready. */
  readonly guest?: GuestRecord;
  readonly hostAlive: boolean;
}

type Status = Vm['status'];

const hostLost = { reason: 'host_lost', message: 'The host gives no sign of life.' };

/** Derives the status of the VM. */
export function vmStatus(vm: VmRecord, seen: VmObservations): Status {
  const { schedule } = seen;
  const host = schedule?.host;
  const report = host !== undefined && seen.report?.fence === schedule?.fence ? seen.report : undefined;
  const waiting = restartFields(vm, report);
  const status: Status = {
    phase: 'pending',
    ...(host === undefined ? {} : { host }),
    ...(report?.started_at === undefined ? {} : { started_at: report.started_at }),
    ready: false,
    guest_agent: false,
    restart_required: waiting.length > 0,
    pending_changes: waiting,
    changing_interfaces: changing(vm, report),
  };
  const because = (cause: { reason?: string | undefined; message?: string | undefined } | undefined) => ({
    ...(cause?.reason === undefined ? {} : { reason: cause.reason }),
    ...(cause?.message === undefined ? {} : { message: cause.message }),
  });

  if (vm.deleted_at !== undefined) {
    return { ...status, phase: 'deleting', ...(host !== undefined && !seen.hostAlive ? hostLost : because(report)) };
  }
  if (host === undefined) return { ...status, ...because(schedule) };
  if (!seen.hostAlive) return { ...status, phase: 'unknown', ...hostLost };
  if (report === undefined || report.phase === 'gone') return { ...status, phase: 'scheduled' };
  const running = report.phase === 'running';
  return {
    ...status,
    phase: report.phase,
    ...because(report),
    guest_agent: running && report.guest_agent === true,
    ...(running && isReady(report, seen.guest) ? readyStatus(seen.guest) : { ready: false }),
  };
}

/** The phases of a guest that runs, has just started, or is about to end. */
const startedPhases: readonly ReportRecord['phase'][] = ['starting', 'running', 'stopping', 'error'];

function restartFields(vm: VmRecord, report: ReportRecord | undefined): RestartField[] {
  const run = report?.started_at !== undefined && startedPhases.includes(report.phase) ? report : undefined;
  const wanted = vm.power_state === 'running' && vm.deleted_at === undefined;
  return run && wanted ? pendingChanges(vm, run) : [];
}

/** Returns the MAC addresses of the interfaces that a running guest is about to get, to change or to lose. */
const changing = (vm: VmRecord, report: ReportRecord | undefined): string[] =>
  report?.phase === 'running' && report.interfaces && vm.power_state === 'running'
    ? changingInterfaces(vm, report.interfaces)
    : [];

/** Tells whether the guest has reported that it is ready since its last start. */
const isReady = (report: ReportRecord, guest: GuestRecord | undefined): guest is GuestRecord =>
  guest !== undefined && report.started_at !== undefined && Date.parse(guest.ready_at) >= Date.parse(report.started_at);

const readyStatus = ({ user_data, exit_code }: GuestRecord): Partial<Status> & Pick<Status, 'ready'> => ({
  ready: true,
  ...(user_data !== undefined && { user_data }),
  ...(exit_code !== undefined && { user_data_exit_code: exit_code }),
});
