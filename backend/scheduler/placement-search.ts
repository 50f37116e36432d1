/** The search for a host. It remembers the requests that no host can take, so that equal ones need no search. */
import type { Id } from '../contract/fields.ts';
import type { PlacementFailure, ResourceRequest } from '../model/placement/filters.ts';
import type { HostPool } from '../model/placement/host-pool.ts';

/** Finds hosts in a pool. */
export class PlacementSearch {
  readonly #pool: HostPool;
  /** Requests that no host can take, with the explanation. */
  readonly #unplaceable = new Map<string, PlacementFailure>();

  constructor(pool: HostPool) {
    this.#pool = pool;
  }

  /** Returns the best host; undefined if no host can take the request. */
  find(request: ResourceRequest): Id<'host'> | undefined {
    return this.#unplaceable.has(requestKey(request)) ? undefined : this.#pool.find(request);
  }

  /** Explains why no host can take the request. */
  explain(request: ResourceRequest): PlacementFailure {
    const known = this.#unplaceable.get(requestKey(request));
    if (known) return known;
    const failure = this.#pool.explain(request);
    this.#unplaceable.set(requestKey(request), failure);
    return failure;
  }

  /** Forgets all requests, because a host or free room has changed. */
  forget(): void {
    this.#unplaceable.clear();
  }
}

/** Returns equal keys for equal requests. */
const requestKey = ({ anti_affinity: group, host_selector: selector, ...request }: ResourceRequest) => {
  const { cpus, memory, disk, architecture, volume_hosts, pools } = request;
  return JSON.stringify([
    ...[cpus, memory, disk, architecture, volume_hosts, pools],
    ...[group?.mode, group?.group, selector?.normal],
  ]);
};
