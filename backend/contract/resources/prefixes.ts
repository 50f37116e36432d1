import { Type } from '@sinclair/typebox';
import { costErrors, crud } from '../endpoint.ts';
import { common, DeleteProtection, exampleId, IdOf, Ipv6Prefix, Labels, Name, Reference } from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';

/** The resource of prefixes. */
export const prefix = resource({
  noun: 'prefix',
  plural: 'prefixes',
  description: 'IPv6 space of a project, taken from a pool. Networks take their /64 from it.',
  immutable: {
    project: Reference('project', { description: 'Default: the project of the token.' }),
    pool: Reference('prefix_pool', {
      description:
        'The pool that contains the prefix. Default: the pool that contains `cidr`, else the first with free space.',
    }),
    cidr: Ipv6Prefix({ description: 'The prefix. Default: the first free one of this length.' }),
    length: Type.Integer({
      minimum: 20,
      maximum: 64,
      description: 'Prefix length. Default: that of `cidr`, else `default_length` of the pool.',
    }),
  },
  mutable: { name: Name(), labels: Labels, delete_protection: DeleteProtection },
  readonly: { id: IdOf('prefix'), ...common },
  defaulted: ['labels', 'delete_protection'],
  optional: ['project', 'pool', 'cidr', 'length'],
});
export type Prefix = ItemType<typeof prefix>;
export type PrefixCreate = CreateType<typeof prefix>;
export type PrefixBody = BodyType<typeof prefix>;
export type PrefixUpdate = UpdateType<typeof prefix>;

const example: Prefix = {
  id: exampleId('prefix'),
  project: exampleId('project'),
  pool: exampleId('prefix_pool'),
  name: 'site-a',
  cidr: '2001:db8:0:100::/56',
  length: 56,
  labels: {},
  delete_protection: false,
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 20,
};

/** The endpoints of prefixes. */
export const prefixEndpoints = crud(prefix, {
  read: 'viewer',
  write: 'member',
  scoped: true,
  createErrors: ['address_taken', 'no_capacity', ...costErrors],
  deleteErrors: ['delete_protected'],
  example: { create: { name: 'site-a', length: 56 }, item: example, update: { labels: { site: 'a' } } },
});
