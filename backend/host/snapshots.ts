/**
 * Makes the snapshots of one host, and removes deleted ones.
 *
 * A snapshot is complete or absent on the machine, so a crash loses at most an incomplete copy, and the next attempt begins
 * anew. The report contains the instant of the attempt that succeeded. After several failures, or when the source is gone,
 * the snapshot ends in the phase `error`.
 *
 * The data of a deleted snapshot stays until no volume of this host waits for it, and no VM is restored from it.
 *
 * The snapshot of a VM has a part for each volume outside of the built-in pool. The part is a snapshot of its own, with its
 * own space. The host makes the snapshot and its parts together, and reports them in one commit.
 */
import type { Id } from '../contract/fields.ts';
import { snapshotSize } from '../model/quota/amounts.ts';
import {
  attachmentReports,
  type SnapshotRecord,
  type SnapshotReportRecord,
  snapshotPlacements,
  snapshotReports,
  snapshots,
  vms,
  volumePlacements,
  volumes,
} from '../model/records/index.ts';
import { partsOf, wholeOf } from '../model/snapshot/parts.ts';
import { builtInPool, type PoolSpec, poolOf } from '../model/storage/pool.ts';
import { snapshotWithData } from '../model/storage/volume-source.ts';
import { isRestore } from '../model/vm/lifecycle.ts';
import { backoffMs } from '../store/backoff.ts';
import { put, read, unchanged } from '../store/collection.ts';
import type { Commit } from '../store/store.ts';
import { publicMessage } from './failures.ts';
import { type SnapshotDisk, SnapshotError, type SnapshotSpec } from './hypervisor/hypervisor.ts';
import { furtherPoolSpec, poolSpec } from './pool-spec.ts';
import type { PoolDriver, PoolSnapshots } from './storage/pools/pool-driver.ts';
import type { VolumeRemovalOptions } from './volume-removal.ts';
import { WorkQueue } from './work-queue.ts';

const maxRetryMs = 60_000;
/** The interval in milliseconds between two looks whether the VM is still being restored. */
const restoreWaitMs = 1_000;
/** The same whether a snapshot has got the host of its volume. */
const volumeWaitMs = 5_000;
/** The number of attempts after which a snapshot ends in the phase `error`. */
const maxAttempts = 5;
/** The maximum number of copies at the same time, by storage pool. */
const concurrency = 4;
/** The queue of snapshots that wait for several pools. */
const ofParts = 'parts';

/** Makes and removes the snapshots of one host. */
export class SnapshotWork {
  readonly #options: VolumeRemovalOptions;
  readonly #failures = new Map<Id<'snapshot'>, number>();
  readonly #current = new Map<Id<'snapshot'>, AbortController>();
  /** By storage pool, because a pool that hangs must not hold up the others. */
  readonly #queues = new Map<Id<'storage_pool'> | typeof ofParts, WorkQueue<Id<'snapshot'>>>();

  constructor(options: VolumeRemovalOptions) {
    this.#options = options;
  }

  /** Looks at all snapshots of the host. */
  visitAll(): void {
    const { view, host } = this.#options;
    for (const id of view.snapshotsOn(host)) this.#add(id);
  }

