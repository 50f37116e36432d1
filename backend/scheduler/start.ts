/** The scheduler decides which host runs which VM. Several scheduler processes may run; one of them leads. */
import type { Component, Logger } from '../model/component.ts';
import {
  alive,
  attachmentReports,
  hostPolicies,
  hosts,
  images,
  leaders,
  networkCarriers,
  networkMembers,
  networks,
  operations,
  placements,
  poolReports,
  reports,
  schedules,
  securityGroups,
  settings,
  snapshotPlacements,
  snapshotReports,
  snapshots,
  storagePools,
  vms,
  volumeAttachments,
  volumeHolders,
  volumePlacements,
  volumeReports,
  volumes,
} from '../model/records/index.ts';
import { lead } from '../store/leadership.ts';
import { openMirror } from '../store/mirror.ts';
import type { Store } from '../store/store.ts';
import { LeaderLoop, schedulerTask } from './leader-loop.ts';
import { CarrierLoop } from './network-carriers.ts';
import { schedulerIndexes } from './subjects.ts';

/** Options of `startScheduler`. */
export interface SchedulerOptions {
  readonly store: Store;
  readonly logger: Logger;
  /** The name of this scheduler in `leader/scheduler`. Default: host name and process id. */
  readonly id?: string;
  /** The time to live of the leader's lease, in seconds. After the lease has ended, another scheduler takes over. */
  readonly leaseSeconds?: number;
}

/**
 * Starts a scheduler. Resolves when the mirror has read the database; another scheduler may still lead.
 * @throws UcloudError `store_unavailable` if the database does not answer
 */
export async function startScheduler(options: SchedulerOptions): Promise<Component> {
  const { store, logger, leaseSeconds = 5 } = options;
  const closing = new AbortController();
  // One watch of the whole database shows each commit as a whole: a schedule always appears together with its
  // placement.
  const mirror = await openMirror(store, {
    prefixes: [''],
    kinds: [
      ...[vms, images, hosts, hostPolicies, alive, schedules, placements, reports, leaders],
      ...[networkMembers, networkCarriers, networks, securityGroups, operations],
      ...[volumes, volumeAttachments, volumeHolders, volumePlacements, volumeReports, attachmentReports],
      ...[snapshots, snapshotPlacements, snapshotReports],
      ...[storagePools, poolReports, settings],
    ],
    logger,
  });

  const indexes = schedulerIndexes(mirror);
  const working = lead(store, mirror, {
    kind: leaders,
    task: schedulerTask,
    ...(options.id !== undefined && { id: options.id }),
    fields: { carriers: true },
    leaseSeconds,
    signal: closing.signal,
    logger,
    work: async (leadership, termEnd) => {
      const end = new AbortController();
      const carriers = new CarrierLoop({ store, mirror, logger }, leadership);
      const following = carriers.run(AbortSignal.any([termEnd, end.signal]));
      try {
        await new LeaderLoop({ store, mirror, indexes, logger }, leadership).run(termEnd);
      } finally {
        end.abort();
        await following;
      }
    },
  });

  return {
    close: async () => {
      closing.abort();
      await working;
      await mirror.close();
    },
  };
}
