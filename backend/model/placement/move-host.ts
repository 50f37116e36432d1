/** The choice of the host that a VM moves to. The API asks before it accepts a move, and the scheduler decides. Pure. */
import type { Id } from '../../contract/fields.ts';
import { groupName } from './anti-affinity.ts';
import {
  type Candidate,
  explainPlacementFailure,
  firstRejectingFilter,
  insufficientResources,
  type ResourceRequest,
} from './filters.ts';

/** The host that a VM moves to, or the reason why there is none. */
export type MoveHost = { readonly host: Id<'host'> } | { readonly refusal: string };

/** A pool of hosts, as far as the choice needs one. */
export interface MovePool {
  get(id: Id<'host'>): Candidate | undefined;
  hosts(): readonly Candidate[];
  find(request: ResourceRequest): Id<'host'> | undefined;
}

const nothing = { cpus: 0, memory: 0, disk: 0 };

/** The reasons why one host cannot take the VM, by the names of the filters. */
const reasons: Readonly<Record<string, (host: Candidate, request: ResourceRequest) => string>> = {
  alive: () => 'it gives no sign of life',
  draining: () => 'it is draining',
  cordoned: () => 'it is cordoned',
  architecture: (_host, { architecture }) => `it does not have the architecture ${architecture}`,
  host_selector: (_host, { host_selector: selector }) =>
    `its labels do not match the host selector ${selector?.text ?? ''}`,
  volumes: () => 'volumes of the VM lie on another host',
  present_host: () => 'the VM is there already',
  storage_pools: (host, { pools = [] }) => {
    const missing = pools.filter(({ pool }) => host.storage(pool) === undefined).map(({ name }) => name);
    return `it does not reach the storage pool ${missing.join(', ')}`;
  },
  pool_space: (host, { pools = [] }) => {
    const full = pools.filter(({ pool, bytes }) => bytes > (host.storage(pool) ?? 0)).map(({ name }) => name);
    return `the storage pool ${full.join(', ')} has not enough space left`;
  },
  capacity: ({ free }, request) =>
    `it has not enough ${insufficientResources(free, nothing, request).join(' and ')} left`,
  anti_affinity: (_host, { anti_affinity: group }) => `it has a VM of the group ${groupName(group)}`,
};

/** Returns the host for a VM that leaves its present host: the asked one, or the best one. */
export function moveHost(
  pool: MovePool,
  request: ResourceRequest & { readonly present_host: Id<'host'> },
  asked: Id<'host'> | undefined,
): MoveHost {
  if (asked === undefined) {
    const host = pool.find(request);
    if (host !== undefined) return { host };
    return { refusal: `no host can take the VM: ${explainPlacementFailure(pool.hosts(), request).message}` };
  }
  const host = pool.get(asked);
  if (host === undefined) return { refusal: `${asked} cannot take the VM: it does not exist` };
  const filter = firstRejectingFilter(host, request);
  if (filter === undefined) return { host: asked };
  return { refusal: `${asked} cannot take the VM: ${reasons[filter]?.(host, request) ?? filter}` };
}
