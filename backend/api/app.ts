/**
 * The HTTP server: every operation of the contract becomes a route. Nothing else is under /v1. What lies beside it is
 * no operation, asks for no token, and is not in openapi.yaml: documents, /healthz, and the protocols of Terraform.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Endpoint } from '../contract/endpoint.ts';
import { UcloudError } from '../contract/errors.ts';
import { problemMediaType } from '../contract/openapi.ts';
import type { ApiAnswer, ApiContext, Caller, Handler, Handlers } from './context.ts';
import { rehearsal } from './dry-run.ts';
import { authenticate } from './plugins/auth.ts';
import { serveDocuments } from './plugins/documents.ts';
import { bodyLimit, handleErrors, problemOf, sendProblem } from './plugins/errors.ts';
import { limitRates } from './plugins/limits.ts';
import { serveProviders } from './plugins/providers.ts';
import type { ProviderDirectory } from './registry/provider-directory.ts';
import { fieldError, invalidInput, validator } from './validation.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    endpoint?: Endpoint;
  }
  interface FastifyRequest {
    caller: Caller | null;
  }
}

/** A response as it left, for those who check it. */
export interface SentResponse {
  readonly method: string;
  readonly url: string;
  /** Undefined for what is no operation of the contract. */
  readonly operation: string | undefined;
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: string;
}

export interface AppOptions {
  readonly endpoints: readonly Endpoint[];
  readonly handlers: Handlers;
  /** Of one token. */
  readonly requestsPerMinute: number;
  /** Without a valid token, from one network address. */
  readonly failuresPerMinute: number;
  /** Milliseconds in which a request must have arrived, its body included: nobody holds a connection by being slow. */
  readonly arrivalTimeout: number;
  readonly tls?: { readonly cert: string; readonly key: string };
  /** What to serve as a registry of Terraform providers. */
  readonly providers?: ProviderDirectory;
  readonly onResponse?: (response: SentResponse) => void;
}

/** Throws if an operation has no handler or a handler no operation: the server must not start half. */
function pairUp(endpoints: readonly Endpoint[], handlers: Handlers): Map<Endpoint, Handler> {
  const pairs = new Map<Endpoint, Handler>();
  for (const endpoint of endpoints) {
    const handler = handlers[endpoint.id];
    if (!handler) throw new Error(`operation ${endpoint.id} has no handler`);
    pairs.set(endpoint, handler);
  }
  const known = new Set(endpoints.map(({ id }) => id));
  const stray = Object.keys(handlers).find((id) => !known.has(id));
  if (stray !== undefined) throw new Error(`handler ${stray} has no operation`);
  return pairs;
}

/** Random by process, counted within it. */
const requestIdPrefix = randomBytes(4).toString('hex');
let requests = 0;
const newRequestId = (): string => {
  requests = (requests + 1) % 2 ** 32;
  return `req-${requestIdPrefix}${requests.toString(16).padStart(8, '0')}`;
};

/** The client's own id for the request, if it is a harmless word. */
function requestIdOf(headers: Readonly<Record<string, unknown>>): string {
  const given = headers['request-id'] ?? headers['x-request-id'];
  return typeof given === 'string' && /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(given) ? given : newRequestId();
}

/** What Node's HTTP parser refuses never becomes a request; it is answered on the bare socket. */
function refuseMalformed(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') return void socket.destroy();
  const words: Readonly<Record<string, string>> = {
    HPE_HEADER_OVERFLOW: 'the headers are too large',
    ERR_HTTP_REQUEST_TIMEOUT: 'the request did not arrive in time',
  };
  const problem = problemOf(
    new UcloudError('invalid_input', words[error.code ?? ''] ?? 'this is not well-formed HTTP/1.1'),
    newRequestId(),
  );
  const body = JSON.stringify(problem);
  const head = `HTTP/1.1 400 Bad Request\r\nContent-Type: ${problemMediaType}\r\nContent-Length: ${Buffer.byteLength(body)}`;
  socket.end(`${head}\r\nConnection: close\r\n\r\n${body}`);
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** JSON is UTF-8 (RFC 8259, 8.1). Anything else would be stored as something that nobody has sent. */
function readUtf8(body: string | Buffer, contentType: string | undefined): string | UcloudError {
  const charset = /;\s*charset="?([^";\s]*)/i.exec(contentType ?? '')?.[1];
  if (charset !== undefined && !/^utf-?8$/i.test(charset)) {
    return fieldError('unsupported_media_type', '#header/Content-Type', 'must be application/json in UTF-8');
  }
  if (typeof body === 'string') return body;
  try {
    return utf8.decode(body);
  } catch {
    return invalidInput([{ pointer: '', detail: 'is not well-formed UTF-8' }]);
  }
}

/** Read-your-writes: the client names a revision that the answer must not be older than. */
async function catchUp(api: ApiContext, request: FastifyRequest): Promise<void> {
  const header = request.headers['ucloud-min-revision'];
  if (header === undefined) return;
  const asked = typeof header === 'string' && /^\d{1,15}$/.test(header) ? Number(header) : undefined;
  const place = '#header/UCloud-Min-Revision';
  if (asked === undefined) throw fieldError('invalid_input', place, 'must be the UCloud-Revision of an earlier answer');
  if (api.mirror.revision >= asked) return;
  // Whatever was acknowledged before this request came, by any server, is shown after this; what is beyond it never was.
  await api.mirror.refresh();
  if (api.mirror.revision >= asked) return;
  throw fieldError('invalid_input', place, `is ${asked}, but the database has only come to ${api.mirror.revision}`);
}

