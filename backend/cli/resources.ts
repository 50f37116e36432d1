/**
 * Commands for every resource of the API, made from the contract: `ucloud vm list`, `ucloud vm create --name web …`.
 * A new field or endpoint is here without anybody writing it.
 */
import { readFileSync } from 'node:fs';
import type { TSchema } from '@sinclair/typebox';
import { type Command, Option } from 'commander';
import { aboutOf, type Endpoint } from '../contract/endpoint.ts';
import { endpoints } from '../contract/index.ts';
import { call } from './client.ts';
import { type Credentials, readCredentials } from './credentials.ts';
import { print } from './output.ts';
import { type Waited, waitFor } from './wait.ts';

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

/** Where an item needs one field only, its value will do: `--interfaces web` for `[{"network": "web"}]`. */
function itemOf(schema: JsonSchema, text: string): unknown {
  const [only, ...others] = schema.type === 'object' ? (schema.required ?? []) : [];
  return only === undefined || others.length > 0 ? text : { [only]: text };
}

function parse(schema: JsonSchema, field: string, text: string): unknown {
  const { type, anyOf } = schema;
  if (anyOf && text === 'null') return null;
  const inner = solid(schema);
  if (inner.type === 'string') return text;
  if (inner.type === 'array' && !text.trimStart().startsWith('[')) {
    return text
      .split(',')
      .filter((part) => part !== '')
      .map((part) => itemOf(inner.items ?? {}, part));
  }
  if (inner.type === 'object' && !text.trimStart().startsWith('{')) {
    return Object.fromEntries(
      text.split(',').map((pair) => {
        const [key = '', value] = pair.split(/=(.*)/s);
        const property = inner.properties?.[key];
        return [key, property && value !== undefined ? parse(property, `${field}.${key}`, value) : value];
      }),
    );
  }
  try {
    return JSON.parse(text);
  } catch {
    const form = type ?? inner.type ?? '';
    throw new Error(
      `${flagOf(field)}: "${text}" is not ${/^[[{]/.test(text.trim()) ? 'well-formed JSON' : `of type ${form}`}`,
    );
  }
}

const idForm = /^[a-z]+-[0-9a-hjkmnp-tv-z]{16}$/;

/** People may say the name where the API wants an id. The project's own object comes before a public one of the name. */
export async function idOf(
  noun: string,
  text: string,
  project: string | undefined,
  credentials?: Credentials,
): Promise<string> {
  const list = endpoints.find(({ id }) => id === `${noun}_list`);
  if (idForm.test(text) || !list?.query?.properties.name) return text;
  const asked = { method: 'GET', path: list.path, query: { name: text } };
  const { items } = (await call(asked, credentials)) as {
    items: readonly { readonly id: string; readonly project?: string; readonly visibility?: string }[];
  };
  const scoped = list.query.properties.project !== undefined && project !== undefined;
  const own = items.filter((item) => item.project === project);
  const shared = items.filter(({ visibility }) => visibility === 'public');
  const [found, ...others] = !scoped ? items : own.length > 0 ? own : shared;
  const words = noun.replaceAll('_', ' ');
  if (!found) throw new Error(`there is no ${words} with the id or name "${text}"`);
  if (others.length > 0)
    throw new Error(`${others.length + 1} of ${words} have the name "${text}": say the id, or the project`);
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
}

const bodyFile = '--body <file>';
const readText = (file: string): string => readFileSync(file === '-' ? 0 : file, 'utf8');

function readBody(file: string): Record<string, unknown> {
  const text = readText(file);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`--body ${file}: ${(error as Error).message}`, { cause: error });
  }
}

