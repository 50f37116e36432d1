/**
 * The interface between the host agent and a hypervisor. There are two drivers: `qemu/` runs VMs, `simulated.ts`
 * simulates them. The agent decides the desired state of a VM (agent.ts), and a driver establishes it.
 *
 * A caller may repeat every method after a crash at any point of an earlier call; the method then does the missing
 * part. The agent never runs two calls for one VM at the same time. Calls for different VMs run concurrently.
 */

import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import type { ConnectionFilter } from '../../contract/resources/hosts.ts';
import type { Architecture } from '../../contract/resources/images.ts';
import type { Consistency } from '../../contract/resources/snapshots.ts';
import type { Resources } from '../../model/placement/filters.ts';
import type { PoolSpec } from '../../model/storage/pool.ts';
import type { FillSource, SnapshotSource } from '../../model/storage/volume-source.ts';
import type { HeldInterface } from '../../model/vm/interfaces.ts';
import type { VolumeOutcome, VolumeSpec, VolumeUses } from '../../model/vm/volumes.ts';
import type { CopyContent, PoolDriver } from '../storage/pools/pool-driver.ts';
import type { FabricSpec, InterfaceSpec, NetworkSpec, RoutedPrefix, SecuritySpec, VmSpec } from './specs.ts';

/** A VM of which the machine has at least one part: a process, a disk, a tap, or remains of an incomplete step. */
export interface ObservedVm {
  readonly id: Id<'vm'>;
  readonly running: boolean;
  /** The fence with which the running process was started. */
  readonly fence?: number;
  /** The generation of the declaration with which the running process was started. */
  readonly generation?: number;
  /** The start time of the running process (RFC 3339, UTC). */
  readonly started_at?: string;
}

/** A snapshot of a volume in another pool than the built-in one. */
export interface PoolPart {
  readonly snapshot: Id<'snapshot'>;
  readonly pool: PoolSpec;
}

/** A disk to copy: the disk of a VM, or a volume. The copy of a volume may be a part, in the pool of the volume. */
export type SnapshotDisk = (
  | { readonly vm: Id<'vm'>; readonly image: Id<'image'> }
  | { readonly volume: Id<'volume'>; readonly part?: PoolPart }
) & {
  /** The space for the copy, in bytes. A larger disk is refused. */
  readonly maxSize: number;
};

/** A snapshot to make. */
export interface SnapshotSpec {
  readonly id: Id<'snapshot'>;
  /** The VM whose guest has the disks, or may have them. */
  readonly holder?: Id<'vm'>;
  readonly disks: readonly SnapshotDisk[];
  /** `filesystem`: the file systems of a running guest are frozen at the instant. Default: `crash`. */
  readonly consistency?: Consistency;
  /** The pool in whose directory the volume and its copy lie. Default: the data directory of the host. */
  readonly pool?: PoolSpec;
  /**
   * Tells after the copy whether no other host can have written the volumes meanwhile, and the snapshot still belongs to this
   * host. Default: yes.
   */
  readonly isValid?: () => Promise<boolean>;
}

/** A volume that gets its first data. */
export interface NewVolume {
  readonly id: Id<'volume'>;
  readonly pool: PoolSpec;
  /** Bytes. */
  readonly size: number;
}

/** A disk without guest that gets the content of the disk of the same name in a snapshot. */
export type RestoreTarget = (
  | { readonly vm: Id<'vm'> }
  /** `part`: the data, if it lies in another pool than the built-in one. The volume lies in the pool of the data. */
  | { readonly volume: Id<'volume'>; readonly part?: PoolPart }
) & {
  /** The size of the disk, in bytes. Larger content is refused. */
  readonly maxSize: number;
};

/** A snapshot cannot be made, for a reason that its owner can understand. */
export class SnapshotError extends UcloudError {
  /** A constant word: `source_gone`, … */
  readonly reason: string;
  /** True if a further attempt may succeed. */
  readonly retry: boolean;

  constructor(reason: string, message: string, { retry = false, ...options }: ErrorOptions & { retry?: boolean } = {}) {
    super('invalid_state', message, options);
    this.reason = reason;
    this.retry = retry;
  }
}

/** The interfaces of a running guest after a change. */
export interface InterfaceOutcome {
  /** The interfaces that the guest has, with the addresses that it may use; none for an interface that is to go. */
  readonly interfaces: readonly HeldInterface[];
  /** Only the next start of the VM brings the missing changes. */
  readonly needsRestart: boolean;
  /** The faults of new interfaces by MAC address. */
  readonly faults: ReadonlyMap<string, unknown>;
}

/** The guest shut itself down, or its process ended in any other way. */
export type ExitCause = 'guest_shutdown' | 'crash';

