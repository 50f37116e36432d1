/**
 * The work of the scheduler while it leads: it decides for each changed VM and volume, and commits the decisions.
 *
 * The loop begins when the mirror shows the creation of the leader key. From then on no other process changes
 * placements. The host pool in memory therefore equals the database plus the commits in flight. The pool contains a
 * placement from the moment its commit is sent, so two commits never give the same room to two VMs. The loop skips a VM
 * with a commit in flight until the mirror shows the result.
 *
 * A commit without an answer may or may not have happened. The term then ends, and the next term reads the database
 * again.
 */

import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { idFrom, isIdOf } from '../model/ids.ts';
import { antiAffinityOf } from '../model/placement/anti-affinity.ts';
import {
  explainInsufficientResources,
  insufficientResources,
  type PlacedResources,
  type PlacementFailure,
  type ResourceRequest,
  type Resources,
} from '../model/placement/filters.ts';
import { HostPool } from '../model/placement/host-pool.ts';
import { parsePlacementId, placementId, placementsOn } from '../model/placement/placement-id.ts';
import {
  enterHost,
  enterPlacement,
  enterVolumePlacement,
  fillPool,
  volumeResources,
} from '../model/placement/pool-records.ts';
import {
  alive,
  hostPolicies,
  hosts,
  images,
  leaders,
  placements,
  reports,
  schedules,
  type VolumePlacementRecord,
  vms,
  volumeAttachments,
  volumePlacements,
  volumeReports,
  volumes,
} from '../model/records/index.ts';
import { declaredResources } from '../model/vm/lifecycle.ts';
import type { Leadership } from '../store/leadership.ts';
import { maxOperations } from '../store/limits.ts';
import { isChangeOf, type Mirror, type MirrorBatch } from '../store/mirror.ts';
import type { Store } from '../store/store.ts';
import { decide } from './plan.ts';
import { type AttachmentsByVm, volumeFacts, volumeRecords, volumesOf } from './volume-facts.ts';
import { decideVolume } from './volume-plan.ts';
import { clearVolumeReason, grantVolume, refuseVolume, releaseVolume } from './volume-writes.ts';
import {
  type CommitPart,
  changeGrant,
  hasNewReason,
  placeVm,
  recordPlacementFailure,
  releaseVm,
  setResizeNote,
  type VmRecords,
} from './writes.ts';

/** An object that the scheduler decides about. */
type Subject = Id<'vm'> | Id<'volume'>;

/** The name of the scheduler's leader key in `leader/`. */
export const schedulerTask = 'scheduler';
const maxCommitsInFlight = 4;
/** The maximum number of conditions or writes of one part: a VM with all its volumes has 2 + 16 * 3. */
const maxPartOperations = 52;
/** The interval after which the reason of a waiting VM gets new numbers. */
const reasonRefreshMs = 30_000;

/** The parts that all terms of a scheduler share. */
export interface SchedulerView {
  readonly store: Store;
  readonly mirror: Mirror;
  readonly attachments: AttachmentsByVm;
  readonly logger: Logger;
}

/** Runs the scheduler's work for one term of leadership. */
export class LeaderLoop {
  readonly #store: Store;
  readonly #mirror: Mirror;
  readonly #leadership: Leadership;
  readonly #logger: Logger;
  readonly #attachments: AttachmentsByVm;
  readonly #pool = new HostPool();
  /** VMs and volumes that need a decision. */
  readonly #dirty = new Set<Subject>();
  /** VMs and volumes with a commit in flight. True if one has changed since. */
  readonly #inFlight = new Map<Subject, boolean>();
  /** VMs that no host can take, and volumes without the space that they need. */
  readonly #waiting = new Set<Subject>();
  /**
   * VMs to decide again after `reasonRefreshMs`: their reason shows old numbers, or the scheduler cannot write them.
   */
  readonly #refreshLater = new Set<Subject>();
  /** The failed conditions of the last commit of a VM or volume, in JSON. */
  readonly #failedConditions = new Map<Subject, string>();
  /** VMs and volumes to commit alone, because a batch with them has failed. */
  readonly #commitAlone = new Set<Subject>();
  /** Requests that no host can take, with the explanation. A change of a host or of free room clears them. */
  readonly #unplaceable = new Map<string, PlacementFailure>();
  readonly #stop = new AbortController();
  readonly #commits = new Set<Promise<void>>();
  #failure: { readonly cause: unknown } | undefined;
  #wake: () => void = () => undefined;

