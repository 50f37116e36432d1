/**
 * Answers on their way. They count until the client has taken them, each for as many bytes as it keeps in memory. A client
 * that does not take them, or takes less than a piece within the time for one, loses its connection.
 */
import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { ByteBudget } from './byte-budget.ts';
import { type HttpLimits, pieceBytes, streamBytes } from './limits.ts';
import { ownerOf } from './source.ts';

interface Sending {
  readonly response: ServerResponse;
  /** Clock of `performance.now()` at which the client last took something. */
  since: number;
}

const shared = new WeakSet<Uint8Array>();

/** Marks what is in memory once, however many are sent it. */
export function share(bytes: Buffer): Buffer {
  shared.add(bytes);
  return bytes;
}

/** Answers to HEAD with the headers that are set: what nobody gets is not made. Fastify would read a stream to its end. */
export function sendHeadersOnly(reply: FastifyReply): FastifyReply {
  reply.hijack();
  reply.raw.writeHead(reply.statusCode, reply.getHeaders() as Record<string, string>).end();
  return reply;
}

export class Answers {
  readonly #owners: ByteBudget;
  /** Of their own, so that many networks without a token take nothing from projects. */
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

  /** Answers now under way. */
  get count(): number {
    return this.#sending.size;
  }

  /** Whether the one who asks may be sent so much more. */
  hasRoom(request: FastifyRequest, bytes: number): boolean {
    return this.#budgetOf(request).hasRoom(ownerOf(request), bytes);
  }

  #budgetOf = ({ caller }: FastifyRequest): ByteBudget => (caller ? this.#owners : this.#strangers);

  /** Returns the bytes of memory that the answer takes. */
  static costOf = (payload: unknown): number =>
    payload instanceof Uint8Array && shared.has(payload)
      ? Math.min(payload.length, pieceBytes)
      : Answers.bytesOf(payload);

  /** How long the answer is. */
  static bytesOf(payload: unknown): number {
    if (typeof payload === 'string') return Buffer.byteLength(payload);
    if (payload instanceof Uint8Array) return payload.length;
    return payload instanceof Readable ? streamBytes : 0;
  }

  /** Counts the answer until it has been sent or its connection is closed. Answers what to send in its place. */
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
      // It begins when the connection asks for it.
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

/** Gives out a piece each time there is room for one. */
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
