/**
 * The parts of the snapshot of a VM: the copies of its volumes outside of the built-in pool, each in the pool of its volume.
 * In a directory, QEMU copies the content as for the disks of the built-in pool. A pool of Ceph makes its snapshots itself.
 *
 * All disks of a snapshot show one instant. The parts are complete before the files of the snapshot, so complete files mean
 * complete parts. An attempt begins all parts anew.
 */
import { UcloudError } from '../../../contract/errors.ts';
import type { Id } from '../../../contract/fields.ts';
import { leftFreeBytes } from '../../../model/image/eviction.ts';
import type { PoolSpec } from '../../../model/storage/pool.ts';
import type { PoolCopies, PoolDriver, PoolSnapshots } from '../../storage/pools/pool-driver.ts';
import { type PoolPart, type RestoreTarget, type SnapshotDisk, SnapshotError } from '../hypervisor.ts';
import { sourceFile } from './pool-snapshots.ts';
import type { VolumeContents } from './volume-contents.ts';

/** The parts of a host that this needs. */
export interface PartHost {
  pool(pool: PoolSpec): PoolDriver;
  readonly contents: Pick<VolumeContents, 'copy' | 'ofCopy'>;
}

/** A disk whose copy is a part. */
export type PartDisk = Extract<SnapshotDisk, { readonly volume: Id<'volume'> }> & { readonly part: PoolPart };

/** A part in a directory. */
interface DirectoryPart {
  readonly snapshot: Id<'snapshot'>;
  readonly volume: Id<'volume'>;
  readonly copies: PoolCopies;
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  readonly target: string;
}

/** A part that its pool makes itself. */
interface OwnPart {
  readonly snapshot: Id<'snapshot'>;
  readonly volume: Id<'volume'>;
  readonly maxSize: number;
  readonly own: PoolSnapshots;
}

/** The parts of one attempt. */
export interface Parts {
  readonly directories: readonly DirectoryPart[];
  readonly own: readonly OwnPart[];
}

/** The step of the pools that determines the instant of their snapshots. */
type Take = () => Promise<void>;

export const isPart = (disk: SnapshotDisk): disk is PartDisk => 'volume' in disk && disk.part !== undefined;

/** Removes the copies of earlier attempts, and creates the targets. @throws SnapshotError; PoolFault */
export async function prepareParts(host: PartHost, disks: readonly PartDisk[]): Promise<Parts> {
  const directories: DirectoryPart[] = [];
  const own: OwnPart[] = [];
  for (const { volume, maxSize, part } of disks) {
    const { snapshot, pool } = part;
    const driver = host.pool(pool);
    const { copies } = driver;
    if (driver.snapshots !== undefined) {
      await driver.snapshots.remove(snapshot, volume);
      own.push({ snapshot, volume, maxSize, own: driver.snapshots });
    } else if (copies !== undefined) {
      await copies.remove(snapshot);
      const source = await sourceFile(driver, volume, maxSize);
      directories.push({ ...source, snapshot, volume, copies, target: await copies.begin(snapshot, source.size) });
    } else throw new SnapshotError('unsupported', `The storage pool of ${volume} has no snapshots.`);
  }
  return { directories, own };
}

/**
 * Makes the snapshots of the pools that make them themselves, together with other copies of the same instant.
 * @param copy makes the other copies. It calls `take` at their instant, unless there is none
 */
export async function takeTogether({ own }: Parts, copy: (take: Take | undefined) => Promise<Date>): Promise<Date> {
  let hasCopied = false;
  const next = (index: number, takes: readonly Take[]): Promise<Date> => {
    const part = own[index];
    if (part === undefined) {
      hasCopied = true;
      return copy(
        takes.length === 0 ? undefined : () => Promise.all(takes.map((take) => take())).then(() => undefined),
      );
    }
    const { snapshot, volume, maxSize } = part;
    return part.own.create(snapshot, volume, maxSize, (take) => next(index + 1, [...takes, take]));
  };
  const takenAt = await next(0, []);
  if (!hasCopied) throw new Error('another host has made a part of the snapshot');
  return takenAt;
}

/** Copies the parts in directories, whose volumes no guest has. */
export async function copyIdleParts(host: PartHost, { directories }: Parts, signal: AbortSignal): Promise<void> {
  for (const { snapshot, path, size, target } of directories) {
    await host.contents.copy(snapshot, { path, size }, target, signal);
  }
}

/** Completes the parts in directories. @throws Error if another host has completed one, which shows another instant */
export async function completeParts({ directories }: Parts, takenAt: Date): Promise<void> {
  for (const { copies, snapshot, target, size } of directories) {
    await copies.complete(snapshot, { path: target, size, takenAt });
    const { takenAt: instant } = (await copies.find(snapshot)) ?? {};
    if (instant?.getTime() !== takenAt.getTime()) throw new Error('another host has made a part of the snapshot');
  }
}

/** A volume that gets the content of a part. */
export type PartTarget = Extract<RestoreTarget, { readonly volume: Id<'volume'> }> & { readonly part: PoolPart };

export const isPartTarget = (target: RestoreTarget): target is PartTarget =>
  'volume' in target && target.part !== undefined;

/** Replaces the content of a volume, which no guest has. @throws SnapshotError; PoolFault */
export async function restorePart(host: PartHost, target: PartTarget, signal: AbortSignal): Promise<void> {
  const { volume, maxSize, part } = target;
  const driver = host.pool(part.pool);
  if (driver.snapshots !== undefined) return driver.snapshots.restore(volume, maxSize, part.snapshot);
  const copy = await driver.copies?.find(part.snapshot);
  if (copy === undefined || driver.replace === undefined) {
    throw new SnapshotError('source_gone', `The data of ${part.snapshot} is gone.`);
  }
  if (copy.size > maxSize) {
    throw new SnapshotError('source_changed', `The copy in ${part.snapshot} is larger than ${volume}.`);
  }
  const { size = 0, free = 0 } = (await driver.usage()) ?? {};
  // The disks of other guests keep space to grow.
  if (copy.allocated + leftFreeBytes(size) > free) {
    throw new UcloudError('no_capacity', 'The storage pool has too little free space for a second copy of a volume.');
  }
  await driver.replace(volume, maxSize, host.contents.ofCopy(part.snapshot, copy), signal);
}
