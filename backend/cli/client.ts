/** One request to the API from the command line. Errors come back as text for people: what, which field, what to do. */

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { getCACertificates } from 'node:tls';
import { Agent, type Dispatcher, ProxyAgent, request } from 'undici';
import { type ErrorCode, errorTable, type FieldError } from '../contract/errors.ts';
import { type Credentials, credentialsPath, readCredentials } from './credentials.ts';
import { endpointProblem, tokenProblem } from './endpoint.ts';
import { type ProxySetting, proxyAuthorization, proxyFor } from './proxy.ts';
import { visible } from './terminal.ts';

export interface Call {
  readonly method: string;
  readonly path: string;
  readonly query?: Record<string, string | undefined>;
  readonly body?: unknown;
  /** The body as it is to be sent, in place of `body`. */
  readonly text?: string | undefined;
  /** Answer the text as it came. */
  readonly opaque?: boolean | undefined;
  /** The name of a field in errors. @param pointer of the API's answer */
  readonly fieldName?: ((pointer: string) => string) | undefined;
}

interface Problem {
  readonly title?: string;
  readonly detail?: string;
  readonly code?: ErrorCode;
  readonly errors?: readonly FieldError[];
  readonly request_id?: string;
}

/** The API refused, or cannot be reached. The message is complete: it is printed as it is. */
export class ApiFailure extends Error {
  /** Of the error table; undefined when no answer came. */
  readonly code: ErrorCode | undefined;

  constructor(message: string, options: ErrorOptions & { readonly code?: ErrorCode | undefined } = {}) {
    super(message, options);
    this.code = options.code;
  }
}

/** What somebody at a shell does, where that is not what the writer of a client does. */
const advice: Partial<Record<ErrorCode, string>> = {
  unauthenticated: `Give a token that is still valid, in UCLOUD_TOKEN or as \`token\` in the credentials file (${credentialsPath()}).`,
  invalid_input: 'Correct the fields named above; `--help` says what each may hold.',
};

const fieldOfBody = (pointer: string): string => pointer || 'the body';

function describe(status: number, problem: Problem, fieldName = fieldOfBody): string {
  const { code } = problem;
  const todo = code && (advice[code] ?? errorTable[code]?.user);
  return [
    `${problem.title ?? `HTTP ${status}`}${code ? ` (${code})` : ''}`,
    ...(problem.detail && !problem.errors?.length ? [`  ${visible(problem.detail)}`] : []),
    ...(problem.errors ?? []).map(({ pointer, detail }) => `  ${visible(`${fieldName(pointer)}: ${detail}`)}`),
    ...(todo ? [`  What to do: ${todo}`] : []),
    ...(problem.request_id && status >= 500 ? [`  Request id: ${problem.request_id}`] : []),
  ].join('\n');
}

/** Throws the error of an endpoint or a token. */
function check(problem: string | undefined): void {
  if (problem !== undefined) throw new ApiFailure(problem);
}

function urlOf(endpoint: string, path: string): URL {
  check(endpointProblem(endpoint));
  return new URL(path, endpoint);
}

/** Throws what is missing, and how to give it. */
function requireCredentials(): Credentials {
  const { endpoint, token, withheldFrom, ...rest } = readCredentials();
  if (endpoint) check(endpointProblem(endpoint));
  if (endpoint && token) return { endpoint, token, ...rest };
  if (endpoint && withheldFrom) {
    throw new ApiFailure(
      `${credentialsPath()} has a token, but for ${withheldFrom}: it is not sent to ${endpoint}. Set UCLOUD_TOKEN, or \`ucloud login ${endpoint}\`.`,
    );
  }
  throw new ApiFailure(
    `No ${endpoint ? 'token' : 'endpoint'}. Set UCLOUD_ENDPOINT and UCLOUD_TOKEN, or write them to ${credentialsPath()} by \`ucloud login\`.`,
  );
}

/** The CAs that this machine trusts, or those of the file. */
function trusted(file: string | undefined): string | string[] {
  if (file === undefined) return [...getCACertificates('default'), ...getCACertificates('system')];
  const setting = process.env.UCLOUD_CA_FILE?.trim() ? 'UCLOUD_CA_FILE' : `ca_file of ${credentialsPath()}`;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new ApiFailure(`${setting}: ${(error as Error).message}`, { cause: error });
  }
  // TLS ignores in silence what it cannot read, and then trusts nobody.
  if (!text.includes('-----BEGIN CERTIFICATE-----'))
    throw new ApiFailure(`${setting}: ${file} holds no certificate in PEM`);
  return text;
}

function proxyOf(url: URL): ProxySetting | undefined {
  try {
    return proxyFor(url, process.env);
  } catch (error) {
    throw new ApiFailure((error as Error).message, { cause: error });
  }
}

/** By which the request goes, where it is not by undici's own. */
function dispatcherFor(url: URL, ca_file: string | undefined, proxy: ProxySetting | undefined): Dispatcher | undefined {
  const secure = url.protocol === 'https:';
  const tls = secure ? { ca: trusted(ca_file) } : {};
  if (!proxy) return secure ? new Agent({ connect: tls }) : undefined;
  const token = proxyAuthorization(proxy.url);
  // A proxy is asked for a whole URL, except where it must not read what passes.
  return new ProxyAgent({
    uri: proxy.url.origin,
    proxyTunnel: secure,
    requestTls: tls,
    ...(token !== undefined && { token }),
  });
}

/** OpenSSL's own words for an answer without TLS help nobody. */
const reasonOf = ({ code, message }: NodeJS.ErrnoException): string =>
  code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG'
    ? ' in TLS: should the endpoint begin with http://, or have another port?'
    : `: ${message.trim()}`;

/** `credentials`: those of the environment and the file, where no others are given. */
export async function call(
  { method, path, query, body, text: given, opaque, fieldName }: Call,
  credentials: Credentials = requireCredentials(),
): Promise<unknown> {
  const { endpoint, token, ca_file } = credentials;
  const sent = given ?? (body === undefined ? undefined : JSON.stringify(body));
  const url = urlOf(endpoint, path);
  check(tokenProblem(token));
  for (const [name, value] of Object.entries(query ?? {})) if (value !== undefined) url.searchParams.set(name, value);
  const proxy = proxyOf(url);
  const dispatcher = dispatcherFor(url, ca_file, proxy);
  try {
    const answer = await request(url, {
      method: method as 'GET',
      dispatcher,
      headers: {
        authorization: `Bearer ${token}`,
        ...(sent !== undefined && { 'content-type': 'application/json' }),
        ...(method === 'POST' && { 'idempotency-key': randomUUID() }),
      },
      body: sent,
    });
    const text = await answer.body.text();
    if (answer.statusCode < 400) return opaque ? text : text === '' ? undefined : JSON.parse(text);
    let problem: Problem;
    try {
      problem = JSON.parse(text);
    } catch {
      problem = { detail: text.slice(0, 500) };
    }
    throw new ApiFailure(describe(answer.statusCode, problem, fieldName), { code: problem.code });
  } catch (error) {
    if (error instanceof ApiFailure) throw error;
    const by = proxy ? ` by the proxy ${proxy.text}` : '';
    throw new ApiFailure(`${url.origin}${by} does not answer${reasonOf(error as NodeJS.ErrnoException)}`, {
      cause: error,
    });
  } finally {
    await dispatcher?.close();
  }
}
