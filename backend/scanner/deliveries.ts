/**
 * Takes the disks of snapshots, which their hosts deliver. A snapshot is on one host, and hosts listen at no address. So the
 * scanner writes a record with a new secret, and the host connects and sends the disk (model/image/transfer.ts).
 *
 * The secret is that of one attempt. A host that starts again begins again, and its connection replaces the earlier one. The
 * content belongs to a guest, so nothing here interprets it.
 */
import { createHash, randomBytes } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { createZstdDecompress } from 'node:zlib';
import type { Id } from '../contract/fields.ts';
import { diskBytesHeader, diskDigestTrailer, imageSecretBytes } from '../model/image/transfer.ts';
import {
  alive,
  type ImageDeliveryRecord,
  type ImageRecord,
  imageDeliveries,
  imageReports,
  images,
  snapshotReports,
  snapshots,
} from '../model/records/index.ts';
import { snapshotWithData } from '../model/storage/volume-source.ts';
import { describeSize } from '../model/text/sizes.ts';
import { present, put, remove } from '../store/collection.ts';
import type { Mirror } from '../store/mirror.ts';
import type { Commit } from '../store/store.ts';
import { ImageRejected, notEnoughSpace, SourceBusy, SourceUnavailable } from './failures.ts';
import type { DeliveryDesk } from './image-server.ts';
import type { ImportLimits } from './limits.ts';
import type { Fetched } from './source.ts';

/** Options of `Deliveries`. */
export interface DeliveriesOptions {
  readonly mirror: Mirror;
  readonly limits: ImportLimits;
  /** Commits as the leader. */
  readonly commit: (commit: Commit) => Promise<void>;
  /** Tells whether hosts can connect. */
  readonly isListening: () => boolean;
}

/** Zeros of this length are holes in the copy. */
const holeBytes = 64 * 1024;
const zeros = Buffer.alloc(holeBytes);

/** A disk that an import waits for. */
interface Expected {
  readonly secret: string;
  readonly target: string;
  /** The space for the data without holes, in bytes. */
  readonly maxBytes: number;
  readonly maxDiskBytes: number;
  readonly withSha512: boolean;
  readonly progress: (bytes: number, total: number) => void;
  readonly done: PromiseWithResolvers<Fetched>;
  /** The current connection. */
  current: { readonly request: IncomingMessage; readonly ended: Promise<unknown> } | undefined;
  /** The target has the whole disk. */
  finished: boolean;
}

/** The host has sent something else than a disk that the import can use. */
class Refused extends Error {
  readonly status: number;
  readonly reason: Error;

  constructor(status: number, reason: Error) {
    super(reason.message);
    this.status = status;
    this.reason = reason;
  }
}

/** Writes the chunk at the position, with holes instead of zeros. Returns the number of bytes that take space. */
async function writeSparsely(file: FileHandle, chunk: Buffer, position: number): Promise<number> {
  let written = 0;
  for (let at = 0; at < chunk.length; ) {
    const length = Math.min(holeBytes - ((position + at) % holeBytes), chunk.length - at);
    const piece = chunk.subarray(at, at + length);
    if (!piece.equals(zeros.subarray(0, length))) {
      for (let done = 0; done < length; ) {
        done += (await file.write(piece, done, length - done, position + at + done)).bytesWritten;
      }
      written += length;
    }
    at += length;
  }
  return written;
}

/** The deliveries of one term of a leader. */
export class Deliveries implements DeliveryDesk {
  readonly #options: DeliveriesOptions;
  readonly #expected = new Map<string, Expected>();

  constructor(options: DeliveriesOptions) {
    this.#options = options;
  }

