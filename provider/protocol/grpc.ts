/**
 * As much of a gRPC server as a Terraform provider needs, on Node's HTTP/2: unary calls, and streams that are only held
 * open. A full library would double the start time.
 * https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
 */
import http2, { type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';
import { GrpcError, STATUS } from './status.ts';

/** `cancelled` aborts when nobody waits for the answer any more: the caller reset the stream, or its connection broke. */
export type UnaryMethod = (request: Uint8Array, cancelled: AbortSignal) => Promise<Uint8Array>;

export interface Methods {
  /** Answers calls with one request and one response; keys are paths, `/package.Service/Method`. */
  readonly unary: Readonly<Record<string, UnaryMethod>>;
  /** Streams that carry nothing from here: accepted, held open, and ended by `closeSession`. */
  readonly held: ReadonlySet<string>;
}

/** What Terraform's own servers accept for one message: 256 MiB. */
export const MAX_MESSAGE = 256 * 1024 * 1024;
const WINDOW = 16 * 1024 * 1024;
/** With what every answer begins. A caller that compresses learns here that it must not. */
const RESPONSE = { ':status': 200, 'content-type': 'application/grpc', 'grpc-accept-encoding': 'identity' } as const;
/** `application/grpc`, `application/grpc+proto`; gRPC-Web is another protocol. */
const CONTENT_TYPE = /^application\/grpc(?:[+;]|$)/;

/** One message in its frame: no compression, length, content. */
export function frame(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(5 + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, 5);
  return framed;
}

/** `grpc-message`: percent-encoded except for printable ASCII without '%'. */
export function encodeStatusMessage(message: string): string {
  return Buffer.from(message.slice(0, 2000))
    .toString('latin1')
    .replace(/[^\x20-\x24\x26-\x7e]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
}

function endWithStatus(stream: ServerHttp2Stream, status: number, message: string): void {
  if (stream.destroyed || stream.closed) return;
  const trailers = { 'grpc-status': String(status), ...(message && { 'grpc-message': encodeStatusMessage(message) }) };
  if (stream.headersSent) {
    stream.end();
    return;
  }
  // Trailers-only response: the status travels in the headers.
  stream.respond({ ...RESPONSE, ...trailers }, { endStream: true });
}

/**
 * Reads the one message of a request. One that is refused is still read to its end: a stream that is answered before
 * leaves the caller's data without an owner, for which HTTP/2 gives up the whole connection and every call on it.
 */
function readMessage(stream: ServerHttp2Stream, limit: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    let chunks: Buffer[] = [];
    let received = 0;
    let expected: number | undefined;
    let refused: GrpcError | undefined;
    const fail = (error: GrpcError) => {
      refused = error;
      chunks = [];
    };
    stream.on('data', (chunk: Buffer) => {
      if (refused) return;
      chunks.push(chunk);
      received += chunk.length;
      if (expected === undefined && received >= 5) {
        const head = chunks.length === 1 ? chunk : Buffer.concat(chunks, received);
        if (head[0] !== 0) return fail(new GrpcError(STATUS.UNIMPLEMENTED, 'compressed messages are not supported'));
        expected = head.readUInt32BE(1);
        if (expected > limit) {
          return fail(
            new GrpcError(STATUS.RESOURCE_EXHAUSTED, `a message of ${expected} bytes is larger than ${limit} bytes`),
          );
        }
      }
      if (expected !== undefined && received > expected + 5) {
        fail(new GrpcError(STATUS.INTERNAL, 'there is more than one message in a unary request'));
      }
    });
    stream.on('end', () => {
      if (refused) {
        reject(refused);
      } else if (expected === undefined || received !== expected + 5) {
        reject(new GrpcError(STATUS.INTERNAL, 'the request ends in the middle of a message'));
      } else {
        resolve(Buffer.concat(chunks, received).subarray(5));
      }
    });
    stream.on('error', reject);
    // Last of all, also when the connection broke: whoever waits for the message must not wait for ever.
    stream.on('close', () => reject(new GrpcError(STATUS.CANCELLED, 'the call was cancelled')));
  });
}

async function serveUnary(stream: ServerHttp2Stream, method: UnaryMethod, limit: number): Promise<void> {
  const cancelled = new AbortController();
  // After the answer this has nobody left to tell.
  stream.on('close', () => cancelled.abort());
  let response: Uint8Array;
  try {
    response = await method(await readMessage(stream, limit), cancelled.signal);
  } catch (error) {
    if (error instanceof GrpcError) endWithStatus(stream, error.status, error.message);
    else endWithStatus(stream, STATUS.INTERNAL, error instanceof Error ? error.message : String(error));
    return;
  }
  if (stream.destroyed || stream.closed) return;
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': String(STATUS.OK) }));
  stream.respond(RESPONSE, { waitForTrailers: true });
  stream.end(frame(response));
}

export interface SessionOptions {
  /** Largest request in bytes; default `MAX_MESSAGE`. */
  maxMessage?: number;
  /** Told of what goes wrong with the connection itself. */
  onError?: (error: Error) => void;
}

/** The streams of each session that are held open. */
const heldStreams = new WeakMap<ServerHttp2Session, Set<ServerHttp2Stream>>();

/** Speaks gRPC on a connection, whoever made it: a socket, or a TLS socket whose peer was already verified. */
export function serveSession(socket: Duplex, methods: Methods, options: SessionOptions = {}): ServerHttp2Session {
  const session = http2.performServerHandshake(socket, {
    settings: { initialWindowSize: WINDOW, maxConcurrentStreams: 1000 },
    // Node refuses new streams when a session holds more than this (in MB); large states are not an attack here.
    maxSessionMemory: 1024,
  });
  const held = new Set<ServerHttp2Stream>();
  heldStreams.set(session, held);
  session.on('connect', () => session.setLocalWindowSize(WINDOW));
  session.on('error', (error) => options.onError?.(error));
  session.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    stream.on('error', () => stream.destroy()); // the peer's reset is the peer's business
    if (!CONTENT_TYPE.test(String(headers['content-type'] ?? ''))) {
      stream.respond({ ':status': 415 }, { endStream: true });
      return;
    }
    const path = String(headers[':path'] ?? '');
    const method = Object.hasOwn(methods.unary, path) ? methods.unary[path] : undefined;
    if (method && headers[':method'] === 'POST') {
      void serveUnary(stream, method, options.maxMessage ?? MAX_MESSAGE);
    } else if (methods.held.has(path)) {
      stream.resume();
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': String(STATUS.OK) }));
      stream.respond(RESPONSE, { waitForTrailers: true });
      held.add(stream);
      stream.on('close', () => held.delete(stream));
    } else {
      stream.resume();
      endWithStatus(stream, STATUS.UNIMPLEMENTED, `there is no method ${path}`);
    }
  });
  return session;
}

/** Ends held streams properly and the session as soon as running calls are answered. */
export function closeSession(session: ServerHttp2Session): void {
  for (const stream of heldStreams.get(session) ?? []) stream.end();
  if (!session.closed) session.close();
}
