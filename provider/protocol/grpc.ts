/**
 * As much of a gRPC server as a Terraform provider needs: unary calls, and streams that are only held open. A full
 * library would double the start time.
 * https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
 */
import type { Duplex } from 'node:stream';
import { encodeHeaders } from './hpack.ts';
import { Connection, type Stream } from './http2.ts';
import { GrpcError, STATUS } from './status.ts';

/** `cancelled` aborts when nobody waits for the answer any more: the caller reset the stream, or its connection broke. */
export type UnaryMethod = (request: Uint8Array, cancelled: AbortSignal) => Promise<Uint8Array>;

export interface Methods {
  /** Answers calls with one request and one response; keys are paths, `/package.Service/Method`. */
  readonly unary: Readonly<Record<string, UnaryMethod>>;
  /** More of these, loaded when one is called that is not in `unary`. */
  readonly more?: (() => Promise<Readonly<Record<string, UnaryMethod>>>) | undefined;
  /** Streams that carry nothing from here: accepted, held open, and ended when the session is closed. */
  readonly held: ReadonlySet<string>;
}

/** The largest message in bytes. Terraform's own servers have the same limit: 256 MiB. */
export const MAX_MESSAGE = 256 * 1024 * 1024;
/** With what every answer begins. A caller that compresses learns here that it must not. */
const RESPONSE = { ':status': '200', 'content-type': 'application/grpc', 'grpc-accept-encoding': 'identity' } as const;
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

const responseBlock = encodeHeaders(RESPONSE);
const okBlock = encodeHeaders({ 'grpc-status': String(STATUS.OK) });

/** An answer without a message: the status travels in the headers. */
function endWithStatus(stream: Stream, status: number, message: string): void {
  const trailers = { 'grpc-status': String(status), ...(message && { 'grpc-message': encodeStatusMessage(message) }) };
  stream.answer({ headers: encodeHeaders({ ...RESPONSE, ...trailers }) });
}

/** The one message of a request. @throws GrpcError */
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
  /** Largest request in bytes; default `MAX_MESSAGE`. */
  maxMessage?: number;
  /** Told of what goes wrong with the connection itself. */
  onError?: (error: Error) => void;
}

export interface Session {
  /** Settles when all is sent after `close`, or the connection is gone. */
  readonly ended: Promise<void>;
  /** Ends held streams properly, and the connection as soon as running calls are answered. */
  close(): void;
}

/** Speaks gRPC on a connection, whoever made it: a socket, or a TLS socket whose peer was already verified. */
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
      // One that is refused is still read to its end: what the caller still sends would be nobody's.
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
