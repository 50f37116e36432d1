import { Type } from '@sinclair/typebox';
import { crud, type Endpoint } from '../endpoint.ts';
import { common, Enum, exampleId, IdOf, Labels, Name, Reference, Timestamp } from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';

export const roles = ['viewer', 'member', 'operator'] as const;
export type Role = (typeof roles)[number];

export const token = resource({
  noun: 'token',
  plural: 'tokens',
  description:
    'A key to the API. Only a hash of its secret is stored; the secret is shown once, in the answer to its creation.',
  immutable: {
    project: Type.Optional(
      Reference('project', {
        description: 'The project it opens. Default: the project of the token that makes it. None for operators.',
        'x-server-chosen': true,
      }),
    ),
    role: Enum(roles, {
      default: 'member',
      description: 'viewer: read the project. member: read and write it. operator: everything in the cloud.',
    }),
    expires_at: Type.Optional(
      Timestamp({ description: 'When it stops working (RFC 3339). Never, if left out. It is removed 30 days later.' }),
    ),
  },
  mutable: { name: Name(), labels: Labels },
  readonly: {
    id: IdOf('token'),
    secret: Type.Optional(
      Type.String({
        'x-sensitive': true,
        description: 'What to send as bearer token. Only in the answer to the creation.',
      }),
    ),
    ...common,
  },
  defaulted: ['role', 'labels'],
  optional: ['project', 'expires_at'],
});
export type Token = ItemType<typeof token>;
export type TokenCreate = CreateType<typeof token>;
export type TokenBody = BodyType<typeof token>;
export type TokenUpdate = UpdateType<typeof token>;

const example: Token = {
  id: exampleId('token'),
  project: exampleId('project'),
  name: 'ci',
  role: 'member',
  labels: {},
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 8,
};

export const tokenEndpoints = {
  ...crud(token, {
    read: 'viewer',
    write: 'member',
    scoped: true,
    createErrors: ['not_found'],
    example: { create: { name: 'ci', role: 'member' }, item: example, update: { name: 'ci-main' } },
  }),
  self: {
    id: 'token_self',
    method: 'GET',
    path: '/v1/token',
    tag: 'tokens',
    summary: 'Get the token that the request is made with',
    access: 'viewer',
    success: { status: 200, description: 'The token.', schema: token.Item, example },
    errors: [],
  },
} as const satisfies Record<string, Endpoint>;
