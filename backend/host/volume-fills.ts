/**
 * Gives new volumes of one host their first data: that of a snapshot or of an image. The report on the volume says that the
 * data is complete, and no guest gets the volume before.
 *
 * Each pool has a queue of its own, because a pool that hangs must not hold up the others.
 */
import type { Id } from '../contract/fields.ts';
import {
  imageReports,
  images,
  snapshotReports,
  volumePlacements,
  volumeReports,
  volumes,
} from '../model/records/index.ts';
import { poolOf } from '../model/storage/pool.ts';
import { imageWait, sourceOf } from '../model/storage/volume-source.ts';
import { backoffMs } from '../store/backoff.ts';
import { absent, put, unchanged } from '../store/collection.ts';
import type { HostImages } from './images/host-images.ts';
import { knownPoolSpec } from './pool-spec.ts';
import type { VolumeRemovalOptions } from './volume-removal.ts';
import { WorkQueue } from './work-queue.ts';

/** Options of `VolumeFills`. */
export interface VolumeFillsOptions extends VolumeRemovalOptions {
  /** The images on this host. Without them, volumes need no files of images. */
  readonly images: Pick<HostImages, 'status'> | undefined;
}

const maxRetryMs = 60_000;
/** The interval between two looks for an image that is not on the host yet. Its arrival causes a look as well. */
const imageIntervalMs = 5_000;
/** The maximum number of volumes of one pool that get data at the same time. */
const concurrency = 4;

/** Fills the new volumes of one host. */
export class VolumeFills {
  readonly #options: VolumeFillsOptions;
  readonly #failures = new Map<Id<'volume'>, number>();
  readonly #current = new Map<Id<'volume'>, AbortController>();
  readonly #queues = new Map<Id<'storage_pool'>, WorkQueue<Id<'volume'>>>();

  constructor(options: VolumeFillsOptions) {
    this.#options = options;
  }

  /** Looks at all volumes of the host. */
  visitAll(): void {
    for (const id of this.#options.view.volumesOn(this.#options.host)) this.changed(id);
  }

  /** Looks at one volume. */
  changed(id: Id<'volume'>): void {
    const { mirror } = this.#options.view;
    if (this.#missing(id) === undefined) {
      this.#current.get(id)?.abort();
      this.#failures.delete(id);
      return;
    }
    const pool = poolOf(mirror.get(volumes, id)?.value ?? {});
    const queue = this.#queues.get(pool) ?? new WorkQueue<Id<'volume'>>(concurrency, (each) => this.#visit(each));
    this.#queues.set(pool, queue);
    queue.add(id);
  }

  /** Returns the volume with its placement and source, if its data is missing and this host is to make it. */
  #missing(id: Id<'volume'>) {
    const { view, host } = this.#options;
    const volume = view.mirror.get(volumes, id)?.value;
    const placement = view.mirror.get(volumePlacements, id);
    const source = volume && sourceOf(volume);
    if (volume === undefined || source === undefined || volume.deleted_at !== undefined) return undefined;
    if (volume.source_error !== undefined) return undefined;
    if (placement?.value.host !== host || view.mirror.get(volumeReports, id) !== undefined) return undefined;
    return { volume, placement, source };
  }

  async #visit(id: Id<'volume'>): Promise<number | undefined> {
    const { logger, retryMs } = this.#options;
    const abort = new AbortController();
    this.#current.set(id, abort);
    try {
      const afterMs = await this.#fill(id, abort.signal);
      this.#failures.delete(id);
      return afterMs;
    } catch (err) {
      if (abort.signal.aborted) return retryMs;
      const failures = (this.#failures.get(id) ?? 0) + 1;
      this.#failures.set(id, failures);
      const delayMs = backoffMs(failures, { firstMs: retryMs, maxMs: maxRetryMs });
      logger.warn({ err, id, failures, retryMs: delayMs }, 'a new volume has no data yet; the agent retries');
      return delayMs;
    } finally {
      this.#current.delete(id);
    }
  }

  /** Returns the delay until the next look, if the volume must wait. */
  async #fill(id: Id<'volume'>, signal: AbortSignal): Promise<number | undefined> {
    const { view, host, store, hypervisor, images: files } = this.#options;
    const { mirror } = view;
    const missing = this.#missing(id);
    if (missing === undefined) return undefined;
    const { volume, placement, source } = missing;
    // The first grant is at least the size of the source. A later growth may wait for space.
    const { size } = placement.value;
    if ('image' in source) {
      const image = mirror.get(images, source.image)?.value;
      // A change of image or volume causes another look.
      const report = mirror.get(imageReports, source.image)?.value;
      if (imageWait(volume.project, image, report, size) !== undefined) return undefined;
      if ((await files?.status(source.image)) !== undefined) return imageIntervalMs;
    }
    // The snapshot of a source volume is made together with the new volume. Its report causes another look.
    if ('snapshot' in source && mirror.get(snapshotReports, source.snapshot)?.value.phase !== 'available') {
      return undefined;
    }
    const pool = knownPoolSpec(mirror, poolOf(volume), host);
    const own = 'snapshot' in source ? hypervisor.pool(pool).snapshots : undefined;
    if (own !== undefined && 'snapshot' in source) await own.fill(id, size, source.snapshot);
    else await hypervisor.fillVolume({ id, pool, size }, source, signal);
    const record = { host, phase: 'available', size, at: new Date().toISOString() } as const;
    const result = await store.commit({
      // A report that this mirror has not seen yet may say that the volume is gone.
      require: [unchanged(placement), absent(volumeReports, id)],
      write: [put(volumeReports, id, record)],
    });
    if (result.ok) await mirror.waitFor(result.revision);
    else await mirror.catchUp();
    return result.ok ? undefined : 0;
  }

  /** Interrupts the copies and waits for their end. */
  async close(): Promise<void> {
    for (const abort of this.#current.values()) abort.abort();
    await Promise.all([...this.#queues.values()].map((queue) => queue.close()));
  }
}
