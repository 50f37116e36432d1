/**
 * Delivers the disks of this host's snapshots to the image scanner, for imports that wait for them. Level-triggered: a
 * delivery is repeated until its record changes or goes, and a host that starts again begins again.
 */
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { scannerServer } from '../model/image/transfer.ts';
import {
  imageDeliveries,
  imageServers,
  snapshotPlacements,
  snapshotReports,
  snapshots,
} from '../model/records/index.ts';
import { poolOf } from '../model/storage/pool.ts';
import { backoffMs } from '../store/backoff.ts';
import { isChangeOf } from '../store/mirror.ts';
import type { Hypervisor } from './hypervisor/hypervisor.ts';
import { deliverDisk } from './images/deliver.ts';
import { furtherPoolSpec } from './pool-spec.ts';
import type { HostView } from './view.ts';
import { WorkQueue } from './work-queue.ts';

/** Options of `SnapshotDeliveries`. */
export interface SnapshotDeliveriesOptions {
  readonly view: HostView;
  readonly logger: Logger;
  readonly hypervisor: Pick<Hypervisor, 'readSnapshot'>;
  readonly host: Id<'host'>;
  /** The delay before the first retry, in milliseconds. */
  readonly retryMs: number;
}

const maxRetryMs = 10_000;
/** The maximum time without progress, in milliseconds. */
const idleMs = 60_000;
/** The maximum number of deliveries at the same time. */
const concurrency = 2;

/** The deliveries of one host. */
export class SnapshotDeliveries {
  readonly #options: SnapshotDeliveriesOptions;
  readonly #queue: WorkQueue<string>;
  readonly #failures = new Map<string, number>();
  readonly #running = new Map<string, { readonly secret: string; readonly abort: AbortController }>();
  /** The secrets of completed deliveries, by image. */
  readonly #done = new Map<string, string>();
  readonly #unsubscribe: () => void;

  constructor(options: SnapshotDeliveriesOptions) {
    this.#options = options;
    this.#queue = new WorkQueue(concurrency, (image) => this.#visit(image));
    this.#unsubscribe = options.view.mirror.subscribe(({ changes }) => {
      for (const change of changes) {
        if (isChangeOf(imageDeliveries, change)) this.#changed(change.id);
        if (isChangeOf(imageServers, change)) this.visitAll();
      }
    });
  }

  /** Looks at all deliveries. */
  visitAll(): void {
    for (const { id } of this.#options.view.mirror.list(imageDeliveries)) this.#queue.add(id);
  }

  #changed(image: string): void {
    const record = this.#options.view.mirror.get(imageDeliveries, image)?.value;
    const running = this.#running.get(image);
    if (running && running.secret !== record?.secret) running.abort.abort();
    if (record === undefined) this.#done.delete(image);
    this.#failures.delete(image);
    this.#queue.add(image);
  }

  async #visit(image: string): Promise<number | undefined> {
    const { view, host, logger, retryMs } = this.#options;
    const { mirror } = view;
    const record = mirror.get(imageDeliveries, image)?.value;
    const urls = mirror.get(imageServers, scannerServer)?.value.urls ?? [];
    if (record === undefined || urls.length === 0 || this.#done.get(image) === record.secret) return undefined;
    if (mirror.get(snapshotPlacements, record.snapshot)?.value.host !== host) return undefined;
    if (mirror.get(snapshotReports, record.snapshot)?.value.phase !== 'available') return undefined;
    const { secret } = record;
    const abort = new AbortController();
    this.#running.set(image, { secret, abort });
    try {
      await this.#deliver(image, record, urls, abort.signal);
      this.#done.set(image, secret);
      this.#failures.delete(image);
      return undefined;
    } catch (err) {
      if (abort.signal.aborted) return undefined;
      const failures = (this.#failures.get(image) ?? 0) + 1;
      this.#failures.set(image, failures);
      const delayMs = backoffMs(failures, { firstMs: retryMs, maxMs: maxRetryMs });
      logger.warn({ err, image, failures, retryMs: delayMs }, 'a snapshot was not delivered; the agent retries it');
      return delayMs;
    } finally {
      this.#running.delete(image);
    }
  }

  /** Tries the URLs one after the other. @throws the last error */
  async #deliver(
    image: string,
    { snapshot, disk, secret }: { readonly snapshot: Id<'snapshot'>; readonly disk: string; readonly secret: string },
    urls: readonly string[],
    signal: AbortSignal,
  ): Promise<void> {
    const { view, host, hypervisor } = this.#options;
    const pool = furtherPoolSpec(view.mirror, poolOf(view.mirror.get(snapshots, snapshot)?.value ?? {}), host);
    let fault: unknown;
    for (const url of urls) {
      try {
        const source = await hypervisor.readSnapshot({ snapshot, disk }, pool);
        return await deliverDisk({ ...source, url, image, secret, idleMs, signal });
      } catch (error) {
        signal.throwIfAborted();
        fault = error;
      }
    }
    throw fault;
  }

  /** Interrupts the deliveries and waits for their end. */
  close(): Promise<void> {
    this.#unsubscribe();
    for (const { abort } of this.#running.values()) abort.abort();
    return this.#queue.close();
  }
}
