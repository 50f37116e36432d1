/**
 * The rules of placement. Filters say which hosts can take a VM, the score says which of them is best, and the
 * explanation tells the owner of the VM why no host can. The rules have no I/O and no state; host-pool.ts adds the data
 * structure for fast searches.
 *
 * The resources of a host are the capacity of its machine times the operator's overcommit ratio. Disk is never
 * overcommitted, because a full host disk corrupts every guest on it at once.
 */

import type { Id } from '../../contract/fields.ts';
import { hostPolicyDefaults } from '../../contract/resources/hosts.ts';
import type { Architecture } from '../../contract/resources/images.ts';
import type { PlacementStrategy } from '../../contract/resources/settings.ts';
import { describeSize } from '../text/sizes.ts';
import { type AntiAffinity, type Groups, groupName, satisfiesAntiAffinity } from './anti-affinity.ts';
import { type HostSelector, satisfiesHostSelector } from './host-selector.ts';

/** Resources of a host or a VM. */
export interface Resources {
  readonly cpus: number;
  /** Bytes. */
  readonly memory: number;
  /** Bytes. */
  readonly disk: number;
}
const resourceKinds = ['cpus', 'memory', 'disk'] as const satisfies readonly (keyof Resources)[];

/** The resources that a placement gives to a VM, with the VM's anti-affinity group. */
export interface PlacedResources extends Resources {
  readonly anti_affinity?: AntiAffinity;
}

/** The resources that a VM needs, and the architecture of its image. */
export interface ResourceRequest extends PlacedResources {
  readonly architecture: Architecture;
  readonly host_selector?: HostSelector;
  /** The hosts of the volumes that the VM has. Two hosts have no common VM. */
  readonly volume_hosts?: readonly Id<'host'>[];
  /** The present host of a VM that moves. */
  readonly present_host?: Id<'host'>;
  /** The storage pools of its volumes, but for the built-in pool. */
  readonly pools?: readonly PoolRequest[];
}

/** The bytes that a VM needs in a storage pool. */
export interface PoolRequest {
  readonly pool: Id<'storage_pool'>;
  readonly name: string;
  readonly bytes: number;
}

/** A host as the placement rules see it. */
export interface Candidate {
  readonly id: Id<'host'>;
  readonly architecture: Architecture;
  /** The host's agent holds its lease. */
  readonly alive: boolean;
  /** The operator empties the host. */
  readonly draining: boolean;
  /** The operator has closed the host to new VMs. */
  readonly cordoned: boolean;
  readonly labels: Readonly<Record<string, string>>;
  /** All resources for VMs, overcommit included. */
  readonly total: Resources;
  /** The unused part of `total`. Negative after the operator has lowered the overcommit ratio below the current use. */
  readonly free: Resources;
  /** The anti-affinity groups of the host's VMs, VMs in deletion included. */
  readonly groups: Groups;
  /** Returns the free bytes of a storage pool; undefined if the host does not reach it. */
  storage(pool: Id<'storage_pool'>): number | undefined;
}

/** The operator's settings for one host. */
export interface HostPolicy {
  readonly labels?: Readonly<Record<string, string>>;
  readonly draining: boolean;
  readonly cordoned?: boolean;
  readonly cpu_overcommit: number;
  readonly memory_overcommit: number;
}
/** The policy of a host without a policy record: the defaults of the API contract. */
export const defaultHostPolicy: HostPolicy = hostPolicyDefaults;

/** Returns the resources that a host can give to VMs: its capacity times the overcommit ratios. */
export const allocatable = (capacity: Resources, policy: HostPolicy): Resources => ({
  cpus: capacity.cpus * policy.cpu_overcommit,
  memory: Math.floor(capacity.memory * policy.memory_overcommit),
  disk: capacity.disk,
});

/** Returns the larger amount of each resource. */
export const maxResources = (a: Resources, b: Resources): Resources => ({
  cpus: Math.max(a.cpus, b.cpus),
  memory: Math.max(a.memory, b.memory),
  disk: Math.max(a.disk, b.disk),
});

/** Tells whether the request fits into the free resources. */
export const fits = (request: Resources, free: Resources): boolean =>
  request.cpus <= free.cpus && request.memory <= free.memory && request.disk <= free.disk;

/**
 * Returns the free share of the host's scarcest resource, from 0 (full) to 1 (empty). A resource that the host does not
 * have at all, such as the disk of a host with network storage only, does not count. The share depends on the host alone,
 * so host-pool.ts can keep the hosts in order.
 */
