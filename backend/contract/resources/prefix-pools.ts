import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import { common, DeleteProtection, Description, exampleId, IdOf, Ipv6Prefix, Labels, Name } from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';

/** The resource of prefix pools. */
export const prefixPool = resource({
  noun: 'prefix_pool',
  plural: 'prefix-pools',
  description: 'IPv6 space of the operator, from which projects take prefixes.',
  immutable: {
    cidr: Ipv6Prefix({
      description:
        'The IPv6 space, such as `2001:db8::/32`: global unicast or unique local, length 16 to 60, no overlap with other pools.',
    }),
  },
  mutable: {
    name: Name({ description: 'Name, unique in the cloud: an RFC 1123 label.' }),
    description: Description,
    labels: Labels,
    default_length: Type.Integer({
      minimum: 20,
      maximum: 64,
      default: 56,
      description: 'Default length of prefixes (RFC 6177 suggests 48 to 56).',
    }),
    min_length: Type.Integer({
      minimum: 16,
      maximum: 64,
      description:
        'Minimum length of prefixes, which limits the space of one request. `default_length` is always allowed. Default: 8 more than the length of the pool, at least 48, at most `default_length`.',
    }),
    delete_protection: DeleteProtection,
  },
  readonly: { id: IdOf('prefix_pool'), ...common },
  defaulted: ['description', 'labels', 'default_length', 'delete_protection'],
  optional: ['min_length'],
});
export type PrefixPool = ItemType<typeof prefixPool>;
export type PrefixPoolCreate = CreateType<typeof prefixPool>;
export type PrefixPoolBody = BodyType<typeof prefixPool>;
export type PrefixPoolUpdate = UpdateType<typeof prefixPool>;

const example: PrefixPool = {
  id: exampleId('prefix_pool'),
  name: 'main',
  description: '',
  cidr: '2001:db8::/32',
  labels: {},
  default_length: 56,
  min_length: 48,
  delete_protection: false,
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 3,
};

/** The endpoints of prefix pools. */
export const prefixPoolEndpoints = crud(prefixPool, {
  read: 'viewer',
  write: 'operator',
  scoped: false,
  createErrors: ['address_taken'],
  deleteErrors: ['delete_protected'],
  example: { create: { name: 'main', cidr: '2001:db8::/32' }, item: example, update: { default_length: 48 } },
});
