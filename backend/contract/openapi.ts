/**
 * Generates the OpenAPI 3.1 document from the endpoints and the error table. `npm run generate` writes it to
 * openapi.yaml.
 *
 * Every schema with a `title` becomes a component of that name, and other places refer to it.
 */
import { type TObject, type TSchema, Type } from '@sinclair/typebox';
import { aboutOf, commonErrors, type Endpoint } from './endpoint.ts';
import { type ErrorCode, errorCodes, errorTable } from './errors.ts';
import { Enum } from './fields.ts';
import { LockInfo } from './resources/terraform-states.ts';

/** A value of JSON. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type JsonObject = { [key: string]: Json };

/** The media type of problem details (RFC 9457). */
export const problemMediaType = 'application/problem+json';

/** Returns the URI of an error's type (RFC 9457 `type`). */
export const problemType = (code: ErrorCode): string => `urn:ucloud:error:${code}`;

/** The schema of problem details (RFC 9457). */
export const Problem = Type.Object(
  {
    type: Type.String({ format: 'uri', description: 'URI of the kind of problem: `urn:ucloud:error:<code>`.' }),
    title: Type.String({ description: 'The kind of problem in a few words.' }),
    status: Type.Integer({ minimum: 400, maximum: 599, description: 'HTTP status.' }),
    detail: Type.String({ description: 'Description of the error in this request.' }),
    code: Enum(errorCodes, { description: 'The kind of problem, a constant word for programs.' }),
    errors: Type.Optional(
      Type.Array(
        Type.Object(
          {
            pointer: Type.String({
              description:
                'JSON pointer (RFC 6901) into the body, or `#query/<name>`, `#path/<name>`, `#header/<name>`.',
            }),
            detail: Type.String({ description: 'The rule that the field breaks.' }),
          },
          { additionalProperties: false },
        ),
        { description: 'The fields at fault.' },
      ),
    ),
    users: Type.Optional(
      Type.Array(
        Type.Object(
          {
            id: Type.String({ description: 'Id of an object that uses this one.' }),
            being_deleted: Type.Boolean({
              description: 'Whether the deletion of that object was accepted.',
            }),
          },
          { additionalProperties: false },
        ),
        {
          description: 'With `in_use`: up to ten of the objects that use this one, if the token may see them.',
        },
      ),
    ),
    request_id: Type.String({ description: 'Id of the request, as in the header `Request-Id` and in the log.' }),
  },
  { additionalProperties: false, title: 'Problem', description: 'An error (RFC 9457, problem details).' },
);

/** The schema of the error for a locked state. Terraform reads it as LockInfo and shows only its `ID`. */
export const StateLockedProblem = Type.Object(
  {
    ...Problem.properties,
    ...LockInfo.properties,
    ID: Type.String({ description: 'ID of the lock and, for people, its holder and time.' }),
    lock: LockInfo,
  },
  {
    additionalProperties: false,
    title: 'StateLockedProblem',
    description:
      'The error `state_locked`: a problem that is also LockInfo of Terraform, with the present lock in `lock`.',
  },
);

/** The schemas of errors with further members. */
const problemSchemas: Partial<Record<ErrorCode, TObject>> = { state_locked: StateLockedProblem };

const roleText = {
  public: 'Requires no token.',
  signed: 'Requires a signature of the body in place of a token.',
  viewer: 'Requires a token of role `viewer`, `member` or `operator`.',
  member: 'Requires a token of role `member` or `operator`.',
  operator: 'Requires a token of role `operator`.',
} as const;

/** The text about tokens of billing accounts. */
const billingText =
  'A token of role `billing` may call it, too, and gets only objects of its account and of the cloud.';

/** The schema of a body of bytes. */
const bytes = { type: 'string', format: 'binary' };

const errorsWithField: readonly ErrorCode[] = [
  'invalid_input',
  'invalid_reference',
  'rule_violated',
  'name_taken',
  'quota_exceeded',
];

