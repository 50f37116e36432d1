/**
 * The HTTP server. Each operation of the contract becomes a route under /v1, and no other route is under /v1. The other
 * routes are documents, /healthz and the protocols of Terraform; they need no token and are not in openapi.yaml.
 */
import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Endpoint } from '../contract/endpoint.ts';
import { UcloudError } from '../contract/errors.ts';
import { authenticate } from './http/authentication.ts';
import { bodyStream, checkBodyHeaders, checkFraming, readBodies } from './http/body.ts';
import { unauthenticated, type Watch } from './http/callers.ts';
import { serveDocuments } from './http/documentation.ts';
import { type HttpLimits, lingerMs } from './http/limits.ts';
import { handleErrors, problemText, sendProblem } from './http/problems.ts';
import { limitRates } from './http/rate-limit.ts';
import { RepeatLogger } from './http/repeat-logger.ts';
import { Answers, sendHeadersOnly } from './http/sending.ts';
import { httpServer } from './http/server.ts';
import type { ProviderDirectory } from './provider-registry/provider-directory.ts';
import { serveProviders } from './provider-registry/routes.ts';
import {
  type ApiAnswer,
  type ApiContext,
  accountOf,
  type Caller,
  type Handler,
  type Handlers,
} from './requests/context.ts';
import { fieldError, validator } from './requests/validation.ts';
import { dryRunOf } from './transaction/dry-run.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    endpoint?: Endpoint;
  }
  interface FastifyRequest {
    caller: Caller | null;
    /** The response of Node to this request. */
    response: ServerResponse;
  }
}

/** A response as the client receives it, for tests. */
export interface SentResponse {
  readonly method: string;
  readonly url: string;
  /** The id of the operation; undefined for a route that is not in the contract. */
  readonly operation: string | undefined;
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  /** The body; undefined for a stream. */
  readonly body: string | undefined;
}

/** The parts and the limits of the HTTP server. */
export interface AppOptions {
  readonly endpoints: readonly Endpoint[];
  readonly handlers: Handlers;
  /** The requests per minute of all tokens of one project. */
  readonly requestsPerMinute: number;
  /** The requests per minute without a valid token from one network (a /64 of IPv6). */
  readonly failuresPerMinute: number;
  /** Milliseconds in which a request with its body must arrive, so that a slow client does not hold a connection. */
  readonly arrivalTimeout: number;
  readonly limits: HttpLimits;
  readonly tls?: { readonly cert: string; readonly key: string };
  /** The packages that the API offers as a registry of Terraform providers. */
  readonly providers?: ProviderDirectory;
  readonly onResponse?: (response: SentResponse) => void;
}

/**
 * Returns the handler of each operation. @throws Error if an operation has no handler, or a handler has no operation
 */
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

/** The prefix of all request ids of this process: random. A counter follows it. */
const requestIdPrefix = randomBytes(4).toString('hex');
let requests = 0;
const newRequestId = (): string => {
  requests = (requests + 1) % 2 ** 32;
  return `req-${requestIdPrefix}${requests.toString(16).padStart(8, '0')}`;
};

/** Returns the request id of the client if it has the allowed form, or else a new one. */
function requestIdOf(headers: Readonly<Record<string, unknown>>): string {
  const given = headers['request-id'] ?? headers['x-request-id'];
  return typeof given === 'string' && /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(given) ? given : newRequestId();
}

const commonHeaders = (requestId: string) => ({
  'request-id': requestId,
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-store',
});

/** Waits until the mirror has reached the revision that the client asks for. @throws UcloudError `invalid_input` */
async function catchUp(api: ApiContext, request: FastifyRequest): Promise<void> {
  const header = request.headers['ucloud-min-revision'];
  if (header === undefined) return;
  const asked = typeof header === 'string' && /^\d{1,15}$/.test(header) ? Number(header) : undefined;
  const place = '#header/UCloud-Min-Revision';
  if (asked === undefined) throw fieldError('invalid_input', place, 'must be the UCloud-Revision of an earlier answer');
  if (api.mirror.revision >= asked) return;
  // After this call the mirror shows every commit that a server acknowledged before the request.
  await api.mirror.refresh();
  if (api.mirror.revision >= asked) return;
  throw fieldError('invalid_input', place, `must be at most ${api.mirror.revision}, the revision of the database`);
}

