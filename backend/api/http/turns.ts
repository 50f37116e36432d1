/**
 * One request at a time on each connection. HTTP lets a client send further requests before the first is answered
 * (RFC 9112, 9.3.2). They wait here, so that their answers do not pile up behind one that is not read. A request that is
 * not well-formed is refused when those before it have been answered: no refusal takes the place of an answer.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { lingerMs } from './limits.ts';

export interface Turn {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly start: () => void;
}

interface Line {
  active: Turn | undefined;
  readonly queue: Turn[];
  /** Sent when the line is empty, with which the connection ends. */
  refusal: string | undefined;
}

export interface TurnLimits {
  readonly queuedPerConnection: number;
  readonly queued: number;
}

/** Sends the last bytes of a connection, and gives the client a moment to read them. */
function finish(socket: Duplex, bytes: string): void {
  const timer = setTimeout(() => socket.destroy(), lingerMs).unref();
  socket.once('end', () => socket.destroy());
  socket.once('close', () => clearTimeout(timer));
  socket.end(bytes);
  // The server drops everything else from the connection: unread bytes would make the kernel reset the connection, and the refusal be lost.
  socket.resume();
}

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

  /** Starts the request when its turn has come. */
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
    // The request under way has arrived whole, or this one could not have begun. So nothing is needed from here.
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

  /** Ends the connection with `bytes`, a whole response, after the answers to the requests before. */
  refuse(socket: Duplex, bytes: string): void {
    const line = this.#lineOf(socket);
    if (line.refusal !== undefined) return;
    line.refusal = bytes;
    const { active, queue } = line;
    if (active && !active.request.complete) {
      // The rest of this very request is at fault. Nobody else may be waiting behind it.
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
