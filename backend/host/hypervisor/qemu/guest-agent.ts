/**
 * A client of the QEMU guest agent (docs/interop/qemu-ga-ref of QEMU). The agent runs in the guest, so its owner chooses
 * every byte that it sends.
 *
 * A session connects, synchronizes, calls and disconnects. Answers to the calls of an earlier session may arrive late on the
 * same port. Each session therefore begins with `guest-sync-delimited` and a fresh id, and skips everything before the answer
 * with this id. A session has limits for its time, its bytes and the length of a line. Nothing is read between sessions.
 *
 * The port serves one client at a time, so the caller makes one call at a time for a VM.
 */
import { randomInt } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { disksWithoutSerial, volumeUse } from '../../../model/guest/volume-use.ts';
import { isObject, LineBuffer, QmpError, readable } from './qmp-messages.ts';

/** The guest agent does not answer, refuses a command, or violates the protocol. */
export class GuestAgentError extends Error {}
/** The guest agent answers that it does not carry out a command. */
export class GuestAgentRefusal extends GuestAgentError {}

/** The maximum number of bytes of one session. A guest with 100 file systems sends about 50 KiB. */
const maxSessionBytes = 4 * 1024 ** 2;
/** Each line counts as this many bytes more, because it costs time to parse. */
const lineCostBytes = 1024;
/** The byte before and after which the stream of the agent begins anew. No text contains it. */
const delimiter = 0xff;

/** The commands of a session. */
export interface GuestAgentSession {
  /**
   * Sends a command and returns its unchecked result.
   * @throws GuestAgentError
   */
  call(command: string, args?: object): Promise<unknown>;
}

