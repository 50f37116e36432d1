/**
 * The collector removes the records of deleted VMs, volumes, snapshots and attachments, and expired records. It also repairs
 * orders.
 *
 * A removal is due when its conditions hold in the mirror. Its transaction requires them again, so any number of
 * collectors may run: the conditions hold for one of them only.
 */
import type { Component } from '../../model/component.ts';
import type { RecordChange } from '../../store/mirror.ts';
import type { ApiContext } from '../requests/context.ts';
import { interfaceRelease } from './interface-release.ts';
import { madeSnapshotRemoval } from './made-snapshot-removal.ts';
import { orderRepair } from './order-repair.ts';
import { poolReportRemoval } from './pool-report-removal.ts';
import { prepaidStops } from './prepaid-stops.ts';
import { expire } from './retention.ts';
import { boundTrails } from './trails.ts';
import { vmRemoval } from './vm-removal.ts';
import { attachmentRemoval, snapshotRemoval, volumeRemoval } from './volume-removal.ts';

const expiryMs = 10 * 60_000;
const retryMs = 1000;
/** The number of objects that are removed at the same time. */
const concurrency = 64;

/** The removal of the objects of one kind. */
export interface Removal {
  /** The kind, for log messages. */
  readonly noun: string;
  /** Returns the ids of all objects of the kind. */
  initial(api: ApiContext): Iterable<string>;
  /** Returns the ids of the objects whose removal may become due by the change. */
  affected(change: RecordChange, api: ApiContext): Iterable<string>;
  /** Tells whether the object must be removed now. */
  isDue(api: ApiContext, id: string): boolean;
  /** Returns true if the object is removed, or must not be removed any more. */
  remove(api: ApiContext, id: string): Promise<boolean>;
}

const all: readonly Removal[] = [
  ...[vmRemoval, attachmentRemoval, volumeRemoval, snapshotRemoval],
  ...[madeSnapshotRemoval, poolReportRemoval, interfaceRelease, orderRepair, prepaidStops],
];

/** Starts the collector. */
export function startCollector(api: ApiContext, { repairsOrders = true } = {}): Component {
  const removals = repairsOrders ? all : all.filter((each) => each !== orderRepair);
  const { mirror, logger } = api;
  const waiting = new Map<string, Removal>();
  const timers = new Set<NodeJS.Timeout>();
  const closing = new AbortController();
  let working: Promise<void> | undefined;

  const later = (ms: number, work: () => void) => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      work();
    }, ms);
    timer.unref();
    timers.add(timer);
  };

  async function collect(id: string, removal: Removal): Promise<void> {
    if (!removal.isDue(api, id)) return;
    try {
      if (await removal.remove(api, id)) return;
    } catch (err) {
      logger.warn({ err, id }, `a deleted ${removal.noun} could not be removed, it will be tried again`);
    }
    // No later change may bring the object up again, so a timer does.
    later(retryMs, () => consider(id, removal));
  }

  async function work(): Promise<void> {
    while (waiting.size > 0 && !closing.signal.aborted) {
      const batch = [...waiting].slice(0, concurrency);
      for (const [id] of batch) waiting.delete(id);
      await Promise.all(batch.map(([id, removal]) => collect(id, removal)));
    }
  }

  function begin(): void {
    if (waiting.size === 0 || closing.signal.aborted) return;
    working ??= work().finally(() => {
      working = undefined;
      begin();
    });
  }

  function consider(id: string, removal: Removal): void {
    if (!removal.isDue(api, id)) return;
    waiting.set(id, removal);
    begin();
  }

  const stop = mirror.subscribe(({ changes }) => {
    for (const change of changes) {
      for (const removal of removals) {
        for (const id of removal.affected(change, api)) consider(id, removal);
      }
    }
  });

  let expiring: Promise<void> = Promise.resolve();
  const expireNow = () => {
    expiring = expire(api.store, new Date(), closing.signal)
      .then(() => boundTrails(api, closing.signal))
      .catch((err: unknown) => logger.warn({ err }, 'old records could not be removed, it will be tried again'));
    later(expiryMs, expireNow);
  };

  for (const removal of removals) for (const id of removal.initial(api)) consider(id, removal);
  expireNow();

  return {
    async close() {
      closing.abort();
      stop();
      for (const timer of timers) clearTimeout(timer);
      await working;
      await expiring;
    },
  };
}
