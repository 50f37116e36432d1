/**
 * The images that this host needs, as files. A host that lacks an image fetches it once, however many of its VMs and new
 * volumes wait.
 *
 * - A copy appears by a rename, after its digest was right and it was synced to disk.
 * - The host removes a copy only if no disk on the machine, no VM placed here and no new volume needs its image. It removes the least
 *   recently used copy when space is short, and each unused copy of a deleted image.
 * - A host that sees the scanner's image store makes no copies, and removes nothing there.
 *
 * Level-triggered: `status` begins a missing fetch. The database contains no state of a fetch, and the directory only
 * the beginning of the file. So a crash may follow every step.
 */
import { statfs } from 'node:fs/promises';
import type { Id } from '../../contract/fields.ts';
import type { Logger } from '../../model/component.ts';
import { idFrom } from '../../model/ids.ts';
import { copiesToEvict, keptFreeBytes, leftFreeBytes } from '../../model/image/eviction.ts';
import { parseImageCopyId, scannerServer } from '../../model/image/transfer.ts';
import { type ImageCopyRecord, imageCopies, imageServers, images, vms } from '../../model/records/index.ts';
import { describeSize } from '../../model/text/sizes.ts';
import { backoffMs } from '../../store/backoff.ts';
import { read } from '../../store/collection.ts';
import { isChangeOf } from '../../store/mirror.ts';
import type { Store } from '../../store/store.ts';
import { allocatedSize } from '../storage/disks.ts';
import { Mutex } from '../system/mutex.ts';
import type { HostView } from '../view.ts';
import { WorkQueue } from '../work-queue.ts';
import {
  defaultFetchLimits,
  type FetchLimits,
  type FetchStep,
  fetchImage,
  ServerUnavailable,
  WrongBytes,
} from './fetch.ts';
import type { ImageFiles } from './image-files.ts';

/** The limits of the images of one host. */
export interface HostImageLimits extends FetchLimits {
  readonly maxConcurrentFetches: number;
  /** The delay before the first retry of a fetch. It doubles with each failure. */
  readonly retryMs: number;
  readonly maxRetryMs: number;
  /** The time for which the host does not ask a server that has sent wrong bytes. */
  readonly wrongBytesMs: number;
  /** The minimum time between two reports of the progress, for each waiting VM. */
  readonly progressIntervalMs: number;
  /** The time between two looks for unused copies. */
  readonly sweepIntervalMs: number;
}

/** The limits of a cloud without settings of its own. */
export const defaultHostImageLimits: HostImageLimits = {
  ...defaultFetchLimits,
  maxConcurrentFetches: 2,
  retryMs: 1000,
  maxRetryMs: 30_000,
  wrongBytesMs: 600_000,
  progressIntervalMs: 2000,
  sweepIntervalMs: 60_000,
};

/** Options of `HostImages`. */
export interface HostImagesOptions {
  readonly store: Store;
  readonly view: HostView;
  readonly host: Id<'host'>;
  readonly logger: Logger;
  readonly files: ImageFiles;
  /** Returns the images that disks on this machine use as their backing file. */
  readonly usedByDisks: () => Promise<ReadonlySet<string>>;
  /** Called when the status of an image has changed, for each VM and volume on this host that needs the image. */
  readonly onChange: (user: Id<'vm'> | Id<'volume'>) => void;
  readonly limits?: Partial<HostImageLimits> | undefined;
  /** For tests, which interrupt a fetch. */
  readonly onStep?: ((step: FetchStep) => void) | undefined;
}

/** A server with a file, and the record of the file. */
interface Source {
  readonly server: string;
  readonly urls: readonly string[];
  readonly copy: ImageCopyRecord;
}

/** The host has not enough space. */
class NoSpace extends Error {
  override readonly name = 'NoSpace';
}