export function freeShare({ total, free }: Pick<Candidate, 'total' | 'free'>): number {
  const shares = resourceKinds.filter((kind) => total[kind] > 0).map((kind) => free[kind] / total[kind]);
  return shares.length === 0 ? 0 : Math.max(0, Math.min(...shares));
}

/**
 * Returns how suitable a host is for the next VM; a higher score is better. `spread` prefers empty hosts. `pack` prefers
 * full hosts, so an empty host gets a VM only if no other host can take it.
 */
export const score = (host: Pick<Candidate, 'total' | 'free'>, strategy: PlacementStrategy): number =>
  strategy === 'pack' ? 1 - freeShare(host) : freeShare(host);

/** One reason why hosts cannot take a VM. A host counts under the first filter that rejects it. */
export interface Refusal {
  readonly filter: string;
  readonly hosts: number;
  readonly message: string;
}

/** The reasons why no host can take a VM. */
export interface PlacementFailure {
  readonly refusals: readonly Refusal[];
  /** One sentence for the owner of the VM. */
  readonly message: string;
}

/** A rule that rejects hosts. */
interface Filter {
  readonly name: string;
  /** Tells whether the host cannot take the VM. */
  rejects(host: Candidate, request: ResourceRequest): boolean;
  /** Describes why the `refused` hosts, out of `total` hosts, cannot take the VM. */
  describe(refused: readonly Candidate[], total: number, request: ResourceRequest): string;
}

/** Formats an amount, rounded down: the text must not name more than the host has. */
function formatAmount(kind: keyof Resources, value: number): string {
  const left = Math.max(0, value);
  if (kind === 'cpus') return left === 1 ? '1 cpu' : `${Math.floor(left * 10) / 10} cpus`;
  return describeSize(left);
}
const formatNeeded = (kind: keyof Resources, value: number) =>
  kind === 'cpus' ? formatAmount(kind, value) : `${formatAmount(kind, value)} of ${kind}`;

/** Formats `all 3 hosts are draining`, `the only host is draining` or `1 of 5 hosts is draining`. */
function describeShare(refused: number, total: number, what: string): string {
  const are = refused === 1 ? 'is' : 'are';
  if (refused < total) return `${refused} of ${total} hosts ${are} ${what}`;
  return total === 1 ? `the only host is ${what}` : `all ${total} hosts are ${what}`;
}

function explainCapacity(refused: readonly Candidate[], request: ResourceRequest): string {
  const lacking = resourceKinds
    .map((kind) => ({ kind, most: Math.max(...refused.map(({ free }) => free[kind])) }))
    .filter(({ kind, most }) => most < request[kind]);
  if (lacking.length === 0) {
    const all = resourceKinds.map((kind) => formatNeeded(kind, request[kind])).join(', ');
    return `needs ${all} on one host; no host has all of it free`;
  }
  return lacking
    .map(
      ({ kind, most }) =>
        `needs ${formatNeeded(kind, request[kind])}, largest free host has ${formatAmount(kind, most)}`,
    )
    .join('; ');
}

function explainAntiAffinity(refused: number, antiAffinity: AntiAffinity | undefined): string {
  const hosts = refused === 1 ? 'the only host with room has' : `all ${refused} hosts with room have`;
  const alone = antiAffinity?.mode === 'preferred' ? ' that must not share its host with another' : '';
  return `${hosts} a VM of the group ${groupName(antiAffinity)} already${alone}`;
}

