/**
 * The VMs, volumes and snapshots that need a decision. Changes of records add them, and update the pool of hosts.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Id } from '../contract/fields.ts';
import { idFrom, isIdOf } from '../model/ids.ts';
import type { PlacedResources } from '../model/placement/filters.ts';
import type { HostPool } from '../model/placement/host-pool.ts';
import { parsePlacementId, placementsOn } from '../model/placement/placement-id.ts';
import {
  enterHost,
  enterPlacement,
  enterPoolReport,
  enterSettings,
  enterStoragePool,
} from '../model/placement/pool-records.ts';
import {
  alive,
  attachmentReports,
  hostPolicies,
  hosts,
  images,
  type NetworkMemberRecord,
  networkMembers,
  networks,
  type OperationRecord,
  operations,
  placements,
  poolReports,
  reports,
  type SecurityGroupRecord,
  type SnapshotRecord,
  schedules,
  securityGroups,
  settings,
  snapshotPlacements,
  snapshotReports,
  snapshots,
  storagePools,
  type VmRecord,
  type VolumeRecord,
  vms,
  volumeAttachments,
  volumePlacements,
  volumeReports,
  volumes,
} from '../model/records/index.ts';
import { isMove } from '../model/vm/lifecycle.ts';
import { isChangeOf, type Mirror, type MirrorBatch, type MirrorIndex, type RecordChange } from '../store/mirror.ts';
import type { PlacementSearch } from './placement-search.ts';
import type { AttachmentsByVm } from './volume-facts.ts';
import type { VolumeScheduling } from './volume-scheduling.ts';
import type { PlacedId } from './volume-writes.ts';

/** An object that the scheduler decides about. */
export type Subject = Id<'vm'> | PlacedId;

/** The key of all open moves in `SchedulerIndexes.moves`. */
const openMoves = 'open';
/** The key of deleted volumes in `SchedulerIndexes.volumes`. */
const deletedVolumes = 'deleted';

/** The indexes of the mirror that all terms of a scheduler share. */
export interface SchedulerIndexes {
  readonly attachments: AttachmentsByVm;
  /** The volumes by the host of the data that they get, and the deleted ones. */
  readonly volumes: MirrorIndex<VolumeRecord>;
  /** The snapshots by host. */
  readonly snapshots: MirrorIndex<SnapshotRecord>;
  /** The members of networks by VM. */
  readonly members: MirrorIndex<NetworkMemberRecord>;
  /** The open moves, by VM and together. */
  readonly moves: MirrorIndex<OperationRecord>;
  /** The VMs and the security groups of projects. */
  readonly vms: MirrorIndex<VmRecord>;
  readonly groups: MirrorIndex<SecurityGroupRecord>;
}

/** Creates the indexes. */
export const schedulerIndexes = (mirror: Mirror): SchedulerIndexes => ({
  attachments: mirror.index(volumeAttachments, ({ value }) => value.vm),
  volumes: mirror.index(volumes, ({ value }) => [
    ...(value.source_host === undefined ? [] : [value.source_host]),
    ...(value.deleted_at === undefined ? [] : [deletedVolumes]),
  ]),
  snapshots: mirror.index(snapshots, ({ value }) => value.host),
  members: mirror.index(networkMembers, ({ value }) => value.vm),
  moves: mirror.index(operations, ({ value }) =>
    isMove(value) && value.finished_at === undefined ? [value.target, openMoves] : [],
  ),
  vms: mirror.index(vms, ({ value }) => value.project),
  groups: mirror.index(securityGroups, ({ value }) => value.project),
});

/** The parts of a term that changes of records affect. */
export interface SubjectsOptions {
  readonly mirror: Mirror;
  readonly indexes: SchedulerIndexes;
  readonly pool: HostPool;
  readonly volumes: VolumeScheduling;
  readonly search: PlacementSearch;
}

/** The objects to decide about in one term. */
export class Subjects {
  readonly #mirror: Mirror;
  readonly #indexes: SchedulerIndexes;
  readonly #pool: HostPool;
  readonly #volumes: VolumeScheduling;
  readonly #search: PlacementSearch;
  readonly #dirty = new Set<Subject>();
  /** Objects with a commit in flight. True if one has changed since. */
  readonly #inFlight = new Map<Subject, boolean>();
  /** VMs that no host can take, and volumes without the space that they need. */
  readonly #waiting = new Set<Subject>();

  constructor({ mirror, indexes, pool, volumes, search }: SubjectsOptions) {
    this.#mirror = mirror;
    this.#indexes = indexes;
    this.#pool = pool;
    this.#volumes = volumes;
    this.#search = search;
  }

  /** Tells whether an object needs a decision. */
  get any(): boolean {
    return this.#dirty.size > 0;
  }

