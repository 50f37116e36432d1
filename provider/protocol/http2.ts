/**
 * The server's side of one HTTP/2 connection (RFC 9113), for many small requests: a whole body, then a whole answer. Loading
 * Node's own HTTP/2 takes a fifth of a provider's start. It also takes more time for each call than the work of the call.
 *
 * The caller of this module has verified the client. Still, no input grows without bound: header blocks, bodies, streams and
 * windows have limits, and the connection reads nothing while the client does not read.
 */
import type { Duplex } from 'node:stream';
import { HpackDecoder, HpackError, MAX_HEADER_LIST } from './hpack.ts';
import {
  ACK,
  CODE,
  ConnectionFailure,
  DEFAULT_WINDOW,
  END_HEADERS,
  END_STREAM,
  FRAME_HEAD,
  FrameWriter,
  MAX_FRAME,
  MAX_WINDOW,
  PRIORITY,
  SETTING,
  TYPE,
  unpadded,
} from './http2-frames.ts';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
/** The receive windows of a stream and of the connection, in bytes. */
const WINDOW = 16 * 1024 * 1024;
const MAX_STREAMS = 1000;

/** A request and its answer. */
export class Stream {
  readonly id: number;
  readonly headers: ReadonlyMap<string, string>;
  /** Gets the complete body; undefined if the body was larger than allowed. */
  onBody: (body: Buffer | undefined) => void = () => {};
  /** Called when the client does not wait for the answer any more. */
  onCancel: () => void = () => {};
  readonly #connection: Connection;
  /** The state of the stream. Only the connection uses it. */
  readonly state: StreamState;

  constructor(connection: Connection, id: number, headers: ReadonlyMap<string, string>, sendWindow: number) {
    this.#connection = connection;
    this.id = id;
    this.headers = headers;
    this.state = { chunks: [], received: 0, credit: WINDOW, complete: false, sendWindow, sent: 0, ended: false };
  }

  /** Begins the answer with a header block in HPACK. */
  begin(headers: Buffer): void {
    this.#connection.respond(this, { headers });
  }

  /** Sends the rest of the answer, or the whole answer. */
  answer(answer: Answer): void {
    this.#connection.respond(this, { ...answer, last: true });
  }
}

export interface Answer {
  readonly headers?: Buffer;
  readonly body?: Buffer;
  readonly trailers?: Buffer;
}

interface StreamState {
  chunks: Buffer[];
  received: number;
  /** The number of bytes that the client may still send. */
  credit: number;
  /** True if the request is complete. */
  complete: boolean;
  sendWindow: number;
  /** The answer that waits for a larger window of the client. */
  waiting?: Answer;
  /** The number of bytes of the answer's body that were sent. */
  sent: number;
  /** True if the answer is complete. */
  ended: boolean;
}

export interface ConnectionOptions {
  /** Called at the beginning of each request, in the order of their headers. The body follows by `onBody`. */
  onRequest(stream: Stream): void;
  /** The maximum size of a body, in bytes. */
  readonly maxBody: number;
  /** Gets the error of a failed connection. */
  onError?: ((error: Error) => void) | undefined;
}

export class Connection {
  /** Resolves when all answers are sent after `close`, or when the connection has ended. */
  readonly ended: Promise<void>;
  readonly #socket: Duplex;
  readonly #writer: FrameWriter;
  readonly #options: ConnectionOptions;
  readonly #streams = new Map<number, Stream>();
  readonly #decoder = new HpackDecoder();
  #unread: Buffer = Buffer.alloc(0);
  #greeted = false;
  #lastStream = 0;
  #credit = WINDOW;
  #sendWindow = DEFAULT_WINDOW;
  #initialWindow = DEFAULT_WINDOW;
  /** The header block that continues in the next frame. */
  #block: { stream: number; endStream: boolean; parts: Buffer[]; size: number } | undefined;
  #closing = false;
  #dead = false;

