/**
 * The commands of all resources, generated from the contract: `ucloud vm list`, `ucloud vm create --name web …`. New
 * fields and endpoints appear without further code.
 */
import { type Command, Option } from 'commander';
import { aboutOf, type Endpoint } from '../contract/endpoint.ts';
import { endpoints } from '../contract/index.ts';
import { call } from './client.ts';
import { tellCost } from './creation-cost.ts';
import { readCredentials } from './credentials.ts';
import { warnOfDeprecatedImage } from './deprecated-images.ts';
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

/** Returns the option `--wait-timeout`. */
export const waitLimit = () =>
  new Option('--wait-timeout <seconds>', 'longest wait').default(maxWaitSeconds).argParser((text) => {
    const seconds = Number(text);
    if (!(seconds > 0)) throw new Error(`--wait-timeout: "${text}" is not a number of seconds`);
    return seconds;
  });

/** Returns the path of the list: `/v1/vms` for `/v1/vms/{id}`. */
const pathOf = ({ path }: Endpoint): string => path.replace(/\/\{id\}.*$/, '');

interface Wait {
  readonly path: string;
  readonly wish: 'settled' | 'gone';
}

/** Returns the wait after a request: for an operation, an import, or the start or removal of a VM. */
function waitOf(endpoint: Endpoint): Wait | undefined {
  const { method, success, resource } = endpoint;
  const answer = success.schema as JsonSchema | undefined;
  if (method === 'GET') return undefined;
  if (method === 'DELETE') return success.status === 202 ? { path: pathOf(endpoint), wish: 'gone' } : undefined;
  if (resource === undefined && answer?.properties?.state) return { path: '/v1/operations', wish: 'settled' };
  return answer?.properties?.status ? { path: pathOf(endpoint), wish: 'settled' } : undefined;
}

const parametersOf = ({ params }: Endpoint): string[] => Object.keys(params?.properties ?? {});
/** Returns the kind of object in the path. */
const targetOf = ({ params }: Endpoint): string =>
  (params as { properties?: Record<string, JsonSchema> } | undefined)?.properties?.id?.['x-reference'] ?? '';

/** Returns the schema of the items of a list endpoint; undefined for other endpoints. */
function itemOf({ success }: Endpoint): JsonSchema | undefined {
  const { items, next_page_token } = (success.schema as JsonSchema | undefined)?.properties ?? {};
  // Sums with items, such as costs, are no lists.
  return next_page_token && items?.items;
}
/** Tells whether the list is a log. A log shows its newest items, with the newest at the bottom. */
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

/** Returns the project for names and creations: that of the option, or of the credentials. */
export async function projectNamed(asked: string | undefined): Promise<string | undefined> {
  const owner = asked ?? (readCredentials().project || undefined);
  return owner === undefined ? undefined : idOf('project', owner, undefined);
}

function addListOptions(command: Command, endpoint: Endpoint): void {
  const log = isLog(endpoint);
  for (const [name, schema] of Object.entries(queryOf(endpoint).properties ?? {})) {
    const description = name === 'limit' ? `maximum number of items. Default: ${log ? logLimit : 'all'}` : undefined;
    command.addOption(new FieldOption(name, schema, description));
  }
  command.option('--all', log ? 'print all items' : 'print all items (the default)');
  command.option('--wide', 'print ids instead of names');
}

async function list(endpoint: Endpoint, path: string, query: Record<string, string | undefined>, options: Options) {
  const log = isLog(endpoint);
  if (options.all && options.limit) throw new Error('--all and --limit cannot be combined');
  const limit = options.all ? undefined : options.limit ? Number(query.limit) : log ? logLimit : undefined;
  if (limit !== undefined && limit < 1) throw new Error(`--limit: "${limit}" must be a whole number from 1 on`);
  const latest = log && queryOf(endpoint).properties?.order !== undefined && !options.order;
  const asked = { method: 'GET', path, query: { ...query, ...(latest && { order: 'newest' }) }, fieldName: optionOf };
  const hasPages = queryOf(endpoint).properties?.limit !== undefined;
  const answer = hasPages ? await listUpTo(asked, limit) : ((await call(asked)) as Listed);
  const shown: Listed = latest && !options.json ? { ...answer, items: answer.items.toReversed() } : answer;
  await print(shown, options);
  if (answer.next_page_token !== undefined) {
    const more = `--limit N shows more, --all shows all, --page-token ${answer.next_page_token} shows the next`;
    tell(`The list has more than these ${answer.items.length} items: ${more}.`);
  }
}

