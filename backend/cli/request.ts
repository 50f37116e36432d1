/** The options of an endpoint, and the path, query and body that result from them. */
import { type Command, Option } from 'commander';
import type { Endpoint } from '../contract/endpoint.ts';
import { readBody, readInput, takesFile, textOf } from './input-files.ts';
import { resolveNames } from './names.ts';
import { flagOf, type JsonSchema, parseValue, solid, takesNull } from './values.ts';

/** The options as commander reads them: one text for each use of an option. */
export type Texts = Readonly<Record<string, readonly string[] | undefined>>;

/** Returns commander's key of a flag. */
export const keyOf = (field: string): string =>
  field.replace(/_([a-z0-9])/g, (_match, letter: string) => letter.toUpperCase());

const collect = (text: string, before: readonly string[] = []): readonly string[] => [...before, text];

/** Returns the schema of the query. */
export const queryOf = ({ query }: Endpoint): JsonSchema => (query ?? {}) as JsonSchema;
/** Returns the schema of the body. An optional body only repeats parameters of the query, so it gives no options. */
export const bodySchemaOf = ({ body, optionalBody }: Endpoint): JsonSchema | undefined =>
  optionalBody ? undefined : (body as JsonSchema | undefined);

/** Returns the form of a value for the help. */
function formOf(schema: JsonSchema): string {
  const { type, enum: values } = solid(schema);
  if (values) return 'word';
  if (type === 'array') return 'a,b or JSON';
  return type === 'object' ? 'key=value,… or JSON' : (type ?? 'value');
}

/** An option with its schema, which gives the completion and the help. */
export class FieldOption extends Option {
  readonly schema: JsonSchema;

  constructor(field: string, schema: JsonSchema, description = schema.description ?? solid(schema).description ?? '') {
    const file = takesFile(schema) ? ', or @file' : '';
    super(`${flagOf(field)} <${formOf(schema)}${file}>`, description);
    this.schema = schema;
    const { enum: values } = solid(schema);
    if (values) this.argChoices = [...values, ...(takesNull(schema) ? ['null'] : [])];
    this.argParser(collect);
  }
}

/** Returns the option of a field that the API gives as a JSON pointer (RFC 6901) or as `#query/<name>`. */
export function optionOf(pointer: string): string {
  const [, place = '', path = ''] = /^(#query)?\/(.+)$/s.exec(pointer) ?? [];
  if (path === '') return pointer || 'the options';
  const parts = path.split('/').map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
  const [field = '', ...below] = place ? [path] : parts;
  return [flagOf(field), ...below].join('.');
}

/** Returns the option of a query parameter. A boolean parameter needs no value. */
export function queryOption(field: string, schema: JsonSchema): Option {
  if (solid(schema).type !== 'boolean') return new FieldOption(field, schema);
  return new Option(`${flagOf(field)} [${formOf(schema)}]`, schema.description).preset('true').argParser(collect);
}

const namesPaths = new WeakMap<Command, string>();
/** Completes the arguments of a command with the names of a list. */
export const completeNames = (command: Command, path: string): Command => {
  namesPaths.set(command, path);
  return command;
};
/** Returns the path of the list with the names of a command's arguments. */
export const namesPathOf = (command: Command): string | undefined => namesPaths.get(command);

const bodyFile = '--body <file>';

/** Adds the options of the body. */
export function addBodyOptions(command: Command, endpoint: Endpoint): void {
  const schema = bodySchemaOf(endpoint);
  if (endpoint.opaqueBody) {
    command.requiredOption(bodyFile, 'file to send unchanged; - for standard input');
  } else if (schema) {
    for (const [field, property] of Object.entries(schema.properties ?? {})) {
      command.addOption(new FieldOption(field, property));
    }
    command.option(bodyFile, 'read the whole body from a JSON file; - for standard input');
  }
}

/** Returns the values of the given fields. The function sends no request. */
function valuesOf(schema: JsonSchema, texts: Texts): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(schema.properties ?? {}).flatMap(([field, property]): [string, unknown][] => {
      const given = texts[keyOf(field)];
      if (given === undefined) return [];
      const contents = given.map((text) => textOf(property, field, text));
      return [[field, parseValue(property, field, contents)]];
    }),
  );
}

/** The parsed values of the command line. They still contain names. */
export interface Given {
  readonly query: Record<string, unknown>;
  readonly body?: Record<string, unknown>;
  /** The body as text. */
  readonly text?: string;
}

/** Parses the options before the first request. @throws Error that names the option */
export function readGiven(endpoint: Endpoint, texts: Texts, file: string | undefined): Given {
  const query = valuesOf(queryOf(endpoint), texts);
  if (endpoint.opaqueBody) return { query, text: readInput(file ?? '-', '--body') };
  const schema = bodySchemaOf(endpoint);
  if (!schema) return { query };
  const body = valuesOf(schema, texts);
  if (file === undefined) return { query, body };
  const [first] = Object.keys(body);
  if (first) throw new Error(`--body is the whole body and cannot be combined with ${flagOf(first)}`);
  return { query, body: readBody(file) };
}

/** Replaces names by ids. @param project the project of the names, and of creations without a project */
export async function resolved(endpoint: Endpoint, given: Given, project: string | undefined) {
  const schema = bodySchemaOf(endpoint);
  const { project: _asked, ...asked } = given.query;
  const query = (await resolveNames(queryOf(endpoint), asked, project)) as Record<string, unknown>;
  const body = schema && ((await resolveNames(schema, given.body, project)) as Record<string, unknown>);
  // An operator's token belongs to no project, so the creation uses the project of the credentials. Some objects need none.
  const item = endpoint.resource?.Item as JsonSchema | undefined;
  const isToken = endpoint.id === 'token_create' && body?.role !== 'operator' && body?.role !== 'billing';
  const needsProject = schema?.properties?.project && (isToken || item?.required?.includes('project') !== false);
  const homeless = body && needsProject && body.project === undefined && project !== undefined;
  return {
    query: Object.fromEntries(
      Object.entries(query).map(([name, value]) => [name, value === undefined ? undefined : String(value)]),
    ),
    ...(body && { body: homeless ? { ...body, project } : body }),
    ...(given.text !== undefined && { text: given.text }),
  };
}
