/** The scheduler's commits, one part for each VM: conditions and writes that belong together. */
import type { Id } from '../contract/fields.ts';
import { type Happening, newEvent } from '../model/events.ts';
import type { Given, NoHost, Resources } from '../model/placement.ts';
import {
  events,
  guests,
  hosts,
  type PlacementRecord,
  placements,
  type ReportRecord,
  reports,
  type ScheduleRecord,
  schedules,
  type VmRecord,
  vms,
} from '../model/records.ts';
import { absent, put, remove, rewrite, unchanged } from '../store/collection.ts';
import type { Stored } from '../store/records.ts';
import type { Condition, Write } from '../store/store.ts';

/** What the commit for one VM was decided on. */
export interface Seen {
  readonly id: Id<'vm'>;
  readonly vm: Stored<VmRecord> | undefined;
  readonly schedule: Stored<ScheduleRecord> | undefined;
  readonly placement: Stored<PlacementRecord> | undefined;
  readonly report: Stored<ReportRecord> | undefined;
}

export interface Part {
  readonly id: Id<'vm'>;
  readonly require: readonly Condition[];
  readonly write: readonly Write[];
  /** Host whose account the part changes. */
  readonly host?: Id<'host'>;
}

const asSeen = (seen: Seen): Condition[] => [
  seen.vm ? unchanged(seen.vm) : absent(vms, seen.id),
  seen.schedule ? unchanged(seen.schedule) : absent(schedules, seen.id),
];

const event = (vm: VmRecord, now: Date, happening: Happening): Write => put(events, ...newEvent(now, vm, happening));

export function place(seen: Seen, vm: VmRecord, host: Id<'host'>, name: string, given: Given, now: Date): Part {
  const fence = (seen.schedule?.value.fence ?? 0) + 1;
  const at = now.toISOString();
  return {
    id: seen.id,
    host,
    require: asSeen(seen),
    write: [
      put(schedules, seen.id, { host, fence, at }),
      put(placements, `${host}/${seen.id}`, { fence, ...given, at }),
      event(vm, now, { severity: 'info', reason: 'scheduled', message: `Placed on ${name}.` }),
    ],
  };
}

const filtersOf = (refusals: ScheduleRecord['refusals']) => (refusals ?? []).map(({ filter }) => filter).join();

/** Whether it is another reason, not only other numbers. */
export const isNews = (schedule: ScheduleRecord | undefined, { refusals }: NoHost): boolean =>
  schedule?.reason !== 'no_host' || filtersOf(schedule.refusals) !== filtersOf([...refusals]);

export function refuse(seen: Seen, vm: VmRecord, { refusals, message }: NoHost, now: Date): Part {
  const schedule = seen.schedule?.value;
  const record: ScheduleRecord = {
    fence: schedule?.fence ?? 0,
    reason: 'no_host',
    message,
    refusals: [...refusals],
    at: now.toISOString(),
  };
  const news = isNews(schedule, { refusals, message });
  return {
    id: seen.id,
    require: asSeen(seen),
    write: [
      put(schedules, seen.id, record),
      ...(news ? [event(vm, now, { severity: 'warning', reason: 'no_host', message: `No host: ${message}.` })] : []),
    ],
  };
}

export function grant(
  seen: Seen & { readonly schedule: Stored<ScheduleRecord>; readonly placement: Stored<PlacementRecord> },
  host: Id<'host'>,
  resources: Resources,
): Part {
  const { reason, message: _message, ...schedule } = seen.schedule.value;
  return {
    id: seen.id,
    host,
    require: [
      ...asSeen(seen),
      unchanged(seen.placement),
      seen.report ? unchanged(seen.report) : absent(reports, seen.id),
    ],
    write: [
      rewrite(placements, seen.placement, { ...seen.placement.value, ...resources }),
      ...(reason === undefined ? [] : [rewrite(schedules, seen.schedule, schedule)]),
    ],
  };
}

/** Says, or with `undefined` no longer says, why the VM does not get what it asks for. */
export function note(seen: Seen & { readonly schedule: Stored<ScheduleRecord> }, message: string | undefined): Part {
  const { reason: _reason, message: _message, ...schedule } = seen.schedule.value;
  const record = message === undefined ? schedule : { ...schedule, reason: 'resize_waits', message };
  return { id: seen.id, require: asSeen(seen), write: [rewrite(schedules, seen.schedule, record)] };
}

/**
 * The VM is torn down, or there never was anything. If its host is no more, nobody else removes what was reported of it.
 */
export function release(seen: Seen, hostKnown: boolean): Part {
  const host = seen.schedule?.value.host;
  const orphaned = host !== undefined && !hostKnown;
  return {
    id: seen.id,
    ...(host && { host }),
    require: [...asSeen(seen), ...(orphaned ? [absent(hosts, host)] : [])],
    write: [
      remove(schedules, seen.id),
      ...(host === undefined ? [] : [remove(placements, `${host}/${seen.id}`)]),
      ...(orphaned ? [remove(reports, seen.id), remove(guests, seen.id)] : []),
    ],
  };
}
