/** A network takes a /64 from a prefix, and a number for its VXLAN. Each of the two has a key that makes it unique. */

import { type NetworkBody, type NetworkUpdate, network } from '../../contract/resources/networks.ts';
import { newId } from '../../model/ids.ts';
import { gatewayAddress } from '../../model/network/interface-names.ts';
import {
  contains,
  firstFree,
  formatPrefix,
  type Prefix,
  parsePrefix,
  storedPrefix,
  subnetKey,
} from '../../model/network/prefixes.ts';
import { randomVni } from '../../model/network/vnis.ts';
import * as records from '../../model/records/index.ts';
import { absent, put, remove } from '../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import {
  addReference,
  creation,
  projectOfCreation,
  readPatch,
  removal,
  removeReference,
  replacement,
} from '../transaction/declarations.ts';
import { type Guard, mutate } from '../transaction/mutate.ts';
import { noRouteIn, reservedSubnets, usedSpaces } from './address-space.ts';
import { prefixes } from './prefixes.ts';
import { useGroups } from './security-groups.ts';

/** The descriptor of networks. */
export const networks: ResourceDescriptor<records.NetworkRecord> = describe(network, {
  kind: records.networks,
  scope: 'project',
  show: (_api, record) => ({
    kind: 'bridged' as const,
    default_security_groups: [],
    delete_protection: false,
    ...record,
    gateway: gatewayAddress,
  }),
  quota: () => ({ networks: 1 }),
  alsoMirrored: [records.vnis, records.subnets],
  handlers: { network_create: createNetwork, network_update: updateNetwork, network_delete: deleteNetwork },
});

const subnetLength = 64;

function readSubnet(cidr: string): Prefix {
  const parsed = parsePrefix(cidr);
  if (!parsed.ok) throw fieldError('invalid_input', '/cidr', parsed.problem);
  if (parsed.value.length !== subnetLength) {
    throw fieldError('rule_violated', '/cidr', 'must be a /64: guests form their addresses by SLAAC (RFC 4862)');
  }
  return parsed.value;
}

function chooseSubnet(api: ApiContext, holder: records.PrefixRecord, requested: Prefix | undefined): Prefix {
  const space = storedPrefix(holder.cidr);
  if (requested) {
    if (reservedSubnets(api).some(({ address }) => address === requested.address)) {
      throw fieldError('rule_violated', '/cidr', 'is reserved for hosts; choose another /64');
    }
    if (contains(space, requested)) return requested;
    throw fieldError('rule_violated', '/cidr', `must be within the prefix ${holder.name}, which is ${holder.cidr}`);
  }
  const free = firstFree(space, subnetLength, usedSpaces(api, holder));
  if (free) return free;
  throw fieldError('no_capacity', '/prefix', `the prefix ${holder.name}, which is ${holder.cidr}, has no free /64`);
}

function chooseVni(api: ApiContext): number {
  const vni = randomVni((number) => api.mirror.get(records.vnis, String(number)) !== undefined);
  if (vni === undefined)
    throw fieldError('no_capacity', '', 'all numbers for networks are in use; delete a network first');
  return vni;
}

const defaultsOf = ({ default_security_groups = [] }: Pick<records.NetworkRecord, 'default_security_groups'>) =>
  default_security_groups.map((group, index) => ({ group, pointer: `/default_security_groups/${index}` }));

async function createNetwork(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const body = request.body as NetworkBody;
  const requested = body.cidr === undefined ? undefined : readSubnet(body.cidr);
  const id = newId('network');
  const at = request.now.toISOString();
  const allocate = () =>
    mutate(api, request, () => {
      const project = projectOfCreation(api, request.caller, body.project);
      const prefix = addReference(api, prefixes, { project, id: body.prefix, pointer: '/prefix', user: id });
      const subnet = chooseSubnet(api, prefix.stored.value, requested);
      const vni = chooseVni(api);
      const groups = useGroups(api, project, id, defaultsOf(body));
      const record: records.NetworkRecord = {
        id,
        project,
        name: body.name,
        labels: body.labels,
        prefix: body.prefix,
        cidr: formatPrefix(subnet),
        kind: body.kind,
        mtu: body.mtu,
        dns_servers: body.dns_servers,
        default_security_groups: body.default_security_groups,
        delete_protection: body.delete_protection,
        vni,
        created_at: at,
        updated_at: at,
      };
      const free: Guard = {
        condition: absent(records.subnets, subnetKey(subnet)),
        otherwise: () => (requested ? fieldError('address_taken', '/cidr', 'is taken by another network') : undefined),
      };
      const unrouted = noRouteIn(storedPrefix(prefix.stored.value.cidr), subnet).map(
        (condition): Guard => ({
          condition,
          otherwise: () => (requested ? fieldError('address_taken', '/cidr', 'overlaps a prefix route') : undefined),
        }),
      );
      return creation(api, networks, record, {
        guards: [
          ...prefix.guards,
          ...groups.guards,
          free,
          ...unrouted,
          { condition: absent(records.vnis, String(vni)) },
        ],
        writes: [
          put(records.subnets, subnetKey(subnet), { id }),
          put(records.vnis, String(vni), { id }),
          ...prefix.writes,
          ...groups.writes,
        ],
        message: `Created ${body.name}, ${record.cidr}.`,
      });
    });
  return api.mutexes.run(`subnets/${body.prefix}`, allocate);
}

async function updateNetwork(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const patch = readPatch<NetworkUpdate>(network, request.body as NetworkUpdate);
  return changeObject(api, request, networks, (stored) => {
    const next = { ...stored.value, ...patch, updated_at: request.now.toISOString() };
    const held = new Set(stored.value.default_security_groups);
    const groups = useGroups(api, next.project, next.id, defaultsOf(next), held);
    return replacement(api, request, networks, stored, next, groups);
  });
}

async function deleteNetwork(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { id = '' } = request.params;
  return changeObject(api, request, networks, (stored) => {
    const { prefix, cidr, vni, default_security_groups = [] } = stored.value;
    return removal(api, request, networks, stored, {
      writes: [
        removeReference(prefix, id),
        remove(records.subnets, subnetKey(storedPrefix(cidr))),
        remove(records.vnis, String(vni)),
        ...default_security_groups.map((group) => removeReference(group, id)),
      ],
    });
  });
}
