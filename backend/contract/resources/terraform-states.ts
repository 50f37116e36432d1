/**
 * States of Terraform: the server of Terraform's backend "http", with lock and history.
 *
 * Terraform defines some forms. The state is stored and returned byte for byte. The lock is a LockInfo in Terraform's
 * form. A locked state is answered with 423, the problem details and the members of that LockInfo. Unlocking is
 * answered with 200.
 */
import { type Static, Type } from '@sinclair/typebox';
import { type Endpoint, ListOf, listQuery, projectQuery, waitQuery } from '../endpoint.ts';
import { common, exampleId, IdOf, Name, Reference, Timestamp, Whole } from '../fields.ts';

/** The maximum bytes of one state. */
export const maxStateBytes = 32 * 1024 * 1024;
/** The number of versions that are kept of one state. */
export const keptVersions = 100;

const lockWord = (description: string) => Type.Optional(Type.String({ maxLength: 1024, description }));

/** The schema of a lock in Terraform's form. */
export const LockInfo = Type.Object(
  {
    ID: Type.String({
      minLength: 1,
      maxLength: 256,
      pattern: '^[!-~]+$',
      'x-rule': '1 to 256 printable ASCII characters without spaces',
      description: 'Id of the lock, chosen by its holder.',
    }),
    Operation: lockWord('Operation of the holder, such as `OperationTypeApply`.'),
    Info: lockWord('Further information of the holder.'),
    Who: lockWord('User and machine of the holder, in the form of Terraform.'),
    Version: lockWord('Version of the Terraform that took the lock.'),
    Created: Type.Optional(Timestamp({ maxLength: 64, description: 'Time at which the lock was taken (RFC 3339).' })),
    Path: lockWord('Unused by this backend.'),
  },
  { additionalProperties: false, title: 'LockInfo', description: 'A lock in the form of Terraform.' },
);
export type LockInfo = Static<typeof LockInfo>;

/** The schema of a state in Terraform's form. */
export const StateFile = Type.Object(
  {
    version: Type.Integer({ minimum: 1, maximum: 100, description: 'Version of the format.' }),
    serial: Whole({ description: 'Counter of the changes of the state.' }),
    lineage: Type.String({
      maxLength: 256,
      pattern: '^[!-~]+$',
      'x-rule': '1 to 256 printable ASCII characters without spaces',
      description: 'Id of the state since its first version.',
    }),
    terraform_version: Type.Optional(
      Type.String({
        maxLength: 64,
        pattern: '^[ -~]*$',
        'x-rule': 'at most 64 printable ASCII characters',
        description: 'Version of the Terraform that wrote the state.',
      }),
    ),
  },
  {
    additionalProperties: true,
    title: 'TerraformStateFile',
    description:
      'A state in the form of Terraform. The API stores and returns it byte for byte, and reads only these members.',
  },
);
export type StateFile = Static<typeof StateFile>;

const shape = {
  serial: Whole({ description: 'Serial in the state, counted by Terraform.' }),
  lineage: Type.String({ description: 'Lineage in the state.' }),
  terraform_version: Type.Optional(Type.String({ description: 'Version of the Terraform that wrote the state.' })),
  size: Whole({ description: 'Size in bytes.' }),
};

/** The schema of a state in lists. */
export const TerraformStateItem = Type.Object(
  {
    id: IdOf('terraform_state'),
    project: Reference('project', { description: 'Project of the state.' }),
    name: Name(),
    version: Type.Optional(Whole({ description: 'The latest version; missing until the first version is written.' })),
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
      'State of a Terraform configuration, stored encrypted with lock and history. The API is the server for `backend "http"`.',
  },
);
export type TerraformState = Static<typeof TerraformStateItem>;

/** The schema of a version of a state. */
export const TerraformStateVersionItem = Type.Object(
  {
    version: Whole({ description: 'Number of the version; the first is 1.' }),
    ...shape,
    token: Reference('token', { description: 'Token of the request that wrote the version.' }),
    created_at: Timestamp({ description: 'Time at which the version was written (RFC 3339, UTC).' }),
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
      description: 'Project of the state. Default: that of the token. Required with a token of an operator.',
    }),
  ),
};
const lockId = {
  ID: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 256,
      description: "ID of the caller's lock. Terraform appends it.",
    }),
  ),
};
const digest = Type.Object({
  'content-md5': Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9+/]{22}==$',
      'x-rule': 'an MD5 digest in base 64',
      description: 'MD5 of the body (RFC 1864), which Terraform sends. The API refuses a body with another MD5.',
    }),
  ),
});
const query = Type.Object(scope, { additionalProperties: false });

/** The endpoints of Terraform states. */
export const terraformStateEndpoints = {
  list: {
    id: 'terraform_state_list',
    method: 'GET',
    path: base,
    tag,
    summary: 'List Terraform states',
    description: 'Returns the states and the holders of their locks, without the content of the states.',
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
      'Terraform reads this. Every server returns the latest version in the database. States contain secrets, so the role `viewer` is not sufficient.',
    access: 'member',
    basic: true,
    params,
    query: Type.Object({ ...scope, ...lockId }, { additionalProperties: false }),
    success: {
      status: 200,
      description: 'The state, byte for byte.',
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
    description: `Terraform writes this: at most ${maxStateBytes / 2 ** 20} MiB. The API refuses the state while another client holds the lock. It also refuses a state that does not follow the latest version: the lineage must be the same, and the serial greater. A repetition of the latest version creates no new one. The last ${keptVersions} versions are kept.`,
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
            description: 'Accept every serial and lineage, to return to an earlier version.',
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
      'Only the holder of the lock can write the state. The lock has no time limit. A repetition with the same ID changes nothing.',
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
    summary: 'Unlock a state, or break its lock',
    description:
      'The ID in the body or in the query must be that of the lock. A request without an ID breaks every lock; `terraform force-unlock` sends it. Without a lock nothing happens.',
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
      description: 'The kept versions.',
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
      description: 'The state, byte for byte.',
      schema: StateFile,
      opaque: true,
      example: fileExample,
    },
    errors: ['not_found', 'not_configured'],
  },
} as const satisfies Record<string, Endpoint>;
