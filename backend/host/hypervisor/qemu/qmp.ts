/**
 * A client of the QEMU Machine Protocol. QEMU serves one client at a time on a monitor. The kernel closes the socket of
 * an agent that has ended, and the next agent may then connect.
 *
 * The client assumes that the guest has taken over QEMU. Every violation of the protocol ends the connection: a message
 * of another form, an endless line, too many messages, or a missing answer. The caller then gets the same QmpError as
 * from a hanging QEMU.
 */
import { EventEmitter } from 'node:events';
import { connect, type Socket } from 'node:net';
import { LineBuffer, parseMessage, QmpError, type QmpMessage, type QmpObject, runState } from './qmp-messages.ts';

export { QmpError, readable } from './qmp-messages.ts';

/** An event of QEMU, with unchecked data. */
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

/**
 * QEMU may send `maxAllowanceBytes` at once, and `allowanceBytesPerSecond` each second afterwards. Each message
 * counts `messageCostBytes` more than its length.
 */
const maxAllowanceBytes = 4 * 1024 ** 2;
const allowanceBytesPerSecond = 256 * 1024;
const messageCostBytes = 1024;
/** The time in milliseconds for an answer of a running guest's QEMU. The other work for its VM waits meanwhile. */
const defaultAnswerMs = 10_000;

/** A connection to the monitor of one QEMU. Emits `event` for each event, and `close` once. */
export class Qmp extends EventEmitter<Events> {
  readonly #socket: Socket;
  readonly #lines = new LineBuffer();
  readonly #waiting = new Map<number, Waiting>();
  readonly #greeting = Promise.withResolvers<void>();
  /** The time in milliseconds that QEMU has for each answer. */
  readonly answerMs: number;
  #nextId = 1;
  #greeted = false;
  #allowanceBytes = maxAllowanceBytes;
  #refilledAtMs = performance.now();
  /** The reason for the end of the connection; undefined while the connection is open. */
  #fault: QmpError | undefined;

  private constructor(socket: Socket, answerMs: number) {
    super();
    this.#socket = socket;
    this.answerMs = answerMs;
    this.#greeting.promise.catch(() => undefined);
    socket.on('error', (cause) => this.#end(new QmpError(`no connection to QEMU: ${cause.message}`, { cause })));
    socket.on('close', () => this.#end(new QmpError('QEMU closed the connection')));
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
  }

  /**
   * Connects to the socket of a monitor.
   * @param timeoutMs the time for the connection
   * @param answerMs the time for each later answer
   * @throws QmpError if no process listens, or if QEMU does not greet in time
   */
  static async connect(path: string, timeoutMs: number, answerMs = defaultAnswerMs): Promise<Qmp> {
    const deadline = performance.now() + timeoutMs;
    const client = new Qmp(connect(path), answerMs);
    const late = () => client.#end(new QmpError(`QEMU does not answer on ${path}`));
    const timer = setTimeout(late, timeoutMs);
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

  /** True after the end of the connection. */
  get closed(): boolean {
    return this.#fault !== undefined;
  }

  #read(chunk: Buffer): void {
    try {
      const now = performance.now();
      const refill = ((now - this.#refilledAtMs) / 1000) * allowanceBytesPerSecond;
      this.#refilledAtMs = now;
      this.#allowanceBytes = Math.min(maxAllowanceBytes, this.#allowanceBytes + refill) - chunk.length;
      for (const line of this.#lines.add(chunk)) {
        this.#allowanceBytes -= messageCostBytes;
        if (this.#allowanceBytes < 0) throw new QmpError('QEMU sends without end');
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

  /**
   * Sends a command and returns its result. A command without an answer in time ends the connection.
   * @throws QmpError if QEMU refuses the command, or if the connection ends
   */
  execute(command: string, args: object = {}, timeoutMs = this.answerMs): Promise<unknown> {
    if (this.#fault) return Promise.reject(this.#fault);
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, { resolve, reject });
    const late = () => this.#end(new QmpError(`QEMU did not answer ${command} within ${Math.round(timeoutMs)} ms`));
    const timer = setTimeout(late, timeoutMs);
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    return promise.finally(() => {
      clearTimeout(timer);
      this.#waiting.delete(id);
    });
  }

  /**
   * Returns the run state of the guest (RunState of QEMU's QAPI), such as `running` or `io-error`.
   * @throws QmpError if QEMU does not answer in time
   */
  async status(timeoutMs?: number): Promise<string> {
    return runState(await this.execute('query-status', {}, timeoutMs));
  }

  /** Ends the connection. Open commands fail. */
  close(): void {
    this.#end(new QmpError('the connection is closed'));
  }
}
