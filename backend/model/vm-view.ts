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
 */
import type { Vm } from '../contract/vms.ts';
import type { ReportRecord, ScheduleRecord, VmRecord } from './records.ts';

export interface VmObservations {
  readonly schedule?: ScheduleRecord;
  readonly report?: ReportRecord;
  /** When the guest last said that it is ready. */
  readonly readyAt?: string;
  readonly hostAlive: boolean;
}

type Status = Vm['status'];

const lost = { reason: 'host_lost', message: 'The host gives no sign of life.' };

export function vmStatus(vm: VmRecord, seen: VmObservations): Status {
  const { schedule } = seen;
  const host = schedule?.host;
  const report = host !== undefined && seen.report?.fence === schedule?.fence ? seen.report : undefined;
  const status: Status = {
    phase: 'pending',
    ...(host === undefined ? {} : { host }),
    ...(report?.started_at === undefined ? {} : { started_at: report.started_at }),
    ready: false,
    restart_required: false,
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
    ready: running && isReady(report, seen.readyAt),
    restart_required: running && report.restart_required,
  };
}

/** The guest's word counts if it was given after the last start. */
const isReady = (report: ReportRecord, readyAt: string | undefined): boolean =>
  readyAt !== undefined && report.started_at !== undefined && Date.parse(readyAt) >= Date.parse(report.started_at);
