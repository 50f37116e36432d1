/**
 * What a VM is doing, as its owner sees it, derived from five records by different writers: the declaration (API), the
 * schedule (scheduler), the report (the host that holds the placement), the guest's word (metadata server) and the
 * host's sign of life. Nobody stores a phase, so no two writers can disagree about it.
 *
 * In order, the first that holds:
 *   deleting   the deletion was accepted; the record is removed when the host has torn the VM down
 *   pending    no host yet: the schedule says why
 *   unknown    it has a host, but that host gives no sign of life: what it does there cannot be known
 *   scheduled  it has a host, which has not reported on this placement (an older one's report is void: its fencing
 *              number differs)
 *   preparing, starting, running, stopping, stopped, error   as the host reports
 *
 * A restart is owed while the last report tells of a run that was begun with less than is declared. That is so from the
 * moment of the change on, whether the host is alive or not. A VM that is declared stopped owes none.
 */
import type { RestartField, Vm } from '../contract/vms.ts';
import type { GuestRecord, ReportRecord, ScheduleRecord, VmRecord } from './records.ts';
import { pendingChanges } from './vm-lifecycle.ts';

export interface VmObservations {
  readonly schedule?: ScheduleRecord;
  readonly report?: ReportRecord;
  /** What the guest said when it last said that it is ready. */
  readonly guest?: GuestRecord;
  readonly hostAlive: boolean;
}

type Status = Vm['status'];

const lost = { reason: 'host_lost', message: 'The host gives no sign of life.' };

export function vmStatus(vm: VmRecord, seen: VmObservations): Status {
  const { schedule } = seen;
  const host = schedule?.host;
  const report = host !== undefined && seen.report?.fence === schedule?.fence ? seen.report : undefined;
  const waiting = owed(vm, report);
  const status: Status = {
    phase: 'pending',
    ...(host === undefined ? {} : { host }),
    ...(report?.started_at === undefined ? {} : { started_at: report.started_at }),
    ready: false,
    restart_required: waiting.length > 0,
    pending_changes: waiting,
  };
  const because = (cause: { reason?: string | undefined; message?: string | undefined } | undefined) => ({
    ...(cause?.reason === undefined ? {} : { reason: cause.reason }),
    ...(cause?.message === undefined ? {} : { message: cause.message }),
  });

  if (vm.deleted_at !== undefined) {
    return { ...status, phase: 'deleting', ...(host !== undefined && !seen.hostAlive ? lost : because(report)) };
  }
  if (host === undefined) return { ...status, ...because(schedule) };
  if (!seen.hostAlive) return { ...status, phase: 'unknown', ...lost };
  if (report === undefined || report.phase === 'gone') return { ...status, phase: 'scheduled' };
  const running = report.phase === 'running';
  return {
    ...status,
    phase: report.phase,
    ...because(report),
    ...(running && isReady(report, seen.guest) ? readyStatus(seen.guest) : { ready: false }),
  };
}

/** Phases in which a guest runs, or has just been begun or ended. */
const inRun: readonly ReportRecord['phase'][] = ['starting', 'running', 'stopping', 'error'];

function owed(vm: VmRecord, report: ReportRecord | undefined): RestartField[] {
  const run = report?.started_at !== undefined && inRun.includes(report.phase) ? report : undefined;
  const wanted = vm.power_state === 'running' && vm.deleted_at === undefined;
  return run && wanted ? pendingChanges(vm, run) : [];
}

/** The guest's word counts if it was given after the last start. */
const isReady = (report: ReportRecord, guest: GuestRecord | undefined): guest is GuestRecord =>
  guest !== undefined && report.started_at !== undefined && Date.parse(guest.ready_at) >= Date.parse(report.started_at);

const readyStatus = ({ user_data, exit_code }: GuestRecord): Partial<Status> & Pick<Status, 'ready'> => ({
  ready: true,
  ...(user_data !== undefined && { user_data }),
  ...(exit_code !== undefined && { user_data_exit_code: exit_code }),
});