function bodyOf(schema: JsonSchema, options: Record<string, string>): Record<string, unknown> {
  if (options.body) return readBody(options.body);
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

const longestWait = 300;

export const waitLimit = () =>
  new Option('--wait-timeout <seconds>', 'longest wait').default(longestWait).argParser((text) => {
    const seconds = Number(text);
    if (!(seconds > 0)) throw new Error(`--wait-timeout: "${text}" is not a number of seconds`);
    return seconds;
  });

/** What there is to wait for after a request: the end of an operation, of an import, the start or the end of a VM. */
function waitOf(endpoint: Endpoint): { readonly path: string; readonly wish: 'settled' | 'gone' } | undefined {
  const { method, success, resource } = endpoint;
  const answer = success.schema as JsonSchema | undefined;
  if (method === 'GET') return undefined;
  if (method === 'DELETE') return success.status === 202 ? { path: pathOf(endpoint), wish: 'gone' } : undefined;
  if (resource === undefined && answer?.properties?.state) return { path: '/v1/operations', wish: 'settled' };
  return answer?.properties?.status ? { path: pathOf(endpoint), wish: 'settled' } : undefined;
}

/** `/v1/vms/{id}` is one of `/v1/vms`. */
const pathOf = ({ path }: Endpoint): string => path.replace(/\/\{id\}.*$/, '');

interface Listed {
  readonly items: readonly unknown[];
}
const backwards = (list: Listed): Listed => ({ ...list, items: list.items.toReversed() });

function addEndpoint(noun: Command, endpoint: Endpoint, verb: string): void {
  const command = noun.command(verb).description(endpoint.summary);
  const parameters = Object.keys(endpoint.params?.properties ?? {});
  // A body that may be left out only repeats what the query can say.
  const body = endpoint.optionalBody ? undefined : (endpoint.body as (TSchema & JsonSchema) | undefined);
  const query = endpoint.query as (TSchema & JsonSchema) | undefined;
  for (const parameter of parameters) command.argument(parameter === 'id' ? '<id or name>' : `<${parameter}>`);
  if (endpoint.opaqueBody) {
    command.requiredOption(bodyFile, 'the file to send, as it is; - for standard input');
  } else if (body) {
    addFields(command, body);
    command.option(bodyFile, 'take the whole body from a JSON file; - for standard input');
  }
  for (const [name, schema] of Object.entries(query?.properties ?? {})) {
    command.option(`${flagOf(name)} <value>`, schema.description);
  }
  const wait = waitOf(endpoint);
  if (wait) {
    const until = wait.wish === 'gone' ? 'gone' : wait.path === '/v1/operations' ? 'done' : 'as declared';
    command.option('--wait', `stay until it is ${until}`).addOption(waitLimit());
  }
  command.option('--json', 'print JSON');
  command.action(async (...given: unknown[]) => {
    const options = given[parameters.length] as Record<string, string> & {
      json?: boolean;
      wait?: boolean;
      waitTimeout: number;
    };
    const owner = options.project ?? readCredentials().project;
    const project = owner && (await idOf('project', owner, undefined));
    const target = (endpoint.params as (TSchema & JsonSchema) | undefined)?.properties?.id?.['x-reference'] ?? '';
    let path = endpoint.path;
    for (const [i, parameter] of parameters.entries()) {
      const text = String(given[i]);
      const value = parameter === 'id' ? await idOf(target, text, project) : text;
      path = path.replace(`{${parameter}}`, encodeURIComponent(value));
    }
    const asked = Object.fromEntries(Object.keys(query?.properties ?? {}).map((name) => [name, options[keyOf(name)]]));
    // Of what grows people want the end; as a table like a log, with the newest at the bottom.
    const latest = query?.properties?.order !== undefined && asked.order === undefined;
    if (latest) asked.order = 'newest';
    const answer = await call({
      method: endpoint.method,
      path,
      // What is called by its name lies in a project, which an operator's token does not say.
      query: { ...asked, ...((asked.project !== undefined || parameters.includes('name')) && { project }) },
      ...(endpoint.opaqueBody
        ? { text: readText(String(options.body)) }
        : { body: body && (await resolveNames(body, bodyOf(body, options), project)) }),
      opaque: endpoint.success.opaque,
    });
    if (endpoint.success.opaque) {
      process.stdout.write(String(answer));
      return;
    }
    const last =
      wait && options.wait ? await waitFor(wait.path, answer as Waited, wait.wish, options.waitTimeout) : answer;
    print(latest && !options.json ? backwards(last as Listed) : last, options.json === true);
  });
}

/** One line about the resource: the first sentence of its description. */
const summaryOf = (endpoint: Endpoint): string => /^.*?(?=[.:;](\s|$))/.exec(aboutOf(endpoint))?.[0] ?? endpoint.tag;

/** `ssh_key` becomes the command `ssh-key`, and each of its endpoints a sub-command. */
export function addResourceCommands(program: Command): void {
  const nouns = new Map<string, Command>();
  for (const endpoint of endpoints) {
    const verb = endpoint.id.split('_').at(-1) ?? endpoint.id;
    const name = endpoint.id.slice(0, -verb.length - 1).replaceAll('_', '-');
    let noun = nouns.get(name);
    if (!noun) {
      noun = program.command(name).description(summaryOf(endpoint));
      nouns.set(name, noun);
    }
    addEndpoint(noun, endpoint, verb);
  }
}
