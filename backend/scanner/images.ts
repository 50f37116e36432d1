/**
 * The image scanner. It converts the files and URLs of declared images into disks from which VMs can start.
 *
 * The states of an image are: pending (no report) → importing → available, or error. Only the leading scanner changes
 * the state. An error is final, because the source of an image cannot change; the user declares another image. There is
 * one exception: a missing file may still come (error → importing). Invariants:
 * - A file `<image id>.qcow2` in the image store is complete and refers to no other file. qemu-img has made it from an
 *   examined source. It appears by a rename, after it is synced to disk.
 * - A report says `available` only after the file exists. If the file is missing, the scanner imports the image again.
 * - Hosts can fetch the file of an available image (image-copies.ts).
 * - Incomplete files are in the staging directory of the leader. The next leader removes that directory.
 *
 * A former leader does no harm. Its commits require that it leads, and its staging directory is its own. It puts a file
 * into the image store only while its lease certainly lasts.
 *
 * Level-triggered: a round compares declarations, reports and files. The next round completes the work after a crash.
 */

import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type ErrorCode, UcloudError } from '../contract/errors.ts';
import type { Id } from '../contract/fields.ts';
import type { Component, Logger } from '../model/component.ts';
import { newEvent } from '../model/events.ts';
import { stagingName } from '../model/image/transfer.ts';
import {
  alive,
  events,
  type ImageRecord,
  type ImageReportRecord,
  imageCopies,
  imageDeliveries,
  imageReports,
  images,
  latestOperations,
  leaders,
  type OperationRecord,
  operations,
  snapshotReports,
  snapshots,
} from '../model/records/index.ts';
import { backoffMs } from '../store/backoff.ts';
import { absent, present, put, read, remove } from '../store/collection.ts';
import { type Leadership, lead } from '../store/leadership.ts';
import { type Mirror, openMirror } from '../store/mirror.ts';
import type { Stored } from '../store/record-kind.ts';
import type { Commit, Store } from '../store/store.ts';
import { missingPrograms } from './confined.ts';
import { Deliveries } from './deliveries.ts';
import { FileMissing, ImageRejected, SourceBusy, SourceUnavailable } from './failures.ts';
import { FairSlots, fairest } from './fair-slots.ts';
import { ImageCopies } from './image-copies.ts';
import type { ImageServerLimits } from './image-server.ts';
import { imageFile, importImage } from './import.ts';
import { fileMissing, importOperation } from './import-operation.ts';
import { defaultLimits, type ImportLimits } from './limits.ts';
import { type Progress, ProgressReporter } from './progress.ts';
import { findWithRecords } from './project-file.ts';
import { isFileComplete, type SourceOptions } from './source.ts';
import { unpackPrograms } from './unpack.ts';

/** Options of `startImageScanner`. */
export interface ImageScannerOptions {
  readonly store: Store;
  readonly logger: Logger;
  /** The directory of the projects' files. The source `file:<name>` is `<filesDir>/<project id>/<name>`. */
  readonly filesDir: string;
  /** The directory of the images that hosts use, as `<imageStore>/<image id>.qcow2`. */
  readonly imageStore: string;
  /** Allows URLs to addresses that are not on the public internet. Default: false. */
  readonly allowPrivateAddresses?: boolean;
  /**
   * The mode `simulated` examines and hashes sources, but stores no image and needs no qemu-img. Simulated hosts read
   * no images. Default: `convert`.
   */
  readonly mode?: 'convert' | 'simulated';
  readonly limits?: Partial<ImportLimits>;
  /** The address at which hosts fetch images. Without one, all hosts must see the image store. */
  readonly listen?: { readonly host: string; readonly port: number };
  readonly serverLimits?: Partial<ImageServerLimits>;
  /** The time to live of the leader's lease, in seconds. After its end, another scanner takes over. Default: 5. */
  readonly leaseTtl?: number;
}

/** The name of the scanner's leader key in `leader/`. */
const task = 'image-scanner';
/** The message of an image whose file is lost, and whose source is gone with the snapshot. */
const lostFile = 'The image store has lost the file of this image, and its source does not exist any more.';
/** The maximum time for the rename of a complete file into the image store, in milliseconds. */
const maxPlacingMs = 1000;
/** The time between rounds without a change, in milliseconds. A file can vanish without a change of the database. */
const roundIntervalMs = 60_000;
/** The delay before a retry after a failed commit, in milliseconds. */
const storeRetryMs = 500;

/**
 * Starts an image scanner. Resolves when its mirror has read the database; another scanner may still lead.
 * @throws UcloudError `store_unavailable` if the database does not answer
 */
