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

/** The resource of prefix routes. */
export const prefixRoute = resource({
  noun: 'prefix_route',
  plural: 'prefix-routes',
  description:
    'Routes IPv6 space to a VM, for its containers, VPN clients or further routers. The VM gets all packets to the space, and may send from it. The space overlaps no network and no other route. The deletion of the VM keeps the route, which then leads nowhere until it gets another VM.',
  immutable: {
    prefix: Reference('prefix', { description: 'The prefix that contains the space, of the same project as the VM.' }),
    cidr: Ipv6Prefix({
      description: 'The space. Default: the first free one of this `length`; without `length`, the whole prefix.',
    }),
    length: Type.Integer({
      minimum: 20,
      maximum: 128,
      description: 'Prefix length of the space. Default: that of `cidr`, else that of the prefix.',
    }),
  },
  mutable: {
    name: Name(),
    labels: Labels,
    vm: Reference('vm', {
      description:
        'The VM. A change moves the route in one step: the former VM gets no more packets, and may no longer send from the space.',
    }),
    network: Type.Optional(
      Reference('network', {
        description:
          'The network of the next hop: the VM gets the packets on its interface there. Default: the network of its only interface. It must be set if the VM has several interfaces.',
      }),
    ),
    delete_protection: DeleteProtection,
  },
  readonly: {
    id: IdOf('prefix_route'),
    project: Reference('project', { description: 'The project of prefix and VM.' }),
    status: Type.Object(
      {
        phase: Enum(['active', 'vm_gone'], {
          description: 'Phase of the route. vm_gone: the VM is deleted, so the route leads nowhere.',
        }),
        next_hop: Type.Optional(Ipv6({ description: 'The address of the interface that gets the packets.' })),
      },
      { additionalProperties: false, 'x-volatile': true, description: 'Observed state.' },
    ),
    ...common,
  },
  defaulted: ['labels', 'delete_protection'],
  optional: ['cidr', 'length', 'network'],
});
export type PrefixRoute = ItemType<typeof prefixRoute>;
export type PrefixRouteCreate = CreateType<typeof prefixRoute>;
export type PrefixRouteBody = BodyType<typeof prefixRoute>;
export type PrefixRouteUpdate = UpdateType<typeof prefixRoute>;

const example: PrefixRoute = {
  id: exampleId('prefix_route'),
  project: exampleId('project'),
  prefix: exampleId('prefix'),
  name: 'containers',
  cidr: '2001:db8:0:110::/60',
  length: 60,
  labels: {},
  vm: exampleId('vm'),
  delete_protection: false,
  status: { phase: 'active', next_hop: '2001:db8:0:100:5e:10ff:fe00:1' },
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 39,
};

/** The endpoints of prefix routes. */
export const prefixRouteEndpoints = crud(prefixRoute, {
  read: 'viewer',
  write: 'member',
  scoped: true,
  createErrors: ['address_taken', 'being_deleted', 'no_capacity'],
  updateErrors: ['being_deleted', 'invalid_reference'],
  deleteErrors: ['delete_protected'],
  example: {
    create: { name: 'containers', prefix: exampleId('prefix'), length: 60, vm: exampleId('vm') },
    item: example,
    update: { vm: exampleId('vm') },
  },
});
