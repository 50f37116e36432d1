/**
 * Endpoints. An endpoint defines one operation of openapi.yaml and one route of the server, so both always exist
 * together.
 */
import { type TObject, type TProperties, type TSchema, Type } from '@sinclair/typebox';
import type { ErrorCode } from './errors.ts';
import { Name, Reference, Whole } from './fields.ts';
import type { HeaderName } from './openapi.ts';
import type { Resource } from './resource.ts';

/**
 * The minimum role of the caller: everybody, read in the project, read and write in the project, the operator. `signed`: no
 * token, but a signature of the body.
 */
export type Access = 'public' | 'signed' | 'viewer' | 'member' | 'operator';

/** The definition of one operation. */
export interface Endpoint {
  /** `noun_verb`, a constant that generated clients use. */
  readonly id: string;
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PATCH' | 'DELETE';
  /** The path in the form of OpenAPI: `/v1/vms/{id}`. */
  readonly path: string;
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  readonly access: Access;
  /** Tokens of role `billing` may call the operation, for their account. */
  readonly billing?: boolean;
  /** The token may also be the password of HTTP Basic authentication, for clients that support nothing else. */
  readonly basic?: boolean;
  readonly params?: TObject;
  readonly query?: TObject;
  readonly headers?: TObject;
  readonly body?: TSchema;
  readonly bodyExample?: unknown;
  /** The request may omit the body. */
  readonly optionalBody?: boolean;
  /** `?dry_run=true` decides as the operation does, and changes nothing. */
  readonly dryRun?: boolean;
  /** The handler gets the bytes of the body unchecked. `limit` is the maximum number of bytes. */
  readonly opaqueBody?: { readonly limit: number };
  /** The handler reads the body itself, as a stream of this media type. */
  readonly streamBody?: { readonly mediaType: string };
  readonly success: {
    readonly status: number;
    readonly description: string;
    readonly schema?: TSchema;
    /** The body of the response is bytes that the server does not check against the schema. */
    readonly opaque?: boolean;
    /** The media types of further forms of the body, which are bytes. */
    readonly media?: readonly string[];
    readonly example?: unknown;
    /** The headers of the response, beside those of every response. */
    readonly headers?: readonly HeaderName[];
  };
  /** The errors of this operation, beside `commonErrors`. */
  readonly errors: readonly ErrorCode[];
  readonly resource?: Resource<unknown, unknown, unknown>;
}

/** The errors that every operation can return. */
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

/** The errors of the creation of an object that costs money. */
export const costErrors = [
  'account_empty',
  'billing_account_required',
  'budget_exceeded',
] as const satisfies readonly ErrorCode[];

/**
 * The parameters of a long poll. The API answers when a change after revision `after` exists, or after `timeout`
 * seconds.
 */
export const waitQuery = {
  after: Type.Optional(
    Whole({
      description:
        'Wait for a change after this revision, at most `timeout` seconds, and then answer as usual. Use the `revision` of an earlier response.',
    }),
  ),
  timeout: Type.Optional(
    Type.Integer({ minimum: 0, maximum: 60, default: 30, description: 'Maximum wait in seconds, with `after`.' }),
  ),
};

/** The parameters of every list. */
export const listQuery = {
  limit: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 1000, default: 100, description: 'Maximum number of items in the response.' }),
  ),
  page_token: Type.Optional(
    Type.String({ maxLength: 512, description: '`next_page_token` of the previous response.' }),
  ),
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

/** The parameter that restricts a list to a project. */
export const projectQuery = {
  project: Type.Optional(
    Reference('project', {
      description: 'Only objects of this project. A token of a project gives access only to that project.',
    }),
  ),
};

/** The headers of a request that changes an object. */
export const mutationHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 255,
      pattern: '^[\\x21-\\x7e]+$',
      description:
        'A key of the client, new for each request. A repeated request with the same key within 24 hours gets the first response, and is carried out once. The API keeps the last 10,000 responses of a project, at most 16 MiB.',
    }),
  ),
});

