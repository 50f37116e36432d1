/**
 * The rules of placement: which hosts can take a VM (filters), which of those is best (score), and, when none can, why,
 * in words that its owner understands. Without I/O and without memory; host-pool.ts keeps the accounts that make them
 * fast.
 *
 * A host's resources are what its machine has times what the operator lets be overcommitted. Disk is never overcommitted:
 * a host that runs out of it corrupts every guest at once.
 */
import type { Id } from '../contract/fields.ts';
import { type AntiAffinity, apart, type Groups, groupName } from './anti-affinity.ts';

export interface Resources {
  readonly cpus: number;
  /** Bytes. */
  readonly memory: number;
  /** Bytes. */
  readonly disk: number;
}
const kinds = ['cpus', 'memory', 'disk'] as const satisfies readonly (keyof Resources)[];

/** What a VM has of its host. */
export interface Given extends Resources {
  readonly anti_affinity?: AntiAffinity;
}

/** What a VM asks of its host. */
export interface Demand extends Given {
  readonly architecture: 'x86_64' | 'aarch64';
}

/** A host as placement sees it. */
export interface Candidate {
  readonly id: Id<'host'>;
  readonly architecture: 'x86_64' | 'aarch64';
  /** Its agent holds its lease. */
  readonly alive: boolean;
  /** The operator wants nothing new on it. */
  readonly draining: boolean;
  /** What can be given to VMs, overcommitment included. */
  readonly total: Resources;
  /** What is left of that. May be negative after the operator has lowered the overcommitment. */
  readonly free: Resources;
  /** The groups that its VMs belong to, those being deleted included. */
  readonly groups: Groups;
}

export interface Policy {
  readonly draining: boolean;
  readonly cpu_overcommit: number;
  readonly memory_overcommit: number;
}
/** What holds for a host that no operator has said anything about: the defaults of the contract. */
export const defaultPolicy: Policy = { draining: false, cpu_overcommit: 4, memory_overcommit: 1 };

/** What a host can give to VMs. */
export const allocatable = (capacity: Resources, policy: Policy): Resources => ({
  cpus: capacity.cpus * policy.cpu_overcommit,
  memory: Math.floor(capacity.memory * policy.memory_overcommit),
  disk: capacity.disk,
});

export const fits = (demand: Resources, free: Resources): boolean =>
  demand.cpus <= free.cpus && demand.memory <= free.memory && demand.disk <= free.disk;

/**
 * How good a host is for the next VM, from 0 (full) to 1 (empty): the share that is free of its scarcest resource.
 * Taking the highest spreads VMs over hosts. It depends on the host alone, so that hosts can be kept in order.
 */
export const score = ({ total, free }: Candidate): number =>
  Math.max(0, Math.min(...kinds.map((kind) => (total[kind] > 0 ? free[kind] / total[kind] : 0))));

/** One reason why hosts refuse a VM. A host counts under the first filter that refuses it. */
export interface Refusal {
  readonly filter: string;
  readonly hosts: number;
  readonly message: string;
}

export interface NoHost {
  readonly refusals: readonly Refusal[];
  /** For the owner of the VM. */
  readonly message: string;
}

interface Filter {
  readonly name: string;
  /** Whether the host cannot take the VM. */
  refuses(host: Candidate, demand: Demand): boolean;
  /** Why `refused`, out of `total` hosts, cannot. */
  explain(refused: readonly Candidate[], total: number, demand: Demand): string;
}

const gibibyte = 2 ** 30;
const units = [
  ['TiB', 2 ** 40],
  ['GiB', gibibyte],
  ['MiB', 2 ** 20],
] as const;

/** Rounded down, so that it never promises what is not there. */
function amount(kind: keyof Resources, value: number): string {
  const left = Math.max(0, value);
  if (kind === 'cpus') return left === 1 ? '1 cpu' : `${Math.floor(left * 10) / 10} cpus`;
  const [unit, size] = units.find(([, size]) => left >= size) ?? ['MiB', 2 ** 20];
  return `${Math.floor((left / size) * 10) / 10} ${unit}`;
}
const needed = (kind: keyof Resources, value: number) =>
  kind === 'cpus' ? amount(kind, value) : `${amount(kind, value)} of ${kind}`;