class Session implements GuestAgentSession {
  readonly #socket: Socket;
  readonly #lines = new LineBuffer('the guest agent');
  #bytes = 0;
  #fault: GuestAgentError | undefined;
  /** The id of the synchronization; undefined after its answer. */
  #syncId: number | undefined;
  #waiting: PromiseWithResolvers<unknown> | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('error', ({ message }) => this.end(new GuestAgentError(`no connection: ${message}`)));
    socket.on('close', () => this.end(new GuestAgentError('the connection ended')));
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
  }

  #read(chunk: Buffer): void {
    this.#bytes += chunk.length;
    try {
      if (this.#bytes > maxSessionBytes) throw new GuestAgentError('the guest agent sends without end');
      for (const line of this.#lines.add(chunk)) {
        this.#bytes += lineCostBytes;
        if (this.#bytes > maxSessionBytes) throw new GuestAgentError('the guest agent sends without end');
        this.#take(line);
        if (this.#fault) return;
      }
    } catch (error) {
      if (error instanceof GuestAgentError) this.end(error);
      else if (error instanceof QmpError) this.end(new GuestAgentError(error.message));
      else throw error;
    }
  }

  #take(line: Buffer): void {
    const text = line.subarray(line.lastIndexOf(delimiter) + 1);
    let message: unknown;
    try {
      message = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text));
    } catch {
      // The rest of an answer to an earlier session.
      if (this.#syncId !== undefined) return;
      throw new GuestAgentError('the guest agent sent a line that is not JSON');
    }
    if (this.#syncId !== undefined) {
      if (!isObject(message) || message.return !== this.#syncId) return;
      this.#syncId = undefined;
    }
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting === undefined) throw new GuestAgentError('the guest agent sent an answer without a question');
    if (isObject(message) && Object.hasOwn(message, 'return')) {
      waiting.resolve(message.return);
      return;
    }
    const error = isObject(message) && isObject(message.error) ? message.error : undefined;
    waiting.reject(new GuestAgentRefusal(`the guest agent refused: ${readable(error?.desc)}`));
  }

  async synchronize(): Promise<void> {
    this.#syncId = randomInt(2 ** 47);
    this.#socket.write(Buffer.of(delimiter));
    await this.call('guest-sync-delimited', { id: this.#syncId });
  }

  call(command: string, args: object = {}): Promise<unknown> {
    if (this.#fault) return Promise.reject(this.#fault);
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting = waiting;
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    return waiting.promise;
  }

  end(fault: GuestAgentError): void {
    this.#fault ??= fault;
    this.#socket.destroy();
    this.#waiting?.reject(this.#fault);
    this.#waiting = undefined;
  }
}

/**
 * Connects to the agent at the path of its socket, and ends the session after `work` or after the time limit.
 * @throws GuestAgentError if the agent does not answer in time, refuses a command, or violates the protocol
 */
export async function withGuestAgent<T>(
  path: string,
  timeoutMs: number,
  work: (session: GuestAgentSession) => Promise<T>,
): Promise<T> {
  const session = new Session(connect(path));
  const late = () => session.end(new GuestAgentError(`the guest agent did not answer within ${timeoutMs} ms`));
  const timer = setTimeout(late, timeoutMs);
  try {
    await session.synchronize();
    return await work(session);
  } finally {
    clearTimeout(timer);
    session.end(new GuestAgentError('the session is over'));
  }
}

/** The maximum size of a file of the guest that is read, in bytes. */
const maxFileBytes = 64 * 1024;

/**
 * Reads a short file in the guest, such as /proc/swaps. The text is unchecked.
 * @throws GuestAgentError
 */
export async function readGuestFile(session: GuestAgentSession, path: string): Promise<string> {
  const handle = await session.call('guest-file-open', { path, mode: 'r' });
  if (!Number.isSafeInteger(handle)) throw new GuestAgentError('the guest agent opened no file');
  const answer = await session.call('guest-file-read', { handle, count: maxFileBytes });
  const text = isObject(answer) ? answer['buf-b64'] : undefined;
  await session.call('guest-file-close', { handle });
  if (typeof text !== 'string') throw new GuestAgentError('the guest agent read no file');
  const content = Buffer.from(text, 'base64');
  if (content.length >= maxFileBytes) throw new GuestAgentError('a file of the guest is too long');
  return content.toString('utf8');
}

/** The maximum time in milliseconds for the questions about volumes. */
const questionTimeoutMs = 10_000;

/**
 * Asks the guest which of the volumes it uses. Returns a sentence for each volume that it uses, or may use.
 * @param path the path of the agent's socket
 */
export async function volumeUses<V extends string>(
  path: string,
  volumes: readonly V[],
  timeoutMs = questionTimeoutMs,
): Promise<Map<V, string | undefined>> {
  try {
    return await withGuestAgent(path, timeoutMs, async (session) => {
      const disks = await session.call('guest-get-disks');
      const serials = new Map<string, string>();
      for (const device of disksWithoutSerial(disks)) {
        // The name is one of a virtio disk, so the path stays in /sys/block.
        const serial = await readGuestFile(session, device.replace(/^\/dev\/(.*)$/, '/sys/block/$1/serial'));
        serials.set(device, serial.trim());
      }
      const swaps = await readGuestFile(session, '/proc/swaps');
      const mounts = await readGuestFile(session, '/proc/self/mounts');
      const fileSystems = await session.call('guest-get-fsinfo');
      return new Map(volumes.map((id) => [id, volumeUse(id, { disks, fileSystems, swaps, mounts, serials })]));
    });
  } catch (error) {
    if (!(error instanceof GuestAgentError)) throw error;
    const unclear = `The guest may use it, because ${error.message}.`;
    return new Map(volumes.map((id) => [id, unclear]));
  }
}

/** The commands that the questions about volumes need. Some distributions switch commands off. */
const neededCommands = [
  'guest-get-disks',
  'guest-get-fsinfo',
  'guest-file-open',
  'guest-file-read',
  'guest-file-close',
];

/**
 * Tells whether a guest agent answers that can tell which disks the guest uses.
 * @throws GuestAgentError if it does not answer in time, or violates the protocol
 */
export function tellsUseOfDisks(path: string, timeoutMs: number): Promise<boolean> {
  return withGuestAgent(path, timeoutMs, async (session) => {
    const info = await session.call('guest-info');
    const commands = isObject(info) && Array.isArray(info.supported_commands) ? info.supported_commands : [];
    const enabled = new Set(commands.filter(isObject).flatMap((each) => (each.enabled === true ? [each.name] : [])));
    return neededCommands.every((name) => enabled.has(name));
  });
}
