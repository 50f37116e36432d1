/**
 * The work of the scheduler while it leads: it decides for each changed VM and volume, and commits the decisions.
 *
 * The loop begins when the mirror shows the creation of the leader key. From then on no other process changes
 * placements. The host pool in memory therefore equals the database plus the commits in flight. The pool contains a
 * placement from the moment its commit is sent, and frees room when the mirror shows the commit. So two commits never give
 * the same room to two VMs. The loop skips a VM with a commit in flight until the mirror shows the result.
 *
 * A commit without an answer may or may not have happened. The term then ends, and the next term reads the database
 * again.
 */

import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { idFrom, isIdOf } from '../model/ids.ts';
import { type GroupsOfInterface, memberChanges } from '../model/network/members.ts';
import { groupsOf } from '../model/network/security-groups.ts';
import { antiAffinityOf } from '../model/placement/anti-affinity.ts';
import {
  explainInsufficientResources,
  insufficientResources,
  maxResources,
  type PlacedResources,
  type Resources,
} from '../model/placement/filters.ts';
import { HostPool } from '../model/placement/host-pool.ts';
import { hostSelectorOf } from '../model/placement/host-selector.ts';
import { moveHost } from '../model/placement/move-host.ts';
import { placementId } from '../model/placement/placement-id.ts';
import { fillPool } from '../model/placement/pool-records.ts';
import {
  alive,
  hosts,
  images,
  leaders,
  networks,
  placements,
  reports,
  schedules,
  type VmRecord,
  vms,
} from '../model/records/index.ts';
import { declaredResources } from '../model/vm/lifecycle.ts';
import type { Leadership } from '../store/leadership.ts';
import { maxOperations } from '../store/limits.ts';
import type { Mirror } from '../store/mirror.ts';
import type { Store } from '../store/store.ts';
import { PlacementSearch } from './placement-search.ts';
import { decide, failedMove } from './plan.ts';
import { type SchedulerIndexes, type Subject, Subjects } from './subjects.ts';
import type { AttachmentsByVm } from './volume-facts.ts';
import { VolumeScheduling } from './volume-scheduling.ts';
import type { PlacedId, VolumeRecords } from './volume-writes.ts';
import {
  type CommitPart,
  changeGrant,
  endMove,
  hasNewReason,
  type MovingVm,
  moveVm,
  placeVm,
  recordPlacementFailure,
  releaseVm,
  setMembers,
  setResizeNote,
  type VmRecords,
  wantedMembers,
} from './writes.ts';

/** The keys that a part writes. No commit writes a key twice. */
const keysOf = ({ write }: CommitPart): string[] =>
  write.map((each) => ('put' in each ? each.put : 'delete' in each ? each.delete : each.deletePrefix));

/** The time in milliseconds after which the decisions make way for other work of the process. */
const sliceMs = 10;
/** The name of the scheduler's leader key in `leader/`. */
export const schedulerTask = 'scheduler';
const maxCommitsInFlight = 4;
/** The interval after which the reason of a waiting VM gets new numbers. */
const reasonRefreshMs = 30_000;

/** Returns the objects that the part decides about. */
const subjectsOf = ({ id, volumes: withVm = [] }: CommitPart): Subject[] => [id, ...withVm];

/** The parts that all terms of a scheduler share. */
export interface SchedulerView {
  readonly store: Store;
  readonly mirror: Mirror;
  readonly indexes: SchedulerIndexes;
  readonly logger: Logger;
}

