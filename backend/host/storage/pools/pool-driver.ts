/**
 * The interface of storage pools on a host. Each kind of pool has one driver, and all drivers pass one suite of tests
 * (test/host/pool-drivers.test.ts).
 *
 * A pool may hang: a file server or a Ceph cluster does not answer. Each call therefore ends with an error after a
 * deadline, and a call never blocks a thread of this process. All calls may be repeated after a crash.
 */
import type { Readable } from 'node:stream';
import type { Id } from '../../../contract/fields.ts';
import type { PoolUsage } from '../../../model/storage/pool.ts';

/** This host cannot use a pool. The message is for operators: it may name paths. */
export class PoolFault extends Error {
  override readonly name = 'PoolFault';
}

/** The way in which QEMU opens the data of a volume. */
export type VolumeSource =
  /** A raw file. A short-lived process of the agent opens it, and QEMU gets the descriptor. */
  | { readonly kind: 'file'; readonly path: string }
  /** An RBD image, which QEMU opens over the network (BlockdevOptionsRbd of QEMU's QAPI). */
  | {
      readonly kind: 'rbd';
      readonly pool: string;
      readonly image: string;
      readonly user: string;
      /** The cephx key in base64. It is secret. */
      readonly key: string;
      readonly server: readonly { readonly host: string; readonly port: string }[];
    };

/** The first content of a volume. */
export interface VolumeContent {
  /** Bytes. */
  readonly size: number;
  /** The image with this content, if there is one. A pool with clones keeps the image once for all volumes. */
  readonly image?: Id<'image'>;
  /**
   * Writes the content to a target of this size that contains zeros. Nobody else uses the target.
   * @throws AbortError after an interruption
   */
  write(target: VolumeSource, signal: AbortSignal): Promise<void>;
}

/** The content of a snapshot, and its size in bytes. */
export interface CopyContent {
  readonly bytes: number;
  readonly content: Readable;
}

/** Runs the step that determines the instant of a snapshot, after all preparations. Returns the instant. */
export type AtInstant = (take: () => Promise<void>) => Promise<Date>;

/** The snapshots of single volumes in a pool that makes them itself. Each call may be repeated after a crash. */
export interface PoolSnapshots {
  /**
   * Makes a snapshot of the volume, while a guest writes it or not. Does nothing if it is complete. Returns its instant.
   * @param atInstant default: only runs the step
   * @throws SnapshotError if the volume is gone, or larger than `maxSize` bytes
   */
  create(snapshot: Id<'snapshot'>, volume: Id<'volume'>, maxSize: number, atInstant?: AtInstant): Promise<Date>;
  /** Creates a volume with the content of the snapshot and a size of `size` bytes, unless the volume exists. */
  fill(volume: Id<'volume'>, size: number, snapshot: Id<'snapshot'>): Promise<void>;
  /**
   * Gives a volume, whose guest does not run, the content of the snapshot and a size of `size` bytes. After a crash, the
   * volume has its old or its new content.
   */
  restore(volume: Id<'volume'>, size: number, snapshot: Id<'snapshot'>): Promise<void>;
  /** Opens the complete snapshot for reading. @throws SnapshotError `source_gone` */
  read(snapshot: Id<'snapshot'>): Promise<CopyContent>;
  /**
   * Removes the snapshot, complete or not. Its data stays until no volume needs it.
   * @param source the volume of the snapshot, which may be gone. An interrupted attempt has left a part of it there
   */
  remove(snapshot: Id<'snapshot'>, source?: Id<'volume'>): Promise<void>;
}

/** The copy of a volume in a directory. */
export interface PoolCopy {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** The instant of the content. */
  readonly takenAt: Date;
}

