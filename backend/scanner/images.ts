/**
 * The image scanner: makes files and URLs that users declare as images into clean disks that VMs can start from.
 *
 * States of an image: pending (no report) → importing → available, or error. Moved by the one scanner that leads; the
 * others wait. Error is final, as the source of an image is: the user declares another. Only a file that is missing may
 * still come, so it is looked for (error → importing). Invariants:
 * - A file `<image id>.qcow2` in the image store is complete, was made by qemu-img from a source that was examined, and
 *   refers to no other file. It appears by a rename, after it has reached the disk.
 * - A report says `available` only after the file is there. Found without its file, the image is imported again.
 * - What is on the way lies in a staging directory of the leader, which its successor removes.
 *
 * Why a deposed leader does no harm: its commits carry the condition that it leads; its staging directory is its own;
 * and it puts a file in place only while its lease is sure to last.
 *
 * Level-triggered: a round compares declarations, reports and files. A crash at any point leaves a state that the next
 * round completes.
 */

import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { UcloudError } from '../contract/errors.ts';
import type { Id } from '../contract/fields.ts';
import type { Component, Logger } from '../model/component.ts';
import { newEvent } from '../model/events.ts';
import {
  events,
  type ImageRecord,
  type ImageReportRecord,
  imageReports,
  images,
  leaders,
} from '../model/records/index.ts';
import { backoffMs } from '../store/backoff.ts';
import { absent, present, put, remove } from '../store/collection.ts';
import { type Leadership, lead } from '../store/leadership.ts';
import { type Mirror, openMirror } from '../store/mirror.ts';
import type { Commit, Store } from '../store/store.ts';
import { FileMissing, ImageRejected, SourceUnavailable } from './failures.ts';
import { FairSlots, fairest } from './fair-slots.ts';
import { imageFile, importImage } from './import.ts';
import { defaultLimits, type ImportLimits } from './limits.ts';
import { hasArrived } from './source.ts';

export interface ImageScannerOptions {
  readonly store: Store;
  readonly logger: Logger;
  /** `<filesDir>/<project id>/<name>` is what `file:<name>` means. */
  readonly filesDir: string;
  /** Where the images of this cloud's hosts are: `<imageStore>/<image id>.qcow2`. */
  readonly imageStore: string;
  /** Let URLs lead to addresses that are not on the public internet. Default: false. */
  readonly allowPrivateAddresses?: boolean;
  /**
   * `simulated` examines and hashes sources all the same, but keeps nothing and needs no qemu-img: simulated hosts read
   * no images. Default: `convert`.
   */
  readonly mode?: 'convert' | 'simulated';
  readonly limits?: Partial<ImportLimits>;
  /** Seconds after which another scanner takes over from one that has died. Default: 5. */
  readonly leaseTtl?: number;
}

const task = 'image-scanner';
const missing = 'file_missing';
/** Milliseconds that putting a file in place may take. */
const placing = 1000;
/** Milliseconds between rounds when nothing happens: files can vanish without a word. */
const roundEvery = 60_000;
const storeRetry = 500;

