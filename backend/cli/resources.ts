/**
 * Commands for every resource of the API, made from the contract: `ucloud vm list`, `ucloud vm create --name web …`.
 * A new field or endpoint is here without anybody writing it.
 */
import { readFileSync } from 'node:fs';
import type { TSchema } from '@sinclair/typebox';
import { type Command, Option } from 'commander';
import type { Endpoint } from '../contract/endpoint.ts';
import { endpoints } from '../contract/index.ts';
import { call } from './client.ts';
import { readCredentials } from './credentials.ts';
import { print } from './output.ts';

const flagOf = (field: string) => `--${field.replaceAll('_', '-')}`;
/** Commander's own key for a flag. */
const keyOf = (field: string) => field.replace(/_([a-z0-9])/g, (_match, letter: string) => letter.toUpperCase());

interface JsonSchema {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly string[];
  readonly anyOf?: readonly JsonSchema[];
  readonly properties?: Record<string, JsonSchema>;
  readonly required?: readonly string[];
  readonly items?: JsonSchema;
  readonly 'x-reference'?: string;
}

/** The schema without the `null` that an update allows. */
const solid = (schema: JsonSchema): JsonSchema => schema.anyOf?.find(({ type }) => type !== 'null') ?? schema;

function parse(schema: JsonSchema, field: string, text: string): unknown {
  const { type, anyOf } = schema;
  if (anyOf && text === 'null') return null;
  const inner = solid(schema);
  if (inner.type === 'string') return text;
  if (inner.type === 'array' && !text.trimStart().startsWith('[')) return text.split(',').filter((part) => part !== '');
  if (inner.type === 'object' && !text.trimStart().startsWith('{')) {
    return Object.fromEntries(text.split(',').map((pair) => pair.split(/=(.*)/s).slice(0, 2)));
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${flagOf(field)}: "${text}" is not ${type ?? inner.type}`);
  }
}

const idForm = /^[a-z]+-[0-9a-hjkmnp-tv-z]{16}$/;

/** People may say the name where the API wants an id. */
async function idOf(noun: string, text: string, project: string | undefined): Promise<string> {
  const list = endpoints.find(({ id }) => id === `${noun}_list`);
  if (idForm.test(text) || !list?.query?.properties.name) return text;
  const scope = list.query.properties.project ? { project } : {};
  const { items } = (await call({ method: 'GET', path: list.path, query: { name: text, ...scope } })) as {
    items: readonly { readonly id: string }[];
  };
  const [found, ...others] = items;
  const words = noun.replaceAll('_', ' ');
  if (!found) throw new Error(`there is no ${words} with the id or name "${text}"`);
  if (others.length > 0)
    throw new Error(`${items.length} of ${words} have the name "${text}": say the id, or the project`);
  return found.id;
}

/** Replaces names by ids wherever the schema has a reference. */
async function resolveNames(schema: JsonSchema, value: unknown, project: string | undefined): Promise<unknown> {
  const inner = solid(schema);
  if (typeof value === 'string') {
    const noun = inner['x-reference'];
    return noun ? idOf(noun, value, project) : value;
  }
  if (Array.isArray(value)) {
    return Promise.all(value.map((item) => resolveNames(inner.items ?? {}, item, project)));
  }
  if (typeof value !== 'object' || value === null) return value;
  const entries = await Promise.all(
    Object.entries(value).map(
      async ([key, part]) => [key, await resolveNames(inner.properties?.[key] ?? {}, part, project)] as const,
    ),
  );
  return Object.fromEntries(entries);
}

function addFields(command: Command, schema: JsonSchema): void {
  for (const [field, property] of Object.entries(schema.properties ?? {})) {
    const { type, description = '', enum: values } = solid({ ...property, ...solid(property) });
    const form = type === 'array' ? '<a,b or JSON>' : type === 'object' ? '<key=value,… or JSON>' : `<${type}>`;
    const option = new Option(`${flagOf(field)} ${form}`, description);
    if (values) option.choices(values);
    command.addOption(option);
  }
  command.option('--body <file>', 'take the whole body from a JSON file; - for standard input');
}

function bodyOf(schema: JsonSchema, options: Record<string, string>): Record<string, unknown> {
  if (options.body) return JSON.parse(readFileSync(options.body === '-' ? 0 : options.body, 'utf8'));
  const body: Record<string, unknown> = {};
  for (const [field, property] of Object.entries(schema.properties ?? {})) {
    const text = options[keyOf(field)];
    if (text !== undefined) body[field] = parse(property, field, text);
  }
  // An operator's token belongs to no project: creations then go to the one of the credentials.
  if (schema.properties?.project && body.project === undefined && readCredentials().project) {
    body.project = readCredentials().project;
  }
  return body;
}

function addEndpoint(noun: Command, endpoint: Endpoint, verb: string): void {
  const command = noun.command(verb).description(endpoint.summary);
  const body = endpoint.body as (TSchema & JsonSchema) | undefined;
  const query = endpoint.query as (TSchema & JsonSchema) | undefined;
  if (endpoint.params) command.argument('<id or name>');
  if (body) addFields(command, body);
  for (const [name, schema] of Object.entries(query?.properties ?? {})) {
    command.option(`${flagOf(name)} <value>`, schema.description);
  }
  command.option('--json', 'print JSON');
  command.action(async (...given: unknown[]) => {
    const options = given[endpoint.params ? 1 : 0] as Record<string, string> & { json?: boolean };
    const project = options.project ? await idOf('project', options.project, undefined) : readCredentials().project;
    const target = (endpoint.params as (TSchema & JsonSchema) | undefined)?.properties?.id?.['x-reference'] ?? '';
    const id = endpoint.params ? await idOf(target, String(given[0]), project) : '';
    const asked = Object.fromEntries(Object.keys(query?.properties ?? {}).map((name) => [name, options[keyOf(name)]]));
    const answer = await call({
      method: endpoint.method,
      path: endpoint.path.replace('{id}', encodeURIComponent(id)),
      query: { ...asked, ...(asked.project !== undefined && { project }) },
      body: body && (await resolveNames(body, bodyOf(body, options), project)),
    });
    print(answer, options.json === true);
  });
}

/** `ssh_key` becomes the command `ssh-key`, and each of its endpoints a sub-command. */
export function addResourceCommands(program: Command): void {
  const nouns = new Map<string, Command>();
  for (const endpoint of endpoints) {
    const verb = endpoint.id.split('_').at(-1) ?? endpoint.id;
    const name = endpoint.id.slice(0, -verb.length - 1).replaceAll('_', '-');
    let noun = nouns.get(name);
    if (!noun) {
      noun = program.command(name).description(`${name.replaceAll('-', ' ')}s of the API`);
      nouns.set(name, noun);
    }
    addEndpoint(noun, endpoint, verb);
  }
}
