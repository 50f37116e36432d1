/** What an agent writes, as parts of one commit: its report on a VM, and what goes with it. */
import type { Id } from '../contract/fields.ts';
import { type Happening, newEvent } from '../model/events.ts';
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
} from '../model/records.ts';
import { absent, put, remove, rewrite, unchanged } from '../store/collection.ts';
import type { Stored } from '../store/records.ts';
import type { Commit, Condition, Write } from '../store/store.ts';

/** What the agent knows of a VM when it decides. */
export interface VmSight {
  readonly id: Id<'vm'>;
  readonly host: Id<'host'>;
  readonly vm: Stored<VmRecord> | undefined;
  readonly placement: Stored<PlacementRecord> | undefined;
  readonly report: Stored<ReportRecord> | undefined;
  readonly operations: readonly Stored<OperationRecord>[];
}
export type Placed = VmSight & { readonly placement: Stored<PlacementRecord> };

export type Said = Pick<ReportRecord, 'phase'> &
  Partial<Pick<ReportRecord, 'reason' | 'message' | 'generation' | 'resources' | 'started_at'>>;

/** The report of this placement, if there is one. */
export const currentReport = ({ host, placement, report }: VmSight): ReportRecord | undefined =>
  report?.value.host === host && report.value.fence === placement?.value.fence ? report.value : undefined;

/** A report with the fence of the placement, on condition that this is still the placement. */
export function reporting(
  sight: Placed,
  said: Said,
  now: Date,
  more: { readonly require?: readonly Condition[]; readonly write?: readonly Write[] } = {},
): Commit {
  const { id, host, placement, report } = sight;
  const record = { ...said, host, fence: placement.value.fence, at: now.toISOString() };
  return {
    require: [unchanged(placement), report ? unchanged(report) : absent(reports, id), ...(more.require ?? [])],
    write: [put(reports, id, record), ...(more.write ?? [])],
  };
}

export const event = ({ vm }: VmSight, now: Date, happening: Happening): Write[] =>
  vm === undefined ? [] : [put(events, ...newEvent(now, vm.value, happening))];

/** Moves operations on. */
export function advance(
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

/** Takes back the report of a VM that is not placed here any more. */
export function forgetting({ id, host, report }: VmSight): Commit {
  return {
    require: [absent(placements, `${host}/${id}`), ...(report ? [unchanged(report)] : [])],
    write: [remove(reports, id), remove(guests, id)],
  };
}

/** Records, in the stead of a guest and its metadata server, that the guest is ready. Its scripts all succeed. */
export function guestReady(sight: Placed & { readonly report: Stored<ReportRecord> }, at: Date): Commit {
  const data = sight.vm?.value.user_data ?? '';
  const user_data = data === '' ? 'none' : data.startsWith('#!') ? 'ok' : 'ignored';
  return {
    require: [unchanged(sight.placement), unchanged(sight.report)],
    write: [put(guests, sight.id, { ready_at: at.toISOString(), user_data })],
  };
}