  constructor({ store, mirror, attachments, logger }: SchedulerView, leadership: Leadership) {
    this.#store = store;
    this.#mirror = mirror;
    this.#attachments = attachments;
    this.#leadership = leadership;
    this.#logger = logger;
  }

  /**
   * Runs until `signal` aborts, because the term is over, or another scheduler leads.
   * @throws UcloudError of the store, such as `store_unavailable`
   */
  async run(signal: AbortSignal): Promise<void> {
    const termEnd = AbortSignal.any([signal, this.#stop.signal]);
    const unsubscribe = this.#mirror.subscribe((batch) => this.#onBatch(batch));
    const refresh = setInterval(() => this.#refresh(), reasonRefreshMs).unref();
    termEnd.addEventListener('abort', () => this.#wake());
    try {
      fillPool(this.#pool, this.#mirror);
      for (const { id } of this.#mirror.list(placements)) this.#dirty.add(parsePlacementId(id).vm);
      for (const { id } of this.#mirror.list(vms)) this.#dirty.add(id as Id<'vm'>);
      for (const { id } of this.#mirror.list(schedules)) this.#dirty.add(id as Id<'vm'>);
      for (const { id } of this.#mirror.list(volumes)) this.#dirty.add(idFrom('volume', id));
      for (const { id } of this.#mirror.list(volumePlacements)) this.#dirty.add(idFrom('volume', id));
      while (!termEnd.aborted) {
        this.#work();
        const woken = Promise.withResolvers<void>();
        this.#wake = woken.resolve;
        await woken.promise;
      }
    } finally {
      clearInterval(refresh);
      unsubscribe();
      // A commit may still wait for the mirror, which never catches up while the database is unreachable.
      this.#stop.abort();
      await Promise.all(this.#commits);
    }
    if (this.#failure) throw this.#failure.cause;
  }

  #onBatch({ changes }: MirrorBatch): void {
    for (const change of changes) {
      if (isChangeOf(vms, change)) this.#markDirty(idFrom('vm', change.id));
      else if (isChangeOf(schedules, change)) {
        this.#markDirty(idFrom('vm', change.id));
        for (const { value } of this.#attachments.list(change.id)) this.#markDirty(value.volume);
      } else if (isChangeOf(volumes, change) || isChangeOf(volumeReports, change)) {
        this.#markDirty(idFrom('volume', change.id));
      } else if (isChangeOf(volumePlacements, change)) {
        this.#applyVolumePlacement(idFrom('volume', change.id), change.previous?.value, change.stored?.value);
      } else if (isChangeOf(volumeAttachments, change)) {
        const attachment = change.stored ?? change.previous;
        if (attachment === undefined) continue;
        this.#markDirty(attachment.value.volume);
        this.#markDirty(attachment.value.vm);
      } else if (isChangeOf(reports, change)) this.#markDirty(idFrom('vm', change.id));
      else if (isChangeOf(placements, change)) this.#applyPlacement(change.id, change.stored?.value);
      else if (isChangeOf(hosts, change) || isChangeOf(hostPolicies, change) || isChangeOf(alive, change)) {
        const host = idFrom('host', change.id);
        enterHost(this.#pool, this.#mirror, host);
        this.#markWaitingDirty(host);
        if (isChangeOf(alive, change) && change.previous === undefined) this.#markVolumesDirty(host);
        if (isChangeOf(hosts, change) && change.stored === undefined) {
          for (const { id, value } of this.#mirror.list(schedules))
            if (value.host === host) this.#markDirty(idFrom('vm', id));
          for (const { id, value } of this.#mirror.list(volumePlacements))
            if (value.host === host) this.#markDirty(idFrom('volume', id));
        }
      } else if (isChangeOf(images, change) && change.previous === undefined) this.#markWaitingDirty();
    }
    this.#wake();
  }

  #markDirty(subject: Subject): void {
    if (this.#inFlight.has(subject)) this.#inFlight.set(subject, true);
    else this.#dirty.add(subject);
  }

  /**
   * Marks all waiting VMs for a new decision: a host may have room now, or the reason may have changed. With a host, it
   * also marks the VMs on that host that wait for a resize.
   */
  #markWaitingDirty(host?: Id<'host'>): void {
    this.#unplaceable.clear();
    for (const subject of this.#waiting) this.#markDirty(subject);
    if (host === undefined) return;
    for (const { id } of this.#mirror.list(placements, placementsOn(host))) {
      const { vm } = parsePlacementId(id);
      if (this.#mirror.get(schedules, vm)?.value.reason !== undefined) this.#markDirty(vm);
    }
  }

  /** Marks the volumes of the VMs on a host that has come back. */
  #markVolumesDirty(host: Id<'host'>): void {
    for (const { id } of this.#mirror.list(placements, placementsOn(host))) {
      for (const { value } of this.#attachments.list(parsePlacementId(id).vm)) this.#markDirty(value.volume);
    }
  }

  #refresh(): void {
    for (const subject of this.#refreshLater) this.#markDirty(subject);
    this.#refreshLater.clear();
    this.#unplaceable.clear();
    this.#wake();
  }

  /** Updates the pool with a placement (id: `<host>/<vm>`) of the mirror. */
  #applyPlacement(id: string, resources: PlacedResources | undefined): void {
    const { host, vm } = parsePlacementId(id);
    const before = this.#pool.placement(host, vm);
    enterPlacement(this.#pool, id, resources);
    const freed =
      before &&
      (!resources || resources.cpus < before.cpus || resources.memory < before.memory || resources.disk < before.disk);
    if (freed) {
      this.#markWaitingDirty(host);
    }
    this.#markDirty(vm);
  }

  /** Updates the pool with a volume placement of the mirror. */
  #applyVolumePlacement(
    volume: Id<'volume'>,
    before: VolumePlacementRecord | undefined,
    after: VolumePlacementRecord | undefined,
  ): void {
    if (before?.host !== undefined && before.host !== after?.host)
      this.#pool.setPlacement(before.host, volume, undefined);
    enterVolumePlacement(this.#pool, volume, after);
    if (before?.host !== undefined && before.size > (after?.size ?? 0)) this.#markWaitingDirty(before.host);
    this.#markDirty(volume);
  }

  #work(): void {
    while (this.#dirty.size > 0 && this.#commits.size < maxCommitsInFlight) {
      const parts: CommitPart[] = [];
      // The first condition is the leadership.
      let conditions = 1;
      let writes = 0;
      const now = new Date();
      for (const id of this.#dirty) {
        this.#dirty.delete(id);
        if (this.#inFlight.has(id)) {
          this.#inFlight.set(id, true);
          continue;
        }
        const part = isIdOf('volume', id) ? this.#volumePartFor(id, now) : this.#commitPartFor(id, now);
        if (part === undefined) continue;
        parts.push(part);
        this.#inFlight.set(id, false);
        conditions += part.require.length;
        writes += part.write.length;
        if (this.#commitAlone.delete(id) || Math.max(conditions, writes) + maxPartOperations > maxOperations) break;
      }
      if (parts.length === 0) continue;
      const commit = this.#commit(parts).finally(() => {
        this.#commits.delete(commit);
        this.#wake();
      });
      this.#commits.add(commit);
    }
  }

  #volumePartFor(id: Id<'volume'>, now: Date): CommitPart | undefined {
    const mirror = this.#mirror;
    const records = volumeRecords(mirror, id);
    const { placement } = records;
    const facts = volumeFacts(mirror, records);
    const decision = decideVolume(facts);
    this.#waiting.delete(id);
    switch (decision.do) {
      case 'nothing':
        return undefined;
      case 'clear':
        return placement && clearVolumeReason(records, placement.value, now);
      case 'release':
        return releaseVolume(records, facts.hostExists);
      case 'grant': {
        const { host, size } = decision;
        const granted = this.#pool.placement(host, id)?.disk ?? 0;
        if (size - granted > (this.#pool.get(host)?.free.disk ?? 0)) {
          this.#waiting.add(id);
          return refuseVolume(records, size, now);
        }
        this.#pool.setPlacement(host, id, volumeResources(size));
        return grantVolume(records, host, size, now);
      }
    }
  }

  #commitPartFor(id: Id<'vm'>, now: Date): CommitPart | undefined {
    const mirror = this.#mirror;
    const schedule = mirror.get(schedules, id);
    const host = schedule?.value.host;
    const placement = host === undefined ? undefined : mirror.get(placements, placementId(host, id));
    const records: VmRecords = { id, vm: mirror.get(vms, id), schedule, placement, report: mirror.get(reports, id) };
    const hostExists = host !== undefined && mirror.get(hosts, host) !== undefined;
    const vm = records.vm?.value;
    const decision = decide({
      vm,
      schedule: schedule?.value,
      placement: placement?.value,
      report: records.report?.value,
      hostExists,
    });
    this.#waiting.delete(id);
    switch (decision.do) {
      case 'nothing':
        return undefined;
      case 'release':
        return releaseVm(
          records,
          hostExists,
          [...this.#attachments.list(id)].map((attachment) => attachment.id),
        );
      case 'clear':
        return schedule && setResizeNote({ ...records, schedule }, undefined);
      case 'grant':
        return schedule && placement && this.#grant({ ...records, schedule, placement }, decision);
      case 'place':
        return vm && this.#place(records, vm, now);
    }
  }

  #place(records: VmRecords, vm: NonNullable<VmRecords['vm']>['value'], now: Date): CommitPart | undefined {
    const architecture = this.#mirror.get(images, vm.image)?.value.architecture;
    const antiAffinity = antiAffinityOf(vm);
    const resources: PlacedResources = {
      ...declaredResources(vm),
      ...(antiAffinity && { anti_affinity: antiAffinity }),
    };
    const held = volumesOf(this.#mirror, this.#attachments, records.id).filter(
      ({ volume }) => volume?.value.deleted_at === undefined,
    );
    const unplaced = held.filter(({ placement }) => placement?.value.host === undefined);
    const volumeHosts = new Set(held.flatMap(({ placement }) => placement?.value.host ?? []));
    const disk = unplaced.reduce((sum, { volume }) => sum + (volume?.value.size ?? 0), resources.disk);
    const request = architecture && {
      ...resources,
      architecture,
      disk,
      ...(volumeHosts.size > 0 && { volume_hosts: [...volumeHosts] }),
    };
    const host = request && this.#find(request);
    if (host !== undefined) {
      this.#pool.setPlacement(host, records.id, resources);
      const part = placeVm(records, vm, host, this.#mirror.get(hosts, host)?.value.name ?? host, resources, now);
      const parts = unplaced.flatMap((each) => {
        if (each.volume === undefined) return [];
        const { size } = each.volume.value;
        this.#pool.setPlacement(host, each.id, volumeResources(size));
        return [grantVolume(each, host, size, now)];
      });
      return {
        ...part,
        require: [...part.require, ...parts.flatMap(({ require }) => require)],
        write: [...part.write, ...parts.flatMap(({ write }) => write)],
        volumes: parts.map(({ id }) => idFrom('volume', id)),
      };
    }
    this.#waiting.add(records.id);
    const failure = request
      ? this.#explain(request)
      : { refusals: [], message: `its image ${vm.image} does not exist` };
    const schedule = records.schedule?.value;
    const newReason = hasNewReason(schedule, failure);
    if (!newReason && schedule?.message === failure.message) return undefined;
    if (!newReason && now.getTime() - Date.parse(schedule?.at ?? '') < reasonRefreshMs) {
      this.#refreshLater.add(records.id);
      return undefined;
    }
    return recordPlacementFailure(records, vm, failure, now);
  }

  #find(request: ResourceRequest): Id<'host'> | undefined {
    return this.#unplaceable.has(requestKey(request)) ? undefined : this.#pool.find(request);
  }

  #explain(request: ResourceRequest): PlacementFailure {
    const known = this.#unplaceable.get(requestKey(request));
    if (known) return known;
    const failure = this.#pool.explain(request);
    this.#unplaceable.set(requestKey(request), failure);
    return failure;
  }

  #grant(
    records: Parameters<typeof changeGrant>[0],
    { host, resources, increases }: { host: Id<'host'>; resources: Resources; increases: boolean },
  ): CommitPart | undefined {
    const granted = this.#pool.placement(host, records.id) ?? records.placement.value;
    const free = this.#pool.get(host)?.free;
    const lacking = insufficientResources(free, granted, resources);
    if (increases && lacking.length > 0) {
      const message = explainInsufficientResources(lacking);
      return records.schedule.value.message === message ? undefined : setResizeNote(records, message);
    }
    this.#pool.setPlacement(host, records.id, { ...granted, ...resources });
    return changeGrant(records, host, resources);
  }

  async #commit(parts: readonly CommitPart[]): Promise<void> {
    try {
      const result = await this.#store.commit({
        require: [this.#leadership.holds, ...parts.flatMap(({ require }) => require)],
        write: parts.flatMap(({ write }) => write),
      });
      if (result.ok) {
        for (const { id } of parts) this.#failedConditions.delete(id);
        await this.#mirror.waitFor(result.revision, { signal: this.#stop.signal });
      } else await this.#catchUp(parts);
    } catch (cause) {
      this.#failure ??= { cause };
      this.#stop.abort();
    } finally {
      for (const { id } of parts) {
        const changed = this.#inFlight.get(id);
        this.#inFlight.delete(id);
        if (changed) this.#dirty.add(id);
      }
    }
  }

  /** Handles a failed condition. Either another scheduler leads, or the mirror was behind for one of the VMs. */
  async #catchUp(parts: readonly CommitPart[]): Promise<void> {
    await this.#mirror.catchUp({ signal: this.#stop.signal });
    if (this.#mirror.get(leaders, schedulerTask)?.revision !== this.#leadership.revision) {
      this.#logger.warn({}, 'another scheduler leads; this term ends');
      this.#stop.abort();
      return;
    }
    for (const { id, host, require, volumes: withVm = [] } of parts) {
      if (host !== undefined) {
        for (const volume of isIdOf('volume', id) ? [id] : withVm) this.#resetVolume(host, volume);
        if (isIdOf('vm', id))
          this.#pool.setPlacement(host, id, this.#mirror.get(placements, placementId(host, id))?.value);
      }
      if (parts.length > 1) this.#commitAlone.add(id);
      else if (this.#isUnreadable(id, require)) continue;
      this.#inFlight.set(id, true);
    }
    // The commit's reservations in the pool are free again.
    this.#markWaitingDirty();
  }

  /** Sets the volume in the pool to its placement in the mirror, after a commit for this host has failed. */
  #resetVolume(host: Id<'host'>, volume: Id<'volume'>): void {
    const placement = this.#mirror.get(volumePlacements, volume)?.value;
    if (placement?.host !== host) this.#pool.setPlacement(host, volume, undefined);
    enterVolumePlacement(this.#pool, volume, placement);
  }

  /**
   * Tells whether the same conditions have failed twice although the mirror is up to date. The mirror then lacks a
   * record that it cannot read.
   */
  #isUnreadable(id: Subject, require: CommitPart['require']): boolean {
    const conditions = JSON.stringify(require);
    if (this.#failedConditions.get(id) !== conditions) {
      this.#failedConditions.set(id, conditions);
      return false;
    }
    this.#logger.warn(
      { id, refreshMs: reasonRefreshMs },
      'a record of the object cannot be read; the scheduler leaves the object as it is',
    );
    this.#refreshLater.add(id);
    return true;
  }
}

/** Returns equal keys for equal requests. */
const requestKey = ({ cpus, memory, disk, architecture, volume_hosts, anti_affinity: group }: ResourceRequest) =>
  `${cpus}/${memory}/${disk}/${architecture}/${volume_hosts ?? ''}${group ? `/${group.mode}/${group.group}` : ''}`;
