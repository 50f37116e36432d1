/**
 * The accounts of all hosts, kept up to date change by change, and the best host for a VM without looking at each.
 *
 * Hosts are the leaves of a complete binary tree in arrays. Each inner node knows, of the usable hosts below it, the
 * most free of each resource, the architectures, and which leaf is best. The search goes into the better half first
 * and leaves out every half that cannot hold the VM or cannot beat what was found: a few dozen steps for ten
 * thousand hosts, where VMs are of usual sizes. A change of one host renews the path from its leaf to the root.
 *
 * The order of hosts is total (score, then id), so the result does not depend on the order in which they came.
 */
import type { Id } from '../contract/fields.ts';
import { count, type Groups, type Members, membersOf } from './anti-affinity.ts';
import {
  allocatable,
  type Candidate,
  type Demand,
  defaultPolicy,
  explain,
  type Given,
  type NoHost,
  type Policy,
  type Resources,
  refusedBy,
  score,
} from './placement.ts';

export interface PoolHost {
  readonly id: Id<'host'>;
  readonly architecture: 'x86_64' | 'aarch64';
  readonly alive: boolean;
  readonly capacity: Resources;
  readonly policy: Policy;
}

interface Slot {
  readonly index: number;
  host: Candidate;
  score: number;
}

interface Account {
  cpus: number;
  memory: number;
  disk: number;
  readonly vms: Map<string, Given>;
  readonly groups: Map<string, Members>;
}

const noGroups: Groups = new Map();
const nothing: Resources = { cpus: 0, memory: 0, disk: 0 };
const none = -1;
const bits = { x86_64: 1, aarch64: 2 } as const;

export class HostPool {
  readonly #slots: (Slot | undefined)[] = [];
  readonly #unused: number[] = [];
  readonly #byHost = new Map<Id<'host'>, Slot>();
  /** What the VMs of a host have been given; also of hosts that are not known (yet). */
  readonly #accounts = new Map<Id<'host'>, Account>();
  #width = 1;
  #cpus = new Float64Array(2);
  #memory = new Float64Array(2);
  #disk = new Float64Array(2);
  #architectures = new Uint8Array(2);
  #best = new Int32Array(2).fill(none);

  get size(): number {
    return this.#byHost.size;
  }

