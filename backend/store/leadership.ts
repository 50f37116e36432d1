/**
 * Leader election: one process at a time does a task, and the others wait to take over.
 *
 * The process that creates the key of the task under its lease leads until the lease ends. A leader may lose its
 * leadership without noticing, for example when it is suspended or disconnected for longer than its lease. Therefore
 * each commit of a leader requires the leader key at the revision of its own creation. The key of a new leader has
 * another revision. From then on, every write of the old leader fails, including writes already in flight.
 */
import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { TSchema } from '@sinclair/typebox';
import { UcloudError } from '../contract/errors.ts';
import { absent, put } from './collection.ts';
import type { StoreLogger } from './logger.ts';
import type { Mirror } from './mirror.ts';
import type { RecordKind } from './record-kind.ts';
import type { CommitResult, Condition, Lease, Revision, Store } from './store.ts';

/** The leadership of this process. */
export interface Leadership {
  readonly lease: Lease;
  readonly revision: Revision;
  /** The condition that every commit of the leader must require. */
  readonly holds: Condition;
}

/** Options of `campaign`. */
export interface Campaign {
  /** The kind of the leader key. The mirror must contain it. */
  readonly kind: RecordKind<TSchema & { static: { id: string } }>;
  readonly task: string;
  /** A readable name of this process. Default: host name and process id. */
  readonly id?: string;
  /** Further fields of the leader key. */
  readonly fields?: Readonly<Record<string, boolean>>;
  /** The time to live of the lease, in seconds. */
  readonly leaseSeconds: number;
  readonly signal: AbortSignal;
}

/**
 * Waits until no process leads, then takes the leadership. Returns undefined when `signal` aborts or the store closes.
 */
export async function campaign(
  store: Store,
  mirror: Mirror,
  { kind, task, id = `${hostname()}/${process.pid}`, fields, leaseSeconds, signal }: Campaign,
): Promise<Leadership | undefined> {
  const of = [{ kind, id: task }];
  while (!signal.aborted) {
    const after = mirror.revision;
    if (mirror.get(kind, task)) {
      if (!(await mirror.waitForChange({ after, of, signal }))) return undefined;
      continue;
    }
    const lease = await store.lease(leaseSeconds);
    let result: CommitResult;
    try {
      result = await store.commit({
        require: [absent(kind, task)],
        write: [put(kind, task, { ...fields, id }, lease.id)],
      });
    } catch (error) {
      // The commit may have succeeded. The lease must not be renewed for a leader that does not know of its leadership.
      // `revoke` stops the renewals; if the call fails, the lease ends after its time to live.
      await lease.revoke().catch(() => undefined);
      throw error;
    }
    if (result.ok) {
      return { lease, revision: result.revision, holds: { key: kind.prefix + task, revision: result.revision } };
    }
    await lease.revoke();
    if (!(await mirror.waitForChange({ after, of, signal }))) return undefined;
  }
  return undefined;
}

/** The pause after a term that ended with an error. */
const retryMs = 500;

/** Options of `lead`. */
export interface LeadOptions extends Campaign {
  readonly logger: StoreLogger;
  /**
   * The work of one term. The mirror shows the beginning of the term, so no earlier leader changes anything any more.
   * `over` aborts when the leadership is lost or `signal` aborts.
   */
  readonly work: (leadership: Leadership, over: AbortSignal) => Promise<void>;
}

/**
 * Leads whenever no other process does, one term after the other. Resolves when `signal` aborts or the store closes. An
 * error of a term is logged, and another term follows.
 */
export async function lead(store: Store, mirror: Mirror, options: LeadOptions): Promise<void> {
  const { logger, signal, task } = options;
  /** Returns false when no further term follows. */
  const term = async (): Promise<boolean> => {
    const leadership = await campaign(store, mirror, options);
    if (leadership === undefined) return false;
    const { lease, revision } = leadership;
    logger.info({ task, revision }, 'leading');
    const over = AbortSignal.any([signal, lease.lost]);
    try {
      if (await mirror.waitFor(revision, { signal: over })) await options.work(leadership, over);
    } finally {
      // If the revocation fails, the lease ends after its time to live.
      if (!lease.lost.aborted) {
        await lease.revoke().catch((err: unknown) => logger.warn({ err, task }, 'could not step down'));
      }
    }
    return true;
  };
  for (let more = true; more && !signal.aborted; ) {
    try {
      more = await term();
    } catch (err) {
      if (signal.aborted) return;
      const level = err instanceof UcloudError ? 'warn' : 'error';
      logger[level]({ err, task }, 'the term ended with an error; standing again');
      await delay(retryMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }
}