export async function startImageScanner(options: ImageScannerOptions): Promise<Component> {
  const { store, logger } = options;
  await mkdir(options.imageStore, { recursive: true });
  const converter = options.mode === 'simulated' ? [] : ([['qemu-img', 'qemu-utils']] as const);
  const missing = await missingPrograms([...converter, ...unpackPrograms]);
  if (missing.length > 0) logger.warn({ missing }, 'some images cannot be imported, because programs are missing');
  const mirror = await openMirror(store, {
    prefixes: [
      images.prefix,
      ...[imageReports.prefix, imageCopies.prefix, `${leaders.prefix}${task}`],
      ...[imageDeliveries.prefix, snapshots.prefix, snapshotReports.prefix, alive.prefix],
    ],
    kinds: [images, imageReports, imageCopies, leaders, imageDeliveries, snapshots, snapshotReports, alive],
    logger,
  });
  const closing = new AbortController();
  const serving = lead(store, mirror, {
    kind: leaders,
    task,
    leaseSeconds: options.leaseTtl ?? 5,
    signal: closing.signal,
    logger,
    work: (leadership, termEnd) => new ImportTerm(options, mirror, leadership, termEnd).run(),
  });
  return {
    close: async () => {
      closing.abort();
      await serving;
      await mirror.close();
    },
  };
}

interface Retry {
  readonly failures: number;
  /** The time of the next attempt, on the clock of `performance.now()`. */
  readonly at: number;
}

/** The work of one term of leadership. */
class ImportTerm {
  readonly #options: ImageScannerOptions;
  readonly #mirror: Mirror;
  readonly #leadership: Leadership;
  readonly #termEnd: AbortSignal;
  readonly #limits: ImportLimits;
  readonly #storeImages: boolean;
  readonly #source: SourceOptions;
  readonly #staging: string;
  readonly #copies: ImageCopies;
  readonly #deliveries: Deliveries;
  readonly #running = new Map<
    string,
    { readonly project: string; readonly cancel: AbortController; readonly done: Promise<void> }
  >();
  readonly #conversions: FairSlots;
  readonly #retries = new Map<string, Retry>();
  /** The ids of the images with a file in the image store. */
  #storedImages = new Set<string>();
  /** True if an image waits for its missing file. */
  #waitsForFile = false;
  #wake = (): void => {};

