/** Checks responses against the file openapi.yaml, because clients are generated from it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ValidateFunction } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { parse } from 'yaml';
import { formats } from '../../backend/model/text/formats.ts';

export interface Parameter {
  readonly name: string;
  readonly in: 'path' | 'query' | 'header';
}

export interface Operation {
  readonly operationId: string;
  readonly method: string;
  readonly path: string;
  readonly access: 'public' | 'signed' | 'viewer' | 'member' | 'operator';
  readonly body: Readonly<Record<string, unknown>> | undefined;
  readonly responses: Readonly<Record<string, unknown>>;
}

type Json = Readonly<Record<string, unknown>>;
const object = (value: unknown): Json => (value !== null && typeof value === 'object' ? (value as Json) : {});

export const openApiPath = join(import.meta.dirname, '..', '..', 'openapi.yaml');
export const openApiDocument: Json = parse(readFileSync(openApiPath, 'utf8'));

const methods = ['get', 'post', 'patch', 'delete', 'put', 'head'];

export const operations: ReadonlyMap<string, Operation> = new Map(
  Object.entries(object(openApiDocument.paths)).flatMap(([path, item]) =>
    methods.flatMap((method): [string, Operation][] => {
      const source = object(object(item)[method]);
      const { operationId } = source;
      if (typeof operationId !== 'string') return [];
      const content = object(object(object(source.requestBody).content)['application/json']);
      return [
        [
          operationId,
          {
            operationId,
            method: method.toUpperCase(),
            path,
            access: source['x-access'] as Operation['access'],
            body: 'example' in content ? object(content.example) : undefined,
            responses: object(source.responses),
          },
        ],
      ];
    }),
  ),
);

const id = 'https://ucloud.test/openapi';
const ajv = new Ajv2020({
  strict: false,
  allErrors: true,
  formats: {
    uri: (text: string) => URL.canParse(text),
    ...Object.fromEntries(
      Object.entries(formats).map(([name, problem]) => [name, (text: string) => problem(text) === undefined]),
    ),
  },
});
ajv.addSchema({ ...openApiDocument, $id: id });

const escapePointer = (name: string): string => encodeURIComponent(name.replaceAll('~', '~0').replaceAll('/', '~1'));
const compiled = new Map<string, ValidateFunction>();

function schemaAt(path: readonly string[]): ValidateFunction {
  const ref = `${id}#/${path.map(escapePointer).join('/')}`;
  const known = compiled.get(ref) ?? ajv.compile({ $ref: ref });
  compiled.set(ref, known);
  return known;
}

/** Returns the value at a path of the document, after following references. */
function locate(path: readonly string[]): readonly string[] {
  let place: readonly string[] = [];
  let value: unknown = openApiDocument;
  for (const step of path) {
    place = [...place, step];
    value = object(value)[step];
    const { $ref } = object(value);
    if (typeof $ref === 'string') return locate([...$ref.slice(2).split('/'), ...path.slice(place.length)]);
  }
  return value === undefined ? [] : place;
}

const valueAt = (path: readonly string[]): unknown =>
  path.reduce<unknown>((value, step) => object(value)[step], openApiDocument);

export interface Answer {
  readonly method: string;
  readonly url: string;
  /** The operation; undefined if the document does not contain it. */
  readonly operation: string | undefined;
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  /** Undefined if the checker could not see it. */
  readonly body: string | undefined;
}

const problem = 'application/problem+json';

/** Returns the problem of a response; undefined if it is valid. */
export function violation(answer: Answer): string | undefined {
  const { operation: operationId, status, headers, body } = answer;
  const what = `${answer.method} ${answer.url} → ${status}`;
  const type = String(headers['content-type'] ?? '').split(';')[0] ?? '';
  if (headers['request-id'] === undefined) return `${what}: no Request-Id`;
  if (body === undefined) return status < 400 ? undefined : `${what}: an error that is made while it is sent`;
  const check = (schema: ValidateFunction): string | undefined =>
    schema(JSON.parse(body)) ? undefined : `${what}: ${ajv.errorsText(schema.errors)} in ${body.slice(0, 500)}`;
  if (operationId === undefined) {
    if (status < 400) return undefined;
    return type === problem ? check(schemaAt(['components', 'schemas', 'Problem'])) : `${what}: ${type} is no problem`;
  }
  const operation = operations.get(operationId);
  if (!operation) return `${what}: no operation ${operationId}`;
  const base = ['paths', operation.path, operation.method.toLowerCase(), 'responses', String(status)];
  const response = locate(base);
  if (response.length === 0) return `${what}: ${operationId} does not document ${status}: ${body.slice(0, 500)}`;
  const content = object(object(valueAt(response)).content);
  if (Object.keys(content).length === 0) return body === '' ? undefined : `${what}: a body where there should be none`;
  if (!(type in content)) return `${what}: content type ${type}, documented is ${Object.keys(content).join(', ')}`;
  if (!type.endsWith('json')) return undefined;
  const wrong = check(schemaAt([...response, 'content', type, 'schema']));
  if (wrong !== undefined || type !== problem) return wrong;
  const { code } = JSON.parse(body) as { code: string };
  const codes = object(object(content[type]).examples);
  return code in codes ? undefined : `${what}: ${operationId} does not document the code ${code}`;
}
