/**
 * Restores stopped VMs of one host from snapshots, as operations.
 *
 * The transaction that begins the restore claims the volumes, as for a start (volume-steps.ts). So no other VM gets a
 * volume meanwhile. nextStep starts no guest while the operation is open, and the agent removes a deleted VM only after
 * `ended`. Each disk has its old or its new content at any time, and a repeated restore writes the same content again.
 * So an interrupted restore goes on with the next agent, and always restores all of its disks.
 */
import { UcloudError } from '../contract/errors.ts';
import type { Id } from '../contract/fields.ts';
import type { EventDetails } from '../model/events.ts';
import { idFrom } from '../model/ids.ts';
import { placementId } from '../model/placement/placement-id.ts';
import {
  attachmentReports,
  type OperationRecord,
  placements,
  reports,
  snapshots,
  vms,
  volumePlacements,
} from '../model/records/index.ts';
import { copyPlace } from '../model/snapshot/parts.ts';
import { builtInPool } from '../model/storage/pool.ts';
import { isRestore } from '../model/vm/lifecycle.ts';
import { backoffMs } from '../store/backoff.ts';
import { unchanged } from '../store/collection.ts';
import type { Stored } from '../store/record-kind.ts';
import type { Commit } from '../store/store.ts';
import { publicMessage } from './failures.ts';
import { type PoolPart, type RestoreTarget, SnapshotError } from './hypervisor/hypervisor.ts';
import { furtherPoolSpec } from './pool-spec.ts';
import { advanceOperations, currentReport, eventWrites, type PlacedVmSnapshot } from './reports.ts';
import type { VolumeRemovalOptions } from './volume-removal.ts';
import { claimsOfStart, releasesOf } from './volume-steps.ts';
import { WorkQueue } from './work-queue.ts';

const maxRetryMs = 60_000;
/** The number of attempts after which a restore fails. */
const maxAttempts = 5;
/** A restore needs the space of a second copy of a disk, which no placement reserves. So a host restores one VM at a time. */
const concurrency = 1;
/** Progress, in percent, after the agent has begun. */
const begun = 10;

type Change = Pick<OperationRecord, 'state'> & Partial<Pick<OperationRecord, 'error'>>;
type Restore = PlacedVmSnapshot & { readonly operation: Stored<OperationRecord> };

/** A restore that a further attempt would not help. */
class Refusal extends UcloudError {
  constructor(message: string) {
    super('invalid_state', message);
  }
}

/** Restores the VMs of one host. */
export class RestoreWork {
  readonly #options: VolumeRemovalOptions;
  readonly #failures = new Map<Id<'vm'>, number>();
  readonly #current = new Map<Id<'vm'>, { readonly abort: AbortController; readonly ended: Promise<void> }>();
  readonly #queue: WorkQueue<Id<'vm'>>;
  /** The restores that wait for other pools, which may hang. */
  readonly #poolQueue: WorkQueue<Id<'vm'>>;

  constructor(options: VolumeRemovalOptions) {
    this.#options = options;
    this.#queue = new WorkQueue(concurrency, (id) => this.#visit(id));
    this.#poolQueue = new WorkQueue(concurrency, (id) => this.#visit(id));
  }

  /** Looks at one VM. */
  changed(vm: Id<'vm'>): void {
    const restore = this.#find(vm);
    if (restore) (this.#needsPools(restore) ? this.#poolQueue : this.#queue).add(vm);
    else this.#current.get(vm)?.abort.abort();
  }

  #needsPools({ operation }: Restore): boolean {
    const { snapshot = '', disks = [] } = operation.value.options;
    const record = this.#options.view.mirror.get(snapshots, snapshot)?.value;
    return record !== undefined && disks.some((disk) => copyPlace(record, disk)?.pool !== builtInPool);
  }

  /** Ends the copy of a VM whose restore has ended or that is being deleted. */
  async ended(vm: Id<'vm'>): Promise<void> {
    const current = this.#current.get(vm);
    current?.abort.abort();
    await current?.ended;
  }