export async function startImageScanner(options: ImageScannerOptions): Promise<Component> {
  const { store, logger } = options;
  await mkdir(options.imageStore, { recursive: true });
  const mirror = await openMirror(store, {
    prefixes: [images.prefix, imageReports.prefix, `${leaders.prefix}${task}`],
    kinds: [images, imageReports, leaders],
    logger,
  });
  const closing = new AbortController();
  const serving = lead(store, mirror, {
    kind: leaders,
    task,
    leaseSeconds: options.leaseTtl ?? 5,
    signal: closing.signal,
    logger,
    work: (leadership, over) => new Scan(options, mirror, leadership, over).run(),
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
  /** On the clock of performance.now(). */
  readonly at: number;
}

/** The work of one term of leadership. */
class Scan {
  readonly #options: ImageScannerOptions;
  readonly #mirror: Mirror;
  readonly #leadership: Leadership;
  readonly #stop: AbortSignal;
  readonly #limits: ImportLimits;
  readonly #keep: boolean;
  readonly #staging: string;
  readonly #running = new Map<
    string,
    { readonly project: string; readonly cancel: AbortController; readonly done: Promise<void> }
  >();
  readonly #conversions: FairSlots;
  readonly #retries = new Map<string, Retry>();
  /** Ids of the images that the store has. */
  #kept = new Set<string>();
  /** Whether files are missing that may still come. */
  #awaiting = false;
  #wake = (): void => {};

  constructor(options: ImageScannerOptions, mirror: Mirror, leadership: Leadership, over: AbortSignal) {
    this.#options = options;
    this.#mirror = mirror;
    this.#leadership = leadership;
    this.#stop = over;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#conversions = new FairSlots(this.#limits.conversions);
    this.#keep = options.mode !== 'simulated';
    this.#staging = join(options.imageStore, `.staging-${randomUUID()}`);
  }

  /** Resolves when the term is over and everything that it had begun has ended. */
  async run(): Promise<void> {
    const unsubscribe = this.#mirror.subscribe(() => this.#wake());
    try {
      await mkdir(this.#staging, { mode: 0o700 });
      while (!this.#stop.aborted) {
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
      await rm(this.#staging, { recursive: true, force: true });
    }
  }

  async #pause(changed: Promise<void>): Promise<void> {
    const now = performance.now();
    const least = this.#awaiting ? this.#limits.retryAfter : roundEvery;
    const next = Math.min(now + least, ...[...this.#retries.values()].map(({ at }) => at));
    const timer = new AbortController();
    const signal = AbortSignal.any([timer.signal, this.#stop]);
    const time = delay(Math.max(next - now, 0), undefined, { signal }).catch(() => {});
    await Promise.race([changed, time]);
    timer.abort();
  }

  async #round(): Promise<void> {
    await this.#lookAtFiles();
    for (const [id, { cancel }] of this.#running) if (!this.#mirror.get(images, id)) cancel.abort();
    for (const id of this.#retries.keys()) if (!this.#mirror.get(images, id)) this.#retries.delete(id);
    for (const { id } of this.#mirror.list(imageReports)) {
      if (this.#mirror.get(images, id) || this.#running.has(id)) continue;
      await this.#commit(id, { require: [absent(images, id)], write: [remove(imageReports, id)] });
    }
    const now = performance.now();
    this.#awaiting = false;
    const waiting: ImageRecord[] = [];
    for (const { id, value } of this.#mirror.list(images)) {
      if (this.#running.has(id) || this.#isDone(id) || (this.#retries.get(id)?.at ?? 0) > now) continue;
      if (!this.#isMissing(id)) waiting.push(value);
      else if (await hasArrived(value, this.#options.filesDir, this.#limits.retryAfter)) waiting.push(value);
      else this.#awaiting = true;
    }
    this.#startSome(waiting);
  }

  /** As many as may run, so that no project keeps another from its turn. */
  #startSome(waiting: readonly ImageRecord[]): void {
    const { concurrency, projectConcurrency } = this.#limits;
    const used = ({ project }: ImageRecord) =>
      [...this.#running.values()].filter((each) => each.project === project).length;
    while (this.#running.size < concurrency) {
      const left = waiting.filter(({ id }) => !this.#running.has(id));
      const image = fairest(left, used, projectConcurrency);
      if (!image) return;
      const cancel = new AbortController();
      const done = this.#import(image, AbortSignal.any([cancel.signal, this.#stop])).finally(() => {
        this.#running.delete(image.id);
        this.#wake();
      });
      this.#running.set(image.id, { project: image.project, cancel, done });
    }
  }

  #isMissing(id: string): boolean {
    return this.#mirror.get(imageReports, id)?.value.reason === missing;
  }

  #isDone(id: string): boolean {
    const phase = this.#mirror.get(imageReports, id)?.value.phase;
    return (
      (phase === 'error' && !this.#isMissing(id)) || (phase === 'available' && (!this.#keep || this.#kept.has(id)))
    );
  }

  /** Removes what no image, or no living leader, has to do with. */
  async #lookAtFiles(): Promise<void> {
    const { imageStore, logger } = this.#options;
    const kept = new Set<string>();
    for (const name of await readdir(imageStore)) {
      const id = /^(img-[0-9a-z]{16})\.qcow2$/.exec(name)?.[1] as Id<'image'> | undefined;
      if (id !== undefined && (this.#mirror.get(images, id) || this.#running.has(id))) {
        kept.add(id);
      } else if (id !== undefined) {
        await rm(imageFile(imageStore, id), { force: true });
        logger.info({ image: id }, 'image removed');
      } else if (name.startsWith('.staging-') && join(imageStore, name) !== this.#staging) {
        await rm(join(imageStore, name), { recursive: true, force: true });
      }
    }
    this.#kept = kept;
  }

  /** Whether it is sure to lead for this many milliseconds. */
  #lasts(milliseconds: number): boolean {
    const { lost, validUntil } = this.#leadership.lease;
    return !lost.aborted && performance.now() + milliseconds < validUntil;
  }

  /** Never rejects. */
  async #import(image: ImageRecord, signal: AbortSignal): Promise<void> {
    const { logger } = this.#options;
    try {
      await this.#report(image, { phase: 'importing' });
      const { sha256, virtualSize } = await importImage(
        image,
        {
          filesDir: this.#options.filesDir,
          imageStore: this.#options.imageStore,
          allowPrivateAddresses: this.#options.allowPrivateAddresses ?? false,
          staging: this.#staging,
          keep: this.#keep,
          limits: this.#limits,
          conversions: this.#conversions,
        },
        signal,
        () => this.#lasts(placing),
      );
      this.#kept.add(image.id);
      this.#retries.delete(image.id);
      await this.#report(image, { phase: 'available', sha256, size: virtualSize });
      logger.info({ image: image.id, sha256 }, 'image imported');
    } catch (err) {
      if (signal.aborted) return;
      await this.#failed(image, err).catch((later: unknown) => {
        if (!signal.aborted) logger.error({ err: later, image: image.id }, 'could not report about an image');
      });
    }
  }

  async #failed(image: ImageRecord, err: unknown): Promise<void> {
    const { logger } = this.#options;
    if (err instanceof ImageRejected) {
      logger.info({ image: image.id, why: err.message }, 'image rejected');
      return this.#report(image, { phase: 'error', message: err.message });
    }
    if (err instanceof FileMissing)
      return this.#report(image, { phase: 'error', reason: missing, message: err.message });
    const ours = !(err instanceof SourceUnavailable);
    if (ours) logger.error({ err, image: image.id }, 'an import failed');
    const message = ours ? 'The import failed for a reason that only the log of the operator tells.' : err.message;
    const failures = (this.#retries.get(image.id)?.failures ?? 0) + 1;
    if (failures >= this.#limits.attempts) return this.#report(image, { phase: 'error', message });
    const wait = backoffMs(failures, { firstMs: this.#limits.retryAfter, maxMs: Number.POSITIVE_INFINITY });
    this.#retries.set(image.id, { failures, at: performance.now() + wait });
    await this.#report(image, { phase: 'importing', message: `${message} It is tried again.` });
  }

  async #report(image: ImageRecord, report: Omit<ImageReportRecord, 'at'>): Promise<void> {
    const now = new Date();
    const write = [put(imageReports, image.id, { ...report, at: now.toISOString() })];
    if (report.phase !== 'importing') {
      const failed = report.phase === 'error';
      const message = report.message ?? 'VMs can now use the image.';
      const [severity, reason] = failed ? (['error', 'import_failed'] as const) : (['info', 'imported'] as const);
      write.push(put(events, ...newEvent(now, image, { severity, reason, message })));
    }
    await this.#commit(image.id, { require: [present(images, image.id)], write });
  }

  /** Writes the report of an image. Resolves when the mirror shows it, or when it has become pointless. */
  async #commit(id: string, { require = [], write }: Commit): Promise<void> {
    while (!this.#stop.aborted) {
      try {
        const result = await this.#options.store.commit({ require: [this.#leadership.holds, ...require], write });
        if (!result.ok) return;
        const after = result.revision - 1;
        await this.#mirror.waitForChange({
          of: [{ kind: imageReports, id }],
          after,
          timeoutMs: 5000,
          signal: this.#stop,
        });
        return;
      } catch (err) {
        if (!(err instanceof UcloudError) || err.code !== 'store_unavailable') throw err;
        this.#options.logger.warn({ err }, 'the store does not answer the image scanner, which tries again');
        await delay(storeRetry, undefined, { signal: this.#stop }).catch(() => {});
      }
    }
  }
}
