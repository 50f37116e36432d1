import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import {
  common,
  DeleteProtection,
  Description,
  Enum,
  exampleId,
  IdOf,
  Labels,
  Name,
  Reference,
  Timestamp,
  Whole,
} from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';

/** The kinds of storage pools. */
export const poolKinds = ['local', 'shared', 'ceph'] as const;

// No part of a path is `.` or `..`.
const pathPattern = '^(/(?!\\.{1,2}(/|$))[A-Za-z0-9_.@+-]+)+$';
const pathRule = 'an absolute path of letters, digits and `_.@+-`, without `..` and without a slash at its end';

const forCeph = 'Required for the kind `ceph`, and not allowed for others.';

const HostReport = Type.Object(
  {
    host: Reference('host', { description: 'The host.' }),
    reachable: Type.Boolean({ description: 'Whether the host reaches the pool.' }),
    message: Type.Optional(Type.String({ description: 'Reason why the host does not reach the pool.' })),
    size: Whole({ description: 'Size of the pool in bytes, as the host sees it.' }),
    free: Whole({ description: 'Free space in bytes, as the host sees it.' }),
    at: Timestamp({ description: 'Time of the report.' }),
  },
  { additionalProperties: false, description: 'Report of one host.' },
);

/** The resource of storage pools. */
export const storagePool = resource({
  noun: 'storage_pool',
  plural: 'storage-pools',
  description:
    'A place for the data of volumes, declared by the operator. The pool `local` exists from the start: it is the data directory of each host.',
  immutable: {
    kind: Enum(poolKinds, {
      description:
        'Kind of the pool. `local`: a directory on each host. `shared`: one directory that several hosts mount. `ceph`: an RBD pool of a Ceph cluster. A volume in a local pool stays on its host; a volume in another pool can be used from each host that reaches the pool.',
    }),
    path: Type.Optional(
      Type.String({
        pattern: pathPattern,
        maxLength: 400,
        'x-rule': pathRule,
        description:
          'Absolute path of an existing directory on the hosts. Required for the kinds `local` and `shared`, and not allowed for `ceph`.',
      }),
    ),
    rbd_pool: Type.Optional(
      Type.String({
        pattern: '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$',
        maxLength: 64,
        'x-rule': '1 to 64 letters, digits and inner `_`, `.`, `-`',
        description: `Name of the RBD pool. ${forCeph}`,
      }),
    ),
  },
  mutable: {
    name: Name({ description: 'Name, unique in the cloud: an RFC 1123 label.' }),
    description: Description,
    labels: Labels,
    monitors: Type.Optional(
      Type.Array(
        Type.String({
          pattern: '^(\\[[0-9a-fA-F:.]{2,45}\\]|[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?):[1-9][0-9]{0,4}$',
          maxLength: 260,
          'x-rule': 'an address or a name with a port, such as `[2001:db8::1]:3300`',
        }),
        {
          minItems: 1,
          maxItems: 9,
          uniqueItems: true,
          description: `Monitors of the Ceph cluster, such as \`[2001:db8::1]:3300\`. ${forCeph}`,
        },
      ),
    ),
    user: Type.Optional(
      Type.String({
        pattern: '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$',
        maxLength: 64,
        'x-rule': '1 to 64 letters, digits and inner `_`, `.`, `-`',
        description: `Ceph user without the prefix \`client.\`. ${forCeph}`,
      }),
    ),
    key_file: Type.Optional(
      Type.String({
        pattern: pathPattern,
        maxLength: 400,
        'x-rule': pathRule,
        description: `Absolute path of the file with the key of the Ceph user, on each host. The key itself never enters the database. ${forCeph}`,
      }),
    ),
    overcommit: Type.Number({
      minimum: 0.1,
      maximum: 100,
      default: 1,
      description:
        'Bytes of volumes per byte of the pool. Volumes take space only where they are written, so more than 1 is possible. A full pool pauses the VMs that write to it.',
    }),
    delete_protection: DeleteProtection,
  },
  readonly: {
    id: IdOf('storage_pool'),
    built_in: Type.Boolean({ description: 'Whether the pool exists from the start. It cannot be deleted.' }),
    default: Type.Boolean({
      'x-volatile': true,
      description: 'Whether new volumes lie in this pool by default. See the setting `default_storage_pool`.',
    }),
    status: Type.Object(
      {
        phase: Enum(['available', 'unavailable'], {
          description: 'Whether at least one host that is alive reaches the pool.',
        }),
      },
      { additionalProperties: false, 'x-volatile': true, description: 'Observed state.' },
    ),
    hosts: Type.Optional(
      Type.Array(HostReport, { 'x-volatile': true, description: 'Reports of the hosts. Only operators see them.' }),
    ),
    allocated: Type.Optional(
      Whole({ 'x-volatile': true, description: 'Bytes of all volumes in the pool. Only operators see it.' }),
    ),
    ...common,
  },
  defaulted: ['description', 'labels', 'overcommit', 'delete_protection'],
  optional: ['path', 'rbd_pool', 'monitors', 'user', 'key_file'],
});
export type StoragePool = ItemType<typeof storagePool>;
export type StoragePoolCreate = CreateType<typeof storagePool>;
export type StoragePoolBody = BodyType<typeof storagePool>;
export type StoragePoolUpdate = UpdateType<typeof storagePool>;

const example: StoragePool = {
  id: exampleId('storage_pool'),
  name: 'fast',
  description: '',
  labels: {},
  kind: 'shared',
  path: '/srv/ucloud/fast',
  overcommit: 1,
  delete_protection: true,
  built_in: false,
  default: false,
  status: { phase: 'available' },
  hosts: [
    {
      host: exampleId('host'),
      reachable: true,
      size: 2199023255552,
      free: 1099511627776,
      at: '2026-01-01T00:00:00.000Z',
    },
  ],
  allocated: 53687091200,
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 17,
};

/** The endpoints of storage pools. */
export const storagePoolEndpoints = crud(storagePool, {
  read: 'viewer',
  write: 'operator',
  scoped: false,
  deleteErrors: ['delete_protected', 'invalid_state'],
  example: {
    create: { name: 'fast', kind: 'shared', path: '/srv/ucloud/fast', delete_protection: true },
    item: example,
    update: { overcommit: 2 },
  },
});