const dryRunQuery = Type.Object(
  {
    dry_run: Type.Optional(
      Type.Boolean({
        default: false,
        description: 'Decide as the creation does, with the same errors, and create nothing.',
      }),
    ),
    leaving: Type.Optional(
      Type.String({
        maxLength: 12288,
        pattern: '^[a-z]+-[0-9a-z]{16}(,[a-z]+-[0-9a-z]{16})*$',
        'x-rule': 'ids, separated by commas',
        description:
          'With `dry_run`: the ids of objects that will be deleted before the creation, separated by commas (at most 500). Their names, addresses and quota count as free. Ids of objects that the token cannot delete have no effect.',
      }),
    ),
  },
  { additionalProperties: false },
);

const conditionalHeaders = Type.Object({
  'if-match': Type.Optional(
    Type.String({
      maxLength: 64,
      description:
        'ETag of an earlier response. The request is carried out only if the declaration has not changed since.',
    }),
  ),
});

/** Returns the schema of one page of a list. */
export const ListOf = (item: TSchema, title: string) =>
  Type.Object(
    {
      items: Type.Array(item),
      next_page_token: Type.Optional(
        Type.String({ description: 'Token of the next page, for `page_token`. Missing on the last page.' }),
      ),
      revision: Whole({
        description:
          'Revision of the database that the response shows. Send it as `after` to wait for the next change.',
      }),
    },
    { additionalProperties: false, title },
  );

/** Returns the schema of a path with one id. */
export const idParams = (noun: Parameters<typeof Reference>[0]) => Type.Object({ id: Reference(noun) });

/** The options of `crud`. */
export interface CrudOptions {
  readonly read: Access;
  readonly write: Access;
  /** Tokens of role `billing` may read the objects of their account, and those of the cloud. */
  readonly billing?: boolean;
  /** The objects belong to a project (true) or to the cloud (false). */
  readonly scoped: boolean;
  readonly createErrors?: readonly ErrorCode[];
  readonly updateErrors?: readonly ErrorCode[];
  readonly deleteErrors?: readonly ErrorCode[];
  /** The API accepts the deletion (202), and the object stays visible until it is removed. */
  readonly asyncDelete?: boolean;
  readonly extraListQuery?: TProperties;
  readonly example: { readonly create: unknown; readonly item: unknown; readonly update: unknown };
}

const words = (noun: string) => noun.replaceAll('_', ' ');
const article = (noun: string) => (/^[aeio]/.test(noun) || noun === 'ssh_key' ? 'an' : 'a');

/** Returns the endpoints that every declared resource has: create, list, get, update, delete. */
export function crud<Item, Create, Update>(resource: Resource<Item, Create, Update>, options: CrudOptions) {
  const { noun, plural, title } = resource;
  const base = `/v1/${plural}`;
  const a = `${article(noun)} ${words(noun)}`;
  const tag = plural;
  const params = idParams(noun);
  const shared = { tag, resource: resource as Resource<unknown, unknown, unknown> };
  const project = options.scoped ? projectQuery : {};
  const billing = options.billing ? ({ billing: true } as const) : {};
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
      ...billing,
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
      ...billing,
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
            description: 'Accepted. The object stays visible until it is removed.',
            schema: resource.Item,
            example: options.example.item,
          }
        : { status: 204, description: 'Deleted.' },
      errors: ['not_found', 'in_use', 'precondition_failed', 'conflict', ...(options.deleteErrors ?? [])],
    },
  } as const satisfies Record<string, Endpoint>;
}

/** Returns the description of a tag: that of the resource, of the items of the list, or of the endpoint itself. */
export function aboutOf(endpoint: Endpoint): string {
  if (endpoint.resource) return endpoint.resource.description;
  const items: unknown = endpoint.success.schema?.properties?.items?.items?.description ?? endpoint.description;
  if (typeof items !== 'string') throw new Error(`tag ${endpoint.tag} has no description`);
  return items;
}