function send(reply: FastifyReply, endpoint: Endpoint, answer: ApiAnswer): FastifyReply {
  reply.code(answer.status).header('ucloud-revision', answer.revision);
  const declared = endpoint.resource !== undefined && endpoint.success.schema === endpoint.resource.Item;
  if (declared && answer.version !== undefined) reply.header('etag', `"${answer.version}"`);
  if (answer.location !== undefined) reply.header('location', answer.location);
  if (answer.replayed) reply.header('idempotent-replayed', 'true');
  if (answer.bytes) {
    reply.header('content-md5', createHash('md5').update(answer.bytes).digest('base64'));
    return reply.type('application/json; charset=utf-8').send(answer.bytes);
  }
  return answer.body === undefined
    ? reply.send()
    : reply.type('application/json; charset=utf-8').send(JSON.stringify(answer.body));
}

const headerText = (value: string | string[] | undefined): string | undefined =>
  typeof value === 'string' ? value : undefined;

/** What a dry run goes by; undefined for a request that means it. Throws `invalid_input`. */
function tryOf(api: ApiContext, caller: Caller, query: unknown): ReturnType<typeof rehearsal> | undefined {
  const { dry_run, leaving } = query as { readonly dry_run?: boolean; readonly leaving?: string };
  if (dry_run) return rehearsal(api, caller, leaving);
  if (leaving !== undefined) throw fieldError('invalid_input', '#query/leaving', 'is for dry runs only');
  return undefined;
}

function addRoute(app: FastifyInstance, api: ApiContext, endpoint: Endpoint, handler: Handler): void {
  const validate = validator(endpoint);
  app.route({
    method: endpoint.method,
    url: endpoint.path.replace(/\{(\w+)\}/g, ':$1'),
    config: { endpoint },
    bodyLimit: endpoint.opaqueBody?.limit ?? bodyLimit,
    async handler(request, reply) {
      const { caller, params, query, headers, body } = request;
      if (!caller) throw new Error(`${endpoint.id} was reached without authentication`);
      validate({ params, query, headers, body });
      await catchUp(api, request);
      const tried = endpoint.dryRun ? tryOf(api, caller, query) : undefined;
      // A dry run makes nothing that could be made twice.
      const keyed = endpoint.method === 'POST' && !tried;
      const idempotencyKey = keyed ? headerText(headers['idempotency-key']) : undefined;
      const ifMatch = headerText(headers['if-match']);
      let gone: AbortSignal | undefined;
      const answer = await handler(tried?.api ?? api, {
        id: request.id,
        endpoint,
        caller,
        // Valid for the contract, which has only text in paths and named values in queries.
        params: params as Record<string, string>,
        query: query as Record<string, unknown>,
        headers,
        body,
        ...(ifMatch === undefined ? {} : { ifMatch }),
        ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
        ...(tried ? { dryRun: tried.dryRun } : {}),
        now: new Date(),
        // Made only for those who wait: it is dear.
        get gone() {
          gone ??= AbortSignal.any([api.closing, request.signal]);
          return gone;
        },
      });
      return send(reply, endpoint, answer);
    },
  });
}

function observe(app: FastifyInstance, onResponse: (response: SentResponse) => void): void {
  app.addHook('onSend', async (request, reply, payload) => {
    onResponse({
      method: request.method,
      url: request.url,
      operation: request.routeOptions.config.endpoint?.id,
      status: reply.statusCode,
      headers: reply.getHeaders(),
      body: typeof payload === 'string' || Buffer.isBuffer(payload) ? payload.toString() : '',
    });
  });
}

export async function buildApp(api: ApiContext, options: AppOptions): Promise<FastifyInstance> {
  const { endpoints, handlers, tls, providers, onResponse, arrivalTimeout } = options;
  const pairs = pairUp(endpoints, handlers);
  const timely = {
    headersTimeout: arrivalTimeout,
    requestTimeout: arrivalTimeout,
    connectionsCheckingInterval: Math.ceil(arrivalTimeout / 4),
  };
  const app = fastify({
    bodyLimit,
    requestTimeout: arrivalTimeout,
    forceCloseConnections: true,
    genReqId: (request) => requestIdOf(request.headers),
    clientErrorHandler: refuseMalformed,
    frameworkErrors: (error, request, reply) => {
      const problem = new UcloudError('invalid_input', error.message, {
        errors: [{ pointer: '#path', detail: 'is not a well-formed path' }],
      });
      return sendProblem(reply as FastifyReply, problem, request.id);
    },
    ...(tls ? { https: { ...tls, ...timely } } : { http: timely }),
  }) as unknown as FastifyInstance;

  app.removeAllContentTypeParsers();
  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    // Many clients name a type even where they send no body.
    if (body.length === 0) return done(null, undefined);
    if (request.routeOptions.config.endpoint?.opaqueBody) return done(null, body);
    const text = readUtf8(body, request.headers['content-type']);
    if (text instanceof UcloudError) done(text);
    else parseJson(request, text, done);
  });

  app.addHook('onRequest', async (request, reply) => {
    reply.header('request-id', request.id);
    reply.header('x-content-type-options', 'nosniff');
    reply.header('cache-control', 'no-store');
  });
  app.addHook('onResponse', async (request, reply) => {
    const { caller, id, method, url } = request;
    const operation = request.routeOptions.config.endpoint?.id;
    const ms = Math.round(reply.elapsedTime * 10) / 10;
    api.logger.debug(
      { request: id, operation, method, url, status: reply.statusCode, ms, token: caller?.token },
      'answered',
    );
  });
  if (onResponse) observe(app, onResponse);
  handleErrors(app, endpoints, api.logger);
  await limitRates(app, options.requestsPerMinute);
  authenticate(app, api, options.failuresPerMinute);
  for (const [endpoint, handler] of pairs) addRoute(app, api, endpoint, handler);
  serveDocuments(app, api, endpoints);
  if (providers) serveProviders(app, providers);
  return app;
}
