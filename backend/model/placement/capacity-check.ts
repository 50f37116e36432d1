/**
 * The capacity check: tells whether the planned VMs fit into the quota of the project and onto the hosts. It places the
 * VMs one after the other by the scheduler's own rules, in a host pool that it then restores.
 *
 * A VM that exceeds the quota takes no room on a host. A VM without a suitable host counts against the quota all the
 * same, because it would exist and wait.
 */

import type { Id } from '../../contract/fields.ts';
import type { refusalReasons } from '../../contract/resources/capacity-checks.ts';
import type { QuotaKind } from '../../contract/resources/quotas.ts';
import { type Amounts, exceeded, explainExceeded, plus, type SomeAmounts } from '../quota/amounts.ts';
import {
  explainInsufficientResources,
  insufficientResources,
  type PlacedResources,
  type ResourceRequest,
} from './filters.ts';
import type { HostPool } from './host-pool.ts';

type Architecture = ResourceRequest['architecture'];

/** One entry of a plan: a number of equal objects. */
export interface PlannedRequest {
  readonly count: number;
  /** The amounts by which one object raises the use of the quota. */
  readonly quotaDelta: SomeAmounts;
  /** The resources that one VM needs, without the architecture. */
  readonly resources: Omit<ResourceRequest, 'architecture'>;
  /** The possible architectures of the VM. */
  readonly architectures: readonly [Architecture, ...Architecture[]];
  /** The current placement of an existing VM, which keeps its host. */
  readonly placed?: { readonly host: Id<'host'>; readonly vm: Id<'vm'> };
}

/** A number of objects of one request that the quota or the hosts refuse. */
export interface Refusal {
  /** The index of the request. */
  readonly index: number;
  /** The index of the first refused object. Objects with the same reason follow each other. */
  readonly first: number;
  readonly count: number;
  readonly reason: (typeof refusalReasons)[number];
  /** The scarce resource, if it is a single one. */
  readonly kind?: QuotaKind | 'anti_affinity' | 'host_selector';
  readonly message: string;
}

type RefusalCause = Pick<Refusal, 'reason' | 'kind' | 'message'>;

/** The limits of a project and its current use. */
export interface ProjectQuota {
  readonly name: string;
  readonly limits: SomeAmounts;
  readonly used: Amounts;
}

