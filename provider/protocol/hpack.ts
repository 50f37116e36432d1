/** The encoding of header fields in HTTP/2: HPACK, RFC 7541. */
import { decodeHuffman } from './huffman.ts';

export class HpackError extends Error {
  override readonly name = 'HpackError';
}

type Field = readonly [name: string, value: string];

/** The static table: RFC 7541, appendix A, from index 1. */
const STATIC: readonly Field[] = [
  [':authority', ''],
  [':method', 'GET'],
  [':method', 'POST'],
  [':path', '/'],
  [':path', '/index.html'],
  [':scheme', 'http'],
  [':scheme', 'https'],
  ...['200', '204', '206', '304', '400', '404', '500'].map((status): Field => [':status', status]),
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
  ...(
    'accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control ' +
    'content-disposition content-encoding content-language content-length content-location content-range ' +
    'content-type cookie date etag expect expires from host if-match if-modified-since if-none-match if-range ' +
    'if-unmodified-since last-modified link location max-forwards proxy-authenticate proxy-authorization range ' +
    'referer refresh retry-after server set-cookie strict-transport-security transfer-encoding user-agent vary via ' +
    'www-authenticate'
  )
    .split(' ')
    .map((name): Field => [name, '']),
];

/** The size of the dynamic table in bytes: the initial size, which this server never changes. */
const TABLE_SIZE = 4096;
/** The size of each entry besides its text, in bytes (section 4.1). */
const ENTRY_OVERHEAD = 32;
/** The maximum size of a list of fields in bytes, counted in the same way. */
export const MAX_HEADER_LIST = 64 * 1024;

/** Decodes the header blocks of one connection. Each block depends on the blocks before it. */
export class HpackDecoder {
  /** The dynamic table, the newest entry first. */
  #table: Field[] = [];
  #size = 0;
  #limit = TABLE_SIZE;
  #bytes: Uint8Array = new Uint8Array();
  #at = 0;

  /** Returns the fields by name. Of several fields with a name, the last one counts. @throws HpackError */
  decode(block: Uint8Array): Map<string, string> {
    this.#bytes = block;
    this.#at = 0;
    const fields = new Map<string, string>();
    let total = 0;
    while (this.#at < block.length) {
      const field = this.#field(fields.size === 0);
      if (!field) continue;
      const [name, value] = field;
      total += name.length + value.length + ENTRY_OVERHEAD;
      if (total > MAX_HEADER_LIST) throw new HpackError('the header list is too large');
      fields.set(name, value);
    }
    return fields;
  }

  #field(first: boolean): Field | undefined {
    const byte = this.#bytes[this.#at] ?? 0;
    if (byte & 0x80) return this.#indexed(this.#integer(7));
    if (byte & 0x40) {
      const field = this.#literal(6);
      this.#insert(field);
      return field;
    }
    if ((byte & 0x20) === 0) return this.#literal(4);
    if (!first) throw new HpackError('the size of the table changes among fields');
    this.#limit = this.#integer(5);
    if (this.#limit > TABLE_SIZE) throw new HpackError('the table is larger than was allowed');
    this.#evict();
    return undefined;
  }

  #literal(prefix: number): Field {
    const index = this.#integer(prefix);
    const name = index === 0 ? this.#text() : this.#indexed(index)[0];
    return [name, this.#text()];
  }

  #indexed(index: number): Field {
    const field = index <= STATIC.length ? STATIC[index - 1] : this.#table[index - STATIC.length - 1];
    if (!field) throw new HpackError(`there is no field ${index}`);
    return field;
  }

  #insert(field: Field): void {
    this.#table.unshift(field);
    this.#size += sizeOf(field);
    this.#evict();
  }

  #evict(): void {
    while (this.#size > this.#limit) {
      const oldest = this.#table.pop();
      if (!oldest) break;
      this.#size -= sizeOf(oldest);
    }
  }

  /** Reads an integer: section 5.1. */
  #integer(prefix: number): number {
    const most = (1 << prefix) - 1;
    let value = this.#byte() & most;
    if (value < most) return value;
    for (let shift = 0; ; shift += 7) {
      if (shift > 21) throw new HpackError('an integer is too large');
      const byte = this.#byte();
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  }

  /** Reads a string: section 5.2. */
  #text(): string {
    const huffman = ((this.#bytes[this.#at] ?? 0) & 0x80) !== 0;
    const length = this.#integer(7);
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new HpackError('the header block ends within a text');
    const bytes = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    if (!huffman) return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
    const text = decodeHuffman(bytes);
    if (text === undefined) throw new HpackError('a text is not in the Huffman code');
    return text;
  }

  #byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new HpackError('the header block ends within a field');
    return byte;
  }
}

const sizeOf = ([name, value]: Field): number => name.length + value.length + ENTRY_OVERHEAD;

/** Encodes fields with lower-case names as a header block that does not depend on other blocks. */
export function encodeHeaders(fields: Readonly<Record<string, string>>): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value] of Object.entries(fields)) parts.push(Buffer.from([0]), text(name), text(value));
  return Buffer.concat(parts);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1');
  const length: number[] = [];
  if (bytes.length < 0x7f) length.push(bytes.length);
  else {
    length.push(0x7f);
    let rest = bytes.length - 0x7f;
    for (; rest >= 0x80; rest >>= 7) length.push((rest & 0x7f) | 0x80);
    length.push(rest);
  }
  return Buffer.concat([Buffer.from(length), bytes]);
}
