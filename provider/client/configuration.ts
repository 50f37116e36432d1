/**
 * Where the API is and who asks: the provider block, else the environment, else the credentials file that `ucloud up`
 * writes. Each value is looked for on its own, with one exception: the file's token, project and CA belong to the
 * file's endpoint, and are never sent to another.
 */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { DiagnosticError, parseDuration } from '../framework/index.ts';

export interface Settings {
  readonly endpoint?: string | undefined;
  readonly token?: string | undefined;
  readonly project?: string | undefined;
  readonly ca_file?: string | undefined;
}

export interface Configuration extends Settings {
  readonly endpoint: string;
  readonly token: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

export const credentialsPath = (env: Environment): string =>
  env.UCLOUD_CREDENTIALS?.trim() ||
  join(env.XDG_CONFIG_HOME || join(homedir(), '.config'), 'ucloud', 'credentials.json');

function readCredentials(path: string): Settings {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new DiagnosticError('The credentials file cannot be read', `${path}: ${(error as Error).message}.`);
  }
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed !== 'object' || parsed === null) throw new Error('it holds no JSON object');
    const field = (name: keyof Settings) => {
      const value = (parsed as Record<string, unknown>)[name];
      if (value !== undefined && typeof value !== 'string') throw new Error(`\`${name}\` is not text`);
      return value?.trim();
    };
    return { endpoint: field('endpoint'), token: field('token'), project: field('project'), ca_file: field('ca_file') };
  } catch (error) {
    // The message of JSON.parse may quote the text, which holds a token.
    const reason = error instanceof SyntaxError ? 'it is not JSON' : (error as Error).message;
    throw new DiagnosticError('The credentials file cannot be used', `${path}: ${reason}.`);
  }
}

/** Returns why the endpoint cannot be used, or undefined. */
export function endpointProblem(text: string): string | undefined {
  const endpoint = text.trim();
  const url = URL.parse(endpoint);
  if (!url) return `Must be a URL such as \`https://cloud.example.net\`, not "${endpoint}".`;
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    return `Must begin with \`https://\` or \`http://\`, not \`${url.protocol}\`.`;
  }
  if (url.username || url.password) return 'Must not carry a user name or password: the API takes a token.';
  if (url.search || url.hash) return 'Must not carry a query or a fragment.';
  if (url.pathname !== '/') return `Must not have a path (\`${url.pathname}\`): write \`${url.origin}\`.`;
  return undefined;
}

const variableOf = (name: keyof Settings): string => `UCLOUD_${name.toUpperCase()}`;

/** Undefined, or for the environment nothing but blanks, counts as not given. Blanks around a value are none of it. */
const given = (name: keyof Settings, block: Settings, env: Environment): string | undefined =>
  block[name]?.trim() ?? (env[variableOf(name)]?.trim() || undefined);

/** Where `resolve` found a value, for errors: the provider block, the variable, or the credentials file. */
export function sourceOf(name: keyof Settings, block: Settings, env: Environment): string {
  if (block[name] !== undefined) return `\`${name}\``;
  return given(name, block, env) === undefined ? `\`${name}\` of ${credentialsPath(env)}` : variableOf(name);
}

/** Returns why a token cannot be used, or undefined. The message does not repeat the token. */
function tokenProblem(token: string): string | undefined {
  if (token === '') return 'It is empty.';
  return /^[\x21-\x7e]+$/.test(token)
    ? undefined
    : 'It has a blank, a line end or another character in it that no token has. Was more than the token copied?';
}

export function resolve(block: Settings, env: Environment): Configuration {
  const own = {
    endpoint: given('endpoint', block, env),
    token: given('token', block, env),
    project: given('project', block, env),
    ca_file: given('ca_file', block, env),
  };
  const path = credentialsPath(env);
  const file = own.endpoint !== undefined && own.token !== undefined ? {} : readCredentials(path);
  const endpoint = own.endpoint ?? file.endpoint;
  const same = endpoint !== undefined && file.endpoint !== undefined && sameOrigin(endpoint, file.endpoint);
  const token = own.token ?? (same ? file.token : undefined);
  if (endpoint === undefined) {
    throw new DiagnosticError(
      'No endpoint is configured',
      `Set \`endpoint\` in the provider block, or UCLOUD_ENDPOINT, or write ${path} by \`ucloud login\`.`,
      ['endpoint'],
    );
  }
  const problem = endpointProblem(endpoint);
  const at = (name: keyof Settings) => (block[name] === undefined ? `${sourceOf(name, block, env)}: ` : '');
  if (problem) throw new DiagnosticError('The endpoint is not usable', `${at('endpoint')}${problem}`, ['endpoint']);
  if (token === undefined) {
    throw new DiagnosticError(
      'No token is configured',
      file.token !== undefined && file.endpoint !== undefined
        ? `${path} has a token, but for ${file.endpoint}: it is not sent to ${endpoint}. Set UCLOUD_TOKEN.`
        : `Set UCLOUD_TOKEN, or \`token\` in the provider block, or write ${path} by \`ucloud login\`.`,
      ['token'],
    );
  }
  const wrongToken = tokenProblem(token);
  if (wrongToken) throw new DiagnosticError('The token is not usable', `${at('token')}${wrongToken}`, ['token']);
  return {
    endpoint,
    token,
    // Another token may belong to another project.
    project: own.project ?? (same && token === file.token ? file.project : undefined),
    ca_file: own.ca_file ?? (same ? file.ca_file : undefined),
  };
}

const sameOrigin = (a: string, b: string): boolean => {
  try {
    return new URL(a).origin === new URL(b).origin;
  } catch {
    return false;
  }
};

const maxRetriesLimit = 100;

/** Returns why the number of retries is wrong, or undefined. */
export const retriesProblem = (value: number): string | undefined =>
  Number.isInteger(value) && value >= 0 && value <= maxRetriesLimit
    ? undefined
    : `Must be a whole number from 0 to ${maxRetriesLimit}, not ${value}.`;

/** Returns why the time limit of a request is wrong, or undefined. */
export const timeoutProblem = (text: string): string | undefined =>
  parseDuration(text) === undefined ? `Must be a time such as \`10s\` or \`1m30s\`, not "${text}".` : undefined;

/** Returns the retry options from the provider block, else from the environment. An option in neither is left out. */
export function retryOptions(
  block: { readonly max_retries: number | undefined; readonly request_timeout: string | undefined },
  env: Environment,
): { readonly maxRetries?: number; readonly requestTimeout?: number } {
  const { UCLOUD_MAX_RETRIES: retriesText, UCLOUD_REQUEST_TIMEOUT: timeoutText } = env;
  const retries = block.max_retries ?? (retriesText ? Number(retriesText) : undefined);
  const wrongRetries =
    retries !== undefined && Number.isNaN(retries)
      ? `Must be a whole number, not "${retriesText}".`
      : retries !== undefined && retriesProblem(retries);
  if (wrongRetries) throw new DiagnosticError('UCLOUD_MAX_RETRIES cannot be used', wrongRetries);
  const text = block.request_timeout ?? (timeoutText || undefined);
  const wrongTimeout = text !== undefined && timeoutProblem(text);
  if (wrongTimeout) throw new DiagnosticError('UCLOUD_REQUEST_TIMEOUT cannot be used', wrongTimeout);
  const requestTimeout = text === undefined ? undefined : parseDuration(text);
  return {
    ...(retries !== undefined && { maxRetries: retries }),
    ...(requestTimeout !== undefined && { requestTimeout }),
  };
}