function send(reply: FastifyReply, endpoint: Endpoint, answer: ApiAnswer): FastifyReply {
  reply.code(answer.status).header('ucloud-revision', answer.revision);
  const declared = endpoint.resource !== undefined && endpoint.success.schema === endpoint.resource.Item;
  if (declared && answer.version !== undefined) reply.header('etag', `"${answer.version}"`);
  if (answer.location !== undefined) reply.header('location', answer.location);
  if (answer.headers) reply.headers(answer.headers);
  if (answer.replayed) reply.header('idempotent-replayed', 'true');
  if (answer.content) return sendContent(reply, answer.content);
  return answer.body === undefined
    ? reply.send()
    : reply.type('application/json; charset=utf-8').send(JSON.stringify(answer.body));
}

function sendContent(reply: FastifyReply, content: NonNullable<ApiAnswer['content']>): FastifyReply {
  const { type = 'application/json; charset=utf-8', size, md5, data } = content;
  if (md5 !== undefined) reply.header('content-md5', md5);
  reply.type(type).header('content-length', size);
  if (reply.request.method !== 'HEAD' || !(data instanceof Readable)) return reply.send(data);
  data.destroy();
  return sendHeadersOnly(reply);
}

const headerText = (value: string | string[] | undefined): string | undefined =>
  typeof value === 'string' ? value : undefined;

/**
 * Returns the context and the settings of a dry run; undefined for a real request. @throws UcloudError `invalid_input`
 */
function tryOf(api: ApiContext, caller: Caller, query: unknown): ReturnType<typeof dryRunOf> | undefined {
  const { dry_run, leaving } = query as { readonly dry_run?: boolean; readonly leaving?: string };
  if (dry_run) return dryRunOf(api, caller, leaving);
  if (leaving !== undefined) throw fieldError('invalid_input', '#query/leaving', 'is allowed in dry runs only');
  return undefined;
}

function addRoute(app: FastifyInstance, api: ApiContext, endpoint: Endpoint, handler: Handler): void {
  const validate = validator(endpoint);
  const takesKey = endpoint.headers?.properties['idempotency-key'] !== undefined;
  app.route({
    method: endpoint.method,
    url: endpoint.path.replace(/\{(\w+)\}/g, ':$1'),
    config: { endpoint },
    async handler(request, reply) {
      const { caller, params, query, headers, body } = request;
      if (!caller) throw new Error(`${endpoint.id} was reached without authentication`);
      validate({ params, query, headers, body });
      await catchUp(api, request);
      await api.turns.take(accountOf(caller));
      // The token may have expired while the body arrived. A signature is checked after the body.
      if (endpoint.access !== 'signed') api.callers.check(caller);
      const tried = endpoint.dryRun ? tryOf(api, caller, query) : undefined;
      // A dry run creates nothing, so a repetition needs no protection.
      const idempotencyKey = takesKey && !tried ? headerText(headers['idempotency-key']) : undefined;
      const ifMatch = headerText(headers['if-match']);
      let watch: Watch | undefined;
      let gone: AbortSignal | undefined;
      const work = handler(tried?.api ?? api, {
        id: request.id,
        endpoint,
        caller,
        // `validate` has checked both against the contract.
        params: params as Record<string, string>,
        query: query as Record<string, unknown>,
        headers,
        body,
        ...(endpoint.streamBody ? { stream: bodyStream(request) } : {}),
        ...(ifMatch === undefined ? {} : { ifMatch }),
        ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
        ...(tried ? { dryRun: tried.dryRun } : {}),
        now: new Date(),
        // The signal is expensive, so only a handler that waits creates it.
        get gone() {
          watch ??= api.callers.watch(caller);
          gone ??= AbortSignal.any([api.closing, request.signal, watch.signal]);
          return gone;
        },
      });
      const answer = await work.finally(() => watch?.end());
      if (endpoint.method === 'GET' && !api.callers.isValid(caller)) {
        if (answer.content?.data instanceof Readable) answer.content.data.destroy();
        throw unauthenticated();
      }
      return send(reply, endpoint, answer);
    },
  });
}

function observe(app: FastifyInstance, onResponse: (response: SentResponse) => void): void {
  app.addHook('onSend', async (request, reply, payload) => {
    const whole = typeof payload === 'string' || Buffer.isBuffer(payload) ? payload.toString() : '';
    onResponse({
      method: request.method,
      url: request.url,
      operation: request.routeOptions.config.endpoint?.id,
      status: reply.statusCode,
      headers: reply.getHeaders(),
      body: payload instanceof Readable ? undefined : whole,
    });
  });
}

