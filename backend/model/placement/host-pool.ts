/**
 * The resources of all hosts, and a fast search for the best host of a VM.
 *
 * The hosts are the leaves of a complete binary tree in arrays. An inner node holds values of the usable hosts below
 * it: the maximum free amount of each resource, the set of architectures, and the best leaf. The search goes into the
 * better half first. It skips every half that cannot hold the VM or cannot beat the best host so far. With usual VM
 * sizes, a search among ten thousand hosts takes a few dozen steps. A change of one host updates the path from its leaf
 * to the root.
 *
 * The order of hosts is total (score, then id), so the result does not depend on the order of insertion.
 */

import type { Id } from '../../contract/fields.ts';
import type { Architecture } from '../../contract/resources/images.ts';
import type { PlacementStrategy } from '../../contract/resources/settings.ts';
import { adjustMemberCount, type GroupMembers, type Groups, memberCount } from './anti-affinity.ts';
import {
  allocatable,
  type Candidate,
  defaultHostPolicy,
  explainPlacementFailure,
  firstRejectingFilter,
  type HostPolicy,
  type PlacedResources,
  type PlacementFailure,
  type ResourceRequest,
  type Resources,
  score,
} from './filters.ts';
import { StorageSpace } from './storage-space.ts';

/** A host as its records describe it. */
export interface PoolHost {
  readonly id: Id<'host'>;
  readonly architecture: Architecture;
  readonly alive: boolean;
  readonly capacity: Resources;
  readonly policy: HostPolicy;
}

interface Slot {
  readonly index: number;
  host: Candidate;
  score: number;
}

interface HostUsage {
  cpus: number;
  memory: number;
  disk: number;
  readonly vms: Map<string, PlacedResources>;
  readonly groups: Map<string, GroupMembers>;
}

const noGroups: Groups = new Map();
const noLabels: Candidate['labels'] = {};
const zeroResources: Resources = { cpus: 0, memory: 0, disk: 0 };
const noSlot = -1;
const architectureBits = { x86_64: 1, aarch64: 2 } as const;

/** The pool of hosts. The scheduler has one, and each API server has one for capacity checks. */
export class HostPool {
  readonly #slots: (Slot | undefined)[] = [];
  readonly #freeSlots: number[] = [];
  readonly #byHost = new Map<Id<'host'>, Slot>();
  /** The resources of the VMs on each host. It also holds hosts without a host record. */
  readonly #usage = new Map<Id<'host'>, HostUsage>();
  #width = 1;
  #cpus = new Float64Array(2);
  #memory = new Float64Array(2);
  #disk = new Float64Array(2);
  #architectures = new Uint8Array(2);
  #best = new Int32Array(2).fill(noSlot);

  #strategy: PlacementStrategy = 'spread';

  /** The space of storage pools. */
  readonly storage = new StorageSpace();

  /** The number of hosts with a record. */
  get size(): number {
    return this.#byHost.size;
  }

