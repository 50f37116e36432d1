/**
 * One request at a time on each connection. A client may send further requests before the response to the first (RFC
 * 9112, 9.3.2). They wait here, so that responses do not accumulate behind one that the client does not read. A
 * malformed request is refused after the responses to the requests before it, so each response belongs to its request.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { lingerMs } from './limits.ts';

/** One request and the start of its work. */
export interface Turn {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly start: () => void;
}

interface Line {
  active: Turn | undefined;
  readonly queue: Turn[];
  /** The response to a malformed request. It is sent when the queue is empty, and the connection then ends. */
  refusal: string | undefined;
}

/** The maximum numbers of waiting requests: of one connection, and in total. */
export interface TurnLimits {
  readonly queuedPerConnection: number;
  readonly queued: number;
}

/** Sends the last bytes of a connection, and gives the client time to read them. */
function finish(socket: Duplex, bytes: string): void {
  const timer = setTimeout(() => socket.destroy(), lingerMs).unref();
  socket.once('end', () => socket.destroy());
  socket.once('close', () => clearTimeout(timer));
  socket.end(bytes);
  // The server drops all further bytes. The kernel would reset the connection because of unread bytes, and the client
  // would lose the refusal.
  socket.resume();
}

/** The queues of requests, one for each connection. */
export class Turns {
  readonly #lines = new WeakMap<Duplex, Line>();
  readonly #limits: TurnLimits;
  #queued = 0;

  constructor(limits: TurnLimits) {
    this.#limits = limits;
  }

  #lineOf(socket: Duplex): Line {
    const known = this.#lines.get(socket);
    if (known) return known;
    const line: Line = { active: undefined, queue: [], refusal: undefined };
    this.#lines.set(socket, line);
    socket.once('close', () => this.#drop(line));
    return line;
  }

  #drop(line: Line): void {
    this.#queued -= line.queue.length;
    line.queue.length = 0;
  }

  /** Starts the request when the requests before it on its connection are answered. */
  take(turn: Turn): void {
    const { socket } = turn.request;
    const line = this.#lineOf(socket);
    if (line.refusal !== undefined) return;
    if (!line.active) {
      this.#start(line, turn);
      return;
    }
    const { queuedPerConnection, queued } = this.#limits;
    if (line.queue.length >= queuedPerConnection || this.#queued >= queued) return void socket.destroy();
    line.queue.push(turn);
    this.#queued++;
    // The active request has arrived completely, so the connection has nothing to read for now.
    socket.pause();
  }

  #start(line: Line, turn: Turn): void {
    line.active = turn;
    turn.response.once('close', () => this.#next(line, turn));
    turn.start();
  }

  #next(line: Line, { request: { socket } }: Turn): void {
    line.active = undefined;
    if (socket.destroyed || socket.writableEnded) {
      this.#drop(line);
      return;
    }
    const next = line.queue.shift();
    if (next) this.#queued--;
    if (line.queue.length === 0) socket.resume();
    if (next) this.#start(line, next);
    else if (line.refusal !== undefined) finish(socket, line.refusal);
  }

  /** Ends the connection with `bytes`, a whole response, after the responses to the requests before. */
  refuse(socket: Duplex, bytes: string): void {
    const line = this.#lineOf(socket);
    if (line.refusal !== undefined) return;
    line.refusal = bytes;
    const { active, queue } = line;
    if (active && !active.request.complete) {
      // The active request itself is malformed, so no other request waits behind it.
      if (active.response.headersSent) socket.destroy();
      else finish(socket, bytes);
      return;
    }
    if (queue.at(-1)?.request.complete === false) {
      queue.pop();
      this.#queued--;
    }
    if (!active) finish(socket, bytes);
  }
}
