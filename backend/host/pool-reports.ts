/**
 * Reports which storage pools a host reaches, and how much space they have.
 *
 * A directory gets a marker, a file with a random text, and the text is in the database. A directory without it is not
 * that of the pool: usually its file system is not mounted. The first host that sees a new pool marks its directory.
 */
import { randomBytes } from 'node:crypto';
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { idFrom } from '../model/ids.ts';
import { hosts, type PoolReportRecord, poolMarkers, poolReports, storagePools } from '../model/records/index.ts';
import { builtInPool, markerId, markerText, poolOfMarker, poolReportId } from '../model/storage/pool.ts';
import { absent, present, put, remove, unchanged } from '../store/collection.ts';
import type { Store } from '../store/store.ts';
import { publicMessage } from './failures.ts';
import type { Hypervisor } from './hypervisor/hypervisor.ts';
import { poolSpec } from './pool-spec.ts';
import { markerFile } from './storage/pools/directory-pool.ts';
import { type PoolDriver, PoolFault } from './storage/pools/pool-driver.ts';
import type { HostView } from './view.ts';
import { WorkQueue } from './work-queue.ts';

/** Options of `PoolReports`. */
export interface PoolReportsOptions {
  readonly store: Store;
  readonly view: HostView;
  readonly logger: Logger;
  readonly hypervisor: Hypervisor;
  readonly host: Id<'host'>;
}

const intervalMs = 15_000;
const sweepIntervalMs = 300_000;
/** The maximum number of pools that are examined at the same time. */
const concurrency = 8;
/** The part of the size by which the space must change for a new report. */
const noticeable = 0.01;

/** Tells whether the new report says something else. */
function differs(before: PoolReportRecord | undefined, after: Omit<PoolReportRecord, 'at'>): boolean {
  if (before === undefined || before.reachable !== after.reachable || before.message !== after.message) return true;
  const least = Math.max(before.size, after.size) * noticeable;
  return Math.abs(before.size - after.size) > least || Math.abs(before.free - after.free) > least;
}

/** Returns the text of a fault for operators. */
const messageOf = (error: unknown): string =>
  (error instanceof PoolFault ? error.message : publicMessage(error)).slice(0, 500);

/** Examines the storage pools of one host. */
export class PoolReports {
  readonly #options: PoolReportsOptions;
  readonly #queue: WorkQueue<Id<'storage_pool'>>;
  /** The times of the next sweeps, on the clock of `performance.now()`. */
  readonly #nextSweeps = new Map<Id<'storage_pool'>, number>();

  constructor(options: PoolReportsOptions) {
    this.#options = options;
    this.#queue = new WorkQueue(concurrency, (id) => this.#visit(id));
  }

  /** Examines all pools. */
  visitAll(): void {
    const { mirror } = this.#options.view;
    for (const { id } of mirror.list(storagePools)) this.#queue.add(idFrom('storage_pool', id));
  }

  /** Examines one pool, because its record has changed. */
  changed(pool: Id<'storage_pool'>): void {
    this.#queue.add(pool);
  }

  /** Waits for the current examinations. */
  close(): Promise<void> {
    return this.#queue.close();
  }

  async #visit(id: Id<'storage_pool'>): Promise<number | undefined> {
    const { logger } = this.#options;
    try {
      return await this.#report(id);
    } catch (err) {
      logger.warn({ err, pool: id, retryMs: intervalMs }, 'the report on a storage pool failed; the agent retries');
      return intervalMs;
    }
  }

  async #report(id: Id<'storage_pool'>): Promise<number | undefined> {
    const { store, view, host, logger } = this.#options;
    const { mirror } = view;
    // A marker that is not there may exist. The view tells when it knows the pool.
    if (!view.isKnown(id)) return intervalMs;
    const key = poolReportId(id, host);
    const before = mirror.get(poolReports, key);
    const pool = mirror.get(storagePools, id);
    if (pool === undefined) {
      // The API removes the reports together with the pool. This one came later.
      if (before) await store.commit({ require: [absent(storagePools, id)], write: [remove(poolReports, key)] });
      return undefined;
    }
    const after = await this.#examine(id);
    if (after === undefined) return 0;
    if (!differs(before?.value, after)) return intervalMs;
    if (!after.reachable && before?.value.reachable !== false) {
      logger.warn({ pool: id, reason: after.message }, 'this host does not reach a storage pool');
    }
    const report: PoolReportRecord = { ...after, at: new Date().toISOString() };
    const result = await store.commit({
      require: [unchanged(pool), present(hosts, host)],
      write: [put(poolReports, key, report)],
    });
    if (result.ok) await mirror.waitFor(result.revision);
    else await mirror.catchUp();
    return result.ok ? intervalMs : 1_000;
  }

  /** Returns the new report; undefined if the records have changed meanwhile. */
  async #examine(id: Id<'storage_pool'>): Promise<Omit<PoolReportRecord, 'at'> | undefined> {
    const { view, hypervisor, host } = this.#options;
    const spec = poolSpec(view.mirror, id, host);
    const last = view.mirror.get(poolReports, poolReportId(id, host))?.value ?? { size: 0, free: 0 };
    try {
      if (spec === undefined) throw new PoolFault('The record of the pool lacks settings.');
      const driver = hypervisor.pool(spec);
      const isMarked = spec.marker !== undefined || id === builtInPool;
      if (!isMarked && driver.readMarker) {
        await this.#mark(id, spec.settings.kind, driver);
        return undefined;
      }
      this.#sweep(id, driver);
      const usage = await driver.usage();
      // Ceph has no statistics while no manager (ceph-mgr) runs. The last ones stay.
      const { size, free } = usage ?? last;
      return { reachable: true, size, free };
    } catch (error) {
      return { reachable: false, message: messageOf(error), size: last.size, free: last.free };
    }
  }

  /** Frees the space of removed volumes in the background, from time to time. It may take minutes. */
  #sweep(id: Id<'storage_pool'>, driver: PoolDriver): void {
    const now = performance.now();
    if (driver.sweep === undefined || now < (this.#nextSweeps.get(id) ?? 0)) return;
    this.#nextSweeps.set(id, now + sweepIntervalMs);
    driver.sweep(this.#options.view.imagesWantedIn(id)).catch((err: unknown) => {
      this.#options.logger.warn({ err, pool: id }, 'the space of removed volumes is not free yet; the agent retries');
    });
  }

  /** Records the marker of the directory, and writes it if there is none. */
  async #mark(id: Id<'storage_pool'>, kind: 'local' | 'shared' | 'ceph', driver: PoolDriver): Promise<void> {
    const { store, view, host } = this.#options;
    const key = markerId(id, kind, host);
    let found = await driver.readMarker?.();
    if (found === undefined) {
      found = markerText(id, randomBytes(16).toString('hex'));
      await driver.writeMarker?.(found);
    }
    if (poolOfMarker(found) !== id) {
      throw new PoolFault(
        `The directory belongs to the storage pool ${poolOfMarker(found)}. If that pool is deleted, remove the file ${markerFile}.`,
      );
    }
    const token = found.slice(id.length + 1);
    const result = await store.commit({
      require: [present(storagePools, id), absent(poolMarkers, key)],
      write: [put(poolMarkers, key, { token })],
    });
    if (result.ok) await view.mirror.waitFor(result.revision);
    else await view.mirror.catchUp();
  }
}
