/**
 * Messages of the QEMU Machine Protocol (docs/interop/qmp-spec.txt of QEMU), read as hostile input: a guest that has
 * taken over its QEMU chooses every byte of them. Pure.
 */

/** Bytes of one line. QEMU's longest answers to the commands that are used here have some 10 KiB. */
export const lineLimit = 1024 ** 2;
/** Characters of a text of QEMU that are kept, for messages and logs. */
const textLimit = 500;

/** The connection serves no longer: QEMU does not answer, has closed it, or does not keep to the protocol. */
export class QmpError extends Error {}

export type QmpObject = Readonly<Record<string, unknown>>;

export type QmpMessage =
  | { readonly kind: 'greeting' }
  | { readonly kind: 'event'; readonly event: string; readonly data: QmpObject }
  | { readonly kind: 'result'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'failure'; readonly id: number; readonly reason: string };

export const isObject = (value: unknown): value is QmpObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A text of QEMU for people: one line, of bounded length; anything else is a question mark. */
export const readable = (value: unknown): string =>
  typeof value === 'string' ? value.slice(0, textLimit).replaceAll(/\p{C}+/gu, ' ') : '?';

/** The value of an object's own key. */
const own = (object: QmpObject, key: string): unknown => (Object.hasOwn(object, key) ? object[key] : undefined);

/** Throws QmpError for a line that is no message of QMP. */
export function parseMessage(line: Uint8Array): QmpMessage {
  let message: unknown;
  try {
    message = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(line));
  } catch {
    throw new QmpError('QEMU sent a line that is not JSON');
  }
  if (!isObject(message)) throw new QmpError('QEMU sent a message that is not an object');
  if (isObject(own(message, 'QMP'))) return { kind: 'greeting' };
  const event = own(message, 'event');
  const data = own(message, 'data') ?? {};
  if (typeof event === 'string' && isObject(data)) return { kind: 'event', event, data };
  const id = own(message, 'id');
  const error = own(message, 'error');
  if (typeof id === 'number' && Object.hasOwn(message, 'return')) return { kind: 'result', id, value: message.return };
  if (typeof id === 'number' && isObject(error))
    return { kind: 'failure', id, reason: `${readable(error.class)}: ${readable(error.desc)}` };
  throw new QmpError('QEMU sent a message that is neither greeting, event nor answer');
}

/** Cuts a stream into lines. Holds at most one line that has not ended. */
export class LineBuffer {
  #held = Buffer.alloc(4096);
  #length = 0;

  /** Throws QmpError when a line is longer than the limit, after having given those before it. */
  *add(chunk: Buffer): Generator<Buffer> {
    for (let start = 0; start < chunk.length; ) {
      const end = chunk.indexOf(0x0a, start);
      const part = chunk.subarray(start, end < 0 ? chunk.length : end);
      if (this.#length + part.length > lineLimit) throw new QmpError('QEMU sent a line without end');
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

/** The run state of an answer to query-status: `running`, `prelaunch`, `paused`, `io-error`, … */
export function runState(answer: unknown): string {
  const status = isObject(answer) ? answer.status : undefined;
  if (typeof status !== 'string') throw new QmpError('QEMU did not say in which state it is');
  return readable(status);
}

/** Bytes of the disk in an answer to query-named-block-nodes, or undefined if it has none of the name. */
export function virtualSizeOf(answer: unknown, name: string): number | undefined {
  if (!Array.isArray(answer)) throw new QmpError('QEMU did not say which disks it has');
  const node: unknown = answer.find((each: unknown) => isObject(each) && each['node-name'] === name);
  if (node === undefined) return undefined;
  const image = isObject(node) ? node.image : undefined;
  const size = isObject(image) ? image['virtual-size'] : undefined;
  if (!Number.isSafeInteger(size)) throw new QmpError('QEMU did not say how large its disk is');
  return size as number;
}
