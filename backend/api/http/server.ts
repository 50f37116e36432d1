/** The server below Fastify: connections, the order of requests on them, and responses to malformed HTTP. */
import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Duplex } from 'node:stream';
import { UcloudError } from '../../contract/errors.ts';
import { problemMediaType } from '../../contract/openapi.ts';
import { Connections } from './connections.ts';
import type { HttpLimits } from './limits.ts';
import { problemOf } from './problems.ts';
import { Turns } from './turns.ts';

/** The parts of the server below Fastify. */
export interface ServerOptions {
  readonly limits: HttpLimits;
  /** Milliseconds in which a request with its body must arrive. */
  readonly arrivalTimeout: number;
  readonly tls?: { readonly cert: string; readonly key: string };
  readonly newRequestId: () => string;
}

/** Returns the error for bytes that Node's parser refuses. They never become a request. */
function fromParser(error: NodeJS.ErrnoException): UcloudError {
  switch (error.code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new UcloudError('request_timeout', 'the request did not arrive in time');
    case 'HPE_HEADER_OVERFLOW':
      return new UcloudError('headers_too_large', 'the headers are too large');
    default:
      return new UcloudError('invalid_input', 'this is not well-formed HTTP/1.1');
  }
}

/** Returns a whole response as text. The connection ends after it. */
function refusal(error: UcloudError, requestId: string, headers: readonly string[] = []): string {
  const body = JSON.stringify(problemOf(error, requestId));
  return [
    `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}`,
    `Content-Type: ${problemMediaType}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    `Request-Id: ${requestId}`,
    `Date: ${new Date().toUTCString()}`,
    'Cache-Control: no-store',
    'X-Content-Type-Options: nosniff',
    ...headers,
    'Connection: close',
    '',
    body,
  ].join('\r\n');
}

const timeout = (): NodeJS.ErrnoException =>
  Object.assign(new Error('the body did not arrive in time'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' });

/** Tells whether the body is one of an upload, which may take hours. */
const isUpload = ({ method, url = '' }: IncomingMessage): boolean =>
  method === 'PATCH' && url.startsWith('/v1/uploads/');

/** Ends a connection whose request does not arrive in time. An upload is only required to bring bytes all the time. */
function limitArrival(
  request: IncomingMessage,
  response: ServerResponse,
  arrivalTimeout: number,
  end: HttpServer['onClientError'],
): void {
  const { headers, socket } = request;
  if (headers['transfer-encoding'] === undefined && !Number(headers['content-length'])) return;
  let seen = socket.bytesRead;
  const check = () => {
    if (request.complete) return;
    if (!isUpload(request) || socket.bytesRead === seen) return end(timeout(), socket);
    seen = socket.bytesRead;
    timer = setTimeout(check, arrivalTimeout).unref();
  };
  let timer = setTimeout(check, arrivalTimeout).unref();
  response.once('close', () => clearTimeout(timer));
}

/** The server below Fastify. */
export interface HttpServer {
  readonly connections: Connections;
  /** The `serverFactory` of Fastify. */
  factory(handle: (request: IncomingMessage, response: ServerResponse) => void): Server;
  onClientError(error: NodeJS.ErrnoException, socket: Duplex): void;
}

/** Creates the server below Fastify. */
export function httpServer({ limits, arrivalTimeout, tls, newRequestId }: ServerOptions): HttpServer {
  const turns = new Turns(limits);
  const connections = new Connections(limits);
  const options = {
    headersTimeout: arrivalTimeout,
    // Node's own limit holds for the whole of a request, also for an upload.
    requestTimeout: 0,
    connectionsCheckingInterval: Math.ceil(arrivalTimeout / 4),
    keepAliveTimeout: limits.keepAliveTimeout,
    // checkFraming refuses requests without this header, with a problem document.
    requireHostHeader: false,
  };
  return {
    connections,
    factory(handle) {
      const take = (request: IncomingMessage, response: ServerResponse) => {
        limitArrival(request, response, arrivalTimeout, this.onClientError);
        turns.take({ request, response, start: () => handle(request, response) });
      };
      const server = tls
        ? createTlsServer({ ...options, ...tls, handshakeTimeout: limits.handshakeTimeout }, take)
        : createServer(options, take);
      // Both kinds become normal requests. The body reader asks for the body.
      server.on('checkContinue', take).on('checkExpectation', take);
      server.on('connect', (_request, socket) => {
        const error = new UcloudError('method_not_allowed', 'this server is not a proxy');
        turns.refuse(socket, refusal(error, newRequestId(), ['Allow: GET, HEAD, POST, PATCH, DELETE']));
      });
      connections.attach(server);
      return server as Server;
    },
    onClientError(error, socket) {
      if (!socket.writable || error.code === 'ECONNRESET' || error.code === 'EPIPE') return void socket.destroy();
      turns.refuse(socket, refusal(fromParser(error), newRequestId()));
    },
  };
}