/** A hypervisor driver. */
export interface Hypervisor {
  readonly kind: 'qemu' | 'simulated';
  readonly accelerator: 'kvm' | 'tcg' | 'none';
  readonly architecture: Architecture;
  /** Probes which connections the kernel can filter for security groups. */
  connectionFilter(): Promise<ConnectionFilter>;
  /** Returns the resources of the machine. */
  capacity(): Promise<Resources>;
  /** Returns all VMs of which the machine has any part. */
  list(): Promise<readonly ObservedVm[]>;
  /** Returns the images that disks of VMs on the machine use, also of VMs that the database does not know. */
  usedImages(): Promise<ReadonlySet<Id<'image'>>>;
  /** Creates or grows the disk. Does not change a running VM. */
  prepare(spec: VmSpec, signal: AbortSignal): Promise<void>;
  /**
   * Creates networks, taps, filters and the process. Returns after the guest has begun to run. Does nothing for a
   * running VM.
   */
  start(spec: VmSpec, signal: AbortSignal): Promise<void>;
  /**
   * Asks the guest to shut down, and ends the process after `graceSeconds` (0: at once). Returns after the process has
   * ended and its taps and filters are removed. The disk stays.
   */
  stop(vm: Id<'vm'>, graceSeconds: number): Promise<void>;
  /** Ends the VM if it runs, and removes everything of it, its disk included. */
  destroy(vm: Id<'vm'>): Promise<void>;
  /**
   * Gives a running guest these volumes with their sizes and limits, and takes all others away. Creates and grows their
   * data. A fault of one volume does not affect the others. A guest may keep an unwanted volume for some time; the caller
   * then repeats the call.
   */
  setVolumes(vm: Id<'vm'>, volumes: readonly VolumeSpec[]): Promise<VolumeOutcome>;
  /**
   * Gives a running guest these interfaces with their addresses, and takes all others away. An interface that is to go can
   * send and receive nothing any more, also while the guest keeps it. The guest may keep it for some time; the caller then
   * repeats the call. The networks exist already.
   */
  setInterfaces(vm: Id<'vm'>, interfaces: readonly InterfaceSpec[]): Promise<InterfaceOutcome>;
  /**
   * Asks the guest which of the volumes it uses. Returns undefined if no guest agent listens. A call may take some seconds,
   * because the guest decides when it answers.
   */
  volumeUses(vm: Id<'vm'>, volumes: readonly Id<'volume'>[]): Promise<VolumeUses | undefined>;
  /** Returns the driver of a storage pool. */
  pool(pool: PoolSpec): PoolDriver;
  /**
   * Copies the disks as they are at one instant, while their guest runs or not. Afterwards the copy is complete, or there is
   * none. Does nothing if there is a complete copy. Returns the instant.
   * @throws SnapshotError with the reason for the owner
   */
  createSnapshot(spec: SnapshotSpec, signal: AbortSignal): Promise<{ readonly takenAt: Date }>;
  /**
   * Runs the work while the file systems of the guest are frozen. Only runs it if the guest does not run.
   * @throws SnapshotError if the guest does not freeze
   */
  whileFrozen<T>(vm: Id<'vm'>, work: () => Promise<T>): Promise<T>;
  /** Removes the data of a snapshot, also of an incomplete one. */
  removeSnapshot(snapshot: Id<'snapshot'>): Promise<void>;
  /** Returns the snapshots whose data is on the machine. */
  listSnapshots(): Promise<readonly Id<'snapshot'>[]>;
  /**
   * Opens a disk of a complete snapshot for reading.
   * @param pool the pool of the snapshot. Default: the built-in pool
   */
  readSnapshot(source: SnapshotSource, pool?: PoolSpec): Promise<CopyContent>;
  /** Gives a new volume its first data. The image or the snapshot is on this host. Does nothing if the volume has data. */
  fillVolume(volume: NewVolume, source: FillSource, signal: AbortSignal): Promise<void>;
  /**
   * Replaces the content of these disks, whose guest does not run. Each disk has its old or its new content at any time.
   * @throws SnapshotError if a further attempt would not help; UcloudError `no_capacity` if the machine lacks space
   */
  restoreDisks(snapshot: Id<'snapshot'>, disks: readonly RestoreTarget[], signal: AbortSignal): Promise<void>;
  /**
   * Makes the machine's bridges and router advertisements equal to these networks, and its tunnels to those of the fabric.
   * The agent calls it after each change. Without a fabric, networks end at this host. `routes` are the prefixes that are
   * routed to VMs of this host, and `security` the filters of their interfaces. Returns the faults by interface: a fault of
   * one network leaves the others alone.
   */
  setNetworks(
    networks: readonly NetworkSpec[],
    fabric?: FabricSpec,
    routes?: readonly RoutedPrefix[],
    security?: SecuritySpec,
  ): Promise<ReadonlyMap<string, string>>;
  /** Registers a callback for VMs that end without a request. Returns a function that removes it. */
  onExit(listener: (vm: Id<'vm'>, cause?: ExitCause) => void): () => void;
  /**
   * Registers a callback that says again and again whether a guest uses other addresses than the VM declares. The driver
   * calls it for each guest of which it knows this. Returns a function that removes it. Simulated guests have no
   * addresses.
   */
  onOtherAddresses?(listener: (vm: Id<'vm'>, others: boolean) => void): () => void;
  /**
   * Registers a callback that says again and again whether the guest agent of a guest has answered lately. Returns a
   * function that removes it.
   */
  onGuestAgent(listener: (vm: Id<'vm'>, answers: boolean) => void): () => void;
  /**
   * Registers a callback for guests that become ready, adopted VMs included. Only the simulated driver has it, because
   * it has no metadata server; the agent records the readiness instead. Returns a function that removes the callback.
   */
  onReady?(listener: (vm: Id<'vm'>, at: Date) => void): () => void;
  /**
   * Removes everything that this driver has created on the machine, VMs included (`ucloud host clean`). The data of
   * volumes and snapshots stays unless `volumes` is true, and data outside of the data directory always stays. Returns readable names of the removed things.
   */
  clean(options?: { readonly volumes?: boolean }): Promise<readonly string[]>;
  /** Returns the volumes whose data is in the data directory of the machine. */
  listVolumes(): Promise<readonly Id<'volume'>[]>;
  /** Releases the driver's resources. VMs go on running. */
  close(): Promise<void>;
}