/** The filters in their order: first the rules about the whole host, last the rules about this VM. */
export const filters: readonly Filter[] = [
  {
    name: 'alive',
    rejects: (host) => !host.alive,
    describe: ({ length }, total) =>
      length === total ? 'no host is alive' : describeShare(length, total, 'not alive'),
  },
  {
    name: 'draining',
    rejects: (host) => host.draining,
    describe: ({ length }, total) => describeShare(length, total, 'draining'),
  },
  {
    name: 'cordoned',
    rejects: (host) => host.cordoned,
    describe: ({ length }, total) => describeShare(length, total, 'cordoned'),
  },
  {
    name: 'architecture',
    rejects: (host, request) => host.architecture !== request.architecture,
    describe: ({ length }, total, { architecture }) =>
      length === total
        ? `no host has the architecture ${architecture}`
        : describeShare(length, total, `not ${architecture}`),
  },
  {
    name: 'host_selector',
    rejects: ({ labels }, { host_selector: selector }) =>
      selector !== undefined && !satisfiesHostSelector(labels, selector),
    describe: ({ length }, total, { host_selector: selector }) => {
      const text = selector?.text ?? '';
      return length === total
        ? `no host matches the host selector ${text}`
        : describeShare(length, total, `not matched by the host selector ${text}`);
    },
  },
  {
    name: 'volumes',
    rejects: ({ id }, { volume_hosts = [] }) => volume_hosts.some((host) => host !== id),
    describe: ({ length }, total, { volume_hosts = [] }) =>
      volume_hosts.length > 1
        ? 'the volumes of the VM lie on different hosts'
        : describeShare(length, total, 'not the host of its volumes'),
  },
  {
    name: 'present_host',
    rejects: ({ id }, { present_host: present }) => present === id,
    describe: ({ length }, total) => describeShare(length, total, 'the present host of the VM'),
  },
  {
    name: 'storage_pools',
    rejects: (host, { pools = [] }) => pools.some(({ pool }) => host.storage(pool) === undefined),
    describe: (refused, total, { pools = [] }) => {
      const missing = pools.filter(({ pool }) => refused.some((host) => host.storage(pool) === undefined));
      const names = missing.map(({ name }) => name).join(', ');
      return describeShare(
        refused.length,
        total,
        `without access to the storage ${missing.length > 1 ? 'pools' : 'pool'} ${names}`,
      );
    },
  },
  {
    name: 'pool_space',
    rejects: (host, { pools = [] }) => pools.some(({ pool, bytes }) => bytes > 0 && bytes > (host.storage(pool) ?? 0)),
    describe: (refused, _total, { pools = [] }) =>
      pools
        .map((each) => ({ ...each, most: Math.max(...refused.map((host) => host.storage(each.pool) ?? 0)) }))
        .filter(({ bytes, most }) => bytes > 0 && bytes > most)
        .map(
          ({ name, bytes, most }) =>
            `needs ${describeSize(bytes)} in the storage pool ${name}, which has ${describeSize(Math.max(0, most))} left`,
        )
        .join('; '),
  },
  {
    name: 'capacity',
    rejects: (host, request) => !fits(request, host.free),
    describe: (refused, _total, request) => explainCapacity(refused, request),
  },
  {
    name: 'anti_affinity',
    rejects: ({ groups }, { anti_affinity }) =>
      anti_affinity !== undefined && !satisfiesAntiAffinity(groups, anti_affinity),
    describe: ({ length }, _total, { anti_affinity }) => explainAntiAffinity(length, anti_affinity),
  },
];

/** Returns the name of the first filter that rejects the host; undefined if the host can take the VM. */
export const firstRejectingFilter = (host: Candidate, request: ResourceRequest): string | undefined =>
  filters.find((filter) => filter.rejects(host, request))?.name;

/** Explains why no host can take the VM. */
export function explainPlacementFailure(hosts: Iterable<Candidate>, request: ResourceRequest): PlacementFailure {
  const refused = new Map<string, Candidate[]>();
  let total = 0;
  for (const host of hosts) {
    total++;
    const name = firstRejectingFilter(host, request);
    if (name === undefined) continue;
    const others = refused.get(name);
    if (others) others.push(host);
    else refused.set(name, [host]);
  }
  if (total === 0) return { refusals: [], message: 'there is no host' };
  // The last filter rejects the hosts that were closest to taking the VM, so its reason helps most and comes first.
  const refusals = filters.toReversed().flatMap(({ name, describe }) => {
    const rejected = refused.get(name);
    return rejected ? [{ filter: name, hosts: rejected.length, message: describe(rejected, total, request) }] : [];
  });
  return { refusals, message: refusals.map(({ message }) => message).join('; ') };
}

/**
 * Returns the resources that the host does not have free for a resize.
 * @param free the free resources of the host, without the resources of this VM
 * @param given the resources that the VM has now
 * @param wanted the resources that the VM is to have
 */
export const insufficientResources = (
  free: Resources | undefined,
  given: Resources,
  wanted: Resources,
): (keyof Resources)[] =>
  resourceKinds.filter((kind) => wanted[kind] > given[kind] && wanted[kind] - given[kind] > (free?.[kind] ?? 0));

/** Formats, for the owner of the VM, which resources its host does not have free. */
export const explainInsufficientResources = (lacking: readonly (keyof Resources)[]): string =>
  `Its host has not enough ${lacking.join(' and ')} left for the new size; it keeps what it has.`;
