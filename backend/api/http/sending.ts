/**
 * Answers on their way. They count until the client has taken them, each for as many bytes as it keeps in memory. A client
 * that does not take them, or takes less than a piece within the time for one, loses its connection.
 */
import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { ByteBudget } from './byte-budget.ts';
import { type HttpLimits, pieceBytes, streamBytes } from './limits.ts';

interface Sending {
  readonly response: ServerResponse;
  /** Clock of `performance.now()` at which the client last took something. */
  since: number;
}

export class Answers {
  readonly budget: ByteBudget;
  readonly #sendTimeout: number;
  readonly #sending = new Set<Sending>();
  readonly #timer: NodeJS.Timeout;

  constructor({ unreadPerOwner, unread, sendTimeout }: HttpLimits) {
    this.budget = new ByteBudget(unreadPerOwner, unread);
    this.#sendTimeout = sendTimeout;
    this.#timer = setInterval(() => this.#endStalled(), Math.ceil(sendTimeout / 4)).unref();
  }

  /** Answers now under way. */
  get count(): number {
    return this.#sending.size;
  }

  /** What memory the answer takes. */
  static bytesOf(payload: unknown): number {
    if (typeof payload === 'string') return Buffer.byteLength(payload);
    if (payload instanceof Uint8Array) return payload.length;
    return payload instanceof Readable ? streamBytes : 0;
  }

  /** Counts the answer until it has been sent or its connection is closed. Answers what to send in its place. */
  begin(response: ServerResponse, owner: string, payload: unknown): unknown {
    const release = this.budget.hold(owner, Answers.bytesOf(payload));
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
    const bytes = typeof payload === 'string' ? payload.length : payload instanceof Uint8Array ? payload.length : 0;
    return bytes > pieceBytes ? inPieces(Buffer.from(payload as string | Uint8Array), taken) : payload;
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
function inPieces(bytes: Buffer, taken: () => void): Readable {
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
