/**
 * The part of a gRPC server that a Terraform provider needs: unary calls, and streams that only stay open. A full library
 * would double the start time.
 * https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
 */
import type { Duplex } from 'node:stream';
import { encodeHeaders } from './hpack.ts';
import { Connection, type Stream } from './http2.ts';
import { GrpcError, STATUS } from './status.ts';

/** A method. `cancelled` aborts when the caller does not wait any more: it reset the stream, or its connection broke. */
export type UnaryMethod = (request: Uint8Array, cancelled: AbortSignal) => Promise<Uint8Array>;

export interface Methods {
  /** The methods with one request and one response, by path: `/package.Service/Method`. */
  readonly unary: Readonly<Record<string, UnaryMethod>>;
  /** Loads further methods, at the first call of a path that `unary` does not contain. */
  readonly more?: (() => Promise<Readonly<Record<string, UnaryMethod>>>) | undefined;
  /** The paths of streams without messages: accepted, kept open, and ended together with the session. */
  readonly held: ReadonlySet<string>;
}

/** The maximum size of a message in bytes. Terraform's own servers have the same limit: 256 MiB. */
export const MAX_MESSAGE = 256 * 1024 * 1024;
/** The first headers of every answer. They tell the caller that this server does not support compression. */
const RESPONSE = { ':status': '200', 'content-type': 'application/grpc', 'grpc-accept-encoding': 'identity' } as const;
/** Matches `application/grpc` and `application/grpc+proto`, but not gRPC-Web, which is another protocol. */
const CONTENT_TYPE = /^application\/grpc(?:[+;]|$)/;

/** Returns a message in its frame: the flag for no compression, the length, the content. */
export function frame(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(5 + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, 5);
  return framed;
}

/** Returns the text for `grpc-message`: percent-encoded, except for printable ASCII without '%'. */
export function encodeStatusMessage(message: string): string {
  return Buffer.from(message.slice(0, 2000))
    .toString('latin1')
    .replace(/[^\x20-\x24\x26-\x7e]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
}

const responseBlock = encodeHeaders(RESPONSE);
const okBlock = encodeHeaders({ 'grpc-status': String(STATUS.OK) });

/** Sends an answer without a message. Its headers contain the status. */
function endWithStatus(stream: Stream, status: number, message: string): void {
  const trailers = { 'grpc-status': String(status), ...(message && { 'grpc-message': encodeStatusMessage(message) }) };
  stream.answer({ headers: encodeHeaders({ ...RESPONSE, ...trailers }) });
}

/** Returns the message of a unary request. @throws GrpcError if there is not exactly one message */
function messageOf(body: Buffer | undefined, limit: number): Uint8Array {
  if (!body) throw new GrpcError(STATUS.RESOURCE_EXHAUSTED, `a message is larger than ${limit} bytes`);
  if (body.length >= 5) {
    if (body[0] !== 0) throw new GrpcError(STATUS.UNIMPLEMENTED, 'compressed messages are not supported');
    const expected = body.readUInt32BE(1);
    if (expected > limit) {
      throw new GrpcError(STATUS.RESOURCE_EXHAUSTED, `a message of ${expected} bytes is larger than ${limit} bytes`);
    }
    if (body.length > expected + 5) {
      throw new GrpcError(STATUS.INTERNAL, 'there is more than one message in a unary request');
    }
    if (body.length === expected + 5) return body.subarray(5);
  }
  throw new GrpcError(STATUS.INTERNAL, 'the request ends in the middle of a message');
}

export interface SessionOptions {
  /** The maximum size of a request in bytes. Default: `MAX_MESSAGE`. */
  maxMessage?: number;
  /** Gets the errors of the connection. */
  onError?: (error: Error) => void;
}

export interface Session {
  /** Settles when all answers are sent after `close`, or when the connection has ended. */
  readonly ended: Promise<void>;
  /** Ends the open streams, and ends the connection after the answers to running calls. */
  close(): void;
}

/** Serves gRPC on a connection: a socket, or a TLS socket with a verified peer. */
export function serveSession(socket: Duplex, methods: Methods, options: SessionOptions = {}): Session {
  const limit = options.maxMessage ?? MAX_MESSAGE;
  const held = new Set<Stream>();

  async function find(path: string): Promise<UnaryMethod> {
    let found = Object.hasOwn(methods.unary, path) ? methods.unary[path] : undefined;
    if (!found && methods.more) {
      const more = await methods.more();
      found = Object.hasOwn(more, path) ? more[path] : undefined;
    }
    if (!found) throw new GrpcError(STATUS.UNIMPLEMENTED, `there is no method ${path}`);
    return found;
  }

  async function call(stream: Stream, path: string, body: Buffer | undefined, cancelled: AbortSignal): Promise<void> {
    try {
      const method = await find(path);
      const response = await method(messageOf(body, limit), cancelled);
      stream.answer({ headers: responseBlock, body: frame(response), trailers: okBlock });
    } catch (error) {
      if (error instanceof GrpcError) endWithStatus(stream, error.status, error.message);
      else endWithStatus(stream, STATUS.INTERNAL, error instanceof Error ? error.message : String(error));
    }
  }

  function onRequest(stream: Stream): void {
    const path = stream.headers.get(':path') ?? '';
    if (!CONTENT_TYPE.test(stream.headers.get('content-type') ?? '')) {
      stream.onBody = () => stream.answer({ headers: encodeHeaders({ ':status': '415' }) });
    } else if (methods.held.has(path)) {
      stream.begin(responseBlock);
      held.add(stream);
      stream.onCancel = () => held.delete(stream);
    } else if (stream.headers.get(':method') !== 'POST') {
      stream.onBody = () => endWithStatus(stream, STATUS.UNIMPLEMENTED, 'calls are made by POST');
    } else {
      const cancelled = new AbortController();
      stream.onCancel = () => cancelled.abort();
      // The server also reads a refused request to its end, because the caller may still send its body.
      stream.onBody = (body) => void call(stream, path, body, cancelled.signal);
    }
  }

  const connection = new Connection(socket, { onRequest, maxBody: limit + 5, onError: options.onError });
  return {
    ended: connection.ended,
    close() {
      for (const stream of held) stream.answer({ trailers: okBlock });
      held.clear();
      connection.close();
    },
  };
}
