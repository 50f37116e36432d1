/**
 * State of Terraform, kept for a project: the server's side of Terraform's backend "http", with lock and history.
 *
 * Terraform dictates some forms: the state is exchanged as it is, byte for byte; the lock is LockInfo as Terraform writes
 * it; a lock that somebody else holds is answered with 423 and that LockInfo beside the members of the problem; unlocking
 * has to answer 200.
 */
import { type Static, Type } from '@sinclair/typebox';
import { type Endpoint, ListOf, listQuery, projectQuery, waitQuery } from '../endpoint.ts';
import { common, exampleId, IdOf, Name, Reference, Timestamp, Whole } from '../fields.ts';

/** Bytes of one state. */
export const maxStateBytes = 32 * 1024 * 1024;
/** Versions kept of one state. */
export const keptVersions = 100;

const lockWord = (description: string) => Type.Optional(Type.String({ maxLength: 1024, description }));

export const LockInfo = Type.Object(
  {
    ID: Type.String({
      minLength: 1,
      maxLength: 256,
      pattern: '^[!-~]+$',
      'x-rule': '1 to 256 printable ASCII characters without spaces',
      description: 'Identifies the lock; chosen by who takes it.',
    }),
    Operation: lockWord('What it is held for, such as `OperationTypeApply`.'),
    Info: lockWord('More about it.'),
    Who: lockWord('User and machine that hold it, as Terraform says it.'),
    Version: lockWord('Version of Terraform.'),
    Created: Type.Optional(Timestamp({ maxLength: 64, description: 'When it was taken (RFC 3339).' })),
    Path: lockWord('Not used by this backend.'),
  },
  { additionalProperties: false, title: 'LockInfo', description: 'A lock as Terraform writes it.' },
);
export type LockInfo = Static<typeof LockInfo>;

export const StateFile = Type.Object(
  {
    version: Type.Integer({ minimum: 1, maximum: 100, description: 'Version of the format.' }),
    serial: Whole({ description: 'Counts the changes of the state.' }),
    lineage: Type.String({
      maxLength: 256,
      pattern: '^[!-~]+$',
      'x-rule': '1 to 256 printable ASCII characters without spaces',
      description: 'Identifies the state from its first version on.',
    }),
    terraform_version: Type.Optional(
      Type.String({
        maxLength: 64,
        pattern: '^[ -~]*$',
        'x-rule': 'at most 64 printable ASCII characters',
        description: 'Terraform that wrote it.',
      }),
    ),
  },
  {
    additionalProperties: true,
    title: 'TerraformStateFile',
    description:
      'A state as Terraform writes it. It is kept and given back byte for byte; only the members named here are looked at.',
  },
);
export type StateFile = Static<typeof StateFile>;

const shape = {
  serial: Whole({ description: 'Serial in the state, as Terraform counts it.' }),
  lineage: Type.String({ description: 'Lineage in the state.' }),
  terraform_version: Type.Optional(Type.String({ description: 'Terraform that wrote it.' })),
  size: Whole({ description: 'Size in bytes.' }),
};

export const TerraformStateItem = Type.Object(
  {
    id: IdOf('terraform_state'),
    project: Reference('project', { description: 'Project that it belongs to.' }),
    name: Name(),
    version: Type.Optional(Whole({ description: 'The latest version; none while it has only been locked.' })),
    serial: Type.Optional(shape.serial),
    lineage: Type.Optional(shape.lineage),
    terraform_version: shape.terraform_version,
    size: Type.Optional(shape.size),
    lock: Type.Optional(LockInfo),
    ...common,
  },
  {
    additionalProperties: false,
    title: 'TerraformState',
    description:
      'State of a Terraform configuration, kept encrypted with lock and history: the server for `backend "http"`.',
  },
);
export type TerraformState = Static<typeof TerraformStateItem>;

