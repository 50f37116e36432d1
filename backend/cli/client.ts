/** One request to the API. An error becomes a text with the problem, the fields at fault, and the remedy. */

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { getCACertificates } from 'node:tls';
import { Agent, type Dispatcher, ProxyAgent, request } from 'undici';
import { type ErrorCode, errorTable, type FieldError } from '../contract/errors.ts';
import { type Credentials, credentialsPath, readCredentials } from './credentials.ts';
import { endpointProblem, tokenProblem } from './endpoint.ts';
import { type ProxySetting, proxyAuthorization, proxyFor } from './proxy.ts';
import { visible } from './terminal.ts';

/** A request to the API. */
export interface Call {
  readonly method: string;
  readonly path: string;
  readonly query?: Record<string, string | undefined>;
  readonly body?: unknown;
  /** The body as text, in place of `body`. */
  readonly text?: string | undefined;
  /** The body as a stream, in place of `body`. The response may take as long as it needs. */
  readonly stream?: Readable | undefined;
  /** Further headers. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** If set, `call` returns the text of the response. */
  readonly opaque?: boolean | undefined;
  /** Returns the name of a field in errors. @param pointer the JSON pointer in the API's response */
  readonly fieldName?: ((pointer: string) => string) | undefined;
}

interface Problem {
  readonly title?: string;
  readonly detail?: string;
  readonly code?: ErrorCode;
  readonly errors?: readonly FieldError[];
  readonly request_id?: string;
}

/** The API refused a request, or is unreachable. The message is complete and needs no prefix. */
export class ApiFailure extends Error {
  /** The code of the error table; undefined without a response. */
  readonly code: ErrorCode | undefined;
  /** The status of the response; undefined without one. */
  readonly status: number | undefined;

  constructor(
    message: string,
    options: ErrorOptions & { readonly code?: ErrorCode | undefined; readonly status?: number } = {},
  ) {
    super(message, options);
    this.code = options.code;
    this.status = options.status;
  }
}

/** The advice for users of the command, if it differs from that of the error table. */
const advice: Partial<Record<ErrorCode, string>> = {
  unauthenticated: `Set a valid token in UCLOUD_TOKEN, or as \`token\` in the credentials file (${credentialsPath()}).`,
  invalid_input: 'Correct the fields above; `--help` describes their values.',
};

const fieldOfBody = (pointer: string): string => pointer || 'the body';

function describe(status: number, problem: Problem, fieldName = fieldOfBody): string {
  const { code } = problem;
  const todo = code && (advice[code] ?? errorTable[code]?.user);
  return [
    `${problem.title ?? `HTTP ${status}`}${code ? ` (${code})` : ''}`,
    ...(problem.detail && !problem.errors?.length ? [`  ${visible(problem.detail)}`] : []),
    ...(problem.errors ?? []).map(({ pointer, detail }) => `  ${visible(`${fieldName(pointer)}: ${detail}`)}`),
    ...(todo ? [`  Remedy: ${todo}`] : []),
    ...(problem.request_id && status >= 500 ? [`  Request id: ${problem.request_id}`] : []),
  ].join('\n');
}

/** Throws the problem of an endpoint or a token, if there is one. @throws ApiFailure */
function check(problem: string | undefined): void {
  if (problem !== undefined) throw new ApiFailure(problem);
}

function urlOf(endpoint: string, path: string): URL {
  check(endpointProblem(endpoint));
  return new URL(path, endpoint);
}

/** Returns the credentials. @throws ApiFailure that names the missing setting and its remedy */
export function requireCredentials(): Credentials {
  const { endpoint, token, withheldFrom, ...rest } = readCredentials();
  if (endpoint) check(endpointProblem(endpoint));
  if (endpoint && token) return { endpoint, token, ...rest };
  if (endpoint && withheldFrom) {
    throw new ApiFailure(
      `The token in ${credentialsPath()} is for ${withheldFrom}, so it is not sent to ${endpoint}. Set UCLOUD_TOKEN, or run \`ucloud login ${endpoint}\`.`,
    );
  }
  throw new ApiFailure(
    `No ${endpoint ? 'token' : 'endpoint'} is set. Set UCLOUD_ENDPOINT and UCLOUD_TOKEN, or run \`ucloud login\`, which writes ${credentialsPath()}.`,
  );
}

/** Returns the CA certificates of the file, or else those of this machine. @throws ApiFailure */
function trusted(file: string | undefined): string | string[] {
  if (file === undefined) return [...getCACertificates('default'), ...getCACertificates('system')];
  const setting = process.env.UCLOUD_CA_FILE?.trim() ? 'UCLOUD_CA_FILE' : `ca_file of ${credentialsPath()}`;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new ApiFailure(`${setting}: ${(error as Error).message}`, { cause: error });
  }
  // TLS silently ignores an unreadable certificate, and then trusts no server.
  if (!text.includes('-----BEGIN CERTIFICATE-----'))
    throw new ApiFailure(`${setting}: ${file} contains no certificate in PEM`);
  return text;
}

function proxyOf(url: URL): ProxySetting | undefined {
  try {
    return proxyFor(url, process.env);
  } catch (error) {
    throw new ApiFailure((error as Error).message, { cause: error });
  }
}

/** Returns the dispatcher of the request; undefined for that of undici. */
function dispatcherFor(url: URL, ca_file: string | undefined, proxy: ProxySetting | undefined): Dispatcher | undefined {
  const secure = url.protocol === 'https:';
  const tls = secure ? { ca: trusted(ca_file) } : {};
  if (!proxy) return secure ? new Agent({ connect: tls }) : undefined;
  const token = proxyAuthorization(proxy.url);
  // The proxy gets the whole URL of a plain request. For HTTPS it only opens a tunnel.
  return new ProxyAgent({
    uri: proxy.url.origin,
    proxyTunnel: secure,
    requestTls: tls,
    ...(token !== undefined && { token }),
  });
}

/** The texts of OpenSSL for a response without TLS are unclear. */
const reasonOf = ({ code, message }: NodeJS.ErrnoException): string =>
  code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG'
    ? ' in TLS: check whether the endpoint must begin with http://, or have another port'
    : `: ${message.trim()}`;

/** A response. */
export interface Exchanged {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  readonly bytes: Buffer;
}

/**
 * Sends a request, and returns the body of the response: bytes, if it is opaque. @param credentials default: those of the environment and the
 * file @throws ApiFailure
 */
export async function call(request: Call, credentials?: Credentials): Promise<unknown> {
  const { text, bytes } = await exchange(request, credentials);
  return request.opaque ? bytes : text === '' ? undefined : JSON.parse(text);
}

/** Sends a request, and returns the response. @param credentials as for `call` @throws ApiFailure */
export async function exchange(
  { method, path, query, body, text: given, stream, headers, fieldName }: Call,
  credentials: Credentials = requireCredentials(),
): Promise<Exchanged> {
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
        ...(method === 'POST' && headers === undefined && { 'idempotency-key': randomUUID() }),
        ...headers,
      },
      body: stream ?? sent,
      ...(stream && { headersTimeout: 0 }),
    });
    const bytes = Buffer.from(await answer.body.arrayBuffer());
    const text = bytes.toString();
    if (answer.statusCode < 400) return { headers: answer.headers, text, bytes };
    let problem: Problem;
    try {
      problem = JSON.parse(text);
    } catch {
      problem = { detail: text.slice(0, 500) };
    }
    throw new ApiFailure(describe(answer.statusCode, problem, fieldName), {
      code: problem.code,
      status: answer.statusCode,
    });
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
