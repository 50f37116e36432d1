/**
 * The frames of HTTP/2 (RFC 9113, sections 4, 6 and 7): their constants, and the writer of the frames that a server sends.
 */
import type { Duplex } from 'node:stream';

export const FRAME_HEAD = 9;
export const TYPE = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  push: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;
export const END_STREAM = 0x1;
export const ACK = 0x1;
export const END_HEADERS = 0x4;
export const PADDED = 0x8;
export const PRIORITY = 0x20;
export const SETTING = { maxStreams: 3, initialWindow: 4, maxFrame: 5, maxHeaderList: 6 } as const;

/** The error codes: section 7. */
export const CODE = {
  none: 0,
  protocol: 1,
  flowControl: 3,
  streamClosed: 5,
  frameSize: 6,
  refused: 7,
  cancel: 8,
  compression: 9,
  calm: 11,
} as const;

/** The maximum size of a frame in bytes: the minimum of section 4.2, which Terraform keeps to. */
export const MAX_FRAME = 16_384;
export const DEFAULT_WINDOW = 65_535;
export const MAX_WINDOW = 2 ** 31 - 1;
export class ConnectionFailure extends Error {
  override readonly name = 'ConnectionFailure';
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

/** Writes the frames of one connection. All frames of one turn of the event loop leave in one write. */
export class FrameWriter {
  /** The maximum size of a frame that the client accepts, in bytes. */
  maxFrame = MAX_FRAME;
  readonly #socket: Duplex;
  #output: Buffer[] = [];

  constructor(socket: Duplex) {
    this.#socket = socket;
  }

  headers(id: number, block: Buffer, last: boolean): void {
    const flags = last ? END_STREAM : 0;
    let at = Math.min(block.length, this.maxFrame);
    this.frame(TYPE.headers, flags | (at === block.length ? END_HEADERS : 0), id, block.subarray(0, at));
    while (at < block.length) {
      const end = Math.min(block.length, at + this.maxFrame);
      this.frame(TYPE.continuation, end === block.length ? END_HEADERS : 0, id, block.subarray(at, end));
      at = end;
    }
  }

  settings(settings: readonly (readonly [number, number])[]): void {
    const payload = Buffer.alloc(6 * settings.length);
    settings.forEach(([name, value], i) => {
      payload.writeUInt16BE(name, 6 * i);
      payload.writeUInt32BE(value, 6 * i + 2);
    });
    this.frame(TYPE.settings, 0, 0, payload);
  }

  windowUpdate(id: number, increment: number): void {
    const payload = Buffer.alloc(4);
    payload.writeUInt32BE(increment);
    this.frame(TYPE.windowUpdate, 0, id, payload);
  }

  reset(id: number, code: number): void {
    const payload = Buffer.alloc(4);
    payload.writeUInt32BE(code);
    this.frame(TYPE.reset, 0, id, payload);
  }

  goAway(lastStream: number, code: number): void {
    const payload = Buffer.alloc(8);
    payload.writeUInt32BE(lastStream);
    payload.writeUInt32BE(code, 4);
    this.frame(TYPE.goAway, 0, 0, payload);
  }

  frame(type: number, flags: number, id: number, payload: Buffer): void {
    const head = Buffer.allocUnsafe(FRAME_HEAD);
    head.writeUIntBE(payload.length, 0, 3);
    head[3] = type;
    head[4] = flags;
    head.writeUInt32BE(id, 5);
    // All frames of one turn leave together, in one record of TLS.
    if (this.#output.length === 0) process.nextTick(() => this.flush());
    this.#output.push(head);
    if (payload.length > 0) this.#output.push(payload);
  }

  flush(): void {
    if (this.#output.length === 0) return;
    const output = this.#output;
    this.#output = [];
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    if (this.#socket.write(Buffer.concat(output))) return;
    // For a client that does not read, the answers to pings and settings must not accumulate.
    this.#socket.pause();
    this.#socket.once('drain', () => this.#socket.resume());
  }
}

/** Returns the payload without its padding. @throws ConnectionFailure if there is more padding than payload */
export function unpadded(flags: number, payload: Buffer): Buffer {
  if (!(flags & PADDED)) return payload;
  const padding = payload[0];
  if (padding === undefined || padding >= payload.length) {
    throw new ConnectionFailure(CODE.protocol, 'more padding than frame');
  }
  return payload.subarray(1, payload.length - padding);
}