/** Refuses new requests of a client that does not read its earlier responses. */
function boundAnswers(app: FastifyInstance, answers: Answers): void {
  const full = () =>
    new UcloudError('rate_limited', 'your client has not read the responses to earlier requests; read them first', {
      retryAfter: 1,
    });

  // The check comes before the handler, so a refused request changes nothing.
  app.addHook('preHandler', async (request) => {
    if (!answers.hasRoom(request, 1)) throw full();
  });
  // The response to a change is always sent.
  app.addHook('onSend', async (request, reply, payload) => {
    if (request.method !== 'GET' || reply.statusCode >= 400) return payload;
    if (answers.hasRoom(request, Answers.costOf(payload))) return payload;
    if (payload instanceof Readable) payload.destroy();
    for (const name of ['etag', 'content-length', 'content-md5', 'ucloud-revision']) reply.removeHeader(name);
    return problemText(reply, full(), request.id);
  });
}

/** Sends responses as fast as the client reads them, and stops when the token becomes invalid. */
function paceAnswers(app: FastifyInstance, api: ApiContext, answers: Answers): void {
  app.addHook('onSend', async (request, reply, payload) => {
    if (request.method === 'HEAD') return payload;
    const { raw } = reply;
    const sent = answers.begin(request, payload);
    if (!(sent instanceof Readable)) return sent;
    if (sent !== payload) reply.header('content-length', Answers.bytesOf(payload));
    if (!request.caller) return sent;
    const { signal, end } = api.callers.watch(request.caller);
    // The status may already be sent, so only the connection can be closed.
    const cut = () => raw.destroy();
    if (signal.aborted) cut();
    signal.addEventListener('abort', cut, { once: true });
    raw.once('close', end);
    return sent;
  });
  app.addHook('onClose', async () => answers.close());
}

/** Reads and drops the rest of an unwanted body for a short time. A reset would destroy the response on its way. */
function dropRest({ raw }: FastifyRequest): void {
  if (raw.complete || raw.destroyed) return;
  raw.resume();
  const timer = setTimeout(() => raw.complete || raw.socket.destroy(), lingerMs).unref();
  raw.once('end', () => clearTimeout(timer));
}

/** Builds the HTTP server with all routes and hooks. @throws Error if operations and handlers do not match */
export async function buildApp(api: ApiContext, options: AppOptions): Promise<FastifyInstance> {
  const { endpoints, handlers, tls, providers, onResponse, arrivalTimeout, limits } = options;
  const pairs = pairUp(endpoints, handlers);
  const server = httpServer({ limits, arrivalTimeout, newRequestId, ...(tls ? { tls } : {}) });
  const answers = new Answers(limits);
  const logger = new RepeatLogger(api.logger);
  const app = fastify({
    keepAliveTimeout: limits.keepAliveTimeout,
    forceCloseConnections: true,
    // The built-in response is not a problem document. Requests are answered until their connections close.
    return503OnClosing: false,
    genReqId: (request) => requestIdOf(request.headers),
    serverFactory: (handle) => server.factory(handle),
    clientErrorHandler: (error, socket) => server.onClientError(error, socket),
    frameworkErrors: (error, request, reply) => {
      const problem = new UcloudError('invalid_input', error.message, {
        errors: [{ pointer: '#path', detail: 'is not a well-formed path' }],
      });
      // Fastify runs no hooks for these requests.
      return sendProblem(reply.headers(commonHeaders(request.id)) as FastifyReply, problem, request.id);
    },
  }) as unknown as FastifyInstance;

  app.decorateRequest('response', null as unknown as ServerResponse);
  app.addHook('onRequest', async (request, reply) => {
    request.response = reply.raw;
    reply.headers(commonHeaders(request.id));
    checkFraming(request);
  });
  app.addHook('onResponse', async (request, reply) => {
    const { caller, id, method, url } = request;
    const operation = request.routeOptions.config.endpoint?.id;
    const ms = Math.round(reply.elapsedTime * 10) / 10;
    api.logger.debug(
      { request: id, operation, method, url, status: reply.statusCode, ms, token: caller?.token },
      'answered',
    );
    dropRest(request);
  });
  app.addHook('onClose', async () => logger.close());
  handleErrors(app, logger);
  await limitRates(app, options.requestsPerMinute);
  authenticate(app, api, options.failuresPerMinute);
  app.addHook('onRequest', async ({ caller, raw }) => {
    if (!caller || server.connections.claim(raw.socket, accountOf(caller))) return;
    throw new UcloudError('rate_limited', 'your project has too many connections open', { retryAfter: 1 });
  });
  app.addHook('onRequest', async (request) => checkBodyHeaders(request));
  readBodies(app, limits);
  boundAnswers(app, answers);
  if (onResponse) observe(app, onResponse);
  paceAnswers(app, api, answers);
  for (const [endpoint, handler] of pairs) addRoute(app, api, endpoint, handler);
  serveDocuments(app, api);
  if (providers) serveProviders(app, providers);
  return app;
}