/** Runs the scheduler's work for one term of leadership. */
export class LeaderLoop {
  readonly #store: Store;
  readonly #mirror: Mirror;
  readonly #leadership: Leadership;
  readonly #logger: Logger;
  readonly #attachments: AttachmentsByVm;
  readonly #members: SchedulerIndexes['members'];
  readonly #groups: SchedulerIndexes['groups'];
  readonly #moves: SchedulerIndexes['moves'];
  readonly #pool = new HostPool();
  readonly #search = new PlacementSearch(this.#pool);
  readonly #volumes: VolumeScheduling;
  readonly #subjects: Subjects;
  /**
   * VMs to decide again after `reasonRefreshMs`: their reason shows old numbers, or the scheduler cannot write them.
   */
  readonly #refreshLater = new Set<Subject>();
  /** The failed conditions of the last commit of a VM or volume, in JSON. */
  readonly #failedConditions = new Map<Subject, string>();
  /** VMs and volumes to commit alone, because a batch with them has failed. */
  readonly #commitAlone = new Set<Subject>();
  /** VMs to decide again after the next commit, because one of their volumes is in flight. */
  readonly #deferred = new Set<Id<'vm'>>();
  /** A part that did not fit into the last commit. */
  #carried: CommitPart | undefined;
  readonly #stop = new AbortController();
  readonly #commits = new Set<Promise<void>>();
  #failure: { readonly cause: unknown } | undefined;
  #wake: () => void = () => undefined;

  constructor({ store, mirror, indexes, logger }: SchedulerView, leadership: Leadership) {
    this.#store = store;
    this.#mirror = mirror;
    this.#attachments = indexes.attachments;
    this.#members = indexes.members;
    this.#groups = indexes.groups;
    this.#moves = indexes.moves;
    const { attachments } = indexes;
    this.#volumes = new VolumeScheduling(mirror, attachments, this.#pool);
    this.#subjects = new Subjects({ mirror, indexes, pool: this.#pool, volumes: this.#volumes, search: this.#search });
    this.#leadership = leadership;
    this.#logger = logger;
  }