const problemExample = (code: ErrorCode): JsonObject => {
  const { status, title, meaning } = errorTable[code];
  return {
    type: problemType(code),
    title,
    status,
    detail: meaning,
    code,
    ...(code === 'state_locked'
      ? {
          ID: '9b2afbed-1edd-7727-2572-68465024e815 (held by alice@laptop since 2026-01-01T00:00:00Z)',
          Who: 'alice@laptop',
          lock: { ID: '9b2afbed-1edd-7727-2572-68465024e815', Who: 'alice@laptop' },
        }
      : {}),
    ...(errorsWithField.includes(code) ? { errors: [{ pointer: '/name', detail: 'the rule of the field' }] } : {}),
    request_id: 'req-1',
  };
};

const whole = { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER };
const responseHeaders = {
  'Request-Id': { description: 'Id of the request, as in the log.', schema: { type: 'string' } },
  'UCloud-Revision': {
    description: 'Revision of the database that the response shows, for `UCloud-Min-Revision` of a later request.',
    schema: whole,
  },
  ETag: {
    description: 'Version of the declaration, for `If-Match`.',
    schema: { type: 'string' },
  },
  Location: { description: 'Path of the new object.', schema: { type: 'string' } },
  'Idempotent-Replayed': {
    description: '`true` for the repeated response of an earlier request with the same Idempotency-Key.',
    schema: { type: 'string', const: 'true' },
  },
  'Tus-Resumable': { description: 'Version of the upload protocol.', schema: { type: 'string', const: '1.0.0' } },
  'Upload-Offset': { description: 'Bytes that the server has.', schema: whole },
  'Upload-Length': { description: 'Size of the file in bytes.', schema: whole },
  'Upload-Expires': {
    description: 'Time after which an unfinished upload is removed (RFC 9110).',
    schema: { type: 'string' },
  },
  'UCloud-File': { description: 'Id that the file has when the upload is complete.', schema: { type: 'string' } },
  'RateLimit-Limit': { description: 'Requests allowed in a period.', schema: whole },
  'RateLimit-Remaining': { description: 'Requests left in this period.', schema: whole },
  'RateLimit-Reset': { description: 'Seconds until the end of the period.', schema: whole },
  'Retry-After': { description: 'Seconds to wait before the next request.', schema: whole },
} satisfies JsonObject;
/** A header of responses. */
export type HeaderName = keyof typeof responseHeaders;

const headerRefs = (...names: HeaderName[]): JsonObject =>
  Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }]));
const everyResponse: HeaderName[] = ['Request-Id', 'RateLimit-Limit', 'RateLimit-Remaining', 'RateLimit-Reset'];

const minRevision: JsonObject = {
  name: 'UCloud-Min-Revision',
  in: 'header',
  description: '`UCloud-Revision` of an earlier response. The response is at least as new.',
  schema: whole,
};

/** Returns the plain JSON of a TypeBox schema, without symbols and undefined values. */
const plain = (value: unknown): Json => JSON.parse(JSON.stringify(value)) as Json;

/** Moves every schema with a title to `components`, and returns the schema with references. */
function hoist(schema: Json, components: JsonObject): Json {
  if (Array.isArray(schema)) return schema.map((item) => hoist(item, components));
  if (schema === null || typeof schema !== 'object') return schema;
  const { title, ...rest } = schema;
  const result: JsonObject = {};
  for (const [key, value] of Object.entries(rest)) {
    if (key === 'properties') {
      const properties = Object.entries(value as JsonObject);
      result[key] = Object.fromEntries(properties.map(([name, property]) => [name, hoist(property, components)]));
    } else {
      // `default`, `enum` and `required` contain values, not schemas.
      result[key] = key === 'default' || key === 'enum' || key === 'required' ? value : hoist(value, components);
    }
  }
  if (typeof title !== 'string') return result;
  components[title] = result;
  return { $ref: `#/components/schemas/${title}` };
}

const sorted = (object: JsonObject): JsonObject =>
  Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)));

/** Returns the usual spelling of a header: `Idempotency-Key` for `idempotency-key`. */
export const canonicalHeader = (name: string): string =>
  name.replace(/(^|[-/])[a-z]/g, (letter) => letter.toUpperCase());