  /** Returns the reason why the image has no source any more; undefined while it has one. */
  #lacks(image: ImageRecord): string | undefined {
    const { mirror } = this.#options;
    const { volume } = image;
    const id = snapshotWithData(image) ?? ('' as Id<'snapshot'>);
    const record = mirror.get(snapshots, id)?.value;
    if (record === undefined || record.deleted_at !== undefined) {
      return `The snapshot ${id} was deleted before the import had copied it.`;
    }
    const report = mirror.get(snapshotReports, id)?.value;
    if (report?.phase === 'available') return undefined;
    if (volume === undefined) return `The snapshot ${id} has no complete copy.`;
    return `The snapshot of its volume could not be made. ${report?.message ?? ''}`.trim();
  }

  /** Tells whether the snapshot of the image's volume, which has no parts, is still being made. */
  #waitsForSnapshot({ id, snapshot = '' as Id<'snapshot'>, volume }: ImageRecord): boolean {
    if (volume === undefined) return false;
    const { mirror } = this.#options;
    const record = mirror.get(snapshots, snapshot)?.value;
    // The watch of snapshots may be behind that of images. The snapshot stays until an import has ended.
    if (record === undefined) return mirror.get(imageReports, id) === undefined;
    const phase = mirror.get(snapshotReports, snapshot)?.value.phase;
    return record.deleted_at === undefined && phase !== 'available' && phase !== 'error';
  }

  /** Tells whether the image waits for its snapshot, or for a host that is not there. Its import would only fail. */
  waits(image: ImageRecord): boolean {
    const { mirror } = this.#options;
    if (this.#waitsForSnapshot(image)) return true;
    const snapshot = snapshotWithData(image);
    if (snapshot === undefined || this.#lacks(image) !== undefined) return false;
    // In a pool that other hosts reach, another host may have made the snapshot.
    const host = mirror.get(snapshotReports, snapshot)?.value.host ?? mirror.get(snapshots, snapshot)?.value.host;
    return host !== undefined && mirror.get(alive, host) === undefined;
  }

  /** Ends the imports whose snapshots are gone, and removes the records of earlier leaders. */
  async round(isRunning: (image: string) => boolean): Promise<void> {
    const { mirror, commit } = this.#options;
    for (const [image, { done }] of this.#expected) {
      const record = mirror.get(images, image)?.value;
      const lacks = record && this.#lacks(record);
      if (lacks !== undefined) done.reject(new ImageRejected(lacks));
    }
    for (const { id } of mirror.list(imageDeliveries)) {
      if (!isRunning(id)) await commit({ write: [remove(imageDeliveries, id)] });
    }
  }

  /**
   * Copies the disk of the image's snapshot to the path `target`. The copy has the size of the disk, and holes.
   * @param maxBytes the space for the data, in bytes
   * @throws ImageRejected or SourceUnavailable
   * @throws the reason of `signal` after its abort
   */
  async fetch(
    image: ImageRecord,
    target: string,
    maxBytes: number,
    signal: AbortSignal,
    progress: (bytes: number, total: number) => void,
  ): Promise<Fetched> {
    const { mirror, limits, commit, isListening } = this.#options;
    const lacks = this.#lacks(image);
    const snapshot = snapshotWithData(image);
    if (snapshot === undefined || lacks !== undefined) throw new ImageRejected(lacks ?? 'It has no source.');
    if (!isListening())
      throw new SourceUnavailable('The image scanner has no address at which hosts deliver snapshots.');
    const disk = image.snapshot_disk ?? 'root';
    const { disks = [] } = mirror.get(snapshots, snapshot)?.value ?? {};
    const expected: Expected = {
      ...{ secret: randomBytes(imageSecretBytes).toString('hex'), target, maxBytes, progress },
      maxDiskBytes: disks.find(({ volume = 'root' }) => volume === disk)?.size ?? 0,
      withSha512: image.sha512 !== undefined,
      done: Promise.withResolvers(),
      current: undefined,
      finished: false,
    };
    const { done, secret } = expected;
    done.promise.catch(() => undefined);
    const abort = () => done.reject(signal.reason);
    const end = (why: string) => done.reject(new SourceUnavailable(why));
    const checkBegin = () => {
      // The host delivers a few snapshots at a time, also those of other projects.
      if (expected.current === undefined) {
        done.reject(new SourceBusy('The host of the snapshot has not begun to deliver it.'));
      }
    };
    const timers = [
      setTimeout(checkBegin, limits.maxDeliveryWaitMs),
      setTimeout(() => end('The delivery of the snapshot took too long.'), limits.maxFetchMs),
    ];
    signal.addEventListener('abort', abort);
    this.#expected.set(image.id, expected);
    try {
      signal.throwIfAborted();
      const record: ImageDeliveryRecord = { snapshot, disk, secret, at: new Date().toISOString() };
      await commit({ require: [present(images, image.id)], write: [put(imageDeliveries, image.id, record)] });
      return await done.promise;
    } finally {
      for (const timer of timers) clearTimeout(timer);
      signal.removeEventListener('abort', abort);
      this.#expected.delete(image.id);
      expected.current?.request.destroy();
      await expected.current?.ended;
      await commit({ write: [remove(imageDeliveries, image.id)] });
    }
  }

  secretOf(image: string): string | undefined {
    return this.#expected.get(image)?.secret;
  }

  async receive(image: string, request: IncomingMessage): Promise<number> {
    const expected = this.#expected.get(image);
    if (expected === undefined) return 404;
    const before = expected.current;
    before?.request.destroy();
    const ended = (async () => {
      await before?.ended;
      // The disk of an earlier connection is complete, and its import may read it already.
      if (expected.finished) throw new Refused(409, new SourceUnavailable('The disk is there.'));
      const fetched = await this.#copy(expected, request);
      expected.finished = true;
      return fetched;
    })();
    const current = { request, ended: ended.catch(() => undefined) };
    expected.current = current;
    try {
      const fetched = await ended;
      // The connection stays for the answer.
      if (expected.current === current) expected.current = undefined;
      expected.done.resolve(fetched);
      return 204;
    } catch (error) {
      // A newer connection of the host goes on.
      if (expected.finished || expected.current !== current) return 409;
      const reason = error instanceof Refused ? error.reason : this.#faultOf(error);
      expected.done.reject(reason);
      return error instanceof Refused ? error.status : 400;
    }
  }

  #faultOf(error: unknown): Error {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT') return notEnoughSpace();
    if (code === 'EIO' || code === 'EROFS') return error as Error;
    return new SourceUnavailable('The host ended the delivery of the snapshot.', { cause: error });
  }

  /** Writes the body into the file. @throws Refused, or the error of the connection or of the file */
  async #copy(expected: Expected, request: IncomingMessage): Promise<Fetched> {
    const { limits } = this.#options;
    const { target, maxBytes, maxDiskBytes, withSha512, progress } = expected;
    const text = request.headers[diskBytesHeader];
    const size = typeof text === 'string' && /^[1-9]\d{0,14}$/.test(text) ? Number(text) : 0;
    const unusable = (message: string) => new Refused(422, new SourceUnavailable(message));
    if (size === 0 || size > maxDiskBytes) throw unusable('The host announced another size of the disk.');
    const tooLarge = (what: string, limit: number) =>
      new Refused(422, new ImageRejected(`${what} is larger than ${describeSize(limit)}, the limit.`));
    if (size > limits.maxVirtualBytes) throw tooLarge('The disk of the snapshot', limits.maxVirtualBytes);
    const [sha256, sha512] = [createHash('sha256'), withSha512 ? createHash('sha512') : undefined];
    await rm(target, { force: true });
    const file = await open(target, 'wx', 0o600);
    try {
      await file.truncate(size);
      let position = 0;
      let written = 0;
      await pipeline(request, createZstdDecompress(), async (content: AsyncIterable<Buffer>) => {
        for await (const chunk of content) {
          if (position + chunk.length > size) throw unusable('The host sent more bytes than the disk has.');
          sha256.update(chunk);
          sha512?.update(chunk);
          written += await writeSparsely(file, chunk, position);
          if (written > limits.maxSourceBytes) throw tooLarge('The data of the snapshot', limits.maxSourceBytes);
          if (written > maxBytes) throw new Refused(507, notEnoughSpace());
          position += chunk.length;
          progress(position, size);
        }
      });
      const digest = sha256.digest('hex');
      if (position !== size || request.trailers[diskDigestTrailer] !== digest) {
        throw unusable('The host sent other bytes than those of the disk.');
      }
      return { sha256: digest, sha512: sha512?.digest('hex'), size };
    } finally {
      await file.close();
    }
  }
}
