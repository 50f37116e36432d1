/**
 * One scheduler leads; the others wait to take over.
 *
 * Who creates `leader/scheduler` under its lease leads until the lease ends. A leader may be deposed without noticing:
 * it was stopped for a while, or cut off, and its lease ran out. So being leader is never a matter of belief: each of
 * its commits requires that the key still has the revision of its own creation. A new leader's key has another one, and
 * from then on no write of the old leader, not even one under way, can take effect.
 */
import { hostname } from 'node:os';
import { leaders } from '../model/records.ts';
import { absent, put } from '../store/collection.ts';
import type { Mirror } from '../store/mirror.ts';
import type { CommitResult, Condition, Lease, Revision, Store } from '../store/store.ts';

export const office = 'scheduler';

export interface Leadership {
  readonly lease: Lease;
  readonly revision: Revision;
  /** To be required by every commit of the leader. */
  readonly holds: Condition;
}

/** Waits until there is no leader and becomes it; undefined when `signal` aborts or the store was closed. */
export async function campaign(
  store: Store,
  mirror: Mirror,
  {
    id = `${hostname()}/${process.pid}`,
    leaseSeconds,
    signal,
  }: { id?: string; leaseSeconds: number; signal: AbortSignal },
): Promise<Leadership | undefined> {
  const key = leaders.prefix + office;
  while (!signal.aborted) {
    const after = mirror.revision;
    if (mirror.get(leaders, office)) {
      if (!(await mirror.waitForChange({ after, of: [{ kind: leaders, id: office }], signal }))) return undefined;
      continue;
    }
    const lease = await store.lease(leaseSeconds);
    let result: CommitResult;
    try {
      result = await store.commit({
        require: [absent(leaders, office)],
        write: [put(leaders, office, { id }, lease.id)],
      });
    } catch (error) {
      // It may have happened all the same: the lease must not be renewed for a leader that does not know it is one.
      await lease.revoke().catch(() => undefined);
      throw error;
    }
    if (result.ok) return { lease, revision: result.revision, holds: { key, revision: result.revision } };
    await lease.revoke();
    if (!(await mirror.waitForChange({ after, of: [{ kind: leaders, id: office }], signal }))) return undefined;
  }
  return undefined;
}