  /** Returns the records of the open restore of a VM; undefined if there is none, or if the VM is being deleted. */
  #find(id: Id<'vm'>): Restore | undefined {
    const { view, host } = this.#options;
    const { mirror } = view;
    const operations = view.openOperations(id);
    const [operation] = operations;
    const placement = mirror.get(placements, placementId(host, id));
    const vm = mirror.get(vms, id);
    if (placement === undefined || vm === undefined || vm.value.deleted_at !== undefined) return undefined;
    if (operation === undefined || !isRestore(operation.value)) return undefined;
    return { id, host, vm, placement, report: mirror.get(reports, id), operations, operation };
  }

  async #visit(id: Id<'vm'>): Promise<number | undefined> {
    const { logger, retryMs } = this.#options;
    const restore = this.#find(id);
    if (restore === undefined) {
      this.#failures.delete(id);
      return undefined;
    }
    const abort = new AbortController();
    const ended = Promise.withResolvers<void>();
    this.#current.set(id, { abort, ended: ended.promise });
    try {
      if (restore.operation.value.state === 'pending') await this.#begin(restore);
      else await this.#restore(restore, abort.signal);
      // The next visit sees the records of this step.
      return 0;
    } catch (err) {
      if (abort.signal.aborted) return retryMs;
      const failures = (this.#failures.get(id) ?? 0) + 1;
      this.#failures.set(id, failures);
      const delayMs = backoffMs(failures, { firstMs: retryMs, maxMs: maxRetryMs });
      logger.warn({ err, vm: id, failures, retryMs: delayMs }, 'a step of a restore failed; the agent retries it');
      if (err instanceof SnapshotError || err instanceof Refusal || failures >= maxAttempts) {
        await this.#fail(restore, err).catch(() => undefined);
      }
      return delayMs;
    } finally {
      this.#current.delete(id);
      ended.resolve();
    }
  }

  async #commit(commit: Commit): Promise<boolean> {
    const { store, view } = this.#options;
    const result = await store.commit(commit);
    if (result.ok) await view.mirror.waitFor(result.revision);
    else await view.mirror.catchUp();
    return result.ok;
  }

  /** Claims the volumes of the restore. */
  async #begin(restore: Restore): Promise<void> {
    const { view } = this.#options;
    const { operation, placement, report, vm } = restore;
    const reported = currentReport(restore);
    // Agents of earlier versions do not know restores, and may have started the guest.
    if (report === undefined || reported?.phase !== 'stopped') throw new Refusal('The VM is not stopped.');
    // The guest ended by itself. Its next report releases the volumes, so the claims must come later.
    if (reported.reason !== undefined) throw new UcloudError('invalid_state', 'The VM has not stopped yet.');
    const now = new Date();
    const disks = new Set(operation.value.options.disks);
    const claims = claimsOfStart(view, restore, now, ({ id }) => disks.has(id));
    if (claims.volumes.length !== [...disks].filter((disk) => disk !== 'root').length) {
      throw new Refusal('The VM does not have all volumes of the restore any more.');
    }
    const { require, write } = advanceOperations([operation], now, { state: 'running', progress: begun });
    await this.#commit({
      require: [unchanged(placement), unchanged(report), ...(vm ? [unchanged(vm)] : []), ...require, ...claims.require],
      write: [...write, ...claims.write],
    });
  }

  async #restore(restore: Restore, signal: AbortSignal): Promise<void> {
    const { snapshot, disks = [] } = restore.operation.value.options;
    if (snapshot === undefined) throw new Refusal('The operation names no snapshot.');
    const targets = disks.map((disk) => this.#target(restore, snapshot, disk));
    await this.#options.hypervisor.restoreDisks(snapshot, targets, signal);
    const message = `Restored from ${snapshot}.`;
    await this.#end(restore, { state: 'succeeded' }, { severity: 'info', reason: 'restored', message });
  }

  #target({ id, host, placement }: Restore, from: Id<'snapshot'>, disk: string): RestoreTarget {
    const { mirror } = this.#options.view;
    if (disk === 'root') return { vm: id, maxSize: placement.value.disk };
    const volume = idFrom('volume', disk);
    const placed = mirror.get(volumePlacements, volume)?.value;
    const attachment = this.#options.view.attachmentOf(volume);
    const claim = attachment && mirror.get(attachmentReports, attachment.id)?.value;
    const holds = claim?.host === host && claim.fence === placement.value.fence && attachment?.value.vm === id;
    if (!holds || placed?.host !== host) throw new Refusal(`The VM does not have ${volume} any more.`);
    const part = this.#partOf(from, disk);
    return { volume, maxSize: placed.size, ...(part && { part }) };
  }

  /** Returns the data of a disk outside of the built-in pool. */
  #partOf(from: Id<'snapshot'>, disk: string): PoolPart | undefined {
    const { view, host } = this.#options;
    const record = view.mirror.get(snapshots, from)?.value;
    const place = record && copyPlace(record, disk);
    if (place === undefined) throw new Refusal(`${from} is gone.`);
    const pool = furtherPoolSpec(view.mirror, place.pool, host);
    return pool && { snapshot: place.snapshot, pool };
  }

  async #fail(restore: Restore, err: unknown): Promise<void> {
    const message = publicMessage(err);
    const code = err instanceof UcloudError ? err.code : 'internal';
    await this.#end(
      restore,
      { state: 'failed', error: { code, message } },
      { severity: 'error', reason: 'restore_failed', message: `The restore failed. ${message}` },
    );
  }

  /** Ends the operation, and releases the volumes. Other changes of the VM do not make the agent copy again. */
  async #end({ id, operation: { id: operation } }: Restore, change: Change, event: EventDetails): Promise<void> {
    let ended = false;
    while (!ended) {
      const now = new Date();
      const restore = this.#find(id);
      if (restore?.operation.id !== operation) return;
      const { require, write } = advanceOperations([restore.operation], now, { ...change, progress: 100 });
      // A guest that runs has claims of its own.
      const releases = restore.operation.value.state === 'running' ? releasesOf(this.#options.view, id) : [];
      write.push(...eventWrites(restore, now, event), ...releases);
      ended = await this.#commit({ require: [unchanged(restore.placement), ...require], write });
    }
    this.#failures.delete(id);
  }

  /** Interrupts the copy and waits for its end. */
  close(): Promise<void> {
    for (const { abort } of this.#current.values()) abort.abort();
    return Promise.all([this.#queue.close(), this.#poolQueue.close()]).then(() => undefined);
  }
}
