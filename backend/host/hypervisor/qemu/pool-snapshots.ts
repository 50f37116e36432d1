/**
 * The snapshots of volumes in the directories of storage pools. The QEMU of a running guest copies its volume, and a
 * short-lived process copies a volume without guest. Source and target lie in one pool, so a pool that hangs holds up only
 * its own copies.
 */
import type { Id } from '../../../contract/fields.ts';
import type { PoolSpec } from '../../../model/storage/pool.ts';
import type { PoolCopies, PoolDriver } from '../../storage/pools/pool-driver.ts';
import { SnapshotError, type SnapshotSpec } from '../hypervisor.ts';
import { CopyInterrupted } from './disk-copy.ts';
import type { Guest } from './guest.ts';
import type { VolumeContents } from './volume-contents.ts';

/** The parts of a host that these snapshots need. */
export interface PoolSnapshotHost {
  pool(pool: PoolSpec): PoolDriver;
  /** Returns the running guest of the VM. */
  guest(vm: Id<'vm'>): Guest | undefined;
  readonly contents: Pick<VolumeContents, 'copy'>;
  /** The limit of a copy in bytes per second; 0 for none. */
  readonly speed: number;
}

/** A running copy by a process without guest. */
interface Copy {
  readonly abort: AbortController;
  readonly ended: Promise<void>;
}

/**
 * Returns the file of a volume that is to be copied, and its size in bytes.
 * @throws SnapshotError if it is gone, or larger than `maxSize` bytes
 */
export async function sourceFile(
  driver: Pick<PoolDriver, 'sizeOf' | 'source'>,
  volume: Id<'volume'>,
  maxSize: number,
): Promise<{ readonly path: string; readonly size: number }> {
  const size = await driver.sizeOf(volume);
  if (size === undefined) throw new SnapshotError('source_gone', `The data of ${volume} is gone.`);
  if (size > maxSize) {
    throw new SnapshotError('source_changed', 'The volume is larger than when the snapshot was requested.');
  }
  const source = await driver.source(volume);
  if (source.kind !== 'file') throw new SnapshotError('unsupported', `${volume} is no file.`);
  return { path: source.path, size };
}

/** Makes snapshots of volumes in directories. */
export class PoolSnapshotWork {
  readonly #host: PoolSnapshotHost;
  readonly #current = new Map<Id<'volume'>, Copy>();

  constructor(host: PoolSnapshotHost) {
    this.#host = host;
  }

  /** Makes the snapshot. @throws SnapshotError; CopyInterrupted if another guest has got the volume meanwhile */
  async create(spec: SnapshotSpec, pool: PoolSpec, signal: AbortSignal): Promise<{ takenAt: Date }> {
    const driver = this.#host.pool(pool);
    const { copies } = driver;
    const [disk] = spec.disks;
    if (copies === undefined || disk === undefined || spec.disks.length > 1 || 'vm' in disk) {
      throw new SnapshotError('unsupported', 'The storage pool has snapshots of single volumes only.');
    }
    const complete = await copies.find(spec.id);
    // After a crash, only the report is missing.
    if (complete !== undefined) return { takenAt: complete.takenAt };
    const source = await sourceFile(driver, disk.volume, disk.maxSize);
    const takenAt = await this.#copy(spec, copies, { ...source, volume: disk.volume }, signal);
    return { takenAt };
  }

  async #copy(
    spec: SnapshotSpec,
    copies: PoolCopies,
    { volume, path, size }: { readonly volume: Id<'volume'>; readonly path: string; readonly size: number },
    signal: AbortSignal,
  ): Promise<Date> {
    const { id, holder, consistency, isValid = async () => true } = spec;
    const { guest, speed } = this.#host;
    const target = await copies.begin(id, size);
    try {
      const live = holder === undefined ? undefined : guest(holder);
      const takenAt = live
        ? await live.copyDisks(
            [{ node: `file-${volume}`, target }],
            { freeze: consistency === 'filesystem' },
            { id, speed, signal },
          )
        : await this.#copyIdle(id, volume, { path, size }, target, signal);
      await copies.complete(id, { path: target, size, takenAt }, async () => {
        // Not every file server has the locks that keep a guest of another host off.
        if (!(await isValid())) throw new CopyInterrupted('the volume or its snapshot has moved during the copy');
        signal.throwIfAborted();
      });
      // Another host may have completed its copy first.
      return (await copies.find(id))?.takenAt ?? takenAt;
    } catch (error) {
      await copies.abandon(id, target).catch(() => undefined);
      throw error;
    }
  }

  async #copyIdle(
    id: Id<'snapshot'>,
    volume: Id<'volume'>,
    source: { readonly path: string; readonly size: number },
    target: string,
    given: AbortSignal,
  ): Promise<Date> {
    const abort = new AbortController();
    const ended = Promise.withResolvers<void>();
    this.#current.set(volume, { abort, ended: ended.promise });
    try {
      return await this.#host.contents.copy(id, source, target, AbortSignal.any([given, abort.signal]));
    } catch (error) {
      given.throwIfAborted();
      if (abort.signal.aborted) throw new CopyInterrupted('a guest starts with the volume of the snapshot');
      throw error;
    } finally {
      this.#current.delete(volume);
      ended.resolve();
    }
  }

  /** Ends the copies of volumes that a guest is about to get. They begin again with the running guest. */
  async interrupt(volumes: readonly string[]): Promise<void> {
    const copies = volumes.flatMap((volume) => this.#current.get(volume as Id<'volume'>) ?? []);
    for (const { abort } of copies) abort.abort();
    await Promise.all(copies.map(({ ended }) => ended));
  }
}