  /** Looks at one snapshot. */
  changed(id: Id<'snapshot'>): void {
    if (this.#options.view.mirror.get(snapshots, id)?.value.deleted_at !== undefined) this.#current.get(id)?.abort();
    this.#add(id);
  }

  /** Looks at the snapshot of a new volume: a deleted snapshot may have waited for the volume. */
  volumeChanged(id: Id<'volume'>): void {
    const from = snapshotWithData(this.#options.view.mirror.get(volumes, id)?.value ?? {});
    if (from !== undefined) this.#add(from);
  }

  #add(id: Id<'snapshot'>): void {
    const { mirror } = this.#options.view;
    const record = mirror.get(snapshots, id)?.value;
    const hasParts = record !== undefined && partsOf(record).length > 0;
    const pool = hasParts ? ofParts : poolOf(record ?? mirror.get(snapshotPlacements, id)?.value ?? {});
    const queue = this.#queues.get(pool) ?? new WorkQueue<Id<'snapshot'>>(concurrency, (each) => this.#visit(each));
    this.#queues.set(pool, queue);
    queue.add(id);
  }

  async #visit(id: Id<'snapshot'>): Promise<number | undefined> {
    const { logger, retryMs } = this.#options;
    const abort = new AbortController();
    this.#current.set(id, abort);
    try {
      const delayMs = await this.#take(id, abort.signal);
      this.#failures.delete(id);
      return delayMs ?? undefined;
    } catch (err) {
      if (abort.signal.aborted || (err instanceof Error && err.name === 'CopyInterrupted')) return retryMs;
      const failures = (this.#failures.get(id) ?? 0) + 1;
      this.#failures.set(id, failures);
      const delayMs = backoffMs(failures, { firstMs: retryMs, maxMs: maxRetryMs });
      logger.warn({ err, id, failures, retryMs: delayMs }, 'a step for a snapshot failed; the agent retries it');
      await this.#reportFailure(id, err, failures).catch(() => undefined);
      return delayMs;
    } finally {
      this.#current.delete(id);
    }
  }

  async #commit(commit: Commit): Promise<boolean> {
    const { store, view } = this.#options;
    const result = await store.commit(commit);
    if (result.ok) await view.mirror.waitFor(result.revision);
    else await view.mirror.catchUp();
    return result.ok;
  }

