/**
 * Commands for every resource of the API, made from the contract: `ucloud vm list`, `ucloud vm create --name web …`.
 * A new field or endpoint is here without anybody writing it.
 */
import { type Command, Option } from 'commander';
import { aboutOf, type Endpoint } from '../contract/endpoint.ts';
import { endpoints } from '../contract/index.ts';
import { call } from './client.ts';
import { readCredentials } from './credentials.ts';
import { idOf } from './names.ts';
import { type OutputOptions, print, printAll } from './output.ts';
import { type Listed, listUpTo } from './pages.ts';
import {
  addBodyOptions,
  completeNames,
  FieldOption,
  type Given,
  optionOf,
  queryOf,
  queryOption,
  readGiven,
  resolved,
  type Texts,
} from './request.ts';
import { forEach } from './several.ts';
import { tell, writeOut } from './standard-output.ts';
import { goingOn, outcomeOf, unansweredOf } from './under-way.ts';
import type { JsonSchema } from './values.ts';
import { type Waited, waitFor } from './wait.ts';

const maxWaitSeconds = 300;

export const waitLimit = () =>
  new Option('--wait-timeout <seconds>', 'longest wait').default(maxWaitSeconds).argParser((text) => {
    const seconds = Number(text);
    if (!(seconds > 0)) throw new Error(`--wait-timeout: "${text}" is not a number of seconds`);
    return seconds;
  });

/** `/v1/vms/{id}` is one of `/v1/vms`. */
const pathOf = ({ path }: Endpoint): string => path.replace(/\/\{id\}.*$/, '');

interface Wait {
  readonly path: string;
  readonly wish: 'settled' | 'gone';
}

/** What there is to wait for after a request: the end of an operation, of an import, the start or the end of a VM. */
function waitOf(endpoint: Endpoint): Wait | undefined {
  const { method, success, resource } = endpoint;
  const answer = success.schema as JsonSchema | undefined;
  if (method === 'GET') return undefined;
  if (method === 'DELETE') return success.status === 202 ? { path: pathOf(endpoint), wish: 'gone' } : undefined;
  if (resource === undefined && answer?.properties?.state) return { path: '/v1/operations', wish: 'settled' };
  return answer?.properties?.status ? { path: pathOf(endpoint), wish: 'settled' } : undefined;
}

const parametersOf = ({ params }: Endpoint): string[] => Object.keys(params?.properties ?? {});
/** The kind of object that the path names. */
const targetOf = ({ params }: Endpoint): string =>
  (params as { properties?: Record<string, JsonSchema> } | undefined)?.properties?.id?.['x-reference'] ?? '';

/** Returns the schema of the items of a list endpoint; undefined for other endpoints. */
function itemOf({ success }: Endpoint): JsonSchema | undefined {
  const items = (success.schema as JsonSchema | undefined)?.properties?.items;
  return items?.items;
}
/** Of what grows people want the end; as a table like a log, with the newest at the bottom. */
const isLog = (endpoint: Endpoint): boolean => itemOf(endpoint)?.properties?.at !== undefined;
/** The number of log items that a list shows by default. */
const logLimit = 100;

interface Options extends OutputOptions {
  readonly project?: readonly string[];
  readonly limit?: readonly string[];
  readonly order?: readonly string[];
  readonly body?: string;
  readonly all?: boolean;
  readonly wait?: boolean;
  readonly waitTimeout: number;
}

/** The project of names, and of what is created: the one that is named, or that of the credentials. */
export async function projectNamed(asked: string | undefined): Promise<string | undefined> {
  const owner = asked ?? (readCredentials().project || undefined);
  return owner === undefined ? undefined : idOf('project', owner, undefined);
}

function addListOptions(command: Command, endpoint: Endpoint): void {
  const log = isLog(endpoint);
  for (const [name, schema] of Object.entries(queryOf(endpoint).properties ?? {})) {
    const description = name === 'limit' ? `most items. Default: ${log ? logLimit : 'all'}` : undefined;
    command.addOption(new FieldOption(name, schema, description));
  }
  command.option('--all', log ? 'print all of it' : 'print all of it, which is the default');
  command.option('--wide', 'print ids, also where names stand for them');
}

async function list(endpoint: Endpoint, path: string, query: Record<string, string | undefined>, options: Options) {
  const log = isLog(endpoint);
  if (options.all && options.limit) throw new Error('--all and --limit do not go together');
  const limit = options.all ? undefined : options.limit ? Number(query.limit) : log ? logLimit : undefined;
  if (limit !== undefined && limit < 1) throw new Error(`--limit: "${limit}" is not a number of items`);
  const latest = log && queryOf(endpoint).properties?.order !== undefined && !options.order;
  const asked = { method: 'GET', path, query: { ...query, ...(latest && { order: 'newest' }) }, fieldName: optionOf };
  const hasPages = queryOf(endpoint).properties?.limit !== undefined;
  const answer = hasPages ? await listUpTo(asked, limit) : ((await call(asked)) as Listed);
  const shown: Listed = latest && !options.json ? { ...answer, items: answer.items.toReversed() } : answer;
  await print(shown, options);
  if (answer.next_page_token !== undefined) {
    const more = `--limit N shows more, --all everything, --page-token ${answer.next_page_token} what follows`;
    tell(`There is more than these ${answer.items.length}: ${more}.`);
  }
}