  constructor(socket: Duplex, options: ConnectionOptions) {
    this.#socket = socket;
    this.#writer = new FrameWriter(socket);
    this.#options = options;
    const ended = Promise.withResolvers<void>();
    this.ended = ended.promise;
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    socket.on('end', () => this.#gone());
    socket.on('error', (error) => {
      options.onError?.(error);
      this.#gone();
    });
    socket.once('finish', ended.resolve);
    socket.once('close', () => {
      this.#gone();
      ended.resolve();
    });
    this.#writer.settings([
      [SETTING.maxStreams, MAX_STREAMS],
      [SETTING.initialWindow, WINDOW],
      [SETTING.maxHeaderList, MAX_HEADER_LIST],
    ]);
    this.#writer.windowUpdate(0, WINDOW - DEFAULT_WINDOW);
  }

  /** Accepts no more requests, and ends the connection after the running requests are answered. */
  close(): void {
    if (this.#closing || this.#dead) return;
    this.#closing = true;
    this.#writer.goAway(this.#lastStream, CODE.none);
    this.#endIfDone();
  }

  respond(stream: Stream, answer: Answer & { readonly last?: boolean }): void {
    const { state } = stream;
    if (this.#dead || state.ended || this.#streams.get(stream.id) !== stream) return;
    const { headers, trailers, last } = answer;
    const body = answer.body?.length ? answer.body : undefined;
    if (headers) this.#writer.headers(stream.id, headers, last === true && !body && !trailers);
    if (!last) return;
    if (!body && !trailers) {
      // An empty frame ends an answer that has begun.
      if (!headers) this.#writer.frame(TYPE.data, END_STREAM, stream.id, Buffer.alloc(0));
      this.#answered(stream);
      return;
    }
    state.waiting = { ...(body && { body }), ...(trailers && { trailers }) };
    this.#send(stream);
  }

  /** Sends the part of an answer that the windows allow. */
  #send(stream: Stream): void {
    const { state } = stream;
    const { waiting } = state;
    if (!waiting) return;
    const { body = Buffer.alloc(0), trailers } = waiting;
    while (state.sent < body.length) {
      const size = Math.min(body.length - state.sent, this.#writer.maxFrame, state.sendWindow, this.#sendWindow);
      if (size <= 0) return;
      const part = body.subarray(state.sent, state.sent + size);
      state.sent += size;
      state.sendWindow -= size;
      this.#sendWindow -= size;
      this.#writer.frame(TYPE.data, trailers || state.sent < body.length ? 0 : END_STREAM, stream.id, part);
    }
    if (trailers) this.#writer.headers(stream.id, trailers, true);
    this.#answered(stream);
  }

  #answered(stream: Stream): void {
    stream.state.ended = true;
    delete stream.state.waiting;
    if (stream.state.complete) this.#forget(stream);
    else this.#endIfDone();
  }

  #forget(stream: Stream): void {
    this.#streams.delete(stream.id);
    this.#endIfDone();
  }

  #endIfDone(): void {
    if (!this.#closing || this.#dead) return;
    // A client need not complete the body of an answered request, so only answers count.
    if ([...this.#streams.values()].some(({ state }) => !state.ended)) return;
    this.#writer.flush();
    this.#socket.end();
  }

  /** Cancels the running calls of a client whose connection has ended. */
  #gone(): void {
    if (this.#dead) return;
    this.#dead = true;
    const streams = [...this.#streams.values()];
    this.#streams.clear();
    for (const stream of streams) if (!stream.state.ended) stream.onCancel();
    this.#socket.end();
  }

  #read(chunk: Buffer): void {
    if (this.#dead) return;
    let bytes = this.#unread.length === 0 ? chunk : Buffer.concat([this.#unread, chunk]);
    try {
      if (!this.#greeted) {
        const begin = Math.min(bytes.length, PREFACE.length);
        if (!bytes.subarray(0, begin).equals(PREFACE.subarray(0, begin))) {
          throw new ConnectionFailure(CODE.protocol, 'this is not HTTP/2');
        }
        if (begin === PREFACE.length) {
          this.#greeted = true;
          bytes = bytes.subarray(begin);
        }
      }
      while (this.#greeted && bytes.length >= FRAME_HEAD && !this.#dead) {
        const length = bytes.readUIntBE(0, 3);
        if (length > MAX_FRAME) throw new ConnectionFailure(CODE.frameSize, `a frame of ${length} bytes`);
        if (bytes.length < FRAME_HEAD + length) break;
        const stream = bytes.readUInt32BE(5) & 0x7fffffff;
        this.#take(bytes[3] ?? 0, bytes[4] ?? 0, stream, bytes.subarray(FRAME_HEAD, FRAME_HEAD + length));
        bytes = bytes.subarray(FRAME_HEAD + length);
      }
      this.#unread = bytes;
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    const failure =
      error instanceof ConnectionFailure
        ? error
        : error instanceof HpackError
          ? new ConnectionFailure(CODE.compression, error.message)
          : undefined;
    this.#options.onError?.(error instanceof Error ? error : new Error(String(error)));
    if (!this.#dead) {
      this.#writer.goAway(this.#lastStream, failure?.code ?? CODE.protocol);
      this.#writer.flush();
    }
    this.#gone();
    // The client may send for ever, so the server closes the connection.
    if (this.#socket.writableFinished) this.#socket.destroy();
    else this.#socket.once('finish', () => this.#socket.destroy());
  }

  #take(type: number, flags: number, id: number, payload: Buffer): void {
    if (this.#block && (type !== TYPE.continuation || id !== this.#block.stream)) {
      throw new ConnectionFailure(CODE.protocol, 'a header block is interrupted');
    }
    switch (type) {
      case TYPE.data:
        this.#takeData(flags, id, payload);
        break;
      case TYPE.headers:
        this.#takeHeaders(flags, id, payload);
        break;
      case TYPE.continuation:
        if (!this.#block) throw new ConnectionFailure(CODE.protocol, 'a continuation of no header block');
        this.#takeBlock(flags, payload);
        break;
      case TYPE.reset:
        this.#takeReset(id, payload);
        break;
      case TYPE.settings:
        this.#takeSettings(flags, id, payload);
        break;
      case TYPE.ping:
        if (payload.length !== 8 || id !== 0) throw new ConnectionFailure(CODE.frameSize, 'PING of a wrong size');
        if (!(flags & ACK)) this.#writer.frame(TYPE.ping, ACK, 0, payload);
        break;
      case TYPE.windowUpdate:
        this.#takeWindow(id, payload);
        break;
      case TYPE.push:
        throw new ConnectionFailure(CODE.protocol, 'a client pushes');
      default:
      // The server ignores priorities, GOAWAY (the client then closes the connection), and unknown frames.
    }
  }

  #takeReset(id: number, payload: Buffer): void {
    if (payload.length !== 4) throw new ConnectionFailure(CODE.frameSize, 'RST_STREAM of a wrong size');
    const stream = this.#stream(id);
    if (!stream) return;
    if (!stream.state.ended) stream.onCancel();
    this.#forget(stream);
  }

  /** Returns the stream of a frame; undefined if the stream has ended. */
  #stream(id: number): Stream | undefined {
    if (id === 0 || id % 2 === 0 || id > this.#lastStream) {
      throw new ConnectionFailure(CODE.protocol, `there is no stream ${id}`);
    }
    return this.#streams.get(id);
  }

  #takeHeaders(flags: number, id: number, frame: Buffer): void {
    let payload = unpadded(flags, frame);
    if (flags & PRIORITY) {
      if (payload.length < 5) throw new ConnectionFailure(CODE.frameSize, 'HEADERS without room for its priority');
      payload = payload.subarray(5);
    }
    if (id === 0 || id % 2 === 0) throw new ConnectionFailure(CODE.protocol, `headers on stream ${id}`);
    this.#block = { stream: id, endStream: (flags & END_STREAM) !== 0, parts: [], size: 0 };
    this.#takeBlock(flags, payload);
  }

  #takeBlock(flags: number, payload: Buffer): void {
    const block = this.#block;
    if (!block) return;
    block.parts.push(payload);
    block.size += payload.length;
    // The number of parts has a limit as well, because a client could send empty parts without end.
    if (block.size > MAX_HEADER_LIST || block.parts.length > 64) {
      throw new ConnectionFailure(CODE.calm, 'a header block is too large');
    }
    if (!(flags & END_HEADERS)) return;
    this.#block = undefined;
    const headers = this.#decoder.decode(block.parts.length === 1 ? payload : Buffer.concat(block.parts));
    if (block.stream <= this.#lastStream) {
      // Trailers: the server ignores their content.
      const stream = this.#stream(block.stream);
      if (stream?.state.complete) throw new ConnectionFailure(CODE.streamClosed, 'headers after the end');
      if (stream && !block.endStream) throw new ConnectionFailure(CODE.protocol, 'headers within a body');
      if (stream) this.#complete(stream);
      return;
    }
    if (this.#closing || this.#streams.size >= MAX_STREAMS) {
      // The server ignores streams above the last stream of its GOAWAY.
      if (!this.#closing) this.#lastStream = block.stream;
      this.#writer.reset(block.stream, CODE.refused);
      return;
    }
    this.#lastStream = block.stream;
    const stream = new Stream(this, block.stream, headers, this.#initialWindow);
    this.#streams.set(stream.id, stream);
    this.#options.onRequest(stream);
    if (block.endStream) this.#complete(stream);
  }

  #takeData(flags: number, id: number, frame: Buffer): void {
    // Padding counts as well (section 6.9.1).
    this.#credit -= frame.length;
    if (this.#credit < 0) throw new ConnectionFailure(CODE.flowControl, 'more data than the window allows');
    if (this.#credit < WINDOW / 2) {
      this.#writer.windowUpdate(0, WINDOW - this.#credit);
      this.#credit = WINDOW;
    }
    const payload = unpadded(flags, frame);
    const stream = this.#stream(id);
    if (!stream) return;
    const { state } = stream;
    if (state.complete) throw new ConnectionFailure(CODE.streamClosed, 'data after the end');
    state.credit -= frame.length;
    if (state.credit < 0) throw new ConnectionFailure(CODE.flowControl, 'more data than the window allows');
    state.received += payload.length;
    if (state.received > this.#options.maxBody) state.chunks = [];
    else if (payload.length > 0) state.chunks.push(payload);
    if (flags & END_STREAM) this.#complete(stream);
    else if (state.credit < WINDOW / 2) {
      this.#writer.windowUpdate(id, WINDOW - state.credit);
      state.credit = WINDOW;
    }
  }

  #complete(stream: Stream): void {
    const { state } = stream;
    state.complete = true;
    const { chunks, received } = state;
    state.chunks = [];
    if (state.ended) this.#forget(stream);
    else stream.onBody(received > this.#options.maxBody ? undefined : Buffer.concat(chunks));
  }

  #takeSettings(flags: number, id: number, payload: Buffer): void {
    if (id !== 0) throw new ConnectionFailure(CODE.protocol, 'SETTINGS of a stream');
    if (flags & ACK) return;
    if (payload.length % 6 !== 0) throw new ConnectionFailure(CODE.frameSize, 'SETTINGS of a wrong size');
    for (let at = 0; at < payload.length; at += 6) {
      const value = payload.readUInt32BE(at + 2);
      const setting = payload.readUInt16BE(at);
      if (setting === SETTING.maxFrame) {
        if (value < MAX_FRAME || value > 2 ** 24 - 1) throw new ConnectionFailure(CODE.protocol, 'a wrong frame size');
        this.#writer.maxFrame = value;
      } else if (setting === SETTING.initialWindow) {
        if (value > MAX_WINDOW) throw new ConnectionFailure(CODE.flowControl, 'a window that is too large');
        for (const { state } of this.#streams.values()) state.sendWindow += value - this.#initialWindow;
        this.#initialWindow = value;
      }
    }
    this.#writer.frame(TYPE.settings, ACK, 0, Buffer.alloc(0));
    for (const stream of [...this.#streams.values()]) this.#send(stream);
  }

  #takeWindow(id: number, payload: Buffer): void {
    if (payload.length !== 4) throw new ConnectionFailure(CODE.frameSize, 'WINDOW_UPDATE of a wrong size');
    const increment = payload.readUInt32BE(0) & 0x7fffffff;
    if (increment === 0) throw new ConnectionFailure(CODE.protocol, 'WINDOW_UPDATE of nothing');
    if (id !== 0) {
      const stream = this.#stream(id);
      if (!stream) return;
      stream.state.sendWindow += increment;
      if (stream.state.sendWindow > MAX_WINDOW) throw new ConnectionFailure(CODE.flowControl, 'a window too large');
      this.#send(stream);
      return;
    }
    this.#sendWindow += increment;
    if (this.#sendWindow > MAX_WINDOW) throw new ConnectionFailure(CODE.flowControl, 'a window too large');
    for (const stream of [...this.#streams.values()]) this.#send(stream);
  }
}
