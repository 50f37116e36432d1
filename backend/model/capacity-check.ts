/**
 * Whether there is room for what is planned: in the project's quota, and for its VMs on the hosts, each in the room that
 * those before it leave. Placed by the scheduler's own rules, in a pool of hosts that is given back as it was.
 *
 * A VM that the quota does not allow takes no host. One that finds no host counts all the same: it would be made, and
 * wait.
 */
import type { refusalReasons } from '../contract/capacity-checks.ts';
import type { Id } from '../contract/fields.ts';
import type { QuotaKind } from '../contract/quotas.ts';
import type { HostPool } from './host-pool.ts';
import { type Demand, explainLacking, type Given, lackingOn } from './placement.ts';
import { type Amounts, exceeded, explainExceeded, plus, type SomeAmounts } from './quota.ts';

type Architecture = Demand['architecture'];

export interface Wish {
  readonly count: number;
  /** What one of them takes of the quota. */
  readonly grows: SomeAmounts;
  /** What one of them asks of its host, but for the architecture. */
  readonly demand: Omit<Demand, 'architecture'>;
  /** Any of these will do. */
  readonly architectures: readonly [Architecture, ...Architecture[]];
  /** It has a host, and stays there. */
  readonly placed?: { readonly host: Id<'host'>; readonly vm: Id<'vm'> };
}

export interface Refusal {
  /** Of the wish. */
  readonly index: number;
  /** Those refused for one reason follow each other: the first of them, and how many they are. */
  readonly first: number;
  readonly count: number;
  readonly reason: (typeof refusalReasons)[number];
  /** What there is too little of, where it is one thing. */
  readonly kind?: QuotaKind | 'anti_affinity';
  readonly message: string;
}

type Why = Pick<Refusal, 'reason' | 'kind' | 'message'>;

export interface Limited {
  readonly name: string;
  readonly limits: SomeAmounts;
  readonly used: Amounts;
}

/** What the quota refuses of objects that come in numbers. */
export function refusedByQuota({ name, limits, used }: Limited, growth: SomeAmounts): Omit<Refusal, 'index'>[] {
  return exceeded(limits, used, growth).map((kind) => {
    const [limit, more] = [limits[kind] ?? 0, growth[kind] ?? 0];
    const count = Math.min(more, used[kind] + more - limit);
    return {
      kind,
      first: more - count,
      count,
      reason: 'quota_exceeded',
      message: explainExceeded(name, kind, { limit, used: used[kind], more }),
    };
  });
}

/** A pool in which placements can be tried and taken back. */
class Rehearsal {
  readonly #pool: HostPool;
  readonly #before: [host: Id<'host'>, vm: string, given: Given | undefined][] = [];
  /** What has found no host. Room only becomes less, so it will not find one later either. */
  readonly #impossible = new Set<string>();
  #made = 0;

  constructor(pool: HostPool) {
    this.#pool = pool;
  }

  give(host: Id<'host'>, vm: string, given: Given | undefined): void {
    this.#before.push([host, vm, this.#pool.placement(host, vm)]);
    this.#pool.setPlacement(host, vm, given);
  }

  /** Why no host can take it, or undefined: it has been placed. */
  place({ demand, architectures }: Wish): Why | undefined {
    const shape = JSON.stringify([demand, architectures]);
    const host = this.#impossible.has(shape) ? undefined : this.#find(demand, architectures);
    if (host !== undefined) {
      this.give(host, `planned-${this.#made++}`, demand);
      return undefined;
    }
    this.#impossible.add(shape);
    const known = new Set(this.#pool.hosts().map(({ architecture }) => architecture));
    const architecture = architectures.find((one) => known.has(one)) ?? architectures[0];
    const { anti_affinity: _group, ...ungrouped } = demand;
    const kind = this.#find(ungrouped, architectures)
      ? 'anti_affinity'
      : (['memory', 'disk', 'cpus'] as const).find((kind) => this.#find({ ...demand, [kind]: 0 }, architectures));
    return {
      reason: 'no_host',
      ...(kind && { kind }),
      message: this.#pool.explain({ ...demand, architecture }).message,
    };
  }

  /** Why its host cannot give it more, or undefined: it has it. */
  grow({ demand }: Wish, { host, vm }: NonNullable<Wish['placed']>): Why | undefined {
    const given = this.#pool.placement(host, vm);
    if (given === undefined) return undefined;
    const wanted = {
      cpus: Math.max(given.cpus, demand.cpus),
      memory: Math.max(given.memory, demand.memory),
      disk: Math.max(given.disk, demand.disk),
    };
    const lacking = lackingOn(this.#pool.get(host)?.free, given, wanted);
    if (lacking.length > 0) {
      return { reason: 'host_full', ...(lacking[0] && { kind: lacking[0] }), message: explainLacking(lacking) };
    }
    this.give(host, vm, { ...given, ...wanted });
    return undefined;
  }

  end(): void {
    for (const [host, vm, given] of this.#before.toReversed()) this.#pool.setPlacement(host, vm, given);
  }

  #find(demand: Wish['demand'], architectures: Wish['architectures']): Id<'host'> | undefined {
    for (const architecture of architectures) {
      const host = this.#pool.find({ ...demand, architecture });
      if (host !== undefined) return host;
    }
    return undefined;
  }
}

/** What there is no room for, in the order of the wishes. `leaving` are placements that will be gone by then. */
export function checkCapacity(
  pool: HostPool,
  project: Limited,
  wishes: readonly Wish[],
  leaving: readonly NonNullable<Wish['placed']>[] = [],
): Refusal[] {
  const rehearsal = new Rehearsal(pool);
  try {
    for (const { host, vm } of leaving) rehearsal.give(host, vm, undefined);
    let { used } = project;
    return wishes.flatMap((wish, index): Refusal[] => {
      const refusals = new Map<string, Refusal>();
      const refuse = (first: number, why: Why) => {
        const known = refusals.get(why.reason) ?? { index, first, count: 0, ...why };
        refusals.set(why.reason, { ...known, count: known.count + 1 });
      };
      for (let i = 0; i < wish.count; i++) {
        const [kind] = exceeded(project.limits, used, wish.grows);
        if (kind === undefined) {
          used = plus(used, wish.grows);
          const why = wish.placed ? rehearsal.grow(wish, wish.placed) : rehearsal.place(wish);
          if (why) refuse(i, why);
        } else {
          const limit = project.limits[kind] ?? 0;
          const more = used[kind] - project.used[kind] + (wish.grows[kind] ?? 0);
          const message = explainExceeded(project.name, kind, { limit, used: project.used[kind], more });
          refuse(i, { reason: 'quota_exceeded', kind, message });
        }
      }
      return [...refusals.values()];
    });
  } finally {
    rehearsal.end();
  }
}
