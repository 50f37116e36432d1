import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import {
  common,
  DeleteProtection,
  Enum,
  exampleId,
  IdOf,
  Ipv6,
  Ipv6Prefix,
  Labels,
  Name,
  Reference,
} from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';

/** The kinds of networks. */
export const networkKinds = ['bridged', 'routed'] as const;
export type NetworkKind = (typeof networkKinds)[number];

/** The resource of networks. */
export const network = resource({
  noun: 'network',
  plural: 'networks',
  description:
    'A separate link for VMs, with one /64. A router announces the /64 (RFC 4861). VMs form their addresses from it and from their MAC address (SLAAC with modified EUI-64, RFC 4862 and RFC 4291), so each address is known before boot.',
  immutable: {
    project: Reference('project', { description: 'Default: the project of the token.' }),
    prefix: Reference('prefix', { description: 'The prefix that contains the /64.' }),
    cidr: Ipv6Prefix({ description: 'The /64. Default: the first free one in `prefix`.' }),
    kind: Enum(networkKinds, {
      default: 'bridged',
      description:
        '`bridged`: the VMs share a link (layer 2), also over hosts. `routed`: each VM reaches the others only through its router, so there is no multicast between VMs, and no VM sees frames of another.',
    }),
    mtu: Type.Integer({
      minimum: 1280,
      maximum: 9000,
      default: 1430,
      description:
        'Maximum packet size in bytes, announced to the VMs. 1430 leaves space for VXLAN over IPv6 on a physical network of 1500.',
    }),
  },
  mutable: {
    name: Name(),
    labels: Labels,
    dns_servers: Type.Array(Ipv6(), {
      maxItems: 3,
      uniqueItems: true,
      default: [],
      description: 'DNS resolvers, announced to the VMs (RDNSS, RFC 8106).',
    }),
    default_security_groups: Type.Array(Reference('security_group'), {
      maxItems: 8,
      uniqueItems: true,
      default: [],
      description:
        'The security groups of interfaces without a group of their own. Default: none, and such interfaces are not filtered.',
    }),
    delete_protection: DeleteProtection,
  },
  readonly: {
    id: IdOf('network'),
    vni: Type.Integer({ minimum: 1, maximum: 16777215, description: 'VXLAN network identifier (RFC 7348).' }),
    gateway: Ipv6({ description: 'Link-local address of the router.' }),
    ...common,
  },
  defaulted: ['kind', 'mtu', 'labels', 'dns_servers', 'default_security_groups', 'delete_protection'],
  optional: ['project', 'cidr'],
});
export type Network = ItemType<typeof network>;
export type NetworkCreate = CreateType<typeof network>;
export type NetworkBody = BodyType<typeof network>;
export type NetworkUpdate = UpdateType<typeof network>;

const example: Network = {
  id: exampleId('network'),
  project: exampleId('project'),
  prefix: exampleId('prefix'),
  name: 'web',
  cidr: '2001:db8:0:100::/64',
  kind: 'bridged',
  mtu: 1430,
  labels: {},
  dns_servers: ['2001:db8::53'],
  default_security_groups: [],
  delete_protection: false,
  vni: 4711,
  gateway: 'fe80::1',
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 23,
};

/** The endpoints of networks. */
export const networkEndpoints = crud(network, {
  read: 'viewer',
  write: 'member',
  scoped: true,
  createErrors: ['address_taken', 'no_capacity'],
  updateErrors: ['invalid_reference'],
  deleteErrors: ['delete_protected'],
  example: {
    create: { name: 'web', prefix: example.prefix, dns_servers: ['2001:db8::53'] },
    item: example,
    update: { dns_servers: ['2001:db8::53', '2001:db8::54'] },
  },
});
