/**
 * Client of the QEMU Machine Protocol (docs/interop/qmp-spec.txt of QEMU): lines of JSON, answers by id, events between
 * them. A QEMU serves one client a monitor; when ours has died the kernel has closed its socket and the next may come.
 */
import { EventEmitter, once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

export interface QmpEvent {
  readonly event: string;
  readonly data?: Record<string, unknown>;
}

interface Answer {
  readonly QMP?: object;
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
  readonly event?: string;
  readonly data?: Record<string, unknown>;
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

interface Events {
  event: [QmpEvent];
  close: [];
  greeting: [];
}

export class QmpError extends Error {}

export class Qmp extends EventEmitter<Events> {
  readonly #socket: Socket;
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 1;
  #closed = false;

  private constructor(socket: Socket) {
    super();
    this.#socket = socket;
    const lines = createInterface({ input: socket });
    lines.on('line', (line) => this.#receive(line));
    // readline repeats the socket's errors.
    lines.on('error', () => undefined);
    socket.on('close', () => this.#end());
  }

  /** Rejects when nobody listens, or with QmpError when QEMU does not greet within the time. */
  static async connect(path: string, milliseconds: number): Promise<Qmp> {
    const socket = connect(path);
    // Its errors reject what waits for it here, or end in `close`.
    socket.on('error', () => undefined);
    const signal = AbortSignal.timeout(milliseconds);
    try {
      await once(socket, 'connect', { signal });
      const client = new Qmp(socket);
      await once(client, 'greeting', { signal });
      await client.execute('qmp_capabilities', {}, milliseconds);
      // A connection that waits for events does not keep the process running.
      socket.unref();
      return client;
    } catch (error) {
      socket.destroy();
      throw signal.aborted ? new QmpError(`QEMU does not answer on ${path}`, { cause: error }) : error;
    }
  }

  get closed(): boolean {
    return this.#closed;
  }

  #receive(line: string): void {
    let answer: Answer;
    try {
      answer = JSON.parse(line) as Answer;
    } catch {
      this.#socket.destroy();
      return;
    }
    if (answer.QMP) this.emit('greeting');
    else if (answer.event !== undefined) this.emit('event', { event: answer.event, data: answer.data });
    else if (answer.id !== undefined) {
      const waiting = this.#waiting.get(answer.id);
      this.#waiting.delete(answer.id);
      if (answer.error) waiting?.reject(new QmpError(`${answer.error.class}: ${answer.error.desc}`));
      else waiting?.resolve(answer.return);
    }
  }

  #end(): void {
    this.#closed = true;
    for (const { reject } of this.#waiting.values()) reject(new QmpError('QEMU closed the connection'));
    this.#waiting.clear();
    this.emit('close');
  }

  execute(command: string, args: object = {}, milliseconds = 10_000): Promise<unknown> {
    if (this.#closed) return Promise.reject(new QmpError('the connection is closed'));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new QmpError(`QEMU did not answer ${command} within ${milliseconds} ms`));
      }, milliseconds);
      const settle =
        <T>(then: (value: T) => void) =>
        (value: T) => {
          clearTimeout(timer);
          then(value);
        };
      this.#waiting.set(id, { resolve: settle(resolve), reject: settle(reject) });
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }

  /** `running`, `prelaunch`, `paused`, `io-error`, … (RunState of QEMU's QAPI). */
  async status(): Promise<string> {
    const answer = (await this.execute('query-status')) as { status: string };
    return answer.status;
  }

  close(): void {
    this.#socket.destroy();
  }
}
