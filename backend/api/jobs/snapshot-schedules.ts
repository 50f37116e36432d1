/**
 * Makes the snapshots of schedules, and deletes old ones.
 *
 * Every API process does this. A snapshot and the record of its time are one transaction, on condition that the record is
 * unchanged. So each time has at most one snapshot, whichever process crashes, and no process must lead. After an outage, only
 * the last missed time is due (model/snapshot/cron.ts).
 */
import { UcloudError } from '../../contract/errors.ts';
import type { Component } from '../../model/component.ts';
import { newEvent } from '../../model/events.ts';
import { idFrom, newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { type Cron, lastDue, nextDue, parseCron } from '../../model/snapshot/cron.ts';
import { expiredSnapshots, isUnfinished, type ScheduledSnapshot } from '../../model/snapshot/retention.ts';
import { absent, put, rewrite, unchanged } from '../../store/collection.ts';
import { isChangeOf, type RecordChange } from '../../store/mirror.ts';
import type { Stored } from '../../store/record-kind.ts';
import { costGuard } from '../billing/cost-guard.ts';
import type { ApiContext } from '../requests/context.ts';
import { hasSource } from '../resources/snapshot-schedules.ts';
import { diskSource, snapshotCreation } from '../resources/snapshots.ts';
import { raiseFormat } from '../transaction/mutate.ts';
import { quotaGuard } from '../transaction/quota-guard.ts';

type Schedule = Stored<records.SnapshotScheduleRecord>;

/** The clock of the schedules. */
export interface ScheduleClock {
  /** Default: the time of the machine. */
  readonly now?: () => Date;
}

/** The longest time between two looks, in milliseconds. The time of the machine may jump. */
const maxWaitMs = 60_000;
/** The delay after a failure or a lost race, in milliseconds. */
const retryMs = 1_000;
/** The longest part of a schedule's name in the names of its snapshots. */
const maxNameLength = 40;

/** Returns the snapshots of the schedule. */
function snapshotsOf({ mirror }: ApiContext, schedule: string, now: Date): ScheduledSnapshot[] {
  const at = now.toISOString();
  return [...mirror.by(records.snapshots, 'schedule').list(schedule)].map(({ value }) => {
    const { id, created_at, delete_protection, deleted_at } = value;
    const observed = mirror.get(records.snapshotReports, id)?.value.phase ?? 'pending';
    const phase = deleted_at !== undefined || observed === 'gone' ? 'deleting' : observed;
    // A time in the future comes from a wrong clock. Such a snapshot must not displace later ones.
    return { id, created_at: created_at > at ? '' : created_at, delete_protection, phase };
  });
}

/** Returns the name of a snapshot: `nightly-20260101-0300`. A name that is taken gets the end of the id. */
function nameOf(api: ApiContext, { value }: Schedule, due: Date, id: string): string {
  const minute = due.toISOString().replaceAll(/[-:]/g, '').replace('T', '-').slice(0, 13);
  const name = `${value.name.slice(0, maxNameLength).replace(/-+$/, '')}-${minute}`;
  const isTaken = api.mirror.get(records.names, `${value.project}/snapshot/${name}`) !== undefined;
  return isTaken ? `${name}-${id.slice(-8)}` : name;
}

/** Makes the snapshot of a time, or records why there is none. Returns false after a lost race. */
async function makeSnapshot(api: ApiContext, schedule: Schedule, due: Date, now: Date): Promise<boolean> {
  const { store, mirror } = api;
  const { id: scheduleId, project, volume, vm, consistency, snapshot_labels: labels } = schedule.value;
  const run = mirror.get(records.snapshotScheduleRuns, scheduleId);
  const at = now.toISOString();
  const guards = [unchanged(schedule), run ? unchanged(run) : absent(records.snapshotScheduleRuns, scheduleId)];
  const handled = (rest: object) =>
    put(records.snapshotScheduleRuns, scheduleId, { due: due.toISOString(), at, ...rest });
  const id = newId('snapshot');
  const without = async (reason: string, because: string) => {
    const message = `No snapshot could be made: ${because}.`;
    const event = newEvent(now, schedule.value, { severity: 'warning', reason, message });
    const write = [handled({ reason, message }), put(records.events, ...event)];
    return (await store.commit({ require: guards, write })).ok;
  };
  if (snapshotsOf(api, scheduleId, now).some(isUnfinished)) {
    return without('unfinished', 'an earlier snapshot of the schedule is not complete');
  }
  try {
    const source = diskSource(api, project, { volume, vm });
    const name = nameOf(api, schedule, due, id);
    const fields = {
      ...{ id, name, labels, consistency, schedule: idFrom('snapshot_schedule', scheduleId), delete_protection: false },
      description: `Made by the schedule ${schedule.value.name}.`,
      ...(volume !== undefined && { volume }),
      ...(vm !== undefined && { vm }),
      ...{ created_at: at, updated_at: at },
    };
    const made = snapshotCreation(api, fields, source);
    const [quota, cost] = [quotaGuard(api, made), costGuard(api, made.writes, now)];
    const message = `Created ${name} by the schedule ${schedule.value.name}.`;
    const event = newEvent(now, { id, project }, { severity: 'info', reason: 'created', message });
    await raiseFormat(api, made.writes);
    const { ok } = await store.commit({
      require: [...guards, ...made.guards.map(({ condition }) => condition), ...quota.require, ...cost.require],
      write: [...made.writes, ...quota.write, ...cost.write, handled({ snapshot: id }), put(records.events, ...event)],
    });
    return ok;
  } catch (error) {
    if (!(error instanceof UcloudError) || error.code === 'store_unavailable') throw error;
    return without(error.code, error.message);
  }
}

/** Tells whether an image is being made of the snapshot. Its import would fail without the snapshot. */
const isBeingImported = ({ mirror }: ApiContext, snapshot: string): boolean =>
  [...mirror.by(records.images, 'snapshot').list(snapshot)].some(({ id }) => {
    const phase = mirror.get(records.imageReports, id)?.value.phase;
    return phase !== 'available' && phase !== 'error';
  });

/** Marks the snapshots that the schedule no longer keeps as deleted. Returns false after a lost race. */
async function deleteExpired(api: ApiContext, schedule: Schedule, now: Date): Promise<boolean> {
  const at = now.toISOString();
  let ok = true;
  for (const id of expiredSnapshots(snapshotsOf(api, schedule.id, now), schedule.value.retain)) {
    const stored = api.mirror.get(records.snapshots, id);
    if (stored === undefined || isBeingImported(api, id)) continue;
    const message = `Deletion of ${stored.value.name} requested by the schedule ${schedule.value.name}.`;
    const event = newEvent(now, stored.value, { severity: 'info', reason: 'deletion_requested', message });
    const next = { ...stored.value, deleted_at: at, updated_at: at };
    const result = await api.store.commit({
      require: [unchanged(schedule), unchanged(stored)],
      write: [rewrite(records.snapshots, stored, next), put(records.events, ...event)],
    });
    ok &&= result.ok;
  }
  return ok;
}

/** Starts the job. */
export function startSnapshotSchedules(api: ApiContext, { now = () => new Date() }: ScheduleClock = {}): Component {
  const { mirror, logger } = api;
  const waiting = new Set<string>();
  let timer: NodeJS.Timeout | undefined;
  let wakeAt = Number.POSITIVE_INFINITY;
  let working: Promise<void> | undefined;
  let isClosed = false;

  /** Looks at all schedules after so many milliseconds, or earlier. */
  function wakeIn(ms: number): void {
    const at = performance.now() + ms;
    if (isClosed || at >= wakeAt) return;
    clearTimeout(timer);
    wakeAt = at;
    timer = setTimeout(lookAtAll, ms).unref();
  }

  function lookAtAll(): void {
    wakeAt = Number.POSITIVE_INFINITY;
    for (const { id } of mirror.list(records.snapshotSchedules)) waiting.add(id);
    wakeIn(maxWaitMs);
    begin();
  }

  /** Returns false if the schedule must be looked at again soon. */
  async function visit(schedule: Schedule, cron: Cron): Promise<boolean> {
    const { id, value } = schedule;
    const run = mirror.get(records.snapshotScheduleRuns, id)?.value;
    // A time in the future comes from a wrong clock, and must not stop the schedule.
    const earlier = [run?.due, value.since].filter((each) => each !== undefined && each <= now().toISOString());
    const after = new Date(earlier.toSorted().at(-1) ?? now().getTime() - 2 * maxWaitMs);
    const due = hasSource(mirror, value) ? lastDue(cron, after, now()) : undefined;
    if (due && !(await makeSnapshot(api, schedule, due, now()))) return false;
    return deleteExpired(api, schedule, now());
  }

  async function work(): Promise<void> {
    for (const id of waiting) {
      if (isClosed) return;
      waiting.delete(id);
      const schedule = mirror.get(records.snapshotSchedules, id);
      const cron = schedule && parseCron(schedule.value.cron);
      if (schedule === undefined || cron === undefined || typeof cron === 'string') continue;
      const isDone = await visit(schedule, cron).catch((err: unknown) => {
        logger.warn({ err, schedule: id }, 'a snapshot schedule could not be carried out; it will be tried again');
        return false;
      });
      if (!isDone) wakeIn(retryMs);
      const next = nextDue(cron, now())?.getTime();
      if (next !== undefined) wakeIn(Math.min(maxWaitMs, Math.max(1, next - now().getTime())));
    }
  }

  function begin(): void {
    if (waiting.size === 0 || isClosed) return;
    working ??= work().finally(() => {
      working = undefined;
      begin();
    });
  }

  /** Returns the schedule that the change concerns. */
  function concerned(change: RecordChange): string | undefined {
    if (isChangeOf(records.snapshotSchedules, change)) return change.id;
    if (isChangeOf(records.snapshots, change)) return (change.stored ?? change.previous)?.value.schedule;
    return isChangeOf(records.snapshotReports, change)
      ? mirror.get(records.snapshots, change.id)?.value.schedule
      : undefined;
  }

  const stop = mirror.subscribe(({ changes }) => {
    for (const change of changes) {
      const id = concerned(change);
      if (id !== undefined) waiting.add(id);
    }
    begin();
  });
  lookAtAll();
  return {
    async close() {
      isClosed = true;
      stop();
      clearTimeout(timer);
      await working;
    },
  };
}
