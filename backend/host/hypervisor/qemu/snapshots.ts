/**
 * The snapshots of a host with QEMU, and the disks that get their content. A running guest's own QEMU copies the disks of the
 * guest, and processes without guest copy all others. A copy is complete when its directory has its final name. Volumes in
 * other pools have their copies there (snapshot-parts.ts), which are complete before.
 */
import { open, rename, rm, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { UcloudError } from '../../../contract/errors.ts';
import type { Id } from '../../../contract/fields.ts';
import { leftFreeBytes } from '../../../model/image/eviction.ts';
import { allocatedSize, exists, incompleteDisk } from '../../storage/disks.ts';
import { virtualSize } from '../../storage/overlay.ts';
import type { PoolDriver } from '../../storage/pools/pool-driver.ts';
import type { SnapshotFiles } from '../../storage/snapshot-files.ts';
import { syncPath } from '../../system/files.ts';
import { Mutex } from '../../system/mutex.ts';
import { type RestoreTarget, type SnapshotDisk, SnapshotError, type SnapshotSpec } from '../hypervisor.ts';
import { fileLimit } from './command-line.ts';
import { copyIdleDisks, type IdleDisk, writeOverlay } from './copy-process.ts';
import { CopyInterrupted } from './disk-copy.ts';
import type { Guest } from './guest.ts';
import {
  completeParts,
  copyIdleParts,
  isPart,
  isPartTarget,
  type PartHost,
  type Parts,
  prepareParts,
  restorePart,
  takeTogether,
} from './snapshot-parts.ts';
import { rawContent } from './volume-contents.ts';

/** The parts of a host that snapshots need. */
export interface SnapshotHost extends PartHost {
  readonly files: SnapshotFiles;
  /** The built-in pool. */
  readonly volumes: Pick<PoolDriver, 'source' | 'usage' | 'replace' | 'removeIncomplete'>;
  /** Returns the running guest of the VM. */
  guest(vm: Id<'vm'>): Guest | undefined;
  /** Returns the path of a VM's disk. */
  disk(vm: Id<'vm'>): string;
  /** Returns the path of an image. */
  image(image: Id<'image'>): Promise<string>;
  /** The user id of the process that copies disks without guest. */
  readonly uid: number;
  /** Returns the path of the socket of this process, in an existing directory. */
  socket(): Promise<string>;
  /** The limit of a copy in bytes per second; 0 for none. */
  readonly speed: number;
}

const nameOf = (disk: SnapshotDisk | RestoreTarget): string => ('vm' in disk ? 'root' : disk.volume);
const nodeOfVolume = (volume: string): string => `file-${volume}`;
/** Returns the block node with the content in a running guest. */
const nodeOf = (disk: SnapshotDisk): string => ('vm' in disk ? 'disk' : nodeOfVolume(disk.volume));
const keyOf = (disk: SnapshotDisk | RestoreTarget): string => ('vm' in disk ? disk.vm : disk.volume);

/**
 * Returns the sizes of the targets by disk. The sizes of the sources come from files that a guest may have taken over. @throws SnapshotError if there is no space for a source
 */
function targetsOf(disks: readonly SnapshotDisk[], sizes: readonly number[]): Map<string, number> {
  return new Map(
    disks.map((disk, index) => {
      const size = sizes[index] ?? 0;
      if (size > disk.maxSize) {
        throw new SnapshotError('source_changed', 'A disk is larger than when the snapshot was requested.');
      }
      return [nameOf(disk), size];
    }),
  );
}

/** A running copy of disks without guest. */
interface Copy {
  readonly disks: readonly SnapshotDisk[];
  readonly abort: AbortController;
  readonly ended: Promise<unknown>;
}

/** Makes snapshots. */
export class Snapshots {
  readonly #host: SnapshotHost;
  /** The copies in the built-in pool by processes without guest run one after the other, because these have the same user. */
  readonly #idle = new Mutex();
  readonly #current = new Set<Copy>();

  constructor(host: SnapshotHost) {
    this.#host = host;
  }

  /** Makes the snapshot. @throws SnapshotError */
  async create(spec: SnapshotSpec, signal: AbortSignal): Promise<{ takenAt: Date }> {
    const { files, guest } = this.#host;
    // After a crash, only the report is missing.
    if (await files.has(spec.id)) return { takenAt: await files.takenAt(spec.id) };
    const running = () => (spec.holder === undefined ? undefined : guest(spec.holder));
    try {
      let takenAt: Date | undefined;
      while (takenAt === undefined) {
        const live = running();
        takenAt = live ? await this.#copyLive(spec, live, signal) : await this.#copyIdle(spec, signal, running);
      }
      if (!((await spec.isValid?.()) ?? true)) throw new CopyInterrupted('a volume has moved during the copy');
      await files.complete(spec.id, takenAt);
      return { takenAt };
    } catch (error) {
      await files.abandon(spec.id);
      throw error;
    }
  }

  async #copyLive({ id, disks, consistency }: SnapshotSpec, guest: Guest, signal: AbortSignal): Promise<Date> {
    const { speed } = this.#host;
    const parts = await prepareParts(this.#host, disks.filter(isPart));
    const own = disks.filter((disk) => !isPart(disk));
    const copies = [
      ...(await this.#prepare(id, own)).map(({ target }, index) => ({
        node: nodeOf(own[index] as SnapshotDisk),
        target,
      })),
      ...parts.directories.map(({ volume, target }) => ({ node: nodeOfVolume(volume), target })),
    ];
    const freeze = consistency === 'filesystem';
    const takenAt = await takeTogether(parts, (take) =>
      guest.copyDisks(copies, { freeze, take }, { id, speed, signal }),
    );
    await completeParts(parts, takenAt);
    return takenAt;
  }

  /** Creates the targets of the disks. */
  async #prepare(id: Id<'snapshot'>, disks: readonly SnapshotDisk[]): Promise<IdleDisk[]> {
    const sources = await Promise.all(disks.map((disk) => this.#source(disk)));
    const sizes = sources.map(({ size }) => size);
    const targets = [...(await this.#host.files.begin(id, targetsOf(disks, sizes))).values()];
    return sources.map((source, index) => ({ ...source, target: targets[index] ?? '' }));
  }

  /**
   * Copies disks without guest; undefined if a guest has got them meanwhile. A guest that starts interrupts the whole attempt,
   * so all copies show one instant.
   */
  async #copyIdle(
    { id, disks }: SnapshotSpec,
    given: AbortSignal,
    running: () => Guest | undefined,
  ): Promise<Date | undefined> {
    const abort = new AbortController();
    const signal = AbortSignal.any([given, abort.signal]);
    const ended = Promise.withResolvers<void>();
    const copy = { disks, abort, ended: ended.promise };
    this.#current.add(copy);
    let parts: Parts;
    let takenAt: Date | undefined;
    try {
      takenAt = await this.#copyIdleFiles(id, disks, signal, running);
      if (takenAt === undefined) return undefined;
      const instant = takenAt;
      parts = await prepareParts(this.#host, disks.filter(isPart));
      await copyIdleParts(this.#host, parts, signal);
      await takeTogether(parts, async (take) => {
        await take?.();
        return instant;
      });
      signal.throwIfAborted();
    } catch (error) {
      given.throwIfAborted();
      if (abort.signal.aborted) throw new CopyInterrupted('a guest starts with a disk of the snapshot');
      throw error;
    } finally {
      // A guest may start now: the disks are copied, and the rest only waits for the disks of pools.
      this.#current.delete(copy);
      ended.resolve();
    }
    await completeParts(parts, takenAt);
    return takenAt;
  }

  /** Copies the disks of the built-in pool; undefined if a guest has got them meanwhile. */
  #copyIdleFiles(
    id: Id<'snapshot'>,
    disks: readonly SnapshotDisk[],
    signal: AbortSignal,
    running: () => Guest | undefined,
  ): Promise<Date | undefined> {
    const { uid, socket, speed } = this.#host;
    return this.#idle.run(async () => {
      signal.throwIfAborted();
      // The guest may have started while other copies ran.
      if (running()) return undefined;
      const idle = await this.#prepare(
        id,
        disks.filter((disk) => !isPart(disk)),
      );
      if (idle.length === 0) return new Date();
      return copyIdleDisks(idle, { id, uid, socket: await socket(), speed, signal });
    }, signal);
  }

  /** Returns a disk of a snapshot. A process that its guest has taken over may have made it larger than it was. */
  async #content(snapshot: Id<'snapshot'>, disk: string, maxSize: number): Promise<{ path: string; size: number }> {
    const { files } = this.#host;
    if (!(await files.has(snapshot))) throw new SnapshotError('source_gone', `The data of ${snapshot} is gone.`);
    const path = files.path(snapshot, disk);
    const { size } = await stat(path);
    if (size > maxSize)
      throw new SnapshotError('source_changed', 'The disk in the snapshot is larger than its target.');
    return { path, size };
  }

  /** Replaces the content of disks without guest, one after the other. */
  async restore(snapshot: Id<'snapshot'>, disks: readonly RestoreTarget[], signal: AbortSignal): Promise<void> {
    // A snapshot would show a part of the disks with their new content.
    await this.interrupt(disks.map(keyOf));
    for (const disk of disks) await this.#removeIncomplete(disk);
    for (const disk of disks) {
      signal.throwIfAborted();
      if (isPartTarget(disk)) {
        await restorePart(this.#host, disk, signal);
        continue;
      }
      const { path, size } = await this.#content(snapshot, nameOf(disk), disk.maxSize);
      if ('vm' in disk) {
        await this.#idle.run(() => this.#restoreRoot(disk.vm, { id: snapshot, path, size }, signal), signal);
      } else {
        await this.#requireSpace(path, await allocatedSize(path));
        await this.#host.volumes.replace?.(disk.volume, disk.maxSize, rawContent(path, size), signal);
      }
    }
  }

  /** Removes the incomplete copies of an earlier agent. They would take the space of the next attempt. */
  async #removeIncomplete(disk: RestoreTarget): Promise<void> {
    if ('vm' in disk) await rm(incompleteDisk(this.#host.disk(disk.vm)), { force: true });
    else if (!isPartTarget(disk)) await this.#host.volumes.removeIncomplete?.(disk.volume);
  }

  /**
   * No placement reserves the space of a second copy of a disk. The disks of other guests keep space to grow.
   * @param path the content, on the same file system
   * @param bytes the largest space that the copy can take
   * @throws UcloudError `no_capacity`
   */
  async #requireSpace(path: string, bytes: number): Promise<void> {
    const { free = 0 } = (await this.#host.volumes.usage()) ?? {};
    const { blocks, bsize } = await statfs(path);
    if (fileLimit(bytes) + leftFreeBytes(blocks * bsize) <= free) return;
    throw new UcloudError('no_capacity', 'The host has too little free disk for a second copy of a disk.');
  }

  async #restoreRoot(
    vm: Id<'vm'>,
    { id, path: content, size }: { readonly id: Id<'snapshot'>; readonly path: string; readonly size: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { disk: diskOf, uid, socket, speed } = this.#host;
    const disk = diskOf(vm);
    if (!(await exists(disk))) throw new SnapshotError('source_gone', `The VM ${vm} has no disk on its host.`);
    const target = incompleteDisk(disk);
    await this.#requireSpace(content, size);
    try {
      await (await open(target, 'wx', 0o600)).close();
      await writeOverlay({ content, target, size }, { id, uid, socket: await socket(), speed, signal });
      signal.throwIfAborted();
      await syncPath(target);
      await rename(target, disk);
      await syncPath(dirname(disk));
    } finally {
      await rm(target, { force: true });
    }
  }

  async #source(disk: SnapshotDisk): Promise<Omit<IdleDisk, 'target'>> {
    const { volumes, disk: diskOf, image } = this.#host;
    if ('vm' in disk) {
      const path = diskOf(disk.vm);
      if (!(await exists(path))) throw new SnapshotError('source_gone', `The VM ${disk.vm} has no disk on its host.`);
      return { path, image: await image(disk.image), size: await virtualSize(path) };
    }
    const source = await volumes.source(disk.volume);
    if (source.kind !== 'file') throw new SnapshotError('unsupported', `${disk.volume} is no file on its host.`);
    const { path } = source;
    if (!(await exists(path))) throw new SnapshotError('source_gone', `The data of ${disk.volume} is not on its host.`);
    return { path, size: (await stat(path)).size };
  }

  /** Returns the images that running copies read. */
  images(): Id<'image'>[] {
    return [...this.#current].flatMap(({ disks }) => disks.flatMap((disk) => ('vm' in disk ? disk.image : [])));
  }

  /** Ends the copies of disks that a guest is about to get. They begin again with the running guest. */
  async interrupt(keys: readonly string[]): Promise<void> {
    const copies = [...this.#current].filter(({ disks }) => disks.some((disk) => keys.includes(keyOf(disk))));
    for (const { abort } of copies) abort.abort();
    await Promise.all(copies.map(({ ended }) => ended));
  }
}
