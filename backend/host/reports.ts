/** The writes of an agent, as parts of one commit: the report on a VM, and the records that belong to it. */

import type { Id } from '../contract/fields.ts';
import { type EventDetails, newEvent } from '../model/events.ts';
import { placementId } from '../model/placement/placement-id.ts';
import {
  events,
  guests,
  type OperationRecord,
  operations,
  type PlacementRecord,
  placements,
  type ReportRecord,
  reports,
  type VmRecord,
} from '../model/records/index.ts';
import { absent, put, remove, rewrite, unchanged } from '../store/collection.ts';
import type { Stored } from '../store/record-kind.ts';
import type { Commit, Condition, Write } from '../store/store.ts';

/** The records of one VM that the agent decides on. */
export interface VmSnapshot {
  readonly id: Id<'vm'>;
  readonly host: Id<'host'>;
  readonly vm: Stored<VmRecord> | undefined;
  readonly placement: Stored<PlacementRecord> | undefined;
  readonly report: Stored<ReportRecord> | undefined;
  readonly operations: readonly Stored<OperationRecord>[];
}
/** The records of a VM that is placed on this host. */
export type PlacedVmSnapshot = VmSnapshot & { readonly placement: Stored<PlacementRecord> };

/** The fields of a report that the agent chooses. */
export type ReportFields = Pick<ReportRecord, 'phase'> &
  Partial<
    Pick<
      ReportRecord,
      | 'reason'
      | 'message'
      | 'generation'
      | 'resources'
      | 'started_at'
      | 'guest_agent'
      | 'interfaces'
      | 'interfaces_wait'
    >
  >;

/** Returns the report of the current placement, if there is one. */
export const currentReport = ({ host, placement, report }: VmSnapshot): ReportRecord | undefined =>
  report?.value.host === host && report.value.fence === placement?.value.fence ? report.value : undefined;

/** The phases after which the machine has no guest, and so no guest has an interface. */
const endPhases: ReadonlySet<ReportRecord['phase']> = new Set(['stopped', 'gone']);

/** Returns the interfaces in the present report, which a new report keeps while the guest may have them. */
function keptInterfaces(snapshot: VmSnapshot, phase: ReportRecord['phase']): Partial<ReportRecord> {
  const interfaces = endPhases.has(phase) ? undefined : currentReport(snapshot)?.interfaces;
  return interfaces === undefined ? {} : { interfaces };
}

/**
 * Returns a commit that writes a report with the fence of the placement. It requires the placement to be unchanged. The new
 * report keeps the interfaces of the guest, unless it names others.
 */
export function reportCommit(
  snapshot: PlacedVmSnapshot,
  reported: ReportFields,
  now: Date,
  more: { readonly require?: readonly Condition[]; readonly write?: readonly Write[] } = {},
): Commit {
  const { id, host, placement, report } = snapshot;
  const record = {
    ...keptInterfaces(snapshot, reported.phase),
    ...reported,
    host,
    fence: placement.value.fence,
    at: now.toISOString(),
  };
  return {
    require: [unchanged(placement), report ? unchanged(report) : absent(reports, id), ...(more.require ?? [])],
    write: [put(reports, id, record), ...(more.write ?? [])],
  };
}

/** Returns the write of an event; none if the VM's record is gone. */
export const eventWrites = ({ vm }: VmSnapshot, now: Date, details: EventDetails): Write[] =>
  vm === undefined ? [] : [put(events, ...newEvent(now, vm.value, details))];

/** Changes the state and progress of operations. */
export function advanceOperations(
  operationRecords: readonly Stored<OperationRecord>[],
  now: Date,
  change: Pick<OperationRecord, 'state' | 'progress'> & Partial<Pick<OperationRecord, 'error'>>,
): { require: Condition[]; write: Write[] } {
  const at = now.toISOString();
  const ended = change.state === 'succeeded' || change.state === 'failed';
  return {
    require: operationRecords.map(unchanged),
    write: operationRecords.map((operation) =>
      rewrite(operations, operation, {
        ...operation.value,
        ...change,
        updated_at: at,
        ...(ended && { finished_at: at }),
      }),
    ),
  };
}

/** Returns a commit that removes the report of a VM that is no longer placed here. */
export function removeReport({ id, host, report }: VmSnapshot): Commit {
  return {
    require: [absent(placements, placementId(host, id)), ...(report ? [unchanged(report)] : [])],
    write: [remove(reports, id), remove(guests, id)],
  };
}

/**
 * Returns a commit that records the readiness of a guest, on a host without a metadata server. The scripts of such a
 * guest all succeed.
 */
export function guestReadyCommit(
  snapshot: PlacedVmSnapshot & { readonly report: Stored<ReportRecord> },
  at: Date,
): Commit {
  const data = snapshot.vm?.value.user_data ?? '';
  const user_data = data === '' ? 'none' : data.startsWith('#!') ? 'ok' : 'ignored';
  return {
    require: [unchanged(snapshot.placement), unchanged(snapshot.report)],
    write: [put(guests, snapshot.id, { ready_at: at.toISOString(), user_data })],
  };
}