export const TerraformStateVersionItem = Type.Object(
  {
    version: Whole({ description: 'Counts the versions of this state from 1 on.' }),
    ...shape,
    token: Reference('token', { description: 'Token that wrote it.' }),
    created_at: Timestamp({ description: 'When it was written (RFC 3339, UTC).' }),
  },
  {
    additionalProperties: false,
    title: 'TerraformStateVersion',
    description: 'One version of a state.',
  },
);
export type TerraformStateVersion = Static<typeof TerraformStateVersionItem>;

const lockExample: LockInfo = {
  ID: '9b2afbed-1edd-7727-2572-68465024e815',
  Operation: 'OperationTypeApply',
  Info: '',
  Who: 'alice@laptop',
  Version: '1.11.4',
  Created: '2026-01-01T00:00:00.391060291Z',
  Path: '',
};
const fileExample = {
  version: 4,
  terraform_version: '1.11.4',
  serial: 7,
  lineage: 'c50de517-297e-9744-d66c-cfdc3af30d00',
  outputs: {},
  resources: [],
  check_results: null,
};
const shapeExample = {
  serial: fileExample.serial,
  lineage: fileExample.lineage,
  terraform_version: fileExample.terraform_version,
  size: 181,
};
const example: TerraformState = {
  id: exampleId('terraform_state'),
  project: exampleId('project'),
  name: 'production',
  version: 3,
  ...shapeExample,
  lock: lockExample,
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 42,
};
const versionExample: TerraformStateVersion = {
  version: 3,
  ...shapeExample,
  token: exampleId('token'),
  created_at: '2026-01-01T00:00:00.000Z',
};

const tag = 'terraform-states';
const base = '/v1/terraform-states';
const params = Type.Object({ name: Name({ description: 'Name of the state.' }) });
const versionParams = Type.Object({
  name: Name({ description: 'Name of the state.' }),
  version: Type.String({
    pattern: '^[1-9][0-9]{0,14}$',
    'x-rule': 'the number of a version',
    description: 'Number of the version.',
  }),
});

const scope = {
  project: Type.Optional(
    Reference('project', {
      description: 'Project of the state. Default: that of the token. An operator has to name it.',
    }),
  ),
};
const lockId = {
  ID: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 256,
      description: 'ID of the lock that the caller holds. Terraform appends it.',
    }),
  ),
};
const digest = Type.Object({
  'content-md5': Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9+/]{22}==$',
      'x-rule': 'an MD5 digest in base 64',
      description: 'MD5 of the body (RFC 1864). Terraform sends it; a body that does not match is refused.',
    }),
  ),
});
const query = Type.Object(scope, { additionalProperties: false });

