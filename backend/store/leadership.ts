/**
 * One worker at a time for a task; the others wait to take over.
 *
 * Who creates the key of the task under its lease leads until the lease ends. A leader may be deposed without noticing:
 * it was stopped for a while, or cut off, and its lease ran out. So being leader is never a matter of belief: each of
 * its commits requires that the key still has the revision of its own creation. A new leader's key has another one, and
 * from then on no write of the old leader, not even one under way, can take effect.
 */
import { hostname } from 'node:os';
import type { TSchema } from '@sinclair/typebox';
import { absent, put } from './collection.ts';
import type { Mirror } from './mirror.ts';
import type { RecordKind } from './records.ts';
import type { CommitResult, Condition, Lease, Revision, Store } from './store.ts';

export interface Leadership {
  readonly lease: Lease;
  readonly revision: Revision;
  /** To be required by every commit of the leader. */
  readonly holds: Condition;
}

export interface Campaign {
  /** Kind and id of the task's key; the mirror must hold it. */
  readonly kind: RecordKind<TSchema & { static: { id: string } }>;
  readonly task: string;
  /** Who leads, for people. Default: host name and process id. */
  readonly id?: string;
  /** After so many seconds without a sign of life another takes over. */
  readonly leaseSeconds: number;
  readonly signal: AbortSignal;
}

/** Waits until nobody leads and becomes it; undefined when `signal` aborts or the store was closed. */
export async function campaign(
  store: Store,
  mirror: Mirror,
  { kind, task, id = `${hostname()}/${process.pid}`, leaseSeconds, signal }: Campaign,
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
      result = await store.commit({ require: [absent(kind, task)], write: [put(kind, task, { id }, lease.id)] });
    } catch (error) {
      // It may have happened all the same: the lease must not be renewed for a leader that does not know it is one.
      // Renewals end with the call; if it fails, the lease runs out.
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
