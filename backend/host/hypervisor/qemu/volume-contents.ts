/**
 * The first content of volumes. The content of a snapshot on the host is copied as bytes. A short-lived QEMU without
 * privileges reads an image (copy-process.ts), because images come from users. It also copies in the directories of pools,
 * because it can be left behind.
 *
 * Each such process has a user of its own. A process that waits for a file server cannot be killed. The agent leaves it
 * behind, and begins no further copy to that place while two of them exist.
 */
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Id } from '../../../contract/fields.ts';
import type { FillSource } from '../../../model/storage/volume-source.ts';
import { virtualSize } from '../../storage/overlay.ts';
import { PoolFault, type VolumeContent, type VolumeSource } from '../../storage/pools/pool-driver.ts';
import type { SnapshotFiles } from '../../storage/snapshot-files.ts';
import { copySparse } from '../../storage/sparse-copy.ts';
import { type CopyProcess, copyFile, copyImage } from './copy-process.ts';
import type { CopyOptions } from './disk-copy.ts';

/** The maximum number of processes that copy images. */
export const maxImageCopies = 16;
/** The maximum number of processes for one place that do not end. */
const maxLeft = 2;
/** The time in milliseconds for the end of a process that was killed. */
const endMs = 5_000;

/** The parts of a host that contents need. */
export interface ContentHost {
  readonly snapshots: Pick<SnapshotFiles, 'path'>;
  /** Returns the path of an image. */
  image(image: Id<'image'>): Promise<string>;
  /** The first of `maxImageCopies` user ids without another process. */
  readonly firstUid: number;
  /** Returns the path for a socket of this name, in an existing directory. */
  socket(name: string): Promise<string>;
  /** The limit of a copy in bytes per second; 0 for none. */
  readonly speed: number;
}

/** Returns the place of a target. Places hang independently of one another. */
const placeOf = (target: VolumeSource): string =>
  target.kind === 'file' ? dirname(target.path) : `rbd ${JSON.stringify([target.pool, target.server])}`;

/** Returns the content of a raw file of this size in bytes. */
export const rawContent = (path: string, size: number): VolumeContent => ({
  size,
  write: async (target, signal) => {
    if (target.kind !== 'file') throw new Error('the data of a snapshot can only be copied to a file');
    await copySparse(path, target.path, signal);
  },
});

/** The contents that new volumes of one host get. */
export class VolumeContents {
  readonly #host: ContentHost;
  readonly #free: number[];
  /** The number of processes that were killed and still exist, by place. */
  readonly #left = new Map<string, number>();

  constructor(host: ContentHost) {
    this.#host = host;
    this.#free = Array.from({ length: maxImageCopies }, (_, index) => host.firstUid + index);
  }

  /** Returns the content. @throws Error if the host does not have it */
  async of(source: FillSource): Promise<VolumeContent> {
    if ('snapshot' in source) {
      const path = this.#host.snapshots.path(source.snapshot, source.disk);
      return rawContent(path, (await stat(path)).size);
    }
    const { image } = source;
    const path = await this.#host.image(image);
    const size = await virtualSize(path);
    return {
      ...{ size, image },
      write: (target, signal) =>
        this.#withUser(image, target, signal, (options) => copyImage({ path, size }, target, options)),
    };
  }

  /** Returns the content of a snapshot in the directory of a pool. */
  ofCopy(snapshot: Id<'snapshot'>, { path, size }: { readonly path: string; readonly size: number }): VolumeContent {
    return {
      size,
      write: async (target, signal) => {
        if (target.kind !== 'file') throw new Error('the data of a snapshot can only be copied to a file');
        await this.copy(snapshot, { path, size }, target.path, signal);
      },
    };
  }

  /** Copies a raw file in the directory of a pool. Returns the instant of the copy. */
  copy(
    id: Id<'snapshot'>,
    source: { readonly path: string; readonly size: number },
    path: string,
    signal: AbortSignal,
  ): Promise<Date> {
    const target = { kind: 'file', path } as const;
    return this.#withUser(id, target, signal, (options) => copyFile(source, path, options));
  }

  /** Runs a process that copies to the target, with a user of its own. */
  async #withUser<T>(
    id: string,
    target: VolumeSource,
    signal: AbortSignal,
    copy: (options: CopyOptions & CopyProcess) => Promise<T>,
  ): Promise<T> {
    const place = placeOf(target);
    if ((this.#left.get(place) ?? 0) >= maxLeft) throw new PoolFault('The storage pool does not answer.');
    const uid = this.#free.shift();
    if (uid === undefined) throw new Error('too many volumes are copied at this moment');
    let isLeft = false;
    let hasEnded = false;
    const ended = () => {
      hasEnded = true;
      this.#free.push(uid);
      if (isLeft) this.#left.set(place, (this.#left.get(place) ?? 1) - 1);
    };
    const { speed, socket } = this.#host;
    try {
      const path = await socket(`copy-${uid}`).catch((error: unknown) => {
        ended();
        throw error;
      });
      return await copy({ id, uid, socket: path, speed, signal, endMs, ended });
    } finally {
      if (!hasEnded) {
        isLeft = true;
        this.#left.set(place, (this.#left.get(place) ?? 0) + 1);
      }
    }
  }
}
