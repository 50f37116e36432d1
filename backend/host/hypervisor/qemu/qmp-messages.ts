/**
 * Parses messages of the QEMU Machine Protocol (docs/interop/qmp-spec.txt of QEMU). The messages are hostile input: a
 * guest that has taken over its QEMU chooses every byte of them. Pure.
 */

/** The maximum length of a line in bytes. QEMU's longest answers to the commands in use have about 10 KiB. */
export const maxLineBytes = 1024 ** 2;
/** The maximum number of characters of QEMU's texts in messages and logs. */
const maxTextLength = 500;

/** QEMU does not answer, has closed the connection, refuses a command, or violates the protocol. */
export class QmpError extends Error {}

/** An object in a message, with unchecked values. */
export type QmpObject = Readonly<Record<string, unknown>>;

/** A message of QEMU: the greeting, an event, or the result or failure of the command with this id. */
export type QmpMessage =
  | { readonly kind: 'greeting' }
  | { readonly kind: 'event'; readonly event: string; readonly data: QmpObject }
  | { readonly kind: 'result'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'failure'; readonly id: number; readonly reason: string };

/** Tells whether the value is an object that is no array. */
export const isObject = (value: unknown): value is QmpObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Returns the objects of an answer that is a list, without other values. @throws QmpError for another answer */
export function objectsOf(answer: unknown): readonly QmpObject[] {
  if (!Array.isArray(answer)) throw new QmpError('the answer of QEMU is no list');
  return answer.filter(isObject);
}

/** Returns a text of QEMU as one short line without control characters. Any other value gives a question mark. */
export const readable = (value: unknown): string =>
  typeof value === 'string' ? value.slice(0, maxTextLength).replaceAll(/\p{C}+/gu, ' ') : '?';

/** Returns the value of an object's own key. Keys of its prototype do not count. */
const ownValue = (object: QmpObject, key: string): unknown => (Object.hasOwn(object, key) ? object[key] : undefined);

/**
 * Parses a line.
 * @throws QmpError if the line is no message of QMP
 */
export function parseMessage(line: Uint8Array): QmpMessage {
  let message: unknown;
  try {
    message = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(line));
  } catch {
    throw new QmpError('QEMU sent a line that is not JSON');
  }
  if (!isObject(message)) throw new QmpError('QEMU sent a message that is not an object');
  if (isObject(ownValue(message, 'QMP'))) return { kind: 'greeting' };
  const event = ownValue(message, 'event');
  const data = ownValue(message, 'data') ?? {};
  if (typeof event === 'string' && isObject(data)) return { kind: 'event', event, data };
  const id = ownValue(message, 'id');
  const error = ownValue(message, 'error');
  if (typeof id === 'number' && Object.hasOwn(message, 'return')) return { kind: 'result', id, value: message.return };
  if (typeof id === 'number' && isObject(error))
    return { kind: 'failure', id, reason: `${readable(error.class)}: ${readable(error.desc)}` };
  throw new QmpError('QEMU sent a message that is neither greeting, event nor answer');
}

/** Cuts a stream into lines. It holds at most one incomplete line. */
export class LineBuffer {
  readonly #sender: string;
  #held = Buffer.alloc(4096);
  #length = 0;

  /** @param sender the sender of the lines, for messages */
  constructor(sender = 'QEMU') {
    this.#sender = sender;
  }

  /**
   * Yields the lines that the chunk completes. A yielded buffer is valid until the next line.
   * @throws QmpError if a line is longer than the limit
   */
  *add(chunk: Buffer): Generator<Buffer> {
    for (let start = 0; start < chunk.length; ) {
      const end = chunk.indexOf(0x0a, start);
      const part = chunk.subarray(start, end < 0 ? chunk.length : end);
      if (this.#length + part.length > maxLineBytes) throw new QmpError(`${this.#sender} sent a line that is too long`);
      this.#keep(part);
      if (end < 0) return;
      const line = this.#held.subarray(0, this.#length);
      this.#length = 0;
      yield line;
      start = end + 1;
    }
  }

  #keep(part: Buffer): void {
    if (this.#length + part.length > this.#held.length) {
      const larger = Buffer.alloc(Math.max(this.#length + part.length, this.#held.length * 2));
      this.#held.copy(larger, 0, 0, this.#length);
      this.#held = larger;
    }
    part.copy(this.#held, this.#length);
    this.#length += part.length;
  }
}

/**
 * Returns the run state from an answer to query-status, such as `running`, `prelaunch`, `paused` or `io-error`.
 * @throws QmpError if the answer has no run state
 */
export function runState(answer: unknown): string {
  const status = isObject(answer) ? answer.status : undefined;
  if (typeof status !== 'string') throw new QmpError('the answer of QEMU has no run state');
  return readable(status);
}

/**
 * Returns the size of a disk in bytes from an answer to query-named-block-nodes; undefined if no disk has the name.
 * @throws QmpError if the answer has another form
 */
export function virtualSizeOf(answer: unknown, name: string): number | undefined {
  if (!Array.isArray(answer)) throw new QmpError('the answer of QEMU is no list of disks');
  const node: unknown = answer.find((each: unknown) => isObject(each) && each['node-name'] === name);
  if (node === undefined) return undefined;
  const image = isObject(node) ? node.image : undefined;
  const size = isObject(image) ? image['virtual-size'] : undefined;
  if (!Number.isSafeInteger(size)) throw new QmpError('the answer of QEMU has no disk size');
  return size as number;
}