  /** Reports on the snapshot, and the same on its parts. Returns false if its place or a part has changed. */
  async #report(
    id: Id<'snapshot'>,
    report: Omit<SnapshotReportRecord, 'host' | 'at'>,
    parts: readonly Id<'snapshot'>[] = [],
  ): Promise<boolean> {
    const { view, host } = this.#options;
    const { mirror } = view;
    const record = { ...report, host, at: new Date().toISOString() };
    const placements = [id, ...parts].flatMap((each) => mirror.get(snapshotPlacements, each) ?? []);
    const declared = parts.flatMap((each) => mirror.get(snapshots, each) ?? []);
    if (placements.length <= parts.length || declared.some(({ value }) => value.deleted_at !== undefined)) return false;
    return this.#commit({
      require: [...placements.map(unchanged), ...declared.map(unchanged)],
      write: placements.map((placement) => put(snapshotReports, placement.id, record)),
    });
  }

  async #take(id: Id<'snapshot'>, signal: AbortSignal): Promise<number | undefined> {
    const { view, host, store, hypervisor } = this.#options;
    const { mirror } = view;
    const placement = mirror.get(snapshotPlacements, id)?.value;
    if (placement?.host !== host) return undefined;
    const report = mirror.get(snapshotReports, id)?.value;
    const stored = mirror.get(snapshots, id);
    if (report?.phase === 'gone') return undefined;
    // The view tells when it knows the operations on the VMs with these disks.
    if (!view.isKnown(id)) return restoreWaitMs;
    if (stored === undefined || stored.value.deleted_at !== undefined) {
      // The mirror may be behind, so a missing record must be missing in the database too.
      if (stored === undefined && (await read(store, snapshots, id))) return undefined;
      if (view.volumesWaitingFor(id, host).length > 0 || view.isRestored(id)) return undefined;
      await this.#remove(id, stored?.value ?? placement);
      await this.#report(id, { phase: 'gone' });
      return undefined;
    }
    const { value: snapshot } = stored;
    if (report?.phase === 'available' || report?.phase === 'error') return undefined;
    if (placement.size < snapshotSize(snapshot)) return undefined;
    if (wholeOf(snapshot) !== undefined || !this.#partsHaveSpace(snapshot)) return undefined;
    const spec = this.#spec(snapshot);
    // A part of the disks may have their new content.
    if (this.#vmsOf(snapshot).some((vm) => view.openOperations(vm).some(({ value }) => isRestore(value)))) {
      return restoreWaitMs;
    }
    const own = this.#driverOf(snapshot)?.snapshots;
    if (own === undefined) {
      if (spec.holder !== undefined) await this.#checkPoolsOf(spec.holder);
      if (spec.pool !== undefined && !(await this.#isHere(snapshot))) return volumeWaitMs;
    }
    const takenAt = own ? await this.#makeOwn(own, spec) : (await hypervisor.createSnapshot(spec, signal)).takenAt;
    const made = { phase: 'available', taken_at: takenAt.toISOString() } as const;
    return (await this.#report(id, made, partsOf(snapshot))) ? undefined : this.#options.retryMs;
  }

  /** Makes the snapshot of a volume in a pool that makes its snapshots itself. */
  async #makeOwn(own: PoolSnapshots, { id, holder, consistency, disks }: SnapshotSpec): Promise<Date> {
    const [disk] = disks;
    if (disk === undefined || 'vm' in disk) {
      throw new SnapshotError('unsupported', 'The pool has snapshots of volumes only.');
    }
    const create = () => own.create(id, disk.volume, disk.maxSize);
    const freezes = holder !== undefined && consistency === 'filesystem';
    return freezes ? this.#options.hypervisor.whileFrozen(holder, create) : create();
  }

  /** Returns the VMs that have the disks of the snapshot, running or not. */
  #vmsOf({ vm, disks }: SnapshotRecord): Id<'vm'>[] {
    const { view } = this.#options;
    const attached = disks.flatMap(({ volume }) => (volume && view.attachmentOf(volume)?.value.vm) ?? []);
    return [...(vm === undefined ? [] : [vm]), ...attached];
  }

  /** Tells whether the parts have their space on this host. @throws SnapshotError if they can never have it */
  #partsHaveSpace(snapshot: SnapshotRecord): boolean {
    const { view, host } = this.#options;
    const { mirror } = view;
    return snapshot.disks.every(({ copy, volume = '', size }) => {
      if (copy === undefined) return true;
      const part = mirror.get(snapshots, copy)?.value;
      if (part === undefined || part.deleted_at !== undefined) {
        throw new SnapshotError('source_gone', `The part ${copy} of the snapshot is gone.`);
      }
      const { host: owner = host } = mirror.get(volumePlacements, volume)?.value ?? {};
      if (owner !== host) throw new SnapshotError('source_changed', `Another host has got the volume ${volume}.`);
      const placement = mirror.get(snapshotPlacements, copy)?.value;
      return placement?.host === host && placement.size >= size;
    });
  }

  /**
   * Checks that the pools of the guest answer. The begin of a copy waits for all disks of the guest, so a pool that hangs
   * would stop the guest. @throws PoolFault
   */
  async #checkPoolsOf(holder: Id<'vm'>): Promise<void> {
    const { view, host, hypervisor } = this.#options;
    const pools = new Set(
      view.attachmentsOf(holder).map(({ value }) => poolOf(view.mirror.get(volumes, value.volume)?.value ?? {})),
    );
    pools.delete(builtInPool);
    for (const id of pools) {
      const pool = poolSpec(view.mirror, id, host);
      if (pool !== undefined) await hypervisor.pool(pool).usage();
    }
  }

  /** Returns the pool of a snapshot outside of the built-in pool. */
  #poolOf(record: { readonly pool?: Id<'storage_pool'> }): PoolSpec | undefined {
    const { view, host } = this.#options;
    return furtherPoolSpec(view.mirror, poolOf(record), host);
  }

  #driverOf(record: { readonly pool?: Id<'storage_pool'> }): PoolDriver | undefined {
    const pool = this.#poolOf(record);
    return pool && this.#options.hypervisor.pool(pool);
  }

  async #remove(
    id: Id<'snapshot'>,
    record: { readonly pool?: Id<'storage_pool'>; readonly disks?: SnapshotRecord['disks'] },
  ): Promise<void> {
    const driver = this.#driverOf(record);
    const own = driver?.snapshots ?? driver?.copies;
    await (own ? own.remove(id, record.disks?.[0]?.volume) : this.#options.hypervisor.removeSnapshot(id));
  }

  /** Returns the records that tell which host may write the volume. Each change of them has another text. */
  #writersOf(volume: Id<'volume'>): { readonly claim: Id<'host'> | undefined; readonly text: string } {
    const { view } = this.#options;
    const attachment = view.attachmentOf(volume);
    const claim = attachment && view.mirror.get(attachmentReports, attachment.id)?.value.host;
    const placement = view.mirror.get(volumePlacements, volume);
    return { claim, text: JSON.stringify([attachment?.id, claim, placement?.value.host, placement?.revision]) };
  }

  /**
   * Tells whether no guest of another host has the volume of the snapshot. Otherwise the report asks the scheduler for the
   * right host.
   */
  async #isHere({ id, disks: [disk] }: SnapshotRecord): Promise<boolean> {
    const { view, host } = this.#options;
    const { claim = host } = disk?.volume === undefined ? {} : this.#writersOf(disk.volume);
    if (claim === host) return true;
    const reason = 'volume_elsewhere';
    if (view.mirror.get(snapshotReports, id)?.value.reason !== reason) {
      await this.#report(id, { phase: 'creating', reason, message: 'A VM on another host has the volume now.' });
    }
    return false;
  }

  #spec(record: SnapshotRecord): SnapshotSpec {
    const { id, vm, disks, consistency } = record;
    const { view, host } = this.#options;
    const pool = this.#poolOf(record);
    const movable = pool === undefined ? disks.filter(({ copy }) => copy !== undefined) : disks;
    const stays = movable.flatMap((disk) => (disk.volume === undefined ? [] : this.#stays(id, disk.volume)));
    const isValid = async () => (await Promise.all(stays.map((each) => each()))).every((each) => each);
    const [volume] = disks;
    const attachment = volume?.volume && view.attachmentOf(volume.volume);
    const holds = attachment && view.mirror.get(attachmentReports, attachment.id)?.value.host === host;
    const holder = vm ?? (holds ? attachment.value.vm : undefined);
    return {
      id,
      ...(holder && { holder }),
      consistency,
      ...(pool && { pool }),
      ...(stays.length > 0 && { isValid }),
      disks: disks.map(({ volume, size: maxSize, copy, pool }): SnapshotDisk => {
        const partPool = copy && this.#poolOf({ ...(pool && { pool }) });
        const part = copy && partPool && { snapshot: copy, pool: partPool };
        if (volume !== undefined) return { volume, maxSize, ...(part && { part }) };
        const image = vm === undefined ? undefined : view.mirror.get(vms, vm)?.value.image;
        if (vm === undefined || image === undefined) throw new SnapshotError('source_gone', `The VM ${vm} is gone.`);
        return { vm, image, maxSize };
      }),
    };
  }

  /** Returns whether the volume has stayed at its place from this call on, and the snapshot still belongs to this host. */
  #stays(id: Id<'snapshot'>, volume: Id<'volume'>): () => Promise<boolean> {
    const { view, host } = this.#options;
    const { text } = this.#writersOf(volume);
    return async () => {
      await view.mirror.catchUp();
      const snapshot = view.mirror.get(snapshots, id)?.value;
      // The next host may have removed a deleted snapshot, and nothing would remove a later copy.
      if (snapshot === undefined || snapshot.deleted_at !== undefined) return false;
      return view.mirror.get(snapshotPlacements, id)?.value.host === host && this.#writersOf(volume).text === text;
    };
  }

  async #reportFailure(id: Id<'snapshot'>, err: unknown, failures: number): Promise<void> {
    const { mirror } = this.#options.view;
    const snapshot = mirror.get(snapshots, id)?.value;
    // Without a readable declaration, nothing is known of the data.
    if (snapshot === undefined || mirror.get(snapshotReports, id)?.value.phase === 'available') return;
    const final = (err instanceof SnapshotError && !err.retry) || failures >= maxAttempts;
    const reason = err instanceof SnapshotError ? err.reason : 'failed';
    if (final) await this.#remove(id, snapshot);
    await this.#report(id, { phase: final ? 'error' : 'creating', reason, message: publicMessage(err) });
  }

  /** Interrupts the copies and waits for their end. */
  async close(): Promise<void> {
    for (const abort of this.#current.values()) abort.abort();
    await Promise.all([...this.#queues.values()].map((queue) => queue.close()));
  }
}
