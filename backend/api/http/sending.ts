/**
 * Responses on their way. A response counts until the client has read it, with the bytes that it keeps in memory. A
 * client that reads too slowly loses its connection.
 */
import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { ByteBudget } from './byte-budget.ts';
import { type HttpLimits, pieceBytes, streamBytes } from './limits.ts';
import { ownerOf } from './source.ts';

interface Sending {
  readonly response: ServerResponse;
  /** The time of `performance.now()` at which the client last read a piece. */
  since: number;
}

const shared = new WeakSet<Uint8Array>();

/** Marks bytes that are in memory once for all responses, so that each response counts for one piece. */
export function share(bytes: Buffer): Buffer {
  shared.add(bytes);
  return bytes;
}

/** Answers HEAD with the headers of the response. Fastify would read a stream to its end. */
export function sendHeadersOnly(reply: FastifyReply): FastifyReply {
  reply.hijack();
  reply.raw.writeHead(reply.statusCode, reply.getHeaders() as Record<string, string>).end();
  return reply;
}

/** Counts the responses on their way, and closes the connections of clients that do not read. */
export class Answers {
  readonly #owners: ByteBudget;
  /** A separate budget, so clients without a token take no memory from projects. */
  readonly #strangers: ByteBudget;
  readonly #sendTimeout: number;
  readonly #sending = new Set<Sending>();
  readonly #timer: NodeJS.Timeout;

  constructor({ unreadPerOwner, unread, sendTimeout }: HttpLimits) {
    this.#owners = new ByteBudget(unreadPerOwner, unread);
    this.#strangers = new ByteBudget(unreadPerOwner, unread);
    this.#sendTimeout = sendTimeout;
    this.#timer = setInterval(() => this.#endStalled(), Math.ceil(sendTimeout / 4)).unref();
  }

  /** The number of responses on their way. */
  get count(): number {
    return this.#sending.size;
  }

  /** Tells whether the caller may be sent these further bytes. */
  hasRoom(request: FastifyRequest, bytes: number): boolean {
    return this.#budgetOf(request).hasRoom(ownerOf(request), bytes);
  }

  #budgetOf = ({ caller }: FastifyRequest): ByteBudget => (caller ? this.#owners : this.#strangers);

  /** Returns the bytes of memory that the response takes. */
  static costOf = (payload: unknown): number =>
    payload instanceof Uint8Array && shared.has(payload)
      ? Math.min(payload.length, pieceBytes)
      : Answers.bytesOf(payload);

  /** Returns the length of the response in bytes. */
  static bytesOf(payload: unknown): number {
    if (typeof payload === 'string') return Buffer.byteLength(payload);
    if (payload instanceof Uint8Array) return payload.length;
    return payload instanceof Readable ? streamBytes : 0;
  }

  /** Counts the response until it is sent or its connection closes. Returns the payload to send. */
  begin(request: FastifyRequest, payload: unknown): unknown {
    const { response } = request;
    const release = this.#budgetOf(request).hold(ownerOf(request), Answers.costOf(payload));
    const sending: Sending = { response, since: performance.now() };
    this.#sending.add(sending);
    response.once('close', () => {
      release();
      this.#sending.delete(sending);
    });
    const taken = () => {
      sending.since = performance.now();
    };
    if (payload instanceof Readable) {
      let bytes = 0;
      payload.on('data', (piece: Uint8Array) => {
        bytes += piece.length;
        if (bytes < pieceBytes) return;
        bytes = 0;
        taken();
      });
      // The connection starts the stream when it reads.
      return payload.pause();
    }
    if (typeof payload === 'string') {
      return payload.length > pieceBytes ? inPieces(Buffer.from(payload), taken) : payload;
    }
    return payload instanceof Uint8Array && payload.length > pieceBytes ? inPieces(payload, taken) : payload;
  }

  #endStalled(): void {
    const longAgo = performance.now() - this.#sendTimeout;
    for (const { response, since } of this.#sending) if (since < longAgo) response.destroy();
  }

  close(): void {
    clearInterval(this.#timer);
  }
}

/** Returns a stream that emits a piece each time the connection can take one. */
function inPieces(bytes: Uint8Array, taken: () => void): Readable {
  let start = 0;
  return new Readable({
    highWaterMark: pieceBytes,
    read() {
      if (start > 0) taken();
      const piece = bytes.subarray(start, start + pieceBytes);
      start += piece.length;
      this.push(piece.length === 0 ? null : piece);
    },
  });
}