  constructor(options: ImageScannerOptions, mirror: Mirror, leadership: Leadership, termEnd: AbortSignal) {
    this.#options = options;
    this.#mirror = mirror;
    this.#leadership = leadership;
    this.#termEnd = termEnd;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#conversions = new FairSlots(this.#limits.maxConversions);
    this.#source = {
      filesDir: options.filesDir,
      findFile: findWithRecords(options.store, options.filesDir),
      allowPrivateAddresses: options.allowPrivateAddresses ?? false,
      limits: this.#limits,
    };
    this.#storeImages = options.mode !== 'simulated';
    const storeName = randomUUID();
    this.#staging = join(options.imageStore, stagingName(storeName));
    const { logger, imageStore, listen, serverLimits: limits } = options;
    const commit = (commit: Commit) => this.#commit(undefined, commit);
    this.#deliveries = new Deliveries({
      ...{ mirror, limits: this.#limits, commit },
      isListening: () => this.#copies.isListening,
    });
    this.#copies = new ImageCopies({
      ...{ logger, mirror, leadership, imageStore, storeName, listen, limits, termEnd, commit },
      deliveries: this.#deliveries,
      wake: () => this.#wake(),
    });
  }

  /** Imports images until the term is over. Resolves after all imports have ended. */
  async run(): Promise<void> {
    const unsubscribe = this.#mirror.subscribe(() => this.#wake());
    try {
      await mkdir(this.#staging, { mode: 0o700 });
      while (!this.#termEnd.aborted) {
        const changed = new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        await this.#round();
        await this.#pause(changed);
      }
    } finally {
      unsubscribe();
      for (const { cancel } of this.#running.values()) cancel.abort();
      await Promise.all([...this.#running.values()].map(({ done }) => done));
      await this.#copies.close();
      await rm(this.#staging, { recursive: true, force: true });
    }
  }

  async #pause(changed: Promise<void>): Promise<void> {
    const now = performance.now();
    const intervalMs = this.#waitsForFile ? this.#limits.retryAfterMs : roundIntervalMs;
    const next = Math.min(now + intervalMs, ...[...this.#retries.values()].map(({ at }) => at));
    const timer = new AbortController();
    const signal = AbortSignal.any([timer.signal, this.#termEnd]);
    const time = delay(Math.max(next - now, 0), undefined, { signal }).catch(() => {});
    await Promise.race([changed, time]);
    timer.abort();
  }

  async #round(): Promise<void> {
    await this.#removeUnusedFiles();
    for (const [id, { cancel }] of this.#running) if (!this.#mirror.get(images, id)) cancel.abort();
    for (const id of this.#retries.keys()) if (!this.#mirror.get(images, id)) this.#retries.delete(id);
    for (const { id } of this.#mirror.list(imageReports)) {
      if (this.#mirror.get(images, id) || this.#running.has(id)) continue;
      await this.#commit(id, { require: [absent(images, id)], write: [remove(imageReports, id)] });
    }
    await this.#deliveries.round((id) => this.#running.has(id));
    await this.#copies.round([...this.#storedImages].filter((id) => this.#isDone(id) && !this.#running.has(id)));
    const now = performance.now();
    this.#waitsForFile = false;
    const waiting: ImageRecord[] = [];
    for (const { id, value } of this.#mirror.list(images)) {
      if (this.#running.has(id) || this.#isDone(id) || (this.#retries.get(id)?.at ?? 0) > now) continue;
      if (this.#deliveries.waits(value)) continue;
      const { source } = value;
      if (source === undefined || !this.#isFileMissing(id)) waiting.push(value);
      else if (await isFileComplete({ ...value, source }, this.#source, this.#limits.retryAfterMs)) waiting.push(value);
      else this.#waitsForFile = true;
    }
    this.#startImports(waiting);
  }

  /** Starts as many imports as the limits allow. Projects take turns. */
  #startImports(waiting: readonly ImageRecord[]): void {
    const { maxImports, maxImportsPerProject } = this.#limits;
    const used = ({ project }: ImageRecord) =>
      [...this.#running.values()].filter((each) => each.project === project).length;
    while (this.#running.size < maxImports) {
      const left = waiting.filter(({ id }) => !this.#running.has(id));
      const image = fairest(left, used, maxImportsPerProject);
      if (!image) return;
      const cancel = new AbortController();
      const done = this.#import(image, AbortSignal.any([cancel.signal, this.#termEnd])).finally(() => {
        this.#running.delete(image.id);
        this.#wake();
      });
      this.#running.set(image.id, { project: image.project, cancel, done });
    }
  }

  #isFileMissing(id: string): boolean {
    return this.#mirror.get(imageReports, id)?.value.reason === fileMissing;
  }

  #isDone(id: string): boolean {
    const phase = this.#mirror.get(imageReports, id)?.value.phase;
    return (
      (phase === 'error' && !this.#isFileMissing(id)) ||
      (phase === 'available' && (!this.#storeImages || this.#storedImages.has(id)))
    );
  }

  /** Removes files without an image, and the staging directories of former leaders. */
  async #removeUnusedFiles(): Promise<void> {
    const { imageStore, logger } = this.#options;
    const stored = new Set<string>();
    for (const name of await readdir(imageStore)) {
      const id = /^(img-[0-9a-z]{16})\.qcow2$/.exec(name)?.[1] as Id<'image'> | undefined;
      if (id !== undefined && (this.#mirror.get(images, id) || this.#running.has(id))) {
        stored.add(id);
      } else if (id !== undefined) {
        await rm(imageFile(imageStore, id), { force: true });
        logger.info({ image: id }, 'image removed');
      } else if (name.startsWith('.staging-') && join(imageStore, name) !== this.#staging) {
        await rm(join(imageStore, name), { recursive: true, force: true });
      }
    }
    this.#storedImages = stored;
  }

  /** Tells whether this scanner certainly leads for so many milliseconds. */
  #leadsFor(milliseconds: number): boolean {
    const { lost, validUntil } = this.#leadership.lease;
    return !lost.aborted && performance.now() + milliseconds < validUntil;
  }

  /** Imports the image and reports the result. Never rejects. */
  async #import(image: ImageRecord, signal: AbortSignal): Promise<void> {
    const { logger } = this.#options;
    const progress = new ProgressReporter((now) => this.#reportProgress(image, now));
    const lost = this.#mirror.get(imageReports, image.id)?.value.phase === 'available';
    try {
      await this.#report(image, { phase: 'importing', step: 'downloading', percent: 0 });
      const { sha256, virtualSize } = await importImage(
        image,
        {
          ...this.#source,
          imageStore: this.#options.imageStore,
          staging: this.#staging,
          storeImage: this.#storeImages,
          fetchSnapshot: (...args) => this.#deliveries.fetch(...args),
          conversions: this.#conversions,
          progress: progress.report,
        },
        signal,
        () => this.#leadsFor(maxPlacingMs),
      );
      await progress.end();
      if (this.#storeImages) await this.#copies.publish(image.id, signal);
      this.#storedImages.add(image.id);
      this.#retries.delete(image.id);
      await this.#report(image, { phase: 'available', sha256, size: virtualSize });
      logger.info({ image: image.id, sha256 }, 'image imported');
    } catch (err) {
      await progress.end();
      if (signal.aborted) return;
      await this.#reportFailure(image, err, lost).catch((later: unknown) => {
        if (!signal.aborted) logger.error({ err: later, image: image.id }, 'could not report about an image');
      });
    }
  }

  /** Reports the progress. Never rejects, because the next report or the result replaces it. */
  async #reportProgress(image: ImageRecord, progress: Progress): Promise<void> {
    const { logger } = this.#options;
    await this.#report(image, { phase: 'importing', ...progress }).catch((err: unknown) => {
      logger.warn({ err, image: image.id }, 'could not report the progress of an image');
    });
  }

  /**
   * Reports the failure of an import.
   * @param lost the image was available, and the image store has lost its file
   */
  async #reportFailure(image: ImageRecord, err: unknown, lost: boolean): Promise<void> {
    const { logger } = this.#options;
    if (err instanceof ImageRejected) {
      const message = lost && image.source === undefined ? lostFile : err.message;
      logger.info({ image: image.id, why: message }, 'image rejected');
      return this.#report(image, { phase: 'error', message }, 'rule_violated');
    }
    if (err instanceof FileMissing)
      return this.#report(image, { phase: 'error', reason: fileMissing, message: err.message });
    const internal = !(err instanceof SourceUnavailable);
    if (internal) logger.error({ err, image: image.id }, 'an import failed');
    const message = internal
      ? 'The import failed; the log of the image scanner contains the reason for the operator.'
      : err.message;
    const before = this.#retries.get(image.id)?.failures ?? 0;
    const failures = err instanceof SourceBusy ? before : before + 1;
    if (failures >= this.#limits.maxAttempts) {
      return this.#report(image, { phase: 'error', message }, internal ? 'internal' : 'invalid_reference');
    }
    const delayMs = backoffMs(Math.max(1, failures), {
      firstMs: this.#limits.retryAfterMs,
      maxMs: Number.POSITIVE_INFINITY,
    });
    this.#retries.set(image.id, { failures, at: performance.now() + delayMs });
    await this.#report(image, { phase: 'importing', message: `${message} The scanner tries again.` });
  }

  async #report(image: ImageRecord, report: Omit<ImageReportRecord, 'at'>, code?: ErrorCode): Promise<void> {
    const now = new Date();
    const write = [put(imageReports, image.id, { ...report, at: now.toISOString() })];
    if (report.phase !== 'importing') {
      const failed = report.phase === 'error';
      const message = report.message ?? 'VMs can now use the image.';
      const [severity, reason] = failed ? (['error', 'import_failed'] as const) : (['info', 'imported'] as const);
      write.push(put(events, ...newEvent(now, image, { severity, reason, message })));
    }
    await this.#commit(image.id, async () => {
      const operation = await this.#operationOf(image.id);
      const change = operation && importOperation(operation, report, now, code);
      return {
        require: [present(images, image.id), ...(change?.require ?? [])],
        write: [...write, ...(change?.write ?? [])],
      };
    });
  }

  /** Returns the operation of the import; undefined for images of earlier versions. */
  async #operationOf(image: string): Promise<Stored<OperationRecord> | undefined> {
    const { store } = this.#options;
    const latest = await read(store, latestOperations, image);
    return latest && read(store, operations, latest.value.id);
  }

  /**
   * Commits a change of the image's report, or another change of the leader. Resolves when the mirror shows the report,
   * or when a condition has failed.
   */
  async #commit(id: string | undefined, change: Commit | (() => Promise<Commit>)): Promise<void> {
    while (!this.#termEnd.aborted) {
      try {
        // Each attempt reads again, because an earlier one may have succeeded without an answer.
        const { require = [], write } = typeof change === 'function' ? await change() : change;
        const result = await this.#options.store.commit({ require: [this.#leadership.holds, ...require], write });
        if (id === undefined) return;
        if (!result.ok) {
          // An earlier commit may have succeeded without an answer. The next round must see it.
          await this.#mirror.catchUp();
          return;
        }
        const after = result.revision - 1;
        await this.#mirror.waitForChange({
          of: [{ kind: imageReports, id }],
          after,
          timeoutMs: 5000,
          signal: this.#termEnd,
        });
        return;
      } catch (err) {
        if (!(err instanceof UcloudError) || err.code !== 'store_unavailable') throw err;
        this.#options.logger.warn({ err }, 'the store does not answer the image scanner, which tries again');
        await delay(storeRetryMs, undefined, { signal: this.#termEnd }).catch(() => {});
      }
    }
  }
}