/** A variant of an endpoint that the contract does not contain. */
export interface Variant {
  readonly verb: string;
  readonly summary?: string;
  /** The body of the request. Such a command has no options for it. */
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
    command.addOption(new FieldOption('project', project, 'project of the names. Default: that of the credentials'));
  }
  const wait = waitOf(endpoint);
  if (wait) {
    const settled = wait.path === '/v1/operations' ? 'the operation has ended' : 'the object is in its declared state';
    const until = wait.wish === 'gone' ? 'the object is removed' : settled;
    command.option('--wait', `wait until ${until}`).addOption(waitLimit());
  }
  command.option('--json', 'print JSON');

  /** Sends one request, and waits for its result. */
  const perform = async (values: readonly string[], given: Given, project: string | undefined, options: Options) => {
    const pairs = parameters.map((parameter, i) => [parameter, values[i] ?? ''] as const);
    const path = pairs.reduce((so, [name, value]) => so.replace(`{${name}}`, encodeURIComponent(value)), endpoint.path);
    const { query, ...sent } = await resolved(endpoint, given, project);
    // A path with a name needs the project in the query, because an operator's token has none.
    const named = given.query.project !== undefined || parameters.some((each) => each === 'name' || each === 'family');
    const asked = { ...query, ...(named && { project }) };
    if (isList) return list(endpoint, path, asked, options);
    if (endpoint.id === 'vm_create') await warnOfDeprecatedImage(sent.body?.image);
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
      if (given.query.dry_run) {
        tell('The creation would succeed. Nothing was created.');
        await tellCost(endpoint.id, sent.body);
      }
      if (!wait || !options.wait || answer === undefined) return answer;
      return waitFor(wait.path, answer as Waited, wait.wish, options.waitTimeout);
    };
    return endpoint.method === 'GET' ? request() : goingOn(describe, request);
  };

  command.action(async (...args: unknown[]) => {
    const options = args[byId ? 1 : parameters.length] as Options & Texts;
    const read = readGiven(endpoint, options, options.body);
    const given = body ? { ...read, body } : read;
    // The API refuses this too, but its error names a body that the user did not write.
    if (endpoint.method === 'PATCH' && !options.body && given.body && Object.keys(given.body).length === 0)
      throw new Error('no option gives a change; see --help');
    const project = await projectNamed(options.project?.at(-1));
    if (byId) {
      const texts = args[0] as readonly string[];
      const idFor = (text: string) => idOf(target, text, project);
      const show = async (answers: readonly unknown[]) =>
        endpoint.success.opaque
          ? writeOut(Buffer.concat(answers.filter((each) => each instanceof Uint8Array)))
          : texts.length === 1
            ? print(answers[0], options)
            : printAll(answers, options);
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
    return endpoint.success.opaque ? writeOut(answer as Buffer) : print(answer, options);
  });
}

/** Returns the first sentence of the resource's description. */
const summaryOf = (endpoint: Endpoint): string => /^.*?(?=[.:;](\s|$))/.exec(aboutOf(endpoint))?.[0] ?? endpoint.tag;

/** Shorter commands for some endpoints, by operation id. */
const variants: Readonly<Record<string, readonly Variant[]>> = {
  vm_update: [
    { verb: 'start', summary: 'Start VMs', body: { power_state: 'running' } },
    { verb: 'stop', summary: 'Shut VMs down', body: { power_state: 'stopped' } },
  ],
  vm_reboot: [{ verb: 'restart', summary: 'The same as reboot' }],
};

/**
 * Adds the commands of all resources. `ssh_key` becomes the command `ssh-key`, with a sub-command for each endpoint.
 */
export function addResourceCommands(program: Command): void {
  const nouns = new Map<string, Command>();
  for (const endpoint of endpoints) {
    // The command `file upload` speaks the protocol of uploads.
    if (endpoint.tag === 'uploads') continue;
    // Only payment services sign requests.
    if (endpoint.access === 'signed') continue;
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
