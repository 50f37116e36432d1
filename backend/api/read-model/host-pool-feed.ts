/**
 * The free resources of the hosts as the mirror shows them, for capacity checks and for moves of VMs. The scheduler keeps its
 * own pool.
 *
 * With thousands of hosts a check may take seconds. Checks therefore run one at a time in short slices, and projects
 * take turns. Changes that arrive during a check are entered after it.
 */

import { setImmediate as nextRound } from 'node:timers/promises';
import { UcloudError } from '../../contract/errors.ts';
import { idFrom } from '../../model/ids.ts';
import {
  capacityCheck,
  type PlannedRequest,
  type ProjectQuota,
  type Refusal,
} from '../../model/placement/capacity-check.ts';
import { HostPool } from '../../model/placement/host-pool.ts';
import { type MoveHost, moveHost } from '../../model/placement/move-host.ts';
import {
  enterHost,
  enterPlacement,
  enterPoolReport,
  enterSettings,
  enterStoragePool,
  enterVolumePlacement,
  fillPool,
  hostKinds,
  removeVolumePlacement,
} from '../../model/placement/pool-records.ts';
import * as records from '../../model/records/index.ts';
import { isChangeOf, type Mirror, type RecordChange } from '../../store/mirror.ts';
import { FairQueue } from '../concurrency/fair-queue.ts';

/** The number of waiting checks of one project. */
const maxWaitingChecks = 16;
/** Milliseconds of a slice of a check, before other requests are answered. */
const sliceMs = 5;

/** Keeps a host pool up to date with the mirror, and runs capacity checks on it. */
export class HostPoolFeed {
  readonly #pool = new HostPool();
  readonly #mirror: Mirror;
  readonly #stop: () => void;
  readonly #queue = new FairQueue(1, maxWaitingChecks);
  /** The changes that arrived during a check. */
  #later: RecordChange[] | undefined;

  constructor(mirror: Mirror) {
    this.#mirror = mirror;
    fillPool(this.#pool, mirror);
    this.#stop = mirror.subscribe(({ changes }) => {
      if (this.#later) this.#later.push(...changes.filter(concerns));
      else for (const change of changes) this.#enter(change);
    });
  }

  /**
   * Runs a check on the pool. @throws UcloudError `rate_limited` if too many checks of the owner wait;
   * `store_unavailable` if the request was given up
   */
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
        // Ends the generator, which restores the pool.
        check.return([]);
        const changes = this.#later;
        this.#later = undefined;
        for (const change of changes) this.#enter(change);
      }
    });
  }

  /**
   * Returns the host that the VM would move to now. @throws UcloudError `rate_limited` if too many checks of the owner wait
   */
  moveHost(
    owner: string,
    request: Parameters<typeof moveHost>[1],
    asked: Parameters<typeof moveHost>[2],
  ): Promise<MoveHost> {
    // A check changes the pool until it ends.
    return this.#queue.run(owner, async () => moveHost(this.#pool, request, asked));
  }

  #enter(change: RecordChange): void {
    if (isChangeOf(records.placements, change)) enterPlacement(this.#pool, change.id, change.stored?.value);
    else if (isChangeOf(records.volumePlacements, change) || isChangeOf(records.snapshotPlacements, change)) {
      const { previous, stored, id } = change;
      if (previous) removeVolumePlacement(this.#pool, id, previous.value);
      enterVolumePlacement(this.#pool, id, stored?.value);
    } else if (isChangeOf(records.storagePools, change)) enterStoragePool(this.#pool, this.#mirror, change.id);
    else if (isChangeOf(records.poolReports, change)) enterPoolReport(this.#pool, this.#mirror, change.id);
    else if (isChangeOf(records.settings, change)) enterSettings(this.#pool, this.#mirror);
    else if (concerns(change)) enterHost(this.#pool, this.#mirror, idFrom('host', change.id));
  }

  close(): void {
    this.#stop();
    this.#queue.close();
  }
}

const kinds: ReadonlySet<string> = new Set(
  [
    ...[records.placements, records.volumePlacements, records.snapshotPlacements],
    ...[records.storagePools, records.poolReports, records.settings, ...hostKinds],
  ].map(({ prefix }) => prefix),
);
const concerns = ({ kind }: RecordChange): boolean => kinds.has(kind.prefix);
