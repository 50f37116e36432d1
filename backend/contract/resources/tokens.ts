import { Type } from '@sinclair/typebox';
import { crud, type Endpoint } from '../endpoint.ts';
import { common, Enum, exampleId, IdOf, Labels, Name, Reference, Timestamp } from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';

/** The roles of tokens. */
export const roles = ['viewer', 'member', 'billing', 'operator'] as const;
export type Role = (typeof roles)[number];

/** The roles of the tokens that a token of each role can create. */
export const creatable: Readonly<Record<Role, readonly Role[]>> = {
  viewer: [],
  member: ['viewer', 'member'],
  billing: [],
  operator: roles,
};

/** The resource of tokens. */
export const token = resource({
  noun: 'token',
  plural: 'tokens',
  description:
    'A key to the API. Only a hash of its secret is stored. Only the response to the creation shows the secret.',
  immutable: {
    project: Type.Optional(
      Reference('project', {
        description:
          'The project of the token. Default: the project of the token that creates it. Tokens of the roles `operator` and `billing` have none.',
        'x-server-chosen': true,
      }),
    ),
    billing_account: Type.Optional(
      Reference('billing_account', {
        description: 'The billing account of a token of role `billing`. Other tokens have none.',
      }),
    ),
    role: Enum(roles, {
      default: 'member',
      description:
        'viewer: read the project. member: read and write it. billing: read a billing account with its bills and costs. operator: everything in the cloud.',
    }),
    expires_at: Type.Optional(
      Timestamp({
        description:
          'Time at which the token expires (RFC 3339). Default: never. An expired token is removed after 30 days.',
      }),
    ),
  },
  mutable: { name: Name(), labels: Labels },
  readonly: {
    id: IdOf('token'),
    secret: Type.Optional(
      Type.String({
        'x-sensitive': true,
        description: 'The bearer token. Only in the response to the creation.',
      }),
    ),
    ...common,
  },
  defaulted: ['role', 'labels'],
  optional: ['project', 'billing_account', 'expires_at'],
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

/** The endpoints of tokens. */
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
    summary: 'Get the token of the request',
    access: 'viewer',
    billing: true,
    success: { status: 200, description: 'The token.', schema: token.Item, example },
    errors: [],
  },
} as const satisfies Record<string, Endpoint>;