/** A variant of an endpoint that the contract does not describe. */
export interface Variant {
  readonly verb: string;
  readonly summary?: string;
  /** The body, which then needs no options. */
  readonly body?: Record<string, unknown>;
}

function addEndpoint(noun: Command, endpoint: Endpoint, { verb, summary = endpoint.summary, body }: Variant): void {
  const command = noun.command(verb).description(summary);
  const parameters = parametersOf(endpoint);
  const byId = parameters.length === 1 && parameters[0] === 'id';
  if (byId) command.argument('<id or name...>');
  else for (const parameter of parameters) command.argument(parameter === 'id' ? '<id or name>' : `<${parameter}>`);
  if (parameters.length > 0) completeNames(command, endpoint.path.replace(/\/\{.*$/, ''));
  const isList = itemOf(endpoint) !== undefined;
  if (!body) addBodyOptions(command, endpoint);
  if (isList) addListOptions(command, endpoint);
  else
    for (const [name, schema] of Object.entries(queryOf(endpoint).properties ?? {}))
      command.addOption(queryOption(name, schema));
  const target = targetOf(endpoint);
  const scoped = endpoints.find(({ id }) => id === `${target}_list`)?.query?.properties.project !== undefined;
  if (scoped && !command.options.some(({ long }) => long === '--project')) {
    const project = { type: 'string', 'x-reference': 'project' };
    command.addOption(
      new FieldOption('project', project, 'where names are looked for. Default: that of the credentials'),
    );
  }
  const wait = waitOf(endpoint);
  if (wait) {
    const until = wait.wish === 'gone' ? 'gone' : wait.path === '/v1/operations' ? 'done' : 'as declared';
    command.option('--wait', `stay until it is ${until}`).addOption(waitLimit());
  }
  command.option('--json', 'print JSON');

  /** One request, and the wait for what it began. */
  const perform = async (values: readonly string[], given: Given, project: string | undefined, options: Options) => {
    const pairs = parameters.map((parameter, i) => [parameter, values[i] ?? ''] as const);
    const path = pairs.reduce((so, [name, value]) => so.replace(`{${name}}`, encodeURIComponent(value)), endpoint.path);
    const { query, ...sent } = await resolved(endpoint, given, project);
    // An object that is given by name lies in a project, and an operator's token names none.
    const named = given.query.project !== undefined || parameters.includes('name');
    const asked = { ...query, ...(named && { project }) };
    if (isList) return list(endpoint, path, asked, options);
    let answer: unknown;
    const describe = () =>
      answer === undefined
        ? unansweredOf(endpoint, target, values[0], given.body?.name)
        : outcomeOf(endpoint, target, answer as Waited);
    const request = async () => {
      answer = await call({
        method: endpoint.method,
        path,
        query: asked,
        ...sent,
        opaque: endpoint.success.opaque,
        ...(options.body === undefined && { fieldName: optionOf }),
      });
      if (given.query.dry_run) tell('Nothing stands against it. Nothing was created.');
      if (!wait || !options.wait || answer === undefined) return answer;
      return waitFor(wait.path, answer as Waited, wait.wish, options.waitTimeout);
    };
    return endpoint.method === 'GET' ? request() : goingOn(describe, request);
  };

  command.action(async (...args: unknown[]) => {
    const options = args[byId ? 1 : parameters.length] as Options & Texts;
    const read = readGiven(endpoint, options, options.body);
    const given = body ? { ...read, body } : read;
    // The API says the same, but of a body that nobody has written.
    if (endpoint.method === 'PATCH' && !options.body && given.body && Object.keys(given.body).length === 0)
      throw new Error('no option says what to change');
    const project = await projectNamed(options.project?.at(-1));
    if (byId) {
      const texts = args[0] as readonly string[];
      const idFor = (text: string) => idOf(target, text, project);
      const show = (answers: readonly unknown[]) =>
        texts.length === 1 ? print(answers[0], options) : printAll(answers, options);
      return forEach(texts, idFor, (id) => perform([id], given, project, options), show);
    }
    const values = await Promise.all(
      parameters.map((parameter, i) => {
        const text = String(args[i]);
        return parameter === 'id' ? idOf(target, text, project) : text;
      }),
    );
    const answer = await perform(values, given, project, options);
    if (isList) return;
    return endpoint.success.opaque ? writeOut(String(answer)) : print(answer, options);
  });
}

/** One line about the resource: the first sentence of its description. */
const summaryOf = (endpoint: Endpoint): string => /^.*?(?=[.:;](\s|$))/.exec(aboutOf(endpoint))?.[0] ?? endpoint.tag;

/** Shorter words for what the contract says otherwise, by the endpoint that they are sent to. */
const variants: Readonly<Record<string, readonly Variant[]>> = {
  vm_update: [
    { verb: 'start', summary: 'Have VMs run', body: { power_state: 'running' } },
    { verb: 'stop', summary: 'Have VMs shut down, and stay so', body: { power_state: 'stopped' } },
  ],
  vm_reboot: [{ verb: 'restart', summary: 'The same as reboot' }],
};

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
    for (const variant of [{ verb }, ...(variants[endpoint.id] ?? [])]) addEndpoint(noun, endpoint, variant);
  }
}