  /** Takes the objects that need a decision, one after the other. Objects with a commit in flight stay for later. */
  *take(): Generator<Subject> {
    for (const id of this.#dirty) {
      this.#dirty.delete(id);
      if (this.#inFlight.has(id)) this.#inFlight.set(id, true);
      else yield id;
    }
  }

  /** Adds an object. */
  mark(subject: Subject): void {
    if (this.#inFlight.has(subject)) this.#inFlight.set(subject, true);
    else this.#dirty.add(subject);
  }

  /** Adds all objects of the database. */
  markAll(): void {
    const mirror = this.#mirror;
    for (const { id } of mirror.list(placements)) this.mark(parsePlacementId(id).vm);
    for (const { id } of mirror.list(vms)) this.mark(idFrom('vm', id));
    for (const { value } of mirror.list(networkMembers)) this.mark(value.vm);
    this.#markMoves();
    for (const { id } of mirror.list(schedules)) this.mark(idFrom('vm', id));
    for (const { id } of mirror.list(volumes)) this.mark(idFrom('volume', id));
    for (const { id } of mirror.list(volumePlacements)) this.mark(idFrom('volume', id));
    for (const { id } of mirror.list(snapshots)) this.mark(idFrom('snapshot', id));
    for (const { id } of mirror.list(snapshotPlacements)) this.mark(idFrom('snapshot', id));
  }

  /** Tells whether the object has a commit in flight. */
  isInFlight(subject: Subject): boolean {
    return this.#inFlight.has(subject);
  }

  /** A commit of the objects is in flight now. */
  began(subjects: readonly Subject[]): void {
    for (const subject of subjects) this.#inFlight.set(subject, false);
  }

  /** The commit of the objects has ended. Objects that have changed meanwhile need a decision. */
  ended(subjects: readonly Subject[]): void {
    for (const subject of subjects) {
      const changed = this.#inFlight.get(subject);
      this.#inFlight.delete(subject);
      if (changed) this.#dirty.add(subject);
    }
  }

  /** Notes whether the object waits for room. */
  setWaiting(subject: Subject, waits: boolean): void {
    if (waits) this.#waiting.add(subject);
    else this.#waiting.delete(subject);
  }

  /**
   * Marks all waiting objects: a host may have room now, or the reason may have changed. With a host, it also marks the
   * VMs on that host that wait for a resize.
   */
  markWaiting(host?: Id<'host'>): void {
    this.#search.forget();
    for (const subject of this.#waiting) this.mark(subject);
    if (host === undefined) return;
    for (const { id } of this.#mirror.list(placements, placementsOn(host))) {
      const { vm } = parsePlacementId(id);
      if (this.#mirror.get(schedules, vm)?.value.reason !== undefined) this.mark(vm);
    }
  }

  /** Marks the objects that the changes may concern, and enters the changes into the pool. */
  apply({ changes }: MirrorBatch): void {
    for (const change of changes) this.#apply(change);
  }

  #apply(change: RecordChange): void {
    if (isChangeOf(vms, change) || isChangeOf(reports, change)) this.mark(idFrom('vm', change.id));
    else if (isChangeOf(operations, change)) {
      if (change.stored !== undefined && isMove(change.stored.value))
        this.mark(idFrom('vm', change.stored.value.target));
    } else if (isChangeOf(networkMembers, change)) {
      const member = change.stored ?? change.previous;
      if (member !== undefined) this.mark(member.value.vm);
    } else if (isChangeOf(securityGroups, change)) {
      const { stored, previous } = change;
      const group = stored ?? previous;
      if (group === undefined) return;
      // Members have labels only in projects with groups.
      const isSame = stored !== undefined && previous !== undefined;
      if (isSame && stored.value.vm_selector === previous.value.vm_selector) return;
      for (const { value } of this.#indexes.vms.list(group.value.project)) this.mark(value.id);
    } else if (isChangeOf(networks, change)) {
      const [before, after] = [change.previous, change.stored].map((each) => each?.value.default_security_groups ?? []);
      if (isDeepStrictEqual(before, after)) return;
      for (const { value } of this.#mirror.list(networkMembers, `${change.id}/`)) this.mark(value.vm);
    } else if (isChangeOf(schedules, change)) {
      this.mark(idFrom('vm', change.id));
      for (const { value } of this.#indexes.attachments.list(change.id)) this.mark(value.volume);
    } else if (isChangeOf(placements, change)) this.#applyPlacement(change.id, change.stored?.value);
    else if (isChangeOf(volumes, change) || isChangeOf(volumeReports, change)) {
      this.mark(idFrom('volume', change.id));
      if (isChangeOf(volumes, change)) this.#markWaitingVmOf(change.id);
    } else if (isChangeOf(snapshots, change) || isChangeOf(snapshotReports, change)) {
      this.mark(idFrom('snapshot', change.id));
    } else if (isChangeOf(volumePlacements, change) || isChangeOf(snapshotPlacements, change)) {
      const id = isIdOf('snapshot', change.id) ? change.id : idFrom('volume', change.id);
      const freed = this.#volumes.apply(id, change.previous?.value, change.stored?.value);
      if (freed !== undefined) this.markWaiting(freed);
      this.mark(id);
    } else if (isChangeOf(volumeAttachments, change)) {
      const attachment = change.stored ?? change.previous;
      if (attachment === undefined) return;
      this.mark(attachment.value.volume);
      this.mark(attachment.value.vm);
    } else if (isChangeOf(attachmentReports, change)) {
      const volume = this.#mirror.get(volumeAttachments, change.id)?.value.volume;
      if (change.stored === undefined && volume !== undefined) this.mark(volume);
    } else if (isChangeOf(storagePools, change)) {
      enterStoragePool(this.#pool, this.#mirror, change.id);
      this.markWaiting();
    } else if (isChangeOf(poolReports, change)) {
      enterPoolReport(this.#pool, this.#mirror, change.id);
      const { previous, stored } = change;
      const better = stored?.value.reachable && (!previous?.value.reachable || stored.value.size > previous.value.size);
      if (better) this.markWaiting();
      if (stored?.value.reachable !== previous?.value.reachable) this.#markDeletedVolumes();
    } else if (isChangeOf(hosts, change) || isChangeOf(hostPolicies, change) || isChangeOf(alive, change)) {
      const host = idFrom('host', change.id);
      enterHost(this.#pool, this.#mirror, host);
      this.markWaiting(host);
      if (isChangeOf(alive, change) && change.previous === undefined) this.#markReturned(host);
      if (isChangeOf(hosts, change) && change.stored === undefined) this.#markScheduledOn(host);
      if (change.stored === undefined) this.#markPlacedOn(host);
      if (isChangeOf(alive, change) && change.stored === undefined) this.#markMoves();
    } else if (isChangeOf(settings, change)) enterSettings(this.#pool, this.#mirror);
    else if (isChangeOf(images, change) && change.previous === undefined) this.markWaiting();
  }

  /** Marks the VMs that move: a host may be lost. */
  #markMoves(): void {
    for (const { value } of this.#indexes.moves.list(openMoves)) this.mark(idFrom('vm', value.target));
  }

  /** Marks the VM of the volume if it waits, because it may wait for the size of the volume. */
  #markWaitingVmOf(volume: string): void {
    const vm = this.#volumes.vmOf(volume);
    if (vm === undefined || !this.#waiting.has(vm)) return;
    this.#search.forget();
    this.mark(vm);
  }

  /** Marks the volumes and snapshots that wait for a host that has come back. */
  #markReturned(host: Id<'host'>): void {
    for (const { id } of this.#mirror.list(placements, placementsOn(host))) {
      for (const { value } of this.#indexes.attachments.list(parsePlacementId(id).vm)) this.mark(value.volume);
    }
    for (const { id } of this.#indexes.snapshots.list(host)) this.mark(idFrom('snapshot', id));
    for (const { id } of this.#indexes.volumes.list(host)) this.mark(idFrom('volume', id));
    this.#markDeletedVolumes();
  }

  /** Marks the deleted volumes: another host may reach their pool now and remove their data. */
  #markDeletedVolumes(): void {
    for (const { id } of this.#indexes.volumes.list(deletedVolumes)) this.mark(idFrom('volume', id));
  }

  /** Marks the VMs on a host whose record is gone. */
  #markScheduledOn(host: Id<'host'>): void {
    for (const { id, value } of this.#mirror.list(schedules)) if (value.host === host) this.mark(idFrom('vm', id));
  }

  /** Marks the volumes and snapshots on a host that is dead or gone. */
  #markPlacedOn(host: Id<'host'>): void {
    for (const { id, value } of this.#mirror.list(volumePlacements))
      if (value.host === host) this.mark(idFrom('volume', id));
    for (const { id, value } of this.#mirror.list(snapshotPlacements))
      if (value.host === host) this.mark(idFrom('snapshot', id));
  }

  /** Enters a placement (id: `<host>/<vm>`) of the mirror into the pool. */
  #applyPlacement(id: string, resources: PlacedResources | undefined): void {
    const { host, vm } = parsePlacementId(id);
    const before = this.#pool.placement(host, vm);
    enterPlacement(this.#pool, id, resources);
    const freed =
      before &&
      (!resources || resources.cpus < before.cpus || resources.memory < before.memory || resources.disk < before.disk);
    if (freed) this.markWaiting(host);
    this.mark(vm);
  }
}
