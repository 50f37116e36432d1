/** The scheduler decides which host runs which VM. Several scheduler processes may run; one of them leads. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Component, Logger } from '../model/component.ts';
import {
  alive,
  hostPolicies,
  hosts,
  images,
  leaders,
  placements,
  reports,
  schedules,
  vms,
} from '../model/records/index.ts';
import { campaign } from '../store/leadership.ts';
import { openMirror } from '../store/mirror.ts';
import type { Store } from '../store/store.ts';
import { LeaderLoop, schedulerTask } from './leader-loop.ts';

/** Options of `startScheduler`. */
export interface SchedulerOptions {
  readonly store: Store;
  readonly logger: Logger;
  /** The name of this scheduler in `leader/scheduler`. Default: host name and process id. */
  readonly id?: string;
  /** The time to live of the leader's lease, in seconds. After the lease has ended, another scheduler takes over. */
  readonly leaseSeconds?: number;
}

const retryMs = 500;

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
    kinds: [vms, images, hosts, hostPolicies, alive, schedules, placements, reports, leaders],
    logger,
  });

  /** Leads for one term. Returns false when no further term follows. */
  const lead = async (): Promise<boolean> => {
    const leadership = await campaign(store, mirror, {
      kind: leaders,
      task: schedulerTask,
      ...(options.id !== undefined && { id: options.id }),
      leaseSeconds,
      signal: closing.signal,
    });
    if (leadership === undefined) return false;
    logger.info({ revision: leadership.revision }, 'leading');
    try {
      await new LeaderLoop(store, mirror, leadership, logger).run(closing.signal);
    } finally {
      // If the revocation fails, the lease ends after its time to live.
      if (!leadership.lease.lost.aborted) {
        await leadership.lease.revoke().catch((err: unknown) => logger.warn({ err }, 'could not step down'));
      }
    }
    return true;
  };

  const work = async () => {
    for (let more = true; more && !closing.signal.aborted; ) {
      try {
        more = await lead();
      } catch (err) {
        logger.warn({ err }, 'the term ended with an error; standing again');
        await delay(retryMs, undefined, { signal: closing.signal, ref: false }).catch(() => undefined);
      }
    }
  };
  const working = work();

  return {
    close: async () => {
      closing.abort();
      await working;
      await mirror.close();
    },
  };
}