function parameters(place: 'path' | 'query' | 'header', object: TObject | undefined): Json[] {
  if (!object) return [];
  return Object.entries(object.properties).map(([name, property]) => {
    const { description, ...schema } = plain(property) as JsonObject;
    return {
      name: place === 'header' ? canonicalHeader(name) : name,
      in: place,
      ...(place === 'path' || object.required?.includes(name) ? { required: true } : {}),
      description: description ?? 'Id of the object.',
      schema,
    };
  });
}

/** Returns the responses for the errors of an endpoint: one per status, with one example per code. */
function errorResponses(endpoint: Endpoint, shared: JsonObject): JsonObject {
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of new Set([...commonErrors, ...endpoint.errors])) {
    if (endpoint.access === 'public' && (code === 'unauthenticated' || code === 'forbidden')) continue;
    if (endpoint.access === 'signed' && code === 'forbidden') continue;
    const { status } = errorTable[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  const responses: JsonObject = {};
  for (const [status, codes] of [...byStatus].sort(([a], [b]) => a - b)) {
    const [only] = codes;
    if (codes.length === 1 && only) {
      shared[only] = errorResponse([only]);
      responses[String(status)] = { $ref: `#/components/responses/${only}` };
    } else {
      responses[String(status)] = errorResponse(codes);
    }
  }
  return responses;
}

function errorResponse(codes: readonly ErrorCode[]): JsonObject {
  const [only, ...others] = codes;
  const schema = others.length === 0 && only ? problemSchemas[only] : undefined;
  return {
    description: codes.map((code) => `\`${code}\`: ${errorTable[code].title}.`).join(' '),
    headers: headerRefs(...everyResponse, ...(codes.includes('rate_limited') ? (['Retry-After'] as const) : [])),
    content: {
      [problemMediaType]: {
        schema: { $ref: `#/components/schemas/${schema?.title ?? 'Problem'}` },
        examples: Object.fromEntries(codes.map((code) => [code, { $ref: `#/components/examples/${code}` }])),
      },
    },
  };
}

function operation(endpoint: Endpoint, schemas: JsonObject, shared: JsonObject): JsonObject {
  const { success } = endpoint;
  const schema = (source: TSchema): Json => hoist(plain(source), schemas);
  const isItem = endpoint.resource !== undefined && success.schema === endpoint.resource.Item;
  const headers: HeaderName[] = [...everyResponse, 'UCloud-Revision'];
  if (isItem) headers.push('ETag');
  if (success.headers) headers.push(...success.headers);
  if (endpoint.headers?.properties['idempotency-key']) headers.push('Location', 'Idempotent-Replayed');
  return {
    operationId: endpoint.id,
    tags: [endpoint.tag],
    summary: endpoint.summary,
    description: [endpoint.description, roleText[endpoint.access], endpoint.billing ? billingText : '']
      .filter(Boolean)
      .join('\n\n'),
    'x-access': endpoint.access,
    ...(endpoint.billing ? { 'x-billing': true } : {}),
    ...(endpoint.access === 'public' || endpoint.access === 'signed' ? { security: [] } : {}),
    ...(endpoint.basic ? { security: [{ token: [] }, { password: [] }] } : {}),
    parameters: [
      ...parameters('path', endpoint.params),
      ...parameters('query', endpoint.query),
      ...parameters('header', endpoint.headers),
      { $ref: '#/components/parameters/MinRevision' },
    ],
    ...(endpoint.body
      ? {
          requestBody: {
            required: !endpoint.optionalBody,
            content: {
              'application/json': { schema: schema(endpoint.body), example: plain(endpoint.bodyExample ?? {}) },
            },
          },
        }
      : {}),
    ...(endpoint.streamBody
      ? {
          requestBody: {
            required: true,
            content: { [endpoint.streamBody.mediaType]: { schema: { type: 'string', format: 'binary' } } },
          },
        }
      : {}),
    responses: {
      [String(success.status)]: {
        description: success.description,
        headers: headerRefs(...headers),
        ...(success.schema
          ? {
              content: {
                'application/json': { schema: schema(success.schema), example: plain(success.example ?? null) },
                ...Object.fromEntries((success.media ?? []).map((type) => [type, { schema: bytes }])),
              },
            }
          : {}),
      },
      ...(endpoint.dryRun
        ? {
            '204': {
              description: 'With `dry_run`: the creation would succeed.',
              headers: headerRefs(...everyResponse, 'UCloud-Revision'),
            },
          }
        : {}),
      ...errorResponses(endpoint, shared),
    },
  };
}

const introduction = `\
Declarative virtual machines, IPv6 networks and prefixes.

**Tokens.** Every request has the header \`Authorization: Bearer <token>\`. A token gives access to one project, that of
role \`billing\` to one billing account, and an operator's token to the whole cloud. Objects outside that access are answered with 404.

**Errors** are problem details (RFC 9457) with a constant \`code\` and a JSON pointer for each field at fault.

A malformed HTTP request is also answered with a problem, and its connection is closed. An unknown path is answered with
404, an unknown method with 405 and the header \`Allow\`. HEAD is answered like GET, without the body. Operations without
a body in this document refuse one.

**Retries.** A POST with an \`Idempotency-Key\` can be sent again within 24 hours. It is carried out once, and every
repetition gets the first response.

**Dry runs.** A creation with \`?dry_run=true\` creates nothing. It is answered with the error of the creation, or with
204. \`leaving\` contains the objects that will be deleted before.

**Versions.** \`ETag\` is the version of the declaration, for \`If-Match\`. \`revision\` also changes with the observed
state; send it as \`after\` to wait for the next change. Send the \`UCloud-Revision\` of a response as
\`UCloud-Min-Revision\` to get a response that is not older, from every server.
`;

/** The errors of requests to other paths or methods, and of malformed HTTP. */
const elsewhere: readonly ErrorCode[] = [
  'invalid_input',
  'not_found',
  'method_not_allowed',
  'request_timeout',
  'expectation_failed',
  'rate_limited',
  'headers_too_large',
];

const responseElsewhere = (code: ErrorCode): JsonObject => ({
  description: `\`${code}\`: ${errorTable[code].title}.`,
  ...(code === 'method_not_allowed'
    ? { headers: { Allow: { description: 'Methods of the path.', schema: { type: 'string' } } } }
    : {}),
  content: { [problemMediaType]: { schema: { $ref: '#/components/schemas/Problem' }, example: problemExample(code) } },
});

/** Returns the OpenAPI document. */
export function openApiDocument(endpoints: readonly Endpoint[], version: string): JsonObject {
  const schemas: JsonObject = {};
  const responses: JsonObject = {};
  const paths: { [path: string]: JsonObject } = {};
  const tags = new Map<string, string>();
  for (const endpoint of endpoints) {
    const item = paths[endpoint.path] ?? {};
    item[endpoint.method.toLowerCase()] = operation(endpoint, schemas, responses);
    paths[endpoint.path] = item;
    if (!tags.has(endpoint.tag)) tags.set(endpoint.tag, aboutOf(endpoint));
  }
  for (const problem of [Problem, ...Object.values(problemSchemas)]) hoist(plain(problem), schemas);
  const used = new Set([...commonErrors, ...endpoints.flatMap((endpoint) => endpoint.errors)]);
  return {
    openapi: '3.1.0',
    info: {
      title: 'ucloud',
      version,
      summary: 'IPv6-first virtual machine management.',
      description: introduction,
      license: { name: 'Apache License 2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/', description: 'The server of this document.' }],
    security: [{ token: [] }],
    tags: [...tags].map(([name, description]) => ({ name, description })),
    paths,
    'x-other-responses': Object.fromEntries(
      elsewhere.map((code) => [String(errorTable[code].status), responseElsewhere(code)]),
    ),
    components: {
      securitySchemes: {
        token: {
          type: 'http',
          scheme: 'bearer',
          description: 'A token of ucloud. Only the response to its creation shows it.',
        },
        password: {
          type: 'http',
          scheme: 'basic',
          description: 'The token as password, with any user name: for the backend "http" of Terraform.',
        },
      },
      parameters: { MinRevision: minRevision },
      headers: responseHeaders,
      responses: sorted(responses),
      examples: Object.fromEntries(
        errorCodes
          .filter((code) => used.has(code))
          .map((code) => {
            const { title, user, retry } = errorTable[code];
            return [code, { summary: title, description: user, 'x-retryable': retry, value: problemExample(code) }];
          }),
      ),
      schemas: sorted(schemas),
    },
  };
}