/** Returns the objects that exceed the quota, for a growth in countable objects. */
export function refusedByQuota({ name, limits, used }: ProjectQuota, growth: SomeAmounts): Omit<Refusal, 'index'>[] {
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

/** Places VMs in a host pool on trial, and rolls all of them back. */
class TrialPlacement {
  readonly #pool: HostPool;
  readonly #undoLog: [host: Id<'host'>, vm: string, resources: PlacedResources | undefined][] = [];
  /** Requests without a suitable host. Room only shrinks during the trial, so a repeated request fails too. */
  readonly #unplaceable = new Map<string, RefusalCause>();
  #placedCount = 0;

  constructor(pool: HostPool) {
    this.#pool = pool;
  }

  /** Sets the resources of a VM on a host; `undefined` removes the VM. */
  assign(host: Id<'host'>, vm: string, resources: PlacedResources | undefined): void {
    this.#undoLog.push([host, vm, this.#pool.placement(host, vm)]);
    this.#pool.setPlacement(host, vm, resources);
  }

  /** Places the VM on its best host. Returns the reason if no host can take it. */
  place({ resources, architectures }: PlannedRequest): RefusalCause | undefined {
    const requestKey = JSON.stringify([resources, architectures]);
    const refused = this.#unplaceable.get(requestKey);
    if (refused) return refused;
    const host = this.#find(resources, architectures);
    if (host !== undefined) {
      this.assign(host, `planned-${this.#placedCount++}`, resources);
      return undefined;
    }
    const known = new Set(this.#pool.hosts().map(({ architecture }) => architecture));
    const architecture = architectures.find((one) => known.has(one)) ?? architectures[0];
    const { anti_affinity: _group, ...ungrouped } = resources;
    const { host_selector: _selector, ...anywhere } = resources;
    const kind = this.#find(ungrouped, architectures)
      ? 'anti_affinity'
      : this.#find(anywhere, architectures)
        ? 'host_selector'
        : (['memory', 'disk', 'cpus'] as const).find((kind) => this.#find({ ...resources, [kind]: 0 }, architectures));
    const cause: RefusalCause = {
      reason: 'no_host',
      ...(kind && { kind }),
      message: this.#pool.explain({ ...resources, architecture }).message,
    };
    this.#unplaceable.set(requestKey, cause);
    return cause;
  }

  /** Grows the VM on its host. Returns the reason if the host lacks resources. */
  grow({ resources }: PlannedRequest, { host, vm }: NonNullable<PlannedRequest['placed']>): RefusalCause | undefined {
    const granted = this.#pool.placement(host, vm);
    if (granted === undefined) return undefined;
    const wanted = {
      cpus: Math.max(granted.cpus, resources.cpus),
      memory: Math.max(granted.memory, resources.memory),
      disk: Math.max(granted.disk, resources.disk),
    };
    const lacking = insufficientResources(this.#pool.get(host)?.free, granted, wanted);
    if (lacking.length > 0) {
      return {
        reason: 'host_full',
        ...(lacking[0] && { kind: lacking[0] }),
        message: explainInsufficientResources(lacking),
      };
    }
    this.assign(host, vm, { ...granted, ...wanted });
    return undefined;
  }

  /** Restores the pool. */
  rollBack(): void {
    for (const [host, vm, resources] of this.#undoLog.toReversed()) this.#pool.setPlacement(host, vm, resources);
  }

  #find(
    resources: PlannedRequest['resources'],
    architectures: PlannedRequest['architectures'],
  ): Id<'host'> | undefined {
    for (const architecture of architectures) {
      const host = this.#pool.find({ ...resources, architecture });
      if (host !== undefined) return host;
    }
    return undefined;
  }
}

/**
 * Returns the refused objects, in the order of the requests. A check may take seconds where there are thousands of
 * hosts, so it pauses after each VM. Nothing else may use the pool until it has ended.
 * @param removedPlacements placements that the plan removes
 */
export function* capacityCheck(
  pool: HostPool,
  project: ProjectQuota,
  requests: readonly PlannedRequest[],
  removedPlacements: readonly NonNullable<PlannedRequest['placed']>[] = [],
): Generator<void, Refusal[]> {
  const trial = new TrialPlacement(pool);
  try {
    for (const { host, vm } of removedPlacements) trial.assign(host, vm, undefined);
    let { used } = project;
    const all: Refusal[] = [];
    for (const [index, request] of requests.entries()) {
      const refusals = new Map<string, Refusal>();
      const refuse = (first: number, cause: RefusalCause) => {
        const known = refusals.get(cause.reason) ?? { index, first, count: 0, ...cause };
        refusals.set(cause.reason, { ...known, count: known.count + 1 });
      };
      for (let i = 0; i < request.count; i++) {
        const [kind] = exceeded(project.limits, used, request.quotaDelta);
        if (kind === undefined) {
          used = plus(used, request.quotaDelta);
          const cause = request.placed ? trial.grow(request, request.placed) : trial.place(request);
          if (cause) refuse(i, cause);
        } else {
          const limit = project.limits[kind] ?? 0;
          const more = used[kind] - project.used[kind] + (request.quotaDelta[kind] ?? 0);
          const message = explainExceeded(project.name, kind, { limit, used: project.used[kind], more });
          refuse(i, { reason: 'quota_exceeded', kind, message });
        }
        yield;
      }
      all.push(...refusals.values());
    }
    return all;
  } finally {
    trial.rollBack();
  }
}

/** The same without a pause. */
export function checkCapacity(...given: Parameters<typeof capacityCheck>): Refusal[] {
  const check = capacityCheck(...given);
  for (;;) {
    const { done, value } = check.next();
    if (done) return value;
  }
}
