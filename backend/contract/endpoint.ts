/**
 * What the API can be asked. An endpoint becomes one operation of openapi.yaml and one route of the server; neither
 * exists without the other.
 */
import { type TObject, type TProperties, type TSchema, Type } from '@sinclair/typebox';
import type { ErrorCode } from './errors.ts';
import { Name, Reference, Whole } from './fields.ts';
import type { Resource } from './resource.ts';

/** Least role that may call: everybody, read only, read and write in the project, the cloud's operator. */
export type Access = 'public' | 'viewer' | 'member' | 'operator';

export interface Endpoint {
  /** `noun_verb`: stable, used by generated clients. */
  readonly id: string;
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** OpenAPI form: `/v1/vms/{id}`. */
  readonly path: string;
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  readonly access: Access;
  /** The token may also come as the password of HTTP Basic authentication, for clients that know nothing else. */
  readonly basic?: boolean;
  readonly params?: TObject;
  readonly query?: TObject;
  readonly headers?: TObject;
  readonly body?: TSchema;
  readonly bodyExample?: unknown;
  /** The body may be left out. */
  readonly optionalBody?: boolean;
  /** `?dry_run=true` decides as the operation would, and changes nothing. */
  readonly dryRun?: boolean;
  /** The body reaches the handler as the bytes that were sent, unchecked, with a limit of its own (bytes). */
  readonly opaqueBody?: { readonly limit: number };
  readonly success: {
    readonly status: number;
    readonly description: string;
    readonly schema?: TSchema;
    /** The body is sent as it was once received. */
    readonly opaque?: boolean;
    readonly example?: unknown;
  };
  /** Beyond those that every endpoint can give (`commonErrors`). */
  readonly errors: readonly ErrorCode[];
  readonly resource?: Resource<unknown, unknown, unknown>;
}

export const commonErrors: readonly ErrorCode[] = [
  'invalid_input',
  'unauthenticated',
  'forbidden',
  'request_timeout',
  'expectation_failed',
  'rate_limited',
  'headers_too_large',
  'internal',
  'store_unavailable',
];

/** Long poll: answer when something newer than `after` is there, or when `timeout` has passed. */
export const waitQuery = {
  after: Type.Optional(
    Whole({
      description:
        'Wait until there is a change newer than this revision (take it from `revision` of an earlier answer), or until `timeout` has passed; then answer as usual.',
    }),
  ),
  timeout: Type.Optional(
    Type.Integer({ minimum: 0, maximum: 60, default: 30, description: 'Longest wait in seconds, with `after`.' }),
  ),
};

export const listQuery = {
  limit: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 1000, default: 100, description: 'Most items in the answer.' }),
  ),
  page_token: Type.Optional(Type.String({ maxLength: 512, description: '`next_page_token` of the previous answer.' })),
};

const selectQuery = {
  selector: Type.Optional(
    Type.String({
      maxLength: 1024,
      description: 'Label selector in the syntax of Kubernetes: `env=prod,tier!=db,app in (a,b),!legacy`.',
    }),
  ),
  name: Type.Optional(Name({ description: 'Only the object with this name.' })),
  ids: Type.Optional(
    Type.String({
      maxLength: 4096,
      description: 'Only the objects with these ids, separated by commas (at most 100).',
    }),
  ),
};

export const projectQuery = {
  project: Type.Optional(
    Reference('project', { description: 'Only objects of this project. A token of a project sees its own only.' }),
  ),
};

export const mutationHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 255,
      pattern: '^[\\x21-\\x7e]+$',
      description:
        'Chosen by the client, new for each request. Sent again within 24 hours, the first answer is returned and nothing is done twice. Of one project the last 10,000 answers are kept, or 16 MiB of them.',
    }),
  ),
});

const dryRunQuery = Type.Object(
  {
    dry_run: Type.Optional(
      Type.Boolean({
        default: false,
        description: 'Decide as the creation would, with the same errors, and create nothing.',
      }),
    ),
    leaving: Type.Optional(
      Type.String({
        maxLength: 12288,
        pattern: '^[a-z]+-[0-9a-z]{16}(,[a-z]+-[0-9a-z]{16})*$',
        'x-rule': 'ids, separated by commas',
        description:
          'With `dry_run`: ids of objects that will be gone by then, separated by commas (at most 500). Their names, addresses and shares of the quota count as free. An id that the token could not delete counts for nothing.',
      }),
    ),
  },
  { additionalProperties: false },
);

const conditionalHeaders = Type.Object({
  'if-match': Type.Optional(
    Type.String({
      maxLength: 64,
      description: 'ETag of an earlier answer: act only if the declaration has not changed since.',
    }),
  ),
});

export const ListOf = (item: TSchema, title: string) =>
  Type.Object(
    {
      items: Type.Array(item),
      next_page_token: Type.Optional(
        Type.String({ description: 'Present when there is more: send it as `page_token`.' }),
      ),
      revision: Whole({
        description: 'Revision of the database that the answer shows. Send it as `after` to wait for news.',
      }),
    },
    { additionalProperties: false, title },
  );

