/**
 * Removes the data of deleted volumes from this host. A deleted volume has no attachment, so no guest has it: the API
 * refuses the deletion of an attached volume, and an attachment goes after its guest has released the volume.
 *
 * The data stays while a snapshot still copies it. A user can end this wait: by the deletion of the snapshot, or of the
 * volume or image that the snapshot was made for.
 */
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { volumePlacements, volumeReports, volumes } from '../model/records/index.ts';
import { poolOf } from '../model/storage/pool.ts';
import { backoffMs } from '../store/backoff.ts';
import { put, read, unchanged } from '../store/collection.ts';
import type { Store } from '../store/store.ts';
import type { Hypervisor } from './hypervisor/hypervisor.ts';
import { knownPoolSpec } from './pool-spec.ts';
import type { HostView } from './view.ts';
import { WorkQueue } from './work-queue.ts';

/** Options of `VolumeRemoval`. */
export interface VolumeRemovalOptions {
  readonly store: Store;
  readonly view: HostView;
  readonly logger: Logger;
  readonly hypervisor: Hypervisor;
  readonly host: Id<'host'>;
  /** The delay before the first retry, in milliseconds. */
  readonly retryMs: number;
}

const maxRetryMs = 60_000;
/** The maximum number of volumes that are removed at the same time. */
const concurrency = 4;

/** Removes deleted volumes of one host. */
export class VolumeRemoval {
  readonly #options: VolumeRemovalOptions;
  readonly #failures = new Map<Id<'volume'>, number>();
  readonly #queue: WorkQueue<Id<'volume'>>;

  constructor(options: VolumeRemovalOptions) {
    this.#options = options;
    this.#queue = new WorkQueue(concurrency, (id) => this.#visit(id));
  }

  /** Looks at all volumes of the host. */
  visitAll(): void {
    for (const id of this.#options.view.volumesOn(this.#options.host)) this.#queue.add(id);
  }

  /** Looks at one volume. */
  changed(volume: Id<'volume'>): void {
    this.#queue.add(volume);
  }

  async #visit(id: Id<'volume'>): Promise<number | undefined> {
    const { logger, retryMs } = this.#options;
    try {
      await this.#removeIfDeleted(id);
      this.#failures.delete(id);
      return undefined;
    } catch (err) {
      const failures = (this.#failures.get(id) ?? 0) + 1;
      this.#failures.set(id, failures);
      const delayMs = backoffMs(failures, { firstMs: retryMs, maxMs: maxRetryMs });
      logger.warn(
        { err, volume: id, retryMs: delayMs },
        'the data of a deleted volume is not removed; the agent retries',
      );
      return delayMs;
    }
  }

  async #removeIfDeleted(id: Id<'volume'>): Promise<void> {
    const { view, host, store, hypervisor } = this.#options;
    const { mirror } = view;
    const placement = mirror.get(volumePlacements, id);
    if (placement?.value.host !== host) return;
    const report = mirror.get(volumeReports, id)?.value;
    if (report?.host === host && report.phase === 'gone') return;
    if (mirror.get(volumes, id)?.value.deleted_at === undefined) {
      // The mirror may be behind, so a missing record must be missing in the database too.
      if (mirror.get(volumes, id) || (await read(store, volumes, id))) return;
    }
    // The view reports the end of each copy.
    if (view.copiesOf(id).length > 0) return;
    const record = mirror.get(volumes, id)?.value ?? placement.value;
    const pool = knownPoolSpec(mirror, poolOf(record), host);
    await hypervisor.pool(pool).remove(id);
    const gone = { host, phase: 'gone', size: 0, at: new Date().toISOString() } as const;
    const result = await store.commit({ require: [unchanged(placement)], write: [put(volumeReports, id, gone)] });
    if (!result.ok) await mirror.catchUp();
  }

  /** Waits for the current removals. */
  close(): Promise<void> {
    return this.#queue.close();
  }
}