  /** Sets the order in which `find` prefers hosts. The call is idempotent. */
  setStrategy(strategy: PlacementStrategy): void {
    if (strategy === this.#strategy) return;
    this.#strategy = strategy;
    for (const slot of this.#byHost.values()) slot.score = score(slot.host, strategy);
    for (let node = this.#width - 1; node > 0; node--) this.#updateInner(node);
  }

  /** Returns all hosts with a record. */
  hosts(): Candidate[] {
    return [...this.#byHost.values()].map(({ host }) => host);
  }

  /** Returns the host; undefined if it has no record. */
  get(id: Id<'host'>): Candidate | undefined {
    return this.#byHost.get(id)?.host;
  }

  /** Updates a host from its records, and removes it when it has no host record. */
  updateHost(
    id: Id<'host'>,
    record: Pick<PoolHost, 'architecture' | 'capacity'> | undefined,
    policy: HostPolicy | undefined,
    alive: boolean,
  ): void {
    if (record === undefined) this.removeHost(id);
    else {
      const { architecture, capacity } = record;
      this.setHost({ id, architecture, capacity, policy: policy ?? defaultHostPolicy, alive });
    }
  }

  /** Adds or updates a host. */
  setHost({ id, architecture, alive, capacity, policy }: PoolHost): void {
    const total = allocatable(capacity, policy);
    const known = this.#byHost.get(id);
    const groups = this.#usage.get(id)?.groups ?? noGroups;
    const storage: Candidate['storage'] = (pool) => this.storage.free(pool, id);
    const host = {
      id,
      architecture,
      alive,
      draining: policy.draining,
      cordoned: policy.cordoned ?? false,
      labels: policy.labels ?? noLabels,
      total,
      free: this.#free(id, total),
      groups,
      storage,
    };
    const slot = known ?? this.#newSlot(host);
    slot.host = host;
    this.#updateSlot(slot);
  }

  /** Removes the host. The resources of its VMs stay, in case the record comes back. */
  removeHost(id: Id<'host'>): void {
    const slot = this.#byHost.get(id);
    if (slot === undefined) return;
    this.#byHost.delete(id);
    this.#slots[slot.index] = undefined;
    this.#freeSlots.push(slot.index);
    this.#updatePath(slot.index);
  }

  /** Sets the resources of the VM or volume on the host; `undefined` removes it. The call is idempotent. */
  setPlacement(host: Id<'host'>, vm: string, resources: PlacedResources | undefined): void {
    let usage = this.#usage.get(host);
    if (usage === undefined) {
      if (resources === undefined) return;
      usage = { cpus: 0, memory: 0, disk: 0, vms: new Map(), groups: new Map() };
      this.#usage.set(host, usage);
    }
    const before: PlacedResources = usage.vms.get(vm) ?? zeroResources;
    const after: PlacedResources = resources ?? zeroResources;
    usage.cpus += after.cpus - before.cpus;
    usage.memory += after.memory - before.memory;
    usage.disk += after.disk - before.disk;
    adjustMemberCount(usage.groups, before.anti_affinity, -1);
    adjustMemberCount(usage.groups, after.anti_affinity, 1);
    if (resources) usage.vms.set(vm, resources);
    else usage.vms.delete(vm);
    if (usage.vms.size === 0) this.#usage.delete(host);
    const slot = this.#byHost.get(host);
    if (slot === undefined) return;
    slot.host = { ...slot.host, free: this.#free(host, slot.host.total), groups: usage.groups };
    this.#updateSlot(slot);
  }

  /** Returns the resources of the VM on the host; undefined if it is not placed there. */
  placement(host: Id<'host'>, vm: string): PlacedResources | undefined {
    return this.#usage.get(host)?.vms.get(vm);
  }

  /**
   * Returns the best host for the VM; undefined if no host can take it. For a VM that prefers anti-affinity, the best
   * host is the best one of those with the fewest VMs of its group.
   */
  find(request: ResourceRequest): Id<'host'> | undefined {
    const { anti_affinity: antiAffinity, volume_hosts: volumeHosts } = request;
    if (volumeHosts !== undefined && volumeHosts.length > 0) {
      return volumeHosts.find((id) => {
        const host = this.get(id);
        return host !== undefined && firstRejectingFilter(host, request) === undefined;
      });
    }
    if (antiAffinity?.mode !== 'preferred') return this.#search(1, request, undefined)?.host.id;
    const without = this.#search(1, { ...request, anti_affinity: { ...antiAffinity, mode: 'required' } }, undefined);
    if (without) return without.host.id;
    // Every host with room has a VM of the group. The tree has no order by group members, so the loop compares all
    // hosts.
    let best: Slot | undefined;
    for (const slot of this.#byHost.values()) {
      if (firstRejectingFilter(slot.host, request) !== undefined) continue;
      const fewer = best
        ? memberCount(best.host.groups, antiAffinity) - memberCount(slot.host.groups, antiAffinity)
        : 1;
      if (fewer > 0 || (fewer === 0 && !ranksHigher(best, slot))) best = slot;
    }
    return best?.host.id;
  }

  /** Explains why `find` returned undefined. Compares every host. */
  explain(request: ResourceRequest): PlacementFailure {
    return explainPlacementFailure(
      [...this.#byHost.values()].map(({ host }) => host),
      request,
    );
  }

  #free(id: Id<'host'>, total: Resources): Resources {
    const used = this.#usage.get(id) ?? zeroResources;
    return { cpus: total.cpus - used.cpus, memory: total.memory - used.memory, disk: total.disk - used.disk };
  }

  #newSlot(host: Candidate): Slot {
    const index = this.#freeSlots.pop() ?? this.#slots.length;
    const slot = { index, host, score: 0 };
    this.#slots[index] = slot;
    this.#byHost.set(host.id, slot);
    if (index >= this.#width) this.#grow();
    return slot;
  }

  #grow(): void {
    this.#width *= 2;
    const length = this.#width * 2;
    this.#cpus = new Float64Array(length);
    this.#memory = new Float64Array(length);
    this.#disk = new Float64Array(length);
    this.#architectures = new Uint8Array(length);
    this.#best = new Int32Array(length).fill(noSlot);
    for (let index = 0; index < this.#width; index++) this.#updateLeaf(index);
    for (let node = this.#width - 1; node > 0; node--) this.#updateInner(node);
  }

  #updateSlot(slot: Slot): void {
    slot.score = score(slot.host, this.#strategy);
    this.#updatePath(slot.index);
  }

  #updatePath(index: number): void {
    this.#updateLeaf(index);
    for (let node = (this.#width + index) >> 1; node > 0; node >>= 1) this.#updateInner(node);
  }

  #updateLeaf(index: number): void {
    const node = this.#width + index;
    const host = this.#slots[index]?.host;
    const usable = host?.alive && !host.draining && !host.cordoned;
    this.#best[node] = usable ? index : noSlot;
    this.#architectures[node] = usable ? architectureBits[host.architecture] : 0;
    this.#cpus[node] = usable ? host.free.cpus : -Infinity;
    this.#memory[node] = usable ? host.free.memory : -Infinity;
    this.#disk[node] = usable ? host.free.disk : -Infinity;
  }

  #updateInner(node: number): void {
    const left = node * 2;
    const right = left + 1;
    const max = (values: Float64Array) => Math.max(values[left] ?? -Infinity, values[right] ?? -Infinity);
    this.#cpus[node] = max(this.#cpus);
    this.#memory[node] = max(this.#memory);
    this.#disk[node] = max(this.#disk);
    this.#architectures[node] = (this.#architectures[left] ?? 0) | (this.#architectures[right] ?? 0);
    this.#best[node] = (this.#leftRanksFirst(left, right) ? this.#best[left] : this.#best[right]) ?? noSlot;
  }

  #bestOf(node: number): Slot | undefined {
    const index = this.#best[node] ?? noSlot;
    return index === noSlot ? undefined : this.#slots[index];
  }

  #leftRanksFirst(left: number, right: number): boolean {
    const b = this.#bestOf(right);
    return b === undefined || ranksHigher(this.#bestOf(left), b);
  }

  #search(node: number, request: ResourceRequest, found: Slot | undefined): Slot | undefined {
    const best = this.#bestOf(node);
    if (best === undefined || (found && !ranksHigher(best, found)) || !this.#mayFit(node, request)) return found;
    if (firstRejectingFilter(best.host, request) === undefined) return best;
    if (node >= this.#width) return found;
    const left = node * 2;
    const right = left + 1;
    const [first, second] = this.#leftRanksFirst(left, right) ? [left, right] : [right, left];
    return this.#search(second, request, this.#search(first, request, found));
  }

  #mayFit(node: number, request: ResourceRequest): boolean {
    return (
      request.cpus <= (this.#cpus[node] ?? 0) &&
      request.memory <= (this.#memory[node] ?? 0) &&
      request.disk <= (this.#disk[node] ?? 0) &&
      ((this.#architectures[node] ?? 0) & architectureBits[request.architecture]) !== 0
    );
  }
}

function ranksHigher(a: Slot | undefined, b: Slot): boolean {
  if (a === undefined) return false;
  return a.score !== b.score ? a.score > b.score : a.host.id < b.host.id;
}