/** The images of one host. */
export class HostImages {
  readonly #options: HostImagesOptions;
  readonly #limits: HostImageLimits;
  readonly #queue: WorkQueue<string>;
  readonly #messages = new Map<string, string>();
  readonly #failures = new Map<string, number>();
  readonly #running = new Map<string, AbortController>();
  /** The servers that have sent wrong bytes, and the time until which they are not asked. */
  readonly #avoided = new Map<string, number>();
  /** The bytes that running fetches still need. */
  readonly #reserved = new Map<string, number>();
  /** The images whose bytes must come from one server, because bytes of several servers were wrong. */
  readonly #oneServer = new Set<string>();
  readonly #space = new Mutex();
  readonly #unsubscribe: () => void;
  readonly #timer: NodeJS.Timeout;
  #sweeping: Promise<void> | undefined;
  #fetchedBytes = 0;
  #closed = false;

  constructor(options: HostImagesOptions) {
    this.#options = options;
    this.#limits = { ...defaultHostImageLimits, ...options.limits };
    this.#queue = new WorkQueue(this.#limits.maxConcurrentFetches, (image) => this.#visit(image));
    this.#unsubscribe = options.view.mirror.subscribe(({ changes }) => {
      let gone = false;
      for (const change of changes) {
        if (isChangeOf(imageServers, change)) for (const image of this.#messages.keys()) this.#queue.add(image);
        if (isChangeOf(imageCopies, change)) {
          const { image } = parseImageCopyId(change.id);
          if (this.#messages.has(image)) this.#queue.add(image);
        }
        if (isChangeOf(images, change) && change.stored === undefined) gone = true;
      }
      for (const [image, fetching] of this.#running) if (!this.#isNeeded(image)) fetching.abort();
      if (gone) this.#sweepSoon();
    });
    this.#followCopies().catch(() => undefined);
    this.#timer = setInterval(() => this.#sweepSoon(), this.#limits.sweepIntervalMs).unref();
  }

  /** The number of bytes of images that have come over the network since the start. */
  get fetchedBytes(): number {
    return this.#fetchedBytes;
  }

  /** Returns undefined if VMs can use the image; else the reason, and begins to fetch the image. */
  async status(image: string): Promise<string | undefined> {
    const { files, view } = this.#options;
    if (await files.has(image)) {
      await files.touch(image);
      return undefined;
    }
    const scanner = view.mirror.get(imageServers, scannerServer)?.value;
    if (files.copies === undefined || (scanner !== undefined && (await files.seesStore(scanner.store))))
      return 'The VM waits until its image is in the image store of this host.';
    const known = this.#messages.get(image);
    if (known !== undefined) return known;
    const message = 'The VM waits until the host fetches its image.';
    this.#messages.set(image, message);
    this.#queue.add(image);
    return message;
  }

  /** Ends all fetches. Their beginnings stay for the next agent. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#unsubscribe();
    for (const fetching of this.#running.values()) fetching.abort();
    await Promise.all([this.#queue.close(), this.#sweeping]);
  }

  /** Returns the VMs on this host that use the image, and the volumes that wait for it. */
  #users(image: string): (Id<'vm'> | Id<'volume'>)[] {
    const { view, host } = this.#options;
    const placed = view.placedOn(host).filter((id) => {
      const vm = view.mirror.get(vms, id)?.value;
      return vm?.image === image && vm.root_volume === undefined;
    });
    return [...placed, ...view.volumesWaitingForImage(image, host)];
  }

  /** The view shows the images with copies here, so that this host sees their deletion. */
  async #followCopies(): Promise<void> {
    const { files, view } = this.#options;
    const copies = await files.list();
    if (!this.#closed)
      view.need(
        'image files',
        copies.map(({ image }) => images.prefix + image),
      );
  }

