/**
 * The hosts' accounts as the mirror shows them, for questions of what would fit. The scheduler keeps its own.
 *
 * A check may take seconds where there are thousands of hosts. So it goes on for a moment at a time, there is one at a
 * time, projects take turns, and what changes meanwhile is entered when it has ended.
 */

import { setImmediate as nextRound } from 'node:timers/promises';
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import { idFrom } from '../../model/ids.ts';
import {
  capacityCheck,
  type PlannedRequest,
  type ProjectQuota,
  type Refusal,
} from '../../model/placement/capacity-check.ts';
import { HostPool } from '../../model/placement/host-pool.ts';
import { parsePlacementId } from '../../model/placement/placement-id.ts';
import * as records from '../../model/records/index.ts';
import { isChangeOf, type Mirror, type RecordChange } from '../../store/mirror.ts';
import { FairQueue } from '../concurrency/fair-queue.ts';

/** Checks of one project that wait. */
const maxWaitingChecks = 16;
/** Milliseconds for which a check goes on before others are answered. */
const sliceMs = 5;

export class HostPoolFeed {
  readonly #pool = new HostPool();
  readonly #mirror: Mirror;
  readonly #stop: () => void;
  readonly #queue = new FairQueue(1, maxWaitingChecks);
  /** Changes that came during a check. */
  #later: RecordChange[] | undefined;

  constructor(mirror: Mirror) {
    this.#mirror = mirror;
    for (const { id } of mirror.list(records.hosts)) this.#setHost(idFrom('host', id));
    for (const { id, value } of mirror.list(records.placements)) this.#setPlacement(id, value);
    this.#stop = mirror.subscribe(({ changes }) => {
      if (this.#later) this.#later.push(...changes.filter(concerns));
      else for (const change of changes) this.#enter(change);
    });
  }

  /** Rejects with `rate_limited` if too many checks of the owner wait, with `store_unavailable` when nobody waits for it. */
  check(
    owner: string,
    gone: AbortSignal,
    project: ProjectQuota,
    requests: readonly PlannedRequest[],
    removedPlacements: readonly NonNullable<PlannedRequest['placed']>[],
  ): Promise<readonly Refusal[]> {
    return this.#queue.run(owner, async () => {
      this.#later = [];
      const check = capacityCheck(this.#pool, project, requests, removedPlacements);
      try {
        for (let since = performance.now(); ; ) {
          const { done, value } = check.next();
          if (done) return value;
          if (performance.now() - since < sliceMs) continue;
          await nextRound();
          if (gone.aborted) throw new UcloudError('store_unavailable', 'this server is stopping');
          since = performance.now();
        }
      } finally {
        // Gives the pool back as it was.
        check.return([]);
        const changes = this.#later;
        this.#later = undefined;
        for (const change of changes) this.#enter(change);
      }
    });
  }

  #enter(change: RecordChange): void {
    if (isChangeOf(records.placements, change)) this.#setPlacement(change.id, change.stored?.value);
    else if (concerns(change)) this.#setHost(idFrom('host', change.id));
  }

  #setHost(id: Id<'host'>): void {
    this.#pool.updateHost(
      id,
      this.#mirror.get(records.hosts, id)?.value,
      this.#mirror.get(records.hostPolicies, id)?.value,
      this.#mirror.get(records.alive, id) !== undefined,
    );
  }

  /** `id`: `<host>/<vm>`. */
  #setPlacement(id: string, given: records.PlacementRecord | undefined): void {
    const { host, vm } = parsePlacementId(id);
    this.#pool.setPlacement(host, vm, given);
  }

  close(): void {
    this.#stop();
    this.#queue.close();
  }
}

const kinds: ReadonlySet<string> = new Set(
  [records.placements, records.hosts, records.hostPolicies, records.alive].map(({ prefix }) => prefix),
);
const concerns = ({ kind }: RecordChange): boolean => kinds.has(kind.prefix);
