/**
 * Runs VMs with QEMU on this machine.
 *
 * A VM is in one of these states, and the machine alone determines the state:
 *
 *   absent     the machine has nothing of the VM
 *   stopped    the VM has a directory, maybe a disk, and no `boot` in its state file
 *   starting   the state file has `boot`. The driver creates filters, taps and process, in this order. QEMU holds the
 *              guest (-S)
 *   running    the process runs, and `boot.started_at` shows that the guest executes
 *   ended      `boot.started_at` is written, and the process is gone: the guest shut down or QEMU crashed
 *
 * `start` leads to running from every state, `stop` leads to stopped, and `destroy` leads to absent. Each method writes
 * its intention before it acts, and observes the machine before it creates anything. A crash may therefore interrupt it
 * at any point, and the next call completes it. The agent makes one call at a time for a VM.
 *
 * A disk never has two processes. Before a start, the driver searches /proc for a process by its user. One agent at a
 * time works on the data directory (`lockInstance`). QEMU locks the disk.
 */

import { mkdir, rm } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { UcloudError } from '../../../contract/errors.ts';
import type { Id } from '../../../contract/fields.ts';
import type { ConnectionFilter } from '../../../contract/resources/hosts.ts';
import type { Logger } from '../../../model/component.ts';
import { gatewayMac, tapOf } from '../../../model/network/interface-names.ts';
import type { Resources } from '../../../model/placement/filters.ts';
import { builtInPool, type PoolSpec } from '../../../model/storage/pool.ts';
import type { FillSource, SnapshotSource } from '../../../model/storage/volume-source.ts';
import type { VolumeOutcome, VolumeSpec, VolumeUses } from '../../../model/vm/volumes.ts';
import type { ImageFiles } from '../../images/image-files.ts';
import type { HostNetwork } from '../../network/host-network.ts';
import { hasBridgeFilter } from '../../network/sysctls.ts';
import { allocatedSize, incompleteDisk, prepareDisk } from '../../storage/disks.ts';
import type { CopyContent, PoolDriver } from '../../storage/pools/pool-driver.ts';
import { Pools } from '../../storage/pools/pools.ts';
import { writeSeedDisk } from '../../storage/seed-disk.ts';
import { SnapshotFiles } from '../../storage/snapshot-files.ts';
import { prepareVariables, uefiCode } from '../../storage/uefi.ts';
import type { Run } from '../../system/command.ts';
import { removeIfEmpty } from '../../system/files.ts';
import { processGroupId, runDirectory } from '../../system/instance.ts';
import { type FoundProcess, findProcesses, type Process, signal as sendSignal } from '../../system/processes.ts';
import type {
  ExitCause,
  Hypervisor,
  InterfaceOutcome,
  NewVolume,
  ObservedVm,
  RestoreTarget,
  SnapshotSpec,
} from '../hypervisor.ts';
import type { FabricSpec, InterfaceSpec, NetworkSpec, RoutedPrefix, SecuritySpec, VmSpec } from '../specs.ts';
import { type Accelerator, fileLimits, qemuArguments, unprivileged } from './command-line.ts';
import type { Guest } from './guest.ts';
import type { VolumeHost } from './guest-volumes.ts';
import { changeInterfaces, connectInterfaces } from './interface-changes.ts';
import { kvmGroups } from './kvm-probe.ts';
import { launch, logTail } from './launch.ts';
import { PoolSnapshotWork } from './pool-snapshots.ts';
import { vmOfProcess } from './process-identity.ts';
import { QmpError } from './qmp.ts';
import { RunningGuests } from './running-guests.ts';
import { Snapshots } from './snapshots.ts';
import { withTaps } from './taps.ts';
import type { VmDirectories } from './vm-directory.ts';
import { maxImageCopies, VolumeContents } from './volume-contents.ts';

/** The driver for QEMU. */
export interface QemuHypervisor extends Hypervisor {
  /** Returns one readable line for each thing on the machine that this driver has created. */
  inventory(): Promise<readonly string[]>;
}

/** Returns the memory in bytes that the machine needs itself and that no VM gets. */
const reservedMemoryBytes = (total: number): number => Math.max(512 * 1024 ** 2, Math.floor(total / 16));
/** The maximum time until QEMU answers after its start. A busy host with emulation needs seconds. */
const startTimeoutMs = 30_000;

/** The parts of the machine that the driver uses. */
export interface DriverParts {
  readonly dataDir: string;
  readonly images: ImageFiles;
  readonly logger: Logger;
  readonly run: Run;
  readonly instance: string;
  readonly accelerator: Accelerator;
  readonly network: HostNetwork;
  readonly directories: VmDirectories;
  readonly unlock: () => Promise<void>;
  readonly copyUid: number;
  readonly copySpeed?: number;
}

