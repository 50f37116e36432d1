/**
 * The configuration of the provider: the provider block, else the environment, else the credentials file that `ucloud up`
 * and `ucloud login` write. The rules are those of the command (credential-rules.gen.ts).
 */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { DiagnosticError, parseDuration } from '../framework/index.ts';
import {
  completeSettings,
  credentialsPathFor,
  parseCredentials,
  type Settings,
  settingsOf,
  variableOf,
} from './credential-rules.gen.ts';

export type { Settings };

/** The complete settings. */
export interface Configuration extends Settings {
  readonly endpoint: string;
  readonly token: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Returns the path of the credentials file of this user. */
export const credentialsPath = (env: Environment): string => credentialsPathFor(env, homedir());

function readCredentials(path: string): Settings {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new DiagnosticError('The credentials file cannot be read', `${path}: ${(error as Error).message}.`);
  }
  try {
    return parseCredentials(text);
  } catch (error) {
    throw new DiagnosticError('The credentials file cannot be used', `${path}: ${(error as Error).message}.`);
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
  if (url.username || url.password) return 'Must not contain a user name or a password: the API takes a token.';
  if (url.search || url.hash) return 'Must not contain a query or a fragment.';
  if (url.pathname !== '/') return `Must not have a path (\`${url.pathname}\`): write \`${url.origin}\`.`;
  return undefined;
}

/** Returns the value of the provider block, else of the environment, without the blanks around it. */
const configured = (name: keyof Settings, block: Settings, env: Environment): string | undefined =>
  block[name]?.trim() ?? settingsOf(env)[name];

/** Returns the place where `resolve` found a value, for errors: provider block, variable or credentials file. */
export function sourceOf(name: keyof Settings, block: Settings, env: Environment): string {
  if (block[name] !== undefined) return `\`${name}\``;
  return configured(name, block, env) === undefined ? `\`${name}\` of ${credentialsPath(env)}` : variableOf(name);
}

/** Returns why a token cannot be used, or undefined. The message does not repeat the token. */
function tokenProblem(token: string): string | undefined {
  if (token === '') return 'It is empty.';
  return /^[\x21-\x7e]+$/.test(token)
    ? undefined
    : 'It contains a blank, a line end or another character that no token contains. Copy the token alone.';
}

/**
 * Returns the complete settings.
 * @throws DiagnosticError if endpoint or token is missing or unusable, or if the credentials file cannot be read
 */
export function resolve(block: Settings, env: Environment): Configuration {
  const explicit = {
    endpoint: configured('endpoint', block, env),
    token: configured('token', block, env),
    project: configured('project', block, env),
    ca_file: configured('ca_file', block, env),
  };
  const path = credentialsPath(env);
  const file = explicit.endpoint !== undefined && explicit.token !== undefined ? {} : readCredentials(path);
  const { endpoint, token, project, ca_file } = completeSettings(explicit, file);
  if (endpoint === undefined) {
    throw new DiagnosticError(
      'No endpoint is configured',
      `Set \`endpoint\` in the provider block, or UCLOUD_ENDPOINT, or run \`ucloud login\`, which writes ${path}.`,
      ['endpoint'],
    );
  }
  const problem = endpointProblem(endpoint);
  const sourcePrefix = (name: keyof Settings) => (block[name] === undefined ? `${sourceOf(name, block, env)}: ` : '');
  if (problem)
    throw new DiagnosticError('The endpoint is not usable', `${sourcePrefix('endpoint')}${problem}`, ['endpoint']);
  if (token === undefined) {
    throw new DiagnosticError(
      'No token is configured',
      file.token !== undefined && file.endpoint !== undefined
        ? `The token in ${path} is for ${file.endpoint}. The provider does not send it to ${endpoint}. Set UCLOUD_TOKEN.`
        : `Set UCLOUD_TOKEN, or \`token\` in the provider block, or run \`ucloud login\`, which writes ${path}.`,
      ['token'],
    );
  }
  const tokenFault = tokenProblem(token);
  if (tokenFault)
    throw new DiagnosticError('The token is not usable', `${sourcePrefix('token')}${tokenFault}`, ['token']);
  return { endpoint, token, project, ca_file };
}

const maxMaxRetries = 100;

/** Returns why the number of retries is wrong, or undefined. */
export const retriesProblem = (value: number): string | undefined =>
  Number.isInteger(value) && value >= 0 && value <= maxMaxRetries
    ? undefined
    : `Must be a whole number from 0 to ${maxMaxRetries}, not ${value}.`;

/** Returns why the time limit of a request is wrong, or undefined. */
export const timeoutProblem = (text: string): string | undefined =>
  parseDuration(text) === undefined ? `Must be a time such as \`10s\` or \`1m30s\`, not "${text}".` : undefined;

/**
 * Returns the retry options from the provider block, else from the environment. Missing options are left out.
 * @throws DiagnosticError if a variable has a wrong value
 */
export function retryOptions(
  block: { readonly max_retries: number | undefined; readonly request_timeout: string | undefined },
  env: Environment,
): { readonly maxRetries?: number; readonly requestTimeoutMs?: number } {
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
  const requestTimeoutMs = text === undefined ? undefined : parseDuration(text);
  return {
    ...(retries !== undefined && { maxRetries: retries }),
    ...(requestTimeoutMs !== undefined && { requestTimeoutMs }),
  };
}