  hosts(): Candidate[] {
    return [...this.#byHost.values()].map(({ host }) => host);
  }

  get(id: Id<'host'>): Candidate | undefined {
    return this.#byHost.get(id)?.host;
  }

  /** Enters a host as its records tell it, and takes it out where it has none. */
  enter(
    id: Id<'host'>,
    record: Pick<PoolHost, 'architecture' | 'capacity'> | undefined,
    policy: Policy | undefined,
    alive: boolean,
  ): void {
    if (record === undefined) this.removeHost(id);
    else {
      const { architecture, capacity } = record;
      this.setHost({ id, architecture, capacity, policy: policy ?? defaultPolicy, alive });
    }
  }

  /** Enters a host or changes what is known of it. Returns whether it may now take what it could not take before. */
  setHost({ id, architecture, alive, capacity, policy }: PoolHost): boolean {
    const total = allocatable(capacity, policy);
    const known = this.#byHost.get(id);
    const old = known?.host;
    const groups = this.#accounts.get(id)?.groups ?? noGroups;
    const host = { id, architecture, alive, draining: policy.draining, total, free: this.#free(id, total), groups };
    const slot = known ?? this.#newSlot(host);
    slot.host = host;
    this.#renew(slot);
    if (!alive || policy.draining) return false;
    const was = old?.alive && !old.draining && old.architecture === architecture ? old.free : undefined;
    return was === undefined || host.free.cpus > was.cpus || host.free.memory > was.memory || host.free.disk > was.disk;
  }

  removeHost(id: Id<'host'>): void {
    const slot = this.#byHost.get(id);
    if (slot === undefined) return;
    this.#byHost.delete(id);
    this.#slots[slot.index] = undefined;
    this.#unused.push(slot.index);
    this.#renewPath(slot.index);
  }

  /** Says what the VM has been given on the host (`undefined`: nothing). Saying it again changes nothing. */
  setPlacement(host: Id<'host'>, vm: string, given: Given | undefined): void {
    let account = this.#accounts.get(host);
    if (account === undefined) {
      if (given === undefined) return;
      account = { cpus: 0, memory: 0, disk: 0, vms: new Map(), groups: new Map() };
      this.#accounts.set(host, account);
    }
    const before: Given = account.vms.get(vm) ?? nothing;
    const after: Given = given ?? nothing;
    account.cpus += after.cpus - before.cpus;
    account.memory += after.memory - before.memory;
    account.disk += after.disk - before.disk;
    count(account.groups, before.anti_affinity, -1);
    count(account.groups, after.anti_affinity, 1);
    if (given) account.vms.set(vm, given);
    else account.vms.delete(vm);
    if (account.vms.size === 0) this.#accounts.delete(host);
    const slot = this.#byHost.get(host);
    if (slot === undefined) return;
    slot.host = { ...slot.host, free: this.#free(host, slot.host.total), groups: account.groups };
    this.#renew(slot);
  }

  placement(host: Id<'host'>, vm: string): Given | undefined {
    return this.#accounts.get(host)?.vms.get(vm);
  }

  /** The best host for the VM; if it prefers to be without others of its group, the best of those with the fewest. */
  find(demand: Demand): Id<'host'> | undefined {
    const { anti_affinity: wish } = demand;
    if (wish?.mode !== 'preferred') return this.#search(1, demand, undefined)?.host.id;
    const without = this.#search(1, { ...demand, anti_affinity: { ...wish, mode: 'required' } }, undefined);
    if (without) return without.host.id;
    // Each host with room has one: there is no order to go by, so each is looked at.
    let best: Slot | undefined;
    for (const slot of this.#byHost.values()) {
      if (refusedBy(slot.host, demand) !== undefined) continue;
      const fewer = best ? membersOf(best.host.groups, wish) - membersOf(slot.host.groups, wish) : 1;
      if (fewer > 0 || (fewer === 0 && !beats(best, slot))) best = slot;
    }
    return best?.host.id;
  }

  /** Why `find` has found none. Looks at every host. */
  explain(demand: Demand): NoHost {
    return explain(
      [...this.#byHost.values()].map(({ host }) => host),
      demand,
    );
  }

  #free(id: Id<'host'>, total: Resources): Resources {
    const used = this.#accounts.get(id) ?? nothing;
    return { cpus: total.cpus - used.cpus, memory: total.memory - used.memory, disk: total.disk - used.disk };
  }

  #newSlot(host: Candidate): Slot {
    const index = this.#unused.pop() ?? this.#slots.length;
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
    this.#best = new Int32Array(length).fill(none);
    for (let index = 0; index < this.#width; index++) this.#renewLeaf(index);
    for (let node = this.#width - 1; node > 0; node--) this.#renewInner(node);
  }

  #renew(slot: Slot): void {
    slot.score = score(slot.host);
    this.#renewPath(slot.index);
  }

  #renewPath(index: number): void {
    this.#renewLeaf(index);
    for (let node = (this.#width + index) >> 1; node > 0; node >>= 1) this.#renewInner(node);
  }

  #renewLeaf(index: number): void {
    const node = this.#width + index;
    const host = this.#slots[index]?.host;
    const usable = host?.alive && !host.draining;
    this.#best[node] = usable ? index : none;
    this.#architectures[node] = usable ? bits[host.architecture] : 0;
    this.#cpus[node] = usable ? host.free.cpus : -Infinity;
    this.#memory[node] = usable ? host.free.memory : -Infinity;
    this.#disk[node] = usable ? host.free.disk : -Infinity;
  }

  #renewInner(node: number): void {
    const left = node * 2;
    const right = left + 1;
    const max = (values: Float64Array) => Math.max(values[left] ?? -Infinity, values[right] ?? -Infinity);
    this.#cpus[node] = max(this.#cpus);
    this.#memory[node] = max(this.#memory);
    this.#disk[node] = max(this.#disk);
    this.#architectures[node] = (this.#architectures[left] ?? 0) | (this.#architectures[right] ?? 0);
    this.#best[node] = (this.#leftFirst(left, right) ? this.#best[left] : this.#best[right]) ?? none;
  }

  #bestOf(node: number): Slot | undefined {
    const index = this.#best[node] ?? none;
    return index === none ? undefined : this.#slots[index];
  }

  #leftFirst(left: number, right: number): boolean {
    const b = this.#bestOf(right);
    return b === undefined || beats(this.#bestOf(left), b);
  }

  #search(node: number, demand: Demand, found: Slot | undefined): Slot | undefined {
    const best = this.#bestOf(node);
    if (best === undefined || (found && !beats(best, found)) || !this.#mayHold(node, demand)) return found;
    if (refusedBy(best.host, demand) === undefined) return best;
    if (node >= this.#width) return found;
    const left = node * 2;
    const right = left + 1;
    const [first, second] = this.#leftFirst(left, right) ? [left, right] : [right, left];
    return this.#search(second, demand, this.#search(first, demand, found));
  }

  #mayHold(node: number, demand: Demand): boolean {
    return (
      demand.cpus <= (this.#cpus[node] ?? 0) &&
      demand.memory <= (this.#memory[node] ?? 0) &&
      demand.disk <= (this.#disk[node] ?? 0) &&
      ((this.#architectures[node] ?? 0) & bits[demand.architecture]) !== 0
    );
  }
}

function beats(a: Slot | undefined, b: Slot): boolean {
  if (a === undefined) return false;
  return a.score !== b.score ? a.score > b.score : a.host.id < b.host.id;
}