export const idParams = (noun: Parameters<typeof Reference>[0]) => Type.Object({ id: Reference(noun) });

export interface CrudOptions {
  readonly read: Access;
  readonly write: Access;
  /** Belongs to a project (true) or to the cloud (false). */
  readonly scoped: boolean;
  readonly createErrors?: readonly ErrorCode[];
  readonly updateErrors?: readonly ErrorCode[];
  readonly deleteErrors?: readonly ErrorCode[];
  /** Deletion takes time: it is accepted (202) and the object stays visible until it is gone. */
  readonly asyncDelete?: boolean;
  readonly extraListQuery?: TProperties;
  readonly example: { readonly create: unknown; readonly item: unknown; readonly update: unknown };
}

const words = (noun: string) => noun.replaceAll('_', ' ');
const article = (noun: string) => (/^[aeio]/.test(noun) || noun === 'ssh_key' ? 'an' : 'a');

/** The five endpoints that every declared resource has. */
export function crud<Item, Create, Update>(resource: Resource<Item, Create, Update>, options: CrudOptions) {
  const { noun, plural, title } = resource;
  const base = `/v1/${plural}`;
  const a = `${article(noun)} ${words(noun)}`;
  const tag = plural;
  const params = idParams(noun);
  const shared = { tag, resource: resource as Resource<unknown, unknown, unknown> };
  const project = options.scoped ? projectQuery : {};
  return {
    create: {
      ...shared,
      id: `${noun}_create`,
      method: 'POST',
      path: base,
      summary: `Create ${a}`,
      access: options.write,
      dryRun: true,
      headers: mutationHeaders,
      query: dryRunQuery,
      body: resource.Create,
      bodyExample: options.example.create,
      success: { status: 201, description: 'Created.', schema: resource.Item, example: options.example.item },
      errors: [
        'name_taken',
        'idempotency_key_reused',
        'conflict',
        'payload_too_large',
        'unsupported_media_type',
        'invalid_reference',
        'rule_violated',
        ...(options.scoped ? (['quota_exceeded'] as const) : []),
        ...(options.createErrors ?? []),
      ],
    },
    list: {
      ...shared,
      id: `${noun}_list`,
      method: 'GET',
      path: base,
      summary: `List ${words(plural.replaceAll('-', ' '))}`,
      access: options.read,
      query: Type.Object(
        { ...listQuery, ...selectQuery, ...project, ...waitQuery, ...(options.extraListQuery ?? {}) },
        { additionalProperties: false },
      ),
      success: {
        status: 200,
        description: 'A page of the list, in the order of the ids.',
        schema: ListOf(resource.Item, `${title}List`),
        example: { items: [options.example.item], revision: 42 },
      },
      errors: options.scoped ? ['not_found'] : [],
    },
    get: {
      ...shared,
      id: `${noun}_get`,
      method: 'GET',
      path: `${base}/{id}`,
      summary: `Get ${a}`,
      access: options.read,
      params,
      query: Type.Object(waitQuery, { additionalProperties: false }),
      success: { status: 200, description: 'The object.', schema: resource.Item, example: options.example.item },
      errors: ['not_found'],
    },
    update: {
      ...shared,
      id: `${noun}_update`,
      method: 'PATCH',
      path: `${base}/{id}`,
      summary: `Change ${a}`,
      access: options.write,
      params,
      headers: conditionalHeaders,
      body: resource.Update,
      bodyExample: options.example.update,
      success: { status: 200, description: 'Changed.', schema: resource.Item, example: options.example.item },
      errors: [
        'not_found',
        'name_taken',
        'precondition_failed',
        'conflict',
        'payload_too_large',
        'unsupported_media_type',
        'rule_violated',
        ...(options.updateErrors ?? []),
      ],
    },
    delete: {
      ...shared,
      id: `${noun}_delete`,
      method: 'DELETE',
      path: `${base}/{id}`,
      summary: `Delete ${a}`,
      access: options.write,
      params,
      headers: conditionalHeaders,
      success: options.asyncDelete
        ? {
            status: 202,
            description: 'Accepted: the object stays visible until it is gone.',
            schema: resource.Item,
            example: options.example.item,
          }
        : { status: 204, description: 'Deleted.' },
      errors: ['not_found', 'in_use', 'precondition_failed', 'conflict', ...(options.deleteErrors ?? [])],
    },
  } as const satisfies Record<string, Endpoint>;
}

/** What the endpoints of a tag are about, told by one of them: its resource, the items of its list, or itself. */
export function aboutOf(endpoint: Endpoint): string {
  if (endpoint.resource) return endpoint.resource.description;
  const items: unknown = endpoint.success.schema?.properties?.items?.items?.description ?? endpoint.description;
  if (typeof items !== 'string') throw new Error(`tag ${endpoint.tag}: nothing describes it`);
  return items;
}
