/**
 * Routes of prefixes to VMs. Hosts follow the declaration (backend/host/fabric.ts). The change of its VM is the change of
 * one record, so a space never leads to two VMs.
 */
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import { type PrefixRouteBody, type PrefixRouteUpdate, prefixRoute } from '../../contract/resources/prefix-routes.ts';
import { newId } from '../../model/ids.ts';
import { nextHop, nextHopAddress } from '../../model/network/next-hop.ts';
import {
  contains,
  firstFree,
  formatPrefix,
  overlaps,
  type Prefix,
  parsePrefix,
  spaceKeys,
  storedPrefix,
} from '../../model/network/prefixes.ts';
import * as records from '../../model/records/index.ts';
import { put, remove, unchanged } from '../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { refer } from '../requests/objects.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import { addReference, creation, patched, removal, removeReference, replacement } from '../transaction/declarations.ts';
import { type Guard, mutate } from '../transaction/mutate.ts';
import { noNetworkIn, noRouteIn, reservedSubnets, usedSpaces } from './address-space.ts';
import { prefixes } from './prefixes.ts';
import { ownerOf } from './snapshots.ts';
import { vms } from './vms.ts';

/** The descriptor of prefix routes. */
export const prefixRoutes: ResourceDescriptor<records.PrefixRouteRecord> = describe(prefixRoute, {
  kind: records.prefixRoutes,
  scope: 'project',
  show({ mirror }, { mac, ...record }) {
    const vm = mirror.get(records.vms, record.vm)?.value;
    const next_hop = vm?.deleted_at === undefined ? nextHopAddress(vm, mac) : undefined;
    const phase = next_hop === undefined ? ('vm_gone' as const) : ('active' as const);
    return { ...record, status: { phase, ...(next_hop !== undefined && { next_hop }) } };
  },
  quota: () => ({ prefix_routes: 1 }),
  indexes: ['prefix'],
  watches({ mirror }, id) {
    const vm = mirror.get(records.prefixRoutes, id)?.value.vm;
    return vm === undefined ? [] : [{ kind: records.vms, id: vm }];
  },
  alsoMirrored: [records.routedPrefixes, records.subnets, records.hosts],
  handlers: {
    prefix_route_create: createRoute,
    prefix_route_update: updateRoute,
    prefix_route_delete: deleteRoute,
  },
});

interface RequestedSpace {
  readonly cidr?: Prefix;
  readonly length?: number;
}

function readRequestedSpace({ cidr, length }: PrefixRouteBody): RequestedSpace {
  if (cidr === undefined) return length === undefined ? {} : { length };
  const parsed = parsePrefix(cidr);
  if (!parsed.ok) throw fieldError('invalid_input', '/cidr', parsed.problem);
  if (length !== undefined && length !== parsed.value.length) {
    throw fieldError('rule_violated', '/length', `must be ${parsed.value.length}, the length of cidr`);
  }
  return { cidr: parsed.value };
}

/** Returns the space of a new route. @throws UcloudError `address_taken`, `rule_violated`, `no_capacity` */
function chooseSpace(api: ApiContext, holder: records.PrefixRecord, { cidr, length }: RequestedSpace): Prefix {
  const whole = storedPrefix(holder.cidr);
  const named = `the prefix ${holder.name}, which is ${holder.cidr}`;
  if (length !== undefined) {
    if (length < whole.length) throw fieldError('rule_violated', '/length', `must be at least that of ${named}`);
    const free = firstFree(whole, length, usedSpaces(api, holder));
    if (free) return free;
    throw fieldError('no_capacity', '/length', `${named}, has no free /${length}`);
  }
  const space = cidr ?? whole;
  if (!contains(whole, space)) throw fieldError('rule_violated', '/cidr', `must be within ${named}`);
  if (reservedSubnets(api).some((subnet) => overlaps(subnet, space))) {
    throw fieldError('rule_violated', cidr ? '/cidr' : '/prefix', 'overlaps a /64 that is reserved for hosts');
  }
  for (const used of usedSpaces(api, holder)) {
    if (overlaps(used, space)) throw taken(cidr);
    if (used.address > space.address) break;
  }
  return space;
}

