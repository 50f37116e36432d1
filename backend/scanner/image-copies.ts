/**
 * Offers the images of the leader's image store to hosts: it runs the image server and writes the records by which hosts
 * find it.
 *
 * `image-servers/scanner` belongs to the lease of the leader, so it ends with the leader. `image-copies/<image>/scanner`
 * has the digest of the file and the secret. It exists before the image counts as available, and goes with the image.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { imageFileName } from '../model/image/disk-image.ts';
import { imageCopyId, imageSecretBytes, parseImageCopyId, scannerServer } from '../model/image/transfer.ts';
import { imageCopies, imageServers, images } from '../model/records/index.ts';
import { absent, present, put, remove } from '../store/collection.ts';
import type { Leadership } from '../store/leadership.ts';
import type { Mirror } from '../store/mirror.ts';
import type { Commit } from '../store/store.ts';
import { type DeliveryDesk, type ImageServer, type ImageServerLimits, startImageServer } from './image-server.ts';
import { listenUrls } from './listen-urls.ts';

/** Options of `ImageCopies`. */
export interface ImageCopiesOptions {
  readonly logger: Logger;
  readonly mirror: Mirror;
  readonly leadership: Leadership;
  readonly imageStore: string;
  /** The name of the image store's staging directory, after `.staging-`. */
  readonly storeName: string;
  /** The address of the image server. Without one, hosts must see the image store themselves. */
  readonly listen?: { readonly host: string; readonly port: number } | undefined;
  readonly limits?: Partial<ImageServerLimits> | undefined;
  /** Takes the disks of snapshots. */
  readonly deliveries: DeliveryDesk;
  /** Commits as the leader, and repeats the commit until the database answers or `signal` aborts. */
  readonly commit: (commit: Commit) => Promise<void>;
  /** The end of the term. */
  readonly termEnd: AbortSignal;
  /** Asks for another round. */
  readonly wake: () => void;
}

/** The delay before the next attempt to listen, in milliseconds. */
const listenRetryMs = 5000;
/** The delay before the next attempt to read the file of an image, in milliseconds. */
const unreadableMs = 600_000;

/** The files that one leader offers. */
export class ImageCopies {
  readonly #options: ImageCopiesOptions;
  #server: ImageServer | undefined;
  #announced = '';
  #publishing: Promise<void> | undefined;
  /** The times of the next attempts for images that could not be read, on the clock of `performance.now()`. */
  readonly #unreadableUntil = new Map<string, number>();
  #faultLogged = false;
  #retryAt = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: ImageCopiesOptions) {
    this.#options = options;
  }

  /**
   * Does the missing part: server, records of files, and removal of records without an image.
   * @param complete the images whose file is complete and does not change
   */
  async round(complete: readonly string[]): Promise<void> {
    const { mirror, commit } = this.#options;
    await this.#announce();
    for (const { id } of mirror.list(imageCopies)) {
      const { image, server } = parseImageCopyId(id);
      if (server !== scannerServer || mirror.get(images, image)) continue;
      await commit({ require: [absent(images, image)], write: [remove(imageCopies, id)] });
    }
    // Images of earlier versions of the scanner lack the record. Reading a large file must not hold up the round.
    const missing = complete.find(
      (image) =>
        !mirror.get(imageCopies, imageCopyId(image, scannerServer)) &&
        performance.now() >= (this.#unreadableUntil.get(image) ?? 0),
    );
    if (missing !== undefined) this.#publishing ??= this.#publishMissing(missing);
  }

  async #publishMissing(image: string): Promise<void> {
    const { logger, termEnd, wake } = this.#options;
    try {
      await this.publish(image, termEnd);
      wake();
    } catch (err) {
      // A later round tries again, after the other images.
      this.#unreadableUntil.set(image, performance.now() + unreadableMs);
      if (!termEnd.aborted) logger.warn({ err, image }, 'the file of an image cannot be offered to hosts');
    } finally {
      this.#publishing = undefined;
    }
  }

  /** Records the digest of the image's file. The image gets a secret at its first record, and keeps it. */
  async publish(image: string, signal: AbortSignal): Promise<void> {
    const { imageStore, mirror, commit } = this.#options;
    const path = join(imageStore, imageFileName(image as Id<'image'>));
    const { size } = await stat(path);
    const hash = createHash('sha256');
    await pipeline(createReadStream(path, { highWaterMark: 2 ** 20 }), hash, { signal });
    const id = imageCopyId(image, scannerServer);
    const secret = mirror.get(imageCopies, id)?.value.secret ?? randomBytes(imageSecretBytes).toString('hex');
    const copy = { sha256: hash.digest('hex'), bytes: size, secret, at: new Date().toISOString() };
    await commit({ require: [present(images, image)], write: [put(imageCopies, id, copy)] });
  }

  /** True while hosts can reach the server. */
  get isListening(): boolean {
    return this.#server !== undefined;
  }

  /** Ends the server. The records of the term end with its lease. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    const { logger } = this.#options;
    if (this.#server) logger.info({ bytes: this.#server.sentBytes() }, 'the image server ends; bytes that hosts got');
    await Promise.all([this.#server?.close(), this.#publishing]);
  }

  #find = (image: string) => {
    const { mirror, imageStore } = this.#options;
    const copy = mirror.get(imageCopies, imageCopyId(image, scannerServer))?.value;
    // The file of a deleted image may be gone at any time.
    if (copy === undefined || !mirror.get(images, image)) return undefined;
    return { path: join(imageStore, imageFileName(image as Id<'image'>)), bytes: copy.bytes, secret: copy.secret };
  };

  /** Starts the server, and tells hosts its addresses. They may change. */
  async #announce(): Promise<void> {
    const { listen, logger, limits, leadership, storeName, deliveries, commit, wake } = this.#options;
    if (listen !== undefined && this.#server === undefined && performance.now() >= this.#retryAt) {
      try {
        this.#server = await startImageServer({
          ...{ listen, logger, find: this.#find, deliveries },
          ...(limits && { limits }),
        });
        logger.info({ listen: { ...listen, port: this.#server.port } }, 'images are served to hosts');
      } catch (err) {
        if (!this.#faultLogged) logger.error({ err, listen }, 'the image server cannot listen; it tries again');
        this.#faultLogged = true;
        this.#retryAt = performance.now() + listenRetryMs;
        this.#timer = setTimeout(wake, listenRetryMs).unref();
      }
    }
    const urls = listen && this.#server ? listenUrls(listen.host, this.#server.port) : [];
    const text = JSON.stringify(urls);
    if (text === this.#announced) return;
    const record = { urls, store: storeName, at: new Date().toISOString() };
    await commit({ write: [put(imageServers, scannerServer, record, leadership.lease.id)] });
    this.#announced = text;
  }
}