  #isNeeded(image: string): boolean {
    return this.#users(image).length > 0;
  }

  #setMessage(image: string, message: string): void {
    if (this.#messages.get(image) === message) return;
    this.#messages.set(image, message);
    this.#notify(image);
  }

  #notify(image: string): void {
    if (!this.#closed) for (const user of this.#users(image)) this.#options.onChange(user);
  }

  // ---- fetching
  // -------------------------------------------------------------------------------------------------------

  /** Fetches the image if a VM or volume needs it. Never rejects. Returns the delay until the next attempt, in milliseconds. */
  async #visit(image: string): Promise<number | undefined> {
    const { logger, files } = this.#options;
    const fetching = new AbortController();
    this.#running.set(image, fetching);
    try {
      if (this.#isNeeded(image) && !(await files.has(image))) await this.#fetch(image, fetching.signal);
      this.#forget(image);
      return undefined;
    } catch (err) {
      if (this.#closed) return undefined;
      if (fetching.signal.aborted) {
        // Nothing needs the image any more.
        this.#forget(image);
        this.#sweepSoon();
        return undefined;
      }
      const failures = (this.#failures.get(image) ?? 0) + 1;
      this.#failures.set(image, failures);
      const delayMs = backoffMs(failures, { firstMs: this.#limits.retryMs, maxMs: this.#limits.maxRetryMs });
      const expected = err instanceof ServerUnavailable || err instanceof WrongBytes || err instanceof NoSpace;
      const reason = expected ? err.message : 'the log of the host agent contains the reason for the operator';
      if (failures === 1 || !expected) logger.warn({ err, image, retryMs: delayMs }, 'an image cannot be fetched');
      this.#setMessage(image, `The host cannot fetch the image: ${reason}. It tries again.`);
      return delayMs;
    } finally {
      this.#running.delete(image);
      this.#reserved.delete(image);
    }
  }

  #forget(image: string): void {
    this.#messages.delete(image);
    this.#failures.delete(image);
    this.#oneServer.delete(image);
    this.#notify(image);
  }

  /** Returns the servers that have the image and can be asked now. */
  #sources(image: string): Source[] {
    const { mirror } = this.#options.view;
    const now = performance.now();
    for (const [key, until] of this.#avoided) if (until <= now) this.#avoided.delete(key);
    return [...mirror.list(imageCopies, `${image}/`)].flatMap(({ id, value }) => {
      const { server } = parseImageCopyId(id);
      const urls = mirror.get(imageServers, server)?.value.urls ?? [];
      return urls.length === 0 ? [] : [{ server, urls, copy: value }];
    });
  }

  /** A server with another file or another address gets a new chance. */
  #avoidanceKey = (image: string, { server, urls, copy }: Source): string =>
    [image, server, copy.sha256, ...urls].join(' ');

  async #fetch(image: string, signal: AbortSignal): Promise<void> {
    const sources = this.#sources(image);
    if (sources.length === 0) throw new ServerUnavailable('no image server offers it at the moment');
    const trusted = sources.filter((source) => !this.#avoided.has(this.#avoidanceKey(image, source)));
    let failure: Error = new WrongBytes('all image servers have sent other bytes than the recorded ones', false);
    for (const source of trusted) {
      for (const url of source.urls) {
        try {
          return await this.#fetchFrom(image, source, url, signal);
        } catch (error) {
          signal.throwIfAborted();
          failure = this.#explain(image, source, url, error);
          if (error instanceof WrongBytes) break;
        }
      }
    }
    throw failure;
  }

  /** Notes what the failure says about the server. Returns the error for the status. @throws errors of this host */
  #explain(image: string, source: Source, url: string, error: unknown): Error {
    const { logger } = this.#options;
    if (error instanceof WrongBytes) {
      logger.warn({ image, server: source.server, url, ofServer: error.ofServer }, 'wrong bytes of an image');
      if (error.ofServer)
        this.#avoided.set(this.#avoidanceKey(image, source), performance.now() + this.#limits.wrongBytesMs);
      else this.#oneServer.add(image);
      return new WrongBytes(`the image server ${source.server} has sent wrong bytes`, error.ofServer);
    }
    if (error instanceof ServerUnavailable) {
      logger.debug({ err: error, image, server: source.server, url }, 'an image server cannot be used');
      return new ServerUnavailable(`the image server ${source.server} cannot be used: ${error.message}`);
    }
    throw error;
  }

  async #fetchFrom(image: string, { server, copy }: Source, url: string, signal: AbortSignal): Promise<void> {
    const { files, logger, onStep } = this.#options;
    const begun = performance.now();
    const part = await files.part(image, copy.sha256);
    if (this.#oneServer.has(image)) await this.#removeParts(image);
    await this.#makeSpace(image, copy.bytes - Math.min(copy.bytes, await allocatedSize(part)));
    let reportedAt = Number.NEGATIVE_INFINITY;
    const progress = (bytes: number) => {
      this.#reserved.set(image, copy.bytes - bytes);
      const now = performance.now();
      const { progressIntervalMs } = this.#limits;
      // Each report may write a record for each waiting VM, so many VMs wait longer for the next one.
      if (now - reportedAt < progressIntervalMs) return;
      if (now - reportedAt < progressIntervalMs * this.#users(image).length) return;
      reportedAt = now;
      this.#setMessage(image, `The host fetches the image: ${Math.floor((100 * bytes) / copy.bytes)} %.`);
    };
    const limits = this.#limits;
    try {
      const bytes = await fetchImage({ url, image, copy, part, limits, signal, progress, onStep });
      await files.complete(image, part);
      onStep?.('completed');
      await this.#followCopies();
      this.#fetchedBytes += bytes;
      const seconds = (performance.now() - begun) / 1000;
      logger.info({ image, bytes, seconds, server, fetchedBytes: this.#fetchedBytes }, 'image fetched');
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error;
      await this.#removeParts(image);
      throw new NoSpace(`there is no space for its ${describeSize(copy.bytes)}`, { cause: error });
    }
  }

  async #removeParts(image: string): Promise<void> {
    const { files } = this.#options;
    for (const part of await files.parts()) if (part.image === image) await files.removePart(part);
  }

  // ---- space
  // -------------------------------------------------------------------------------------------------------

  /** Reserves space for the fetch, and removes unused copies for it. @throws NoSpace */
  #makeSpace(image: string, bytes: number): Promise<void> {
    return this.#space.run(async () => {
      const { copies } = this.#options.files;
      if (copies === undefined) return;
      const { bsize, blocks } = await statfs(copies);
      const others = [...this.#reserved].reduce((sum, [of, left]) => (of === image ? sum : sum + left), 0);
      await this.#evict(bytes + others + keptFreeBytes(blocks * bsize));
      const { bavail } = await statfs(copies);
      const free = Math.max(0, bavail * bsize - others);
      const needed = bytes + leftFreeBytes(blocks * bsize);
      if (free < needed) {
        throw new NoSpace(`it needs ${describeSize(needed)} of free space, and the host has ${describeSize(free)}`);
      }
      this.#reserved.set(image, bytes);
    });
  }

  /** Removes unused copies until so many bytes are free. */
  async #evict(wantedFreeBytes: number): Promise<void> {
    const { files, usedByDisks, logger } = this.#options;
    if (files.copies === undefined) return;
    const [copies, used, { bavail, bsize }] = await Promise.all([files.list(), usedByDisks(), statfs(files.copies)]);
    const isNeeded = (image: string) => used.has(image) || this.#isNeeded(image);
    for (const { image, bytes } of copiesToEvict(copies, isNeeded, bavail * bsize, wantedFreeBytes)) {
      // A VM may have come meanwhile.
      if (isNeeded(image)) continue;
      await files.remove(image);
      logger.info({ image, bytes }, 'the host removes a copy of an image, because space is short');
    }
  }

  #sweepSoon(): void {
    if (this.#closed) return;
    this.#sweeping ??= this.#space
      .run(() => this.#sweep())
      .catch((err: unknown) => this.#options.logger.warn({ err }, 'unused copies of images cannot be removed'))
      .finally(() => {
        this.#sweeping = undefined;
      });
  }

  /** Removes unused copies of deleted images, unneeded beginnings of files, and what `#evict` finds. */
  async #sweep(): Promise<void> {
    const { files, view, store, usedByDisks, logger } = this.#options;
    for (const part of await files.parts()) {
      if (!this.#running.has(part.image) && !this.#isNeeded(part.image)) await files.removePart(part);
    }
    const copies = await files.list();
    if (copies.length === 0 || files.copies === undefined) return;
    const used = await usedByDisks();
    for (const { image } of copies) {
      if (view.mirror.get(images, image) || used.has(image) || this.#isNeeded(image)) continue;
      // The mirror may be behind, so a missing record must be missing in the database too.
      if (await read(store, images, image)) continue;
      await files.remove(image);
      logger.info({ image: idFrom('image', image) }, 'the host removes its copy of a deleted image');
    }
    await this.#followCopies();
    const { bsize, blocks } = await statfs(files.copies);
    await this.#evict(keptFreeBytes(blocks * bsize));
  }
}