export const terraformStateEndpoints = {
  list: {
    id: 'terraform_state_list',
    method: 'GET',
    path: base,
    tag,
    summary: 'List states of Terraform',
    description: 'Says what there is and who holds the locks; nothing of what the states hold.',
    access: 'viewer',
    query: Type.Object(
      {
        ...listQuery,
        name: Type.Optional(Name({ description: 'Only the state with this name.' })),
        ...projectQuery,
        ...waitQuery,
      },
      { additionalProperties: false },
    ),
    success: {
      status: 200,
      description: 'A page of the list, in the order of the ids.',
      schema: ListOf(TerraformStateItem, 'TerraformStateList'),
      example: { items: [example], revision: 42 },
    },
    errors: ['not_found'],
  },
  read: {
    id: 'terraform_state_read',
    method: 'GET',
    path: `${base}/{name}`,
    tag,
    summary: 'Get the latest version of a state',
    description:
      'What Terraform reads. Always the newest in the database, whichever server is asked. States hold secrets, so this needs more than the role `viewer`.',
    access: 'member',
    basic: true,
    params,
    query: Type.Object({ ...scope, ...lockId }, { additionalProperties: false }),
    success: {
      status: 200,
      description: 'The state, as it was written.',
      schema: StateFile,
      opaque: true,
      example: fileExample,
    },
    errors: ['not_found', 'not_configured'],
  },
  write: {
    id: 'terraform_state_write',
    method: 'POST',
    path: `${base}/{name}`,
    tag,
    summary: 'Write a new version of a state',
    description: `What Terraform writes: at most ${maxStateBytes / 2 ** 20} MiB. Refused while somebody else holds the lock, and unless it follows the latest version: the same lineage, a greater serial. The same state once more is no new version. The last ${keptVersions} versions are kept.`,
    access: 'member',
    basic: true,
    params,
    query: Type.Object(
      {
        ...scope,
        ...lockId,
        force: Type.Optional(
          Type.Boolean({
            default: false,
            description: 'Accept any serial and lineage: to go back to an earlier version.',
          }),
        ),
      },
      { additionalProperties: false },
    ),
    headers: digest,
    body: StateFile,
    bodyExample: fileExample,
    opaqueBody: { limit: maxStateBytes },
    success: { status: 200, description: 'Written.' },
    errors: [
      'conflict',
      'invalid_state',
      'payload_too_large',
      'unsupported_media_type',
      'not_found',
      'state_locked',
      'quota_exceeded',
      'stale_state',
      'not_configured',
    ],
  },
  delete: {
    id: 'terraform_state_delete',
    method: 'DELETE',
    path: `${base}/{name}`,
    tag,
    summary: 'Delete a state with its history',
    access: 'member',
    basic: true,
    params,
    query: Type.Object({ ...scope, ...lockId }, { additionalProperties: false }),
    success: { status: 204, description: 'Deleted.' },
    errors: ['not_found', 'state_locked', 'invalid_state', 'conflict'],
  },
  lock: {
    id: 'terraform_state_lock',
    method: 'POST',
    path: `${base}/{name}/lock`,
    tag,
    summary: 'Lock a state',
    description:
      'Whoever holds the lock is the only one to write. It is held until it is given back. Taking the same lock once more changes nothing.',
    access: 'member',
    basic: true,
    params,
    query,
    body: LockInfo,
    bodyExample: lockExample,
    success: { status: 200, description: 'Locked.', schema: LockInfo, example: lockExample },
    errors: ['not_found', 'state_locked', 'quota_exceeded', 'conflict', 'payload_too_large', 'unsupported_media_type'],
  },
  unlock: {
    id: 'terraform_state_unlock',
    method: 'DELETE',
    path: `${base}/{name}/lock`,
    tag,
    summary: 'Give a lock back, or break it',
    description:
      'The ID, in the body or in the query, must be that of the lock. Without either, whatever lock there is gets broken: this is what `terraform force-unlock` sends. Where there is no lock nothing happens.',
    access: 'member',
    basic: true,
    params,
    query: Type.Object({ ...scope, ...lockId }, { additionalProperties: false }),
    body: LockInfo,
    bodyExample: lockExample,
    optionalBody: true,
    success: { status: 200, description: 'Unlocked.' },
    errors: ['not_found', 'state_locked', 'conflict', 'payload_too_large', 'unsupported_media_type'],
  },
  versionList: {
    id: 'terraform_state_version_list',
    method: 'GET',
    path: `${base}/{name}/versions`,
    tag,
    summary: 'List the versions of a state',
    description: `Oldest first, at most ${keptVersions}, in one page.`,
    access: 'viewer',
    params,
    query,
    success: {
      status: 200,
      description: 'The versions that are kept.',
      schema: ListOf(TerraformStateVersionItem, 'TerraformStateVersionList'),
      example: { items: [versionExample], revision: 42 },
    },
    errors: ['not_found'],
  },
  versionRead: {
    id: 'terraform_state_version_read',
    method: 'GET',
    path: `${base}/{name}/versions/{version}`,
    tag,
    summary: 'Get an earlier version of a state',
    access: 'member',
    basic: true,
    params: versionParams,
    query,
    success: {
      status: 200,
      description: 'The state, as it was written.',
      schema: StateFile,
      opaque: true,
      example: fileExample,
    },
    errors: ['not_found', 'not_configured'],
  },
} as const satisfies Record<string, Endpoint>;