/** `all 3 hosts are draining`, `the only host is draining`, `1 of 5 hosts is draining`. */
function some(refused: number, total: number, what: string): string {
  const are = refused === 1 ? 'is' : 'are';
  if (refused < total) return `${refused} of ${total} hosts ${are} ${what}`;
  return total === 1 ? `the only host is ${what}` : `all ${total} hosts are ${what}`;
}

function explainCapacity(refused: readonly Candidate[], demand: Demand): string {
  const lacking = kinds
    .map((kind) => ({ kind, most: Math.max(...refused.map(({ free }) => free[kind])) }))
    .filter(({ kind, most }) => most < demand[kind]);
  if (lacking.length === 0) {
    const all = kinds.map((kind) => needed(kind, demand[kind])).join(', ');
    return `needs ${all} on one host; no host has all of it free`;
  }
  return lacking
    .map(({ kind, most }) => `needs ${needed(kind, demand[kind])}, largest free host has ${amount(kind, most)}`)
    .join('; ');
}

function explainGroup(refused: number, wish: AntiAffinity | undefined): string {
  const hosts = refused === 1 ? 'the only host with room has' : `all ${refused} hosts with room have`;
  const alone = wish?.mode === 'preferred' ? ' that must not share its host with another' : '';
  return `${hosts} a VM of the group ${groupName(wish)} already${alone}`;
}

/** In this order, from what concerns the whole host to what concerns this VM. */
export const filters: readonly Filter[] = [
  {
    name: 'alive',
    refuses: (host) => !host.alive,
    explain: ({ length }, total) => (length === total ? 'no host is alive' : some(length, total, 'not alive')),
  },
  {
    name: 'draining',
    refuses: (host) => host.draining,
    explain: ({ length }, total) => some(length, total, 'draining'),
  },
  {
    name: 'architecture',
    refuses: (host, demand) => host.architecture !== demand.architecture,
    explain: ({ length }, total, { architecture }) =>
      length === total ? `no host has the architecture ${architecture}` : some(length, total, `not ${architecture}`),
  },
  {
    name: 'capacity',
    refuses: (host, demand) => !fits(demand, host.free),
    explain: (refused, _total, demand) => explainCapacity(refused, demand),
  },
  {
    name: 'anti_affinity',
    refuses: ({ groups }, { anti_affinity }) => anti_affinity !== undefined && !apart(groups, anti_affinity),
    explain: ({ length }, _total, { anti_affinity }) => explainGroup(length, anti_affinity),
  },
];

/** Name of the first filter that refuses the host, if any does. */
export const refusedBy = (host: Candidate, demand: Demand): string | undefined =>
  filters.find((filter) => filter.refuses(host, demand))?.name;

/** Why none of the hosts can take the VM. */
export function explain(hosts: Iterable<Candidate>, demand: Demand): NoHost {
  const refused = new Map<string, Candidate[]>();
  let total = 0;
  for (const host of hosts) {
    total++;
    const name = refusedBy(host, demand);
    if (name === undefined) continue;
    const others = refused.get(name);
    if (others) others.push(host);
    else refused.set(name, [host]);
  }
  if (total === 0) return { refusals: [], message: 'there is no host' };
  // The last filter comes closest to a host that could have taken it, so it is the most useful thing to say first.
  const refusals = filters.toReversed().flatMap(({ name, explain }) => {
    const mine = refused.get(name);
    return mine ? [{ filter: name, hosts: mine.length, message: explain(mine, total, demand) }] : [];
  });
  return { refusals, message: refusals.map(({ message }) => message).join('; ') };
}

/** What a VM lacks on its host that is to have `wanted` in the place of `given`. */
export const lackingOn = (free: Resources | undefined, given: Resources, wanted: Resources): (keyof Resources)[] =>
  kinds.filter((kind) => wanted[kind] > given[kind] && wanted[kind] - given[kind] > (free?.[kind] ?? 0));

export const explainLacking = (lacking: readonly (keyof Resources)[]): string =>
  `Its host has not enough ${lacking.join(' and ')} left for the new size; it keeps what it has.`;