  /**
   * Runs until `signal` aborts, because the term is over, or another scheduler leads.
   * @throws UcloudError of the store, such as `store_unavailable`
   */
  async run(signal: AbortSignal): Promise<void> {
    const termEnd = AbortSignal.any([signal, this.#stop.signal]);
    const unsubscribe = this.#mirror.subscribe((batch) => {
      this.#subjects.apply(batch);
      this.#wake();
    });
    const refresh = setInterval(() => this.#refresh(), reasonRefreshMs).unref();
    termEnd.addEventListener('abort', () => this.#wake());
    try {
      fillPool(this.#pool, this.#mirror);
      this.#subjects.markAll();
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

  #refresh(): void {
    for (const subject of this.#refreshLater) this.#subjects.mark(subject);
    this.#refreshLater.clear();
    this.#search.forget();
    this.#wake();
  }

  #work(): void {
    // Many decisions may need no commit. The lease is renewed between the slices.
    const deadline = performance.now() + sliceMs;
    while ((this.#subjects.any || this.#carried !== undefined) && this.#commits.size < maxCommitsInFlight) {
      if (performance.now() > deadline) {
        setImmediate(() => this.#wake());
        return;
      }
      const parts = this.#nextBatch(new Date(), deadline);
      if (parts.length === 0) continue;
      const commit = this.#commit(parts).finally(() => {
        this.#commits.delete(commit);
        this.#wake();
      });
      this.#commits.add(commit);
    }
  }

  /** Decides until a commit is full, or until the deadline. The last part stays for the next batch if it does not fit. */
  #nextBatch(now: Date, deadline: number): CommitPart[] {
    const parts = this.#carried === undefined ? [] : [this.#carried];
    this.#carried = undefined;
    // The first condition is the leadership.
    let conditions = 1 + parts.reduce((sum, { require }) => sum + require.length, 0);
    let writes = parts.reduce((sum, { write }) => sum + write.length, 0);
    if (parts.some(({ id }) => this.#commitAlone.delete(id))) return parts;
    if (Math.max(conditions, writes) >= maxOperations) return parts;
    // A MAC address that leaves a VM for another one is a key of two parts.
    const keys = new Set(parts.flatMap(keysOf));
    for (const id of this.#subjects.take()) {
      const part = isIdOf('vm', id) ? this.#commitPartFor(id, now) : this.#volumePartFor(id, now);
      if (part === undefined) {
        if (performance.now() > deadline) break;
        continue;
      }
      this.#subjects.began(subjectsOf(part));
      conditions += part.require.length;
      writes += part.write.length;
      const own = keysOf(part);
      const isTaken = own.some((key) => keys.has(key));
      if (parts.length > 0 && (isTaken || this.#commitAlone.has(id) || Math.max(conditions, writes) > maxOperations)) {
        this.#carried = part;
        break;
      }
      parts.push(part);
      for (const key of own) keys.add(key);
      if (this.#commitAlone.delete(id) || Math.max(conditions, writes) >= maxOperations) break;
    }
    return parts;
  }

  #volumePartFor(id: PlacedId, now: Date): CommitPart | undefined {
    const { part, waits } = this.#volumes.decide(id, now);
    this.#subjects.setWaiting(id, waits);
    return part;
  }

  #commitPartFor(id: Id<'vm'>, now: Date): CommitPart | undefined {
    const mirror = this.#mirror;
    const schedule = mirror.get(schedules, id);
    const host = schedule?.value.host;
    const placement = host === undefined ? undefined : mirror.get(placements, placementId(host, id));
    const members = [...this.#members.list(id)];
    const report = mirror.get(reports, id);
    const records: VmRecords = {
      ...{ id, vm: mirror.get(vms, id), schedule, placement, report, members },
      groupsOf: this.#groupsOf,
    };
    const hostExists = host !== undefined && mirror.get(hosts, host) !== undefined;
    const vm = records.vm?.value;
    const [operation] = this.#moves.list(id);
    const decision = decide({
      vm,
      schedule: schedule?.value,
      placement: placement?.value,
      report: records.report?.value,
      hostExists,
      hostAlive: host !== undefined && mirror.get(alive, host) !== undefined,
      move: operation?.value,
      hasOtherMembers: memberChanges(wantedMembers(records), members) !== undefined,
    });
    this.#subjects.setWaiting(id, false);
    switch (decision.do) {
      case 'nothing':
        return undefined;
      case 'release':
        return releaseVm(
          records,
          hostExists,
          [...this.#attachments.list(id)].map((attachment) => attachment.id),
        );
      case 'members':
        return setMembers(records);
      case 'clear':
        return schedule && setResizeNote({ ...records, schedule }, undefined);
      case 'grant':
        return schedule && placement && this.#grant({ ...records, schedule, placement }, decision);
      case 'place':
        return vm && this.#place(records, vm, now);
      case 'move':
        return vm && schedule && operation && this.#move({ ...records, schedule, operation }, vm, decision, now);
      case 'end_move':
        return operation && endMove({ ...records, operation }, decision.error, now);
    }
  }

  /** Returns the security groups of an interface of a VM. */
  #groupsOf: GroupsOfInterface = ({ project, labels }, { network, security_groups: own = [] }) => {
    const groups = [...this.#groups.list(project)].map(({ value }) => value);
    if (groups.length === 0) return undefined;
    return groupsOf({ labels, own }, this.#mirror.get(networks, network)?.value, groups);
  };

  /** Returns the needs of the VM on its next host; undefined if the VM must wait for a commit about one of its volumes. */
  #needsOf(id: Id<'vm'>, vm: VmRecord) {
    const { architecture } = vm.boot ?? this.#mirror.get(images, vm.image)?.value ?? {};
    const antiAffinity = antiAffinityOf(vm);
    const resources: PlacedResources = {
      ...declaredResources(vm),
      ...(antiAffinity && { anti_affinity: antiAffinity }),
    };
    const hostSelector = hostSelectorOf(vm);
    const needs = this.#volumes.needsOf(id);
    // Another part of a commit may write the same placement of a volume, and no commit writes a key twice.
    if (needs.moving.some((volume) => this.#subjects.isInFlight(volume.id))) {
      this.#deferred.add(id);
      return undefined;
    }
    const request = architecture && {
      ...resources,
      architecture,
      ...(hostSelector && { host_selector: hostSelector }),
      disk: resources.disk + needs.disk,
      ...(needs.hosts.length > 0 && { volume_hosts: needs.hosts }),
      ...(needs.pools.length > 0 && { pools: needs.pools }),
    };
    return { resources, moving: needs.moving, request };
  }

  /** Returns the part with the volumes that get the host of their VM. */
  #withVolumes(part: CommitPart, moving: readonly VolumeRecords[], host: Id<'host'>, now: Date): CommitPart {
    const parts = this.#volumes.grantAll(moving, host, now);
    return {
      ...part,
      require: [...part.require, ...parts.flatMap(({ require }) => require)],
      write: [...part.write, ...parts.flatMap(({ write }) => write)],
      volumes: parts.map(({ id }) => idFrom('volume', id)),
    };
  }

  #nameOf(host: Id<'host'>): string {
    return this.#mirror.get(hosts, host)?.value.name ?? host;
  }

  #move(
    records: MovingVm,
    vm: VmRecord,
    { from, to }: { readonly from: Id<'host'>; readonly to: Id<'host'> | undefined },
    now: Date,
  ): CommitPart | undefined {
    const needs = this.#needsOf(records.id, vm);
    if (needs === undefined) return undefined;
    const { resources, moving, request } = needs;
    // The API refuses the move of a VM with a disk of its own.
    const chosen =
      request === undefined || vm.root_volume === undefined
        ? { refusal: 'the disk of the VM lies on its host alone' }
        : moveHost(this.#pool, { ...request, present_host: from }, to);
    if ('refusal' in chosen) {
      const { refusal } = chosen;
      return endMove(records, failedMove(`${refusal.charAt(0).toUpperCase()}${refusal.slice(1)}.`).error, now);
    }
    this.#pool.setPlacement(chosen.host, records.id, resources);
    const way = {
      from: { host: from, name: this.#nameOf(from) },
      to: { host: chosen.host, name: this.#nameOf(chosen.host) },
      usedSlots: new Set([...this.#attachments.list(records.id)].map(({ value }) => value.slot)),
    };
    return this.#withVolumes(moveVm(records, vm, resources, way, now), moving, chosen.host, now);
  }

  #place(records: VmRecords, vm: VmRecord, now: Date): CommitPart | undefined {
    const needs = this.#needsOf(records.id, vm);
    if (needs === undefined) return undefined;
    const { resources, moving, request } = needs;
    const host = request && this.#search.find(request);
    if (host !== undefined) {
      this.#pool.setPlacement(host, records.id, resources);
      return this.#withVolumes(placeVm(records, vm, host, this.#nameOf(host), resources, now), moving, host, now);
    }
    this.#subjects.setWaiting(records.id, true);
    const failure = request
      ? this.#search.explain(request)
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
    // Less than before is free only when the commit has succeeded. Another commit might otherwise give it away first.
    this.#pool.setPlacement(host, records.id, { ...granted, ...maxResources(granted, resources) });
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
      this.#subjects.ended(parts.flatMap(subjectsOf));
      for (const vm of this.#deferred) this.#subjects.mark(vm);
      this.#deferred.clear();
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
        for (const each of isIdOf('vm', id) ? withVm : [id]) this.#volumes.reset(each, host);
        if (isIdOf('vm', id))
          this.#pool.setPlacement(host, id, this.#mirror.get(placements, placementId(host, id))?.value);
      }
      if (parts.length > 1) this.#commitAlone.add(id);
      else if (this.#isUnreadable(id, require)) continue;
      this.#subjects.mark(id);
    }
    // The commit's reservations in the pool are free again.
    this.#subjects.markWaiting();
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