/** Runs VMs with QEMU. `open.ts` creates it. */
export class QemuDriver implements QemuHypervisor {
  readonly kind = 'qemu';
  readonly architecture = 'x86_64';
  readonly accelerator: Accelerator;
  readonly #parts: DriverParts;
  readonly #pools: Pools;
  readonly #volumeHost: VolumeHost;
  readonly #snapshotFiles: SnapshotFiles;
  readonly #snapshots: Snapshots;
  readonly #contents: VolumeContents;
  readonly #poolSnapshots: PoolSnapshotWork;
  readonly #guests: RunningGuests;
  #closed = false;

  constructor(parts: DriverParts) {
    this.#parts = parts;
    this.#guests = new RunningGuests(parts);
    this.#pools = new Pools(parts.dataDir, parts.run);
    this.#volumeHost = { pools: this.#pools, run: parts.run };
    this.#snapshotFiles = new SnapshotFiles(parts.dataDir, parts.run);
    this.#contents = new VolumeContents({
      snapshots: this.#snapshotFiles,
      image: (image) => parts.images.path(image),
      firstUid: parts.copyUid - maxImageCopies,
      socket: (name) => this.#socket(name),
      speed: parts.copySpeed ?? 0,
    });
    this.#snapshots = new Snapshots({
      files: this.#snapshotFiles,
      volumes: this.#pools.builtIn,
      pool: (pool) => this.#pools.get(pool),
      contents: this.#contents,
      guest: (vm) => this.#guests.get(vm),
      disk: (vm) => parts.directories.paths(vm).disk,
      image: (image) => parts.images.path(image),
      uid: parts.copyUid,
      socket: () => this.#socket('copy'),
      speed: parts.copySpeed ?? 0,
    });
    this.#poolSnapshots = new PoolSnapshotWork({
      pool: (pool) => this.#pools.get(pool),
      guest: (vm) => this.#guests.get(vm),
      contents: this.#contents,
      speed: parts.copySpeed ?? 0,
    });
    this.accelerator = parts.accelerator;
  }

  /** Returns the path for a socket that belongs to no VM. */
  async #socket(name: string): Promise<string> {
    const directory = runDirectory(this.#parts.instance);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return join(directory, name);
  }

  /** Finds the VMs and interfaces that an earlier agent has left. */
  async adopt(): Promise<void> {
    const { network, directories, logger, copyUid } = this.#parts;
    const copies = ({ uid }: { readonly uid: number }) => uid <= copyUid && uid >= copyUid - maxImageCopies;
    for (const process of await findProcesses(copies)) await sendSignal(process, 'SIGKILL');
    await this.#snapshotFiles.removeIncomplete();
    await this.#pools.builtIn.removeIncomplete?.();
    const running = await this.#processes();
    for (const vm of await directories.list()) {
      await rm(incompleteDisk(directories.paths(vm).disk), { force: true });
      const state = await directories.load(vm);
      if (state?.boot) network.attach(vm, state.boot.interfaces);
    }
    await network.adopt();
    await Promise.all(
      [...running].map(async ([vm, process]) => {
        const guest = this.#guests.watch(vm, process);
        await guest.continueThaw();
        try {
          await guest.connect(2_000);
          // A guest that has taken over its QEMU must not hold up the start of the agent.
          guest.endCopies().catch((err: unknown) => {
            logger.warn({ err, vm }, 'a copy of an earlier agent does not end');
          });
        } catch (error) {
          logger.warn({ err: error, vm }, 'a running VM does not answer on its monitor');
        }
      }),
    );
  }

  /** Returns the running processes of VMs, including processes that have not yet become QEMU. */
  async #processes(): Promise<Map<Id<'vm'>, FoundProcess>> {
    const { directories, instance } = this.#parts;
    const owners = await directories.owners();
    const found = new Map<Id<'vm'>, FoundProcess>();
    for (const process of await findProcesses(({ uid }) => uid === 0 || directories.isVmUser(uid))) {
      const vm = vmOfProcess(process, owners.get(process.uid), instance);
      if (vm !== undefined && !found.has(vm)) found.set(vm, process);
    }
    return found;
  }

  async connectionFilter(): Promise<ConnectionFilter> {
    return (await hasBridgeFilter(this.#parts.run)) ? 'bridged' : 'routed';
  }

  async capacity(): Promise<Resources> {
    const { directories } = this.#parts;
    let used = 0;
    for (const vm of await directories.list()) used += await allocatedSize(directories.paths(vm).disk);
    used += await this.#snapshotFiles.allocated();
    // Volumes and snapshots lie on the same file system as the disks.
    const { size = 0 } = (await this.#pools.builtIn.usage()) ?? {};
    const total = totalmem();
    return { cpus: availableParallelism(), memory: total - reservedMemoryBytes(total), disk: size + used };
  }

  async list(): Promise<readonly ObservedVm[]> {
    const { network, directories } = this.#parts;
    const processes = await this.#processes();
    const vms = new Set<Id<'vm'>>([
      ...(await directories.list()),
      ...processes.keys(),
      ...(await network.attachedVms()),
    ]);
    return Promise.all(
      [...vms].map(async (id): Promise<ObservedVm> => {
        const boot = (await directories.load(id))?.boot;
        if (!processes.has(id) || boot?.started_at === undefined) return { id, running: false };
        const { fence, generation, started_at } = boot;
        return { id, running: true, fence, generation, started_at };
      }),
    );
  }

  async usedImages(): Promise<ReadonlySet<Id<'image'>>> {
    // A copy reads the image of its disk until it ends, also after the removal of the VM.
    const copied = this.#snapshots.images();
    return new Set([...(await this.#parts.directories.images()), ...copied, ...this.#snapshots.images()]);
  }

  async prepare(spec: VmSpec, signal: AbortSignal): Promise<void> {
    const { directories, images, run } = this.#parts;
    await directories.create(spec.id);
    if (spec.image !== undefined) {
      await directories.saveImage(spec.id, spec.image);
      signal.throwIfAborted();
      await prepareDisk(run, directories.paths(spec.id).disk, await images.path(spec.image), spec.disk_size);
    }
    if (spec.firmware === 'uefi') await prepareVariables(directories.paths(spec.id).variables);
  }

  async start(spec: VmSpec, signal: AbortSignal): Promise<void> {
    const { directories } = this.#parts;
    await this.#interruptCopies([spec.id, ...spec.volumes.map(({ id }) => id)]);
    let process: Process | undefined = (await this.#processes()).get(spec.id);
    let state = await directories.create(spec.id);
    if (process && state.boot?.started_at !== undefined) {
      this.#guests.watch(spec.id, process);
      return;
    }
    const { boot: stored } = state;
    const volumes = spec.volumes.map(({ id }) => id);
    const sameVolumes = (stored?.volumes ?? []).join() === volumes.join();
    if (process && (stored?.fence !== spec.fence || stored.generation !== spec.generation || !sameVolumes)) {
      // The guest of this process has not run yet. Its hardware and its seed disk belong to an earlier declaration, or
      // are not known.
      await this.#endProcess(spec.id, process, 0);
      process = undefined;
    }
    for (const { mac, network } of spec.interfaces) {
      if (mac === gatewayMac(network.vni)) throw new UcloudError('rule_violated', `${mac} is the router's address`);
    }
    // A process from before a crash still holds its guest. Its hardware is that of the stored `boot`.
    const boot = process && state.boot ? state.boot : this.#bootOf(spec);
    state = { uid: state.uid, boot };
    if (!process) await directories.save(spec.id, state);
    signal.throwIfAborted();
    for (const fault of (await connectInterfaces(this.#parts, spec.id, boot.interfaces)).values()) throw fault;
    signal.throwIfAborted();
    if (!process) {
      this.#guests.countAddresses(spec.id);
      process = await this.#launch(spec, state.uid);
    }
    const guest = this.#guests.watch(spec.id, process);
    await this.#guests.whileStarting(spec.id, () => this.#execute(guest, spec));
    await directories.save(spec.id, { ...state, boot: { ...boot, started_at: new Date().toISOString() } });
  }

  /** Gives the guest its disks, and lets it execute. */
  async #execute(guest: Guest, spec: VmSpec): Promise<void> {
    try {
      // QEMU answers no question about the size of a disk while a volume hangs.
      const executes =
        spec.image === undefined
          ? await guest.executes(startTimeoutMs)
          : await guest.growDisk(spec.disk_size, startTimeoutMs);
      // A fault of a volume does not keep the VM off, unless the VM boots from it. The agent sets the volumes again while the
      // guest runs.
      if (spec.volumes.length > 0) {
        const { present, faults } = await guest.setVolumes(spec.volumes, this.#volumeHost, startTimeoutMs);
        const root = spec.volumes.find((volume) => volume.root)?.id;
        if (root !== undefined && !present.includes(root)) throw faults.get(root) ?? new Error('no root volume');
        if (root !== undefined && !executes) await guest.resetIfNew(startTimeoutMs);
      }
      if (!executes) await guest.resume(startTimeoutMs);
    } catch (error) {
      if (!(error instanceof QmpError)) throw error;
      const log = await logTail(this.#parts.directories.paths(spec.id).log);
      throw new Error(`VM ${spec.id} does not start: ${log}`, { cause: error });
    }
  }

  #bootOf = ({ fence, generation, interfaces, volumes }: VmSpec) => ({
    fence,
    generation,
    volumes: volumes.map(({ id }) => id),
    interfaces: interfaces.map((each, slot) => ({ ...each, tap: tapOf(each), slot })),
  });

  async #launch(spec: VmSpec, uid: number): Promise<Process> {
    const { directories, images, instance, run } = this.#parts;
    const { disk, seed, variables, log, qmp, files, serial, agent } = directories.paths(spec.id);
    await directories.makeRunDirectory(spec.id);
    await writeSeedDisk(run, seed, spec.seed);
    const groups = [processGroupId(instance), ...(this.accelerator === 'kvm' ? await kvmGroups() : [])];
    const { id: vm, cpus, memory, firmware, interfaces, disk_size } = spec;
    const largest = Math.max(disk_size, ...spec.volumes.map(({ size }) => size));
    const rootVolume = spec.image === undefined;
    const machine = { vm, accelerator: this.accelerator, cpus, memory, firmware, rootVolume, interfaces, instance };
    const args = qemuArguments(machine);
    const command = withTaps(interfaces.map(tapOf), [...fileLimits(largest), ...unprivileged(uid, groups, args)]);
    const own = spec.image === undefined ? undefined : { path: disk, image: await images.path(spec.image) };
    const uefi = firmware === 'uefi' ? { code: uefiCode, variables } : undefined;
    return launch({ command, disk: own, seed, uefi, qmp, files, serial, agent, log });
  }

  /** Ends the process. The exit listeners are not called, because the agent has requested this end. */
  async #endProcess(vm: Id<'vm'>, process: Process, graceSeconds: number): Promise<void> {
    const guest = this.#guests.watch(vm, process);
    this.#guests.forget(vm);
    try {
      await guest.stop(graceSeconds);
    } finally {
      guest.release();
    }
  }

  async stop(vm: Id<'vm'>, graceSeconds: number): Promise<void> {
    const { network, directories } = this.#parts;
    // The sandbox prevents further processes. The loop still makes sure that the user id is free for its next VM.
    for (let grace = graceSeconds; ; grace = 0) {
      const process = (await this.#processes()).get(vm);
      if (!process) break;
      await this.#endProcess(vm, process, grace);
    }
    this.#guests.forget(vm)?.release();
    const state = await directories.load(vm);
    // The VM counts as stopped from here on. After a crash, the next call of `converge` removes its interfaces.
    if (state?.boot) await directories.save(vm, { uid: state.uid });
    network.detach(vm);
    const faults = await network.converge();
    for (const each of state?.boot?.interfaces ?? []) {
      const fault = faults.get(tapOf(each));
      if (fault !== undefined) throw new Error(fault);
    }
    await directories.removeRunDirectory(vm);
  }

  async destroy(vm: Id<'vm'>): Promise<void> {
    await this.stop(vm, 0);
    await this.#parts.directories.remove(vm);
  }

  async setVolumes(vm: Id<'vm'>, volumes: readonly VolumeSpec[]): Promise<VolumeOutcome> {
    const guest = this.#guests.get(vm);
    if (guest === undefined) throw new Error(`${vm} does not run`);
    await this.#interruptCopies(volumes.map(({ id }) => id));
    return guest.setVolumes(volumes, this.#volumeHost, startTimeoutMs);
  }

  setInterfaces(vm: Id<'vm'>, interfaces: readonly InterfaceSpec[]): Promise<InterfaceOutcome> {
    return changeInterfaces(this.#parts, vm, this.#guests.get(vm), interfaces);
  }

  /** Ends the copies of disks that a guest is about to get. */
  async #interruptCopies(disks: readonly string[]): Promise<void> {
    await Promise.all([this.#snapshots.interrupt(disks), this.#poolSnapshots.interrupt(disks)]);
  }

  async volumeUses(vm: Id<'vm'>, volumes: readonly Id<'volume'>[]): Promise<VolumeUses | undefined> {
    return this.#guests.get(vm)?.volumeUses(volumes);
  }

  pool(pool: PoolSpec): PoolDriver {
    return this.#pools.get(pool);
  }

  listVolumes(): Promise<readonly Id<'volume'>[]> {
    return this.#pools.builtIn.list();
  }

  createSnapshot(spec: SnapshotSpec, signal: AbortSignal): Promise<{ readonly takenAt: Date }> {
    const { pool } = spec;
    return pool === undefined ? this.#snapshots.create(spec, signal) : this.#poolSnapshots.create(spec, pool, signal);
  }

  whileFrozen<T>(vm: Id<'vm'>, work: () => Promise<T>): Promise<T> {
    return this.#guests.get(vm)?.whileFrozen(work) ?? work();
  }

  removeSnapshot(snapshot: Id<'snapshot'>): Promise<void> {
    return this.#snapshotFiles.remove(snapshot);
  }

  listSnapshots(): Promise<readonly Id<'snapshot'>[]> {
    return this.#snapshotFiles.list();
  }

  async readSnapshot({ snapshot, disk }: SnapshotSource, pool?: PoolSpec): Promise<CopyContent> {
    if (pool === undefined) return this.#snapshotFiles.read(snapshot, disk);
    const driver = this.#pools.get(pool);
    const copies = driver.snapshots ?? driver.copies;
    if (copies === undefined) throw new Error('the storage pool has no snapshots');
    return copies.read(snapshot);
  }

  async fillVolume({ id, pool, size }: NewVolume, source: FillSource, signal: AbortSignal): Promise<void> {
    const driver = this.#pools.get(pool);
    if (pool.id === builtInPool || !('snapshot' in source)) {
      await driver.fill(id, size, await this.#contents.of(source), signal);
      return;
    }
    const copy = await driver.copies?.find(source.snapshot);
    if (copy === undefined) throw new Error(`the data of ${source.snapshot} is gone`);
    await driver.fill(id, size, this.#contents.ofCopy(source.snapshot, copy), signal);
  }

  restoreDisks(snapshot: Id<'snapshot'>, disks: readonly RestoreTarget[], signal: AbortSignal): Promise<void> {
    return this.#snapshots.restore(snapshot, disks, signal);
  }

  async setNetworks(
    networks: readonly NetworkSpec[],
    fabric?: FabricSpec,
    routes?: readonly RoutedPrefix[],
    security?: SecuritySpec,
  ): Promise<ReadonlyMap<string, string>> {
    const { network } = this.#parts;
    await network.declare(networks, fabric, routes, security);
    return network.converge();
  }

  onOtherAddresses(listener: (vm: Id<'vm'>, others: boolean) => void): () => void {
    return this.#guests.onOtherAddresses(listener);
  }

  onGuestAgent(listener: (vm: Id<'vm'>, answers: boolean) => void): () => void {
    return this.#guests.onGuestAgent(listener);
  }

  onExit(listener: (vm: Id<'vm'>, cause?: ExitCause) => void): () => void {
    return this.#guests.onExit(listener);
  }

  async inventory(): Promise<readonly string[]> {
    const { network, directories } = this.#parts;
    return [
      ...[...(await this.#processes())].map(([vm, { pid }]) => `process ${pid} (QEMU of ${vm})`),
      ...(await network.inventory()),
      ...(await directories.list()).map((vm) => `files of ${vm}`),
    ];
  }

  async clean({ volumes = false }: { readonly volumes?: boolean } = {}): Promise<readonly string[]> {
    const { network, dataDir, instance } = this.#parts;
    await this.#guests.rest();
    const volumeIds = volumes ? await this.listVolumes() : [];
    const snapshotIds = volumes ? await this.listSnapshots() : [];
    const removed = [
      ...(await this.inventory()),
      ...volumeIds.map((volume) => `data of the volume ${volume}`),
      ...snapshotIds.map((snapshot) => `data of the snapshot ${snapshot}`),
    ];
    for (const { id } of await this.list()) await this.destroy(id);
    await network.clean();
    for (const volume of volumeIds) await this.#pools.builtIn.remove(volume);
    await removeIfEmpty(join(dataDir, 'volumes'));
    if (volumes) await this.#snapshotFiles.clean();
    const files = ['vms', 'kvm-probe.json', 'kvm-probe.json.new', 'kvm-probe.raw'].map((name) => join(dataDir, name));
    for (const path of [...files, runDirectory(instance)]) {
      await rm(path, { recursive: true, force: true });
    }
    await removeIfEmpty(dirname(runDirectory(instance)));
    return removed;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#guests.close();
    await this.#parts.unlock();
  }
}
