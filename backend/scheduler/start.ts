/** The scheduler: decides which host runs which VM. Any number may run; one leads. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Component, Logger } from '../model/component.ts';
import { alive, hostPolicies, hosts, images, leaders, placements, reports, schedules, vms } from '../model/records.ts';
import { campaign } from '../store/leadership.ts';
import { openMirror } from '../store/mirror.ts';
import type { Store } from '../store/store.ts';
import { Term, task } from './term.ts';

export interface SchedulerOptions {
  readonly store: Store;
  readonly logger: Logger;
  /** Tells schedulers apart in `leader/scheduler`. Default: host name and process id. */
  readonly id?: string;
  /** After so many seconds without a sign of life another scheduler takes over. */
  readonly leaseSeconds?: number;
}

const retryMs = 500;

/** Resolves when it has read the database; it may then still wait for another scheduler to go. */
export async function startScheduler(options: SchedulerOptions): Promise<Component> {
  const { store, logger, leaseSeconds = 5 } = options;
  const closing = new AbortController();
  // One watch of everything, so that each commit is seen whole: a schedule never without its placement.
  const mirror = await openMirror(store, {
    prefixes: [''],
    kinds: [vms, images, hosts, hostPolicies, alive, schedules, placements, reports, leaders],
    logger,
  });

  /** False when there will be no further term. */
  const lead = async (): Promise<boolean> => {
    const leadership = await campaign(store, mirror, {
      kind: leaders,
      task,
      ...(options.id !== undefined && { id: options.id }),
      leaseSeconds,
      signal: closing.signal,
    });
    if (leadership === undefined) return false;
    logger.info({ revision: leadership.revision }, 'leading');
    try {
      await new Term(store, mirror, leadership, logger).run(closing.signal);
    } finally {
      // If this fails too, the lease ends by itself.
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
