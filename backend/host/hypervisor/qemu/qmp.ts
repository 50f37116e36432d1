/**
 * Client of the QEMU Machine Protocol. A QEMU serves one client a monitor; when ours has died the kernel has closed its
 * socket and the next may come.
 *
 * A QEMU that its guest has taken over is at the other end as far as this file is concerned. So whatever does not keep
 * to the protocol ends the connection: a message of another form, a line without end, more messages than an honest
 * QEMU ever sends, a command without its answer. Callers then see a QmpError, as from a QEMU that hangs.
 */
import { EventEmitter } from 'node:events';
import { connect, type Socket } from 'node:net';
import { LineBuffer, parseMessage, QmpError, type QmpMessage, type QmpObject, runState } from './qmp-messages.ts';

export { QmpError } from './qmp-messages.ts';

export interface QmpEvent {
  readonly event: string;
  readonly data: QmpObject;
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

interface Events {
  event: [QmpEvent];
  close: [];
}

/** Bytes that may come at once, and each second from then on; each message counts as `messageCost` more than its length. */
const allowanceLimit = 4 * 1024 ** 2;
const allowancePerSecond = 256 * 1024;
const messageCost = 1024;

export class Qmp extends EventEmitter<Events> {
  readonly #socket: Socket;
  readonly #lines = new LineBuffer();
  readonly #waiting = new Map<number, Waiting>();
  readonly #greeting = Promise.withResolvers<void>();
  #nextId = 1;
  #greeted = false;
  #allowance = allowanceLimit;
  #filledAt = performance.now();
  /** Why the connection is over. */
  #fault: QmpError | undefined;

  private constructor(socket: Socket) {
    super();
    this.#socket = socket;
    this.#greeting.promise.catch(() => undefined);
    socket.on('error', (cause) => this.#end(new QmpError(`no connection to QEMU: ${cause.message}`, { cause })));
    socket.on('close', () => this.#end(new QmpError('QEMU closed the connection')));
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
  }

  /** Rejects with QmpError when nobody listens, or QEMU does not greet within the time. */
  static async connect(path: string, milliseconds: number): Promise<Qmp> {
    const deadline = performance.now() + milliseconds;
    const client = new Qmp(connect(path));
    const late = () => client.#end(new QmpError(`QEMU does not answer on ${path}`));
    const timer = setTimeout(late, milliseconds);
    try {
      await client.#greeting.promise;
    } finally {
      clearTimeout(timer);
    }
    await client.execute('qmp_capabilities', {}, Math.max(1, deadline - performance.now()));
    // A connection that waits for events does not keep the process running.
    client.#socket.unref();
    return client;
  }

  get closed(): boolean {
    return this.#fault !== undefined;
  }

  #read(chunk: Buffer): void {
    try {
      const now = performance.now();
      const refill = ((now - this.#filledAt) / 1000) * allowancePerSecond;
      this.#filledAt = now;
      this.#allowance = Math.min(allowanceLimit, this.#allowance + refill) - chunk.length;
      for (const line of this.#lines.add(chunk)) {
        this.#allowance -= messageCost;
        if (this.#allowance < 0) throw new QmpError('QEMU sends without end');
        this.#take(parseMessage(line));
        if (this.closed) return;
      }
    } catch (error) {
      if (!(error instanceof QmpError)) throw error;
      this.#end(error);
    }
  }

  #take(message: QmpMessage): void {
    switch (message.kind) {
      case 'greeting':
        if (this.#greeted) throw new QmpError('QEMU greeted twice');
        this.#greeted = true;
        this.#greeting.resolve();
        break;
      case 'event':
        this.emit('event', { event: message.event, data: message.data });
        break;
      case 'result':
        this.#waiting.get(message.id)?.resolve(message.value);
        break;
      case 'failure':
        this.#waiting.get(message.id)?.reject(new QmpError(message.reason));
        break;
    }
  }

  #end(fault: QmpError): void {
    if (this.#fault) return;
    this.#fault = fault;
    this.#socket.destroy();
    this.#greeting.reject(fault);
    for (const { reject } of this.#waiting.values()) reject(fault);
    this.emit('close');
  }

  /** Rejects with QmpError when QEMU refuses the command. One that it does not answer in time ends the connection. */
  execute(command: string, args: object = {}, milliseconds = 10_000): Promise<unknown> {
    if (this.#fault) return Promise.reject(this.#fault);
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, { resolve, reject });
    const late = () => this.#end(new QmpError(`QEMU did not answer ${command} within ${Math.round(milliseconds)} ms`));
    const timer = setTimeout(late, milliseconds);
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    return promise.finally(() => {
      clearTimeout(timer);
      this.#waiting.delete(id);
    });
  }

  /** `running`, `prelaunch`, `paused`, `io-error`, … (RunState of QEMU's QAPI). */
  async status(milliseconds?: number): Promise<string> {
    return runState(await this.execute('query-status', {}, milliseconds));
  }

  close(): void {
    this.#end(new QmpError('the connection is closed'));
  }
}
