/** The HTTP server of one network, bound to the metadata address on the network's bridge. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { UcloudError } from '../contract/errors.ts';
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { metadataAddress } from '../model/network/interface-names.ts';
import type { Mirror } from '../store/mirror.ts';
import type { Store } from '../store/store.ts';
import type { Guest, Identify } from './identity.ts';
import {
  httpLimits,
  idleTimeoutMs,
  maxBodyBytes,
  maxConnectionsPerNetwork,
  maxConnectionsPerSource,
  RequestRate,
} from './limits.ts';
import { recordReady } from './ready.ts';
import { readyPath, routes } from './routes.ts';

/** Options of `listen`. */
export interface ListenerOptions {
  readonly network: Id<'network'>;
  readonly bridge: string;
  readonly port: number;
  readonly identify: Identify;
  readonly mirror: Mirror;
  readonly store: Store;
  readonly logger: Logger;
}

/**
 * The headers of proxies. The guest itself did not send a request with such a header, so its address identifies no VM.
 */
const proxyHeaders = ['x-forwarded-for', 'forwarded', 'x-real-ip', 'via'];

class BodyTooLarge extends Error {}
class GuestGone extends Error {}

/** Returns the body. After a failure, the connection stays open for the response. */
function readBody(request: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= maxBodyBytes) chunks.push(chunk);
      else reject(new BodyTooLarge());
    });
    request.on('end', () => resolve(Buffer.concat(chunks).toString()));
    request.on('close', () => reject(new GuestGone()));
  });
}

function answer(response: ServerResponse, status: number, body = '', headers: Record<string, string> = {}): void {
  const type = { 'content-type': 'text/plain; charset=utf-8' };
  response.writeHead(status, {
    ...type,
    'cache-control': 'no-store',
    'content-length': Buffer.byteLength(body),
    ...headers,
  });
  response.end(body);
}

async function handle(options: ListenerOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const proxied = proxyHeaders.find((name) => request.headers[name] !== undefined);
  if (proxied !== undefined) return answer(response, 403, `Requests with the header ${proxied} are refused.\n`);
  const guest = options.identify(options.network, request.socket.remoteAddress);
  if (guest === undefined) return answer(response, 404, 'No VM of this network has your address.\n');

  const path = (request.url ?? '').split('?')[0] ?? '';
  if (path === readyPath) {
    if (request.method !== 'POST') return answer(response, 405, 'Use POST.\n', { allow: 'POST' });
    return handleReady(options, guest, request, response);
  }
  const route = Object.hasOwn(routes, path) ? routes[path] : undefined;
  if (route === undefined) return answer(response, 404, `There is no such document. The documents are listed at /.\n`);
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return answer(response, 405, 'Use GET.\n', { allow: 'GET, HEAD' });
  const { type, body } = await route(guest.vm.value, options.mirror, options.store);
  answer(response, 200, body, { 'content-type': type });
}

async function handleReady(
  { store, logger }: ListenerOptions,
  guest: Guest,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const body = await readBody(request);
  const recorded = await recordReady(store, guest, body);
  if (!recorded) return answer(response, 409, 'The placement of the VM has just changed. Send the request again.\n');
  logger.debug({ vm: guest.vm.id }, 'guest is ready');
  answer(response, 204);
}

function answerFailure(
  { logger, bridge }: ListenerOptions,
  err: unknown,
  path: string,
  response: ServerResponse,
): void {
  if (err instanceof GuestGone || response.headersSent || response.destroyed) {
    response.destroy();
  } else if (err instanceof BodyTooLarge) {
    // The server does not read the rest of the body, so the connection ends after the response.
    answer(response, 413, `At most ${maxBodyBytes} bytes.\n`, { connection: 'close' });
  } else if (err instanceof UcloudError && err.code === 'store_unavailable') {
    logger.warn({ err, bridge }, 'the store did not answer for a guest');
    answer(response, 503, 'Try again.\n', { 'retry-after': '1' });
  } else {
    logger.error({ err, bridge, path }, 'a guest request failed');
    answer(response, 500, 'Failed.\n');
  }
}

/** Ends idle connections, and connections beyond the limits. */
function limitConnections(server: Server): void {
  const open = new Map<string, number>();
  server.maxConnections = maxConnectionsPerNetwork;
  server.on('connection', (socket: Socket) => {
    const source = socket.remoteAddress ?? '';
    const count = (open.get(source) ?? 0) + 1;
    open.set(source, count);
    socket.once('close', () => {
      const left = (open.get(source) ?? 1) - 1;
      if (left === 0) open.delete(source);
      else open.set(source, left);
    });
    socket.setTimeout(idleTimeoutMs, () => socket.destroy());
    if (count > maxConnectionsPerSource) socket.destroy();
  });
}

/**
 * Starts the server. Resolves when it listens.
 * @throws Error with the code `EADDRNOTAVAIL` while the bridge does not have the address yet
 */
export async function listen(options: ListenerOptions): Promise<Server> {
  const rate = new RequestRate();
  const server = createServer(httpLimits, (request, response) => {
    const source = request.socket.remoteAddress ?? '';
    if (!rate.take(source, performance.now())) {
      answer(response, 429, 'Too many requests.\n', { 'retry-after': '1', connection: 'close' });
      return;
    }
    handle(options, request, response).catch((err: unknown) =>
      answerFailure(options, err, request.url ?? '', response),
    );
  });
  limitConnections(server);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: `${metadataAddress}%${options.bridge}`, port: options.port }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  server.on('error', (err) => options.logger.error({ err, bridge: options.bridge }, 'metadata listener failed'));
  return server;
}