/** The snapshots of single volumes in a directory. The host copies the content (hypervisor.ts). */
export interface PoolCopies {
  /** Returns the complete copy and the bytes that it takes; undefined if there is none. */
  find(snapshot: Id<'snapshot'>): Promise<(PoolCopy & { readonly allocated: number }) | undefined>;
  /** Removes incomplete copies of the snapshot, and creates a file of `size` zeros for a new one. Returns its path. */
  begin(snapshot: Id<'snapshot'>, size: number): Promise<string>;
  /**
   * Completes the copy at this path. Never replaces a complete one. It survives a crash of the machine from here on.
   * @param check called when only the name is missing. The copy stays incomplete if it throws
   */
  complete(snapshot: Id<'snapshot'>, copy: PoolCopy, check?: () => Promise<void>): Promise<void>;
  /** Opens the complete copy for reading. @throws SnapshotError `source_gone` */
  read(snapshot: Id<'snapshot'>): Promise<CopyContent>;
  /** Removes the incomplete copy at this path. */
  abandon(snapshot: Id<'snapshot'>, path: string): Promise<void>;
  /** Removes the data of the snapshot, complete or not. */
  remove(snapshot: Id<'snapshot'>, source?: Id<'volume'>): Promise<void>;
}

/** A storage pool of one host. */
export interface PoolDriver {
  /** The snapshots of a pool that makes them itself. */
  readonly snapshots?: PoolSnapshots;
  /** The snapshots of a pool in a directory. The built-in pool has those of the host (snapshot-files.ts) instead. */
  readonly copies?: PoolCopies;
  /**
   * Returns the space of the pool; undefined if the pool answers but does not know it (Ceph without a manager).
   * @throws PoolFault if this host does not reach the pool
   */
  usage(): Promise<PoolUsage | undefined>;
  /** Returns the size of the volume in bytes; undefined if the pool has no data of it. */
  sizeOf(volume: Id<'volume'>): Promise<number | undefined>;
  /** Creates the empty volume, or grows it to `size` bytes. Never shrinks it. */
  ensure(volume: Id<'volume'>, size: number): Promise<void>;
  /**
   * Creates the volume with this content, unless it exists, and grows it to `size` bytes. Never replaces a volume: another
   * host may have filled it meanwhile, and its guest may have written it. After a crash or an interruption the volume is
   * complete, or absent.
   */
  fill(volume: Id<'volume'>, size: number, content: VolumeContent, signal: AbortSignal): Promise<void>;
  /**
   * Replaces the content of a volume, whose guest does not run, and grows it to `size` bytes. After a crash or an
   * interruption the volume is complete, or as it was before. Only directories have this method.
   */
  replace?(volume: Id<'volume'>, size: number, content: VolumeContent, signal: AbortSignal): Promise<void>;
  /**
   * Removes the incomplete contents that an agent has left after a crash: of one volume, or of all. No other host may use
   * the pool, and nothing may fill or replace these volumes meanwhile. Only directories have this method.
   */
  removeIncomplete?(volume?: Id<'volume'>): Promise<void>;
  /** Removes the data of the volume and its owner. Does nothing if there is none. The space may become free later. */
  remove(volume: Id<'volume'>): Promise<void>;
  /** Returns the volumes that the pool has data of. */
  list(): Promise<Id<'volume'>[]>;
  /** Returns how QEMU opens the volume, which exists. */
  source(volume: Id<'volume'>): Promise<VolumeSource>;
  /**
   * Returns the text that marks the directory of the pool; undefined if there is none. Only directories have markers.
   * @throws PoolFault if this host does not reach the directory
   */
  readMarker?(): Promise<string | undefined>;
  /** Marks the directory. @throws Error if it has a marker */
  writeMarker?(text: string): Promise<void>;
  /**
   * Records the host as the owner of the volume in the pool, before a VM of the host gets the volume. The records of ucloud
   * have given the volume to this host, so it takes the volume over from an earlier owner. Directories record no owner.
   * @throws PoolFault if a client of another owner still has the volume open
   */
  claim?(volume: Id<'volume'>, owner: string): Promise<void>;
  /**
   * Frees the space of removed volumes, and of images without volumes, as far as nothing uses them. The agent repeats this
   * every few minutes.
   * @param wanted the images that new volumes of the pool wait for; default: none
   */
  sweep?(wanted?: ReadonlySet<string>): Promise<void>;
}