const taken = (cidr: Prefix | undefined) =>
  cidr === undefined
    ? fieldError('address_taken', '/prefix', 'contains a network or another route; set cidr or length to route a part')
    : fieldError('address_taken', '/cidr', 'overlaps a network or another route');

/** Returns the MAC address of the next hop, with the guard that its VM exists. @throws UcloudError */
function leadTo(api: ApiContext, project: Id<'project'>, vm: Id<'vm'>, network: Id<'network'> | undefined) {
  const stored = refer(api, vms, project, vm, '/vm');
  const { value } = stored;
  if (value.deleted_at !== undefined) throw new UcloudError('being_deleted', `${vm} is being deleted`);
  const found = nextHop(value, network);
  if ('rule' in found) throw fieldError('rule_violated', `/${found.field}`, found.rule);
  // Otherwise, the interface could be removed in the same instant.
  const guard: Guard = { condition: unchanged(stored) };
  return { mac: found.mac, guard, name: value.name };
}

async function createRoute(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const body = request.body as PrefixRouteBody;
  const requested = readRequestedSpace(body);
  const id = newId('prefix_route');
  const at = request.now.toISOString();
  const allocate = () =>
    mutate(api, request, () => {
      const project = ownerOf(request, api.mirror.get(records.vms, body.vm)?.value);
      const { mac, guard, name } = leadTo(api, project, body.vm, body.network);
      const prefix = addReference(api, prefixes, { project, id: body.prefix, pointer: '/prefix', user: id });
      const space = chooseSpace(api, prefix.stored.value, requested);
      const record: records.PrefixRouteRecord = {
        id,
        project,
        name: body.name,
        labels: body.labels,
        prefix: body.prefix,
        cidr: formatPrefix(space),
        length: space.length,
        vm: body.vm,
        ...(body.network !== undefined && { network: body.network }),
        mac,
        delete_protection: body.delete_protection,
        created_at: at,
        updated_at: at,
      };
      const whole = storedPrefix(prefix.stored.value.cidr);
      const free = [...noNetworkIn(space), ...noRouteIn(whole, space)].map(
        (condition): Guard => ({
          condition,
          otherwise: () => (requested.length === undefined ? taken(requested.cidr) : undefined),
        }),
      );
      return creation(api, prefixRoutes, record, {
        guards: [guard, ...prefix.guards, ...free],
        writes: [...spaceKeys(space).map((key) => put(records.routedPrefixes, key, { id })), ...prefix.writes],
        message: `Routed ${record.cidr} to ${name}.`,
      });
    });
  return api.mutexes.run(`subnets/${body.prefix}`, allocate);
}

async function updateRoute(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const patch = request.body as PrefixRouteUpdate;
  return changeObject(api, request, prefixRoutes, (stored) => {
    const next = { ...patched(prefixRoute, stored.value, patch), updated_at: request.now.toISOString() };
    const { vm, network } = stored.value;
    // A route to a VM that is gone can still get another name.
    if (next.vm === vm && next.network === network) return replacement(api, request, prefixRoutes, stored, next);
    const { mac, guard } = leadTo(api, next.project, next.vm, next.network);
    return replacement(api, request, prefixRoutes, stored, { ...next, mac }, { guards: [guard] });
  });
}

async function deleteRoute(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { id = '' } = request.params;
  return changeObject(api, request, prefixRoutes, (stored) => {
    const { prefix, cidr } = stored.value;
    const keys = spaceKeys(storedPrefix(cidr));
    return removal(api, request, prefixRoutes, stored, {
      writes: [removeReference(prefix, id), ...keys.map((key) => remove(records.routedPrefixes, key))],
    });
  });
}
