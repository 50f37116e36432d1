/** Requests of an endpoint: its options on the command line, and what they make of path, query and body. */
import { type Command, Option } from 'commander';
import type { Endpoint } from '../contract/endpoint.ts';
import { readBody, readInput, takesFile, textOf } from './input-files.ts';
import { resolveNames } from './names.ts';
import { flagOf, type JsonSchema, parseValue, solid, takesNull } from './values.ts';

/** The options as commander has read them: one text for each use of an option. */
export type Texts = Readonly<Record<string, readonly string[] | undefined>>;

/** Commander's own key for a flag. */
export const keyOf = (field: string): string =>
  field.replace(/_([a-z0-9])/g, (_match, letter: string) => letter.toUpperCase());

const collect = (text: string, before: readonly string[] = []): readonly string[] => [...before, text];

export const queryOf = ({ query }: Endpoint): JsonSchema => (query ?? {}) as JsonSchema;
/** A body that may be left out only repeats what the query can say. */
export const bodySchemaOf = ({ body, optionalBody }: Endpoint): JsonSchema | undefined =>
  optionalBody ? undefined : (body as JsonSchema | undefined);

/** How a value is written. */
function formOf(schema: JsonSchema): string {
  const { type, enum: values } = solid(schema);
  if (values) return 'word';
  if (type === 'array') return 'a,b or JSON';
  return type === 'object' ? 'key=value,… or JSON' : (type ?? 'value');
}

/** An option that can be completed and explained from its schema. */
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

/** The option of a field that the API names by a JSON pointer (RFC 6901), or by `#query/` and its name. */
export function optionOf(pointer: string): string {
  const [, place = '', path = ''] = /^(#query)?\/(.+)$/s.exec(pointer) ?? [];
  if (path === '') return pointer || 'the options';
  const parts = path.split('/').map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
  const [field = '', ...below] = place ? [path] : parts;
  return [flagOf(field), ...below].join('.');
}

/** A field of a query. One that is true or false is true where no value follows. */
export function queryOption(field: string, schema: JsonSchema): Option {
  if (solid(schema).type !== 'boolean') return new FieldOption(field, schema);
  return new Option(`${flagOf(field)} [${formOf(schema)}]`, schema.description).preset('true').argParser(collect);
}

const namesPaths = new WeakMap<Command, string>();
/** Has the arguments of a command completed with the names that a list has. */
export const completeNames = (command: Command, path: string): Command => {
  namesPaths.set(command, path);
  return command;
};
/** Path of the list that has the names of a command's arguments. */
export const namesPathOf = (command: Command): string | undefined => namesPaths.get(command);

const bodyFile = '--body <file>';

export function addBodyOptions(command: Command, endpoint: Endpoint): void {
  const schema = bodySchemaOf(endpoint);
  if (endpoint.opaqueBody) {
    command.requiredOption(bodyFile, 'the file to send, as it is; - for standard input');
  } else if (schema) {
    for (const [field, property] of Object.entries(schema.properties ?? {})) {
      command.addOption(new FieldOption(field, property));
    }
    command.option(bodyFile, 'take the whole body from a JSON file; - for standard input');
  }
}

/** The values that were given for fields. Nothing is asked of the API for them. */
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

/** The parsed values of the command line. Names are not resolved yet. */
export interface Given {
  readonly query: Record<string, unknown>;
  readonly body?: Record<string, unknown>;
  /** A body that is sent as it is. */
  readonly text?: string;
}

/** Throws what is wrong with an option, before anything is asked of the API. */
export function readGiven(endpoint: Endpoint, texts: Texts, file: string | undefined): Given {
  const query = valuesOf(queryOf(endpoint), texts);
  if (endpoint.opaqueBody) return { query, text: readInput(file ?? '-', '--body') };
  const schema = bodySchemaOf(endpoint);
  if (!schema) return { query };
  const body = valuesOf(schema, texts);
  if (file === undefined) return { query, body };
  const [first] = Object.keys(body);
  if (first) throw new Error(`--body is the whole body: it does not go together with ${flagOf(first)}`);
  return { query, body: readBody(file) };
}

/** @param project that names are looked for in, and where creations go that name none */
export async function resolved(endpoint: Endpoint, given: Given, project: string | undefined) {
  const schema = bodySchemaOf(endpoint);
  const { project: _asked, ...asked } = given.query;
  const query = (await resolveNames(queryOf(endpoint), asked, project)) as Record<string, unknown>;
  const body = schema && ((await resolveNames(schema, given.body, project)) as Record<string, unknown>);
  // An operator's token belongs to no project: creations then go to the one of the credentials.
  const homeless = body && schema.properties?.project && body.project === undefined && project !== undefined;
  return {
    query: Object.fromEntries(
      Object.entries(query).map(([name, value]) => [name, value === undefined ? undefined : String(value)]),
    ),
    ...(body && { body: homeless ? { ...body, project } : body }),
    ...(given.text !== undefined && { text: given.text }),
  };
}
