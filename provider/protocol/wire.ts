/**
 * The part of Protocol Buffers (version 3, binary encoding) that the plugin protocol needs. A message type is a table of its
 * fields. Both the codec and the TypeScript types follow from this table.
 * https://protobuf.dev/programming-guides/encoding/
 */

interface ScalarTypes {
  string: string;
  bytes: Uint8Array;
  bool: boolean;
  /** int64, int32 and enums. The codec refuses values beyond 2^53, because no field of the protocol is that large. */
  int: number;
}
type Scalar = keyof ScalarTypes;

type Kind = Scalar | MessageType<Fields>;
/** `one`: an absent field has the default value; `optional`: it is undefined; `map`: the keys are strings. */
type Cardinality = 'one' | 'optional' | 'repeated' | 'map';

export interface Field<K extends Kind = Kind, C extends Cardinality = Cardinality> {
  readonly number: number;
  readonly kind: K;
  readonly cardinality: C;
}
export type Fields = { readonly [name: string]: Field };

export interface MessageType<F extends Fields> {
  readonly name: string;
  readonly fields: F;
}

type One<K> = K extends Scalar ? ScalarTypes[K] : K extends MessageType<infer F> ? Decoded<MessageType<F>> : never;
type OneIn<K> = K extends Scalar ? ScalarTypes[K] : K extends MessageType<infer F> ? Encodable<MessageType<F>> : never;

/** A decoded message. Absent scalars have their default, absent messages are undefined, absent lists and maps are empty. */
export type Decoded<M> =
  M extends MessageType<infer F>
    ? {
        [N in keyof F]: F[N] extends Field<infer K, infer C>
          ? C extends 'repeated'
            ? One<K>[]
            : C extends 'map'
              ? { [key: string]: One<K> }
              : C extends 'optional'
                ? One<K> | undefined
                : K extends Scalar
                  ? One<K>
                  : One<K> | undefined
          : never;
      }
    : never;

/** A message to encode. Fields may be absent. */
export type Encodable<M> =
  M extends MessageType<infer F>
    ? {
        readonly [N in keyof F]?:
          | (F[N] extends Field<infer K, infer C>
              ? C extends 'repeated'
                ? readonly OneIn<K>[]
                : C extends 'map'
                  ? { readonly [key: string]: OneIn<K> }
                  : OneIn<K>
              : never)
          | undefined;
      }
    : never;

export function message<F extends Fields>(name: string, fields: F): MessageType<F> {
  return { name, fields };
}
export function one<K extends Kind>(number: number, kind: K): Field<K, 'one'> {
  return { number, kind, cardinality: 'one' };
}
export function optional<K extends Kind>(number: number, kind: K): Field<K, 'optional'> {
  return { number, kind, cardinality: 'optional' };
}
export function repeated<K extends Kind>(number: number, kind: K): Field<K, 'repeated'> {
  return { number, kind, cardinality: 'repeated' };
}
export function map<K extends Kind>(number: number, kind: K): Field<K, 'map'> {
  return { number, kind, cardinality: 'map' };
}

/** An error in a message: its bytes are no message of the type, or a value does not fit its field. */
export class WireError extends Error {
  override readonly name = 'WireError';
}

const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;
/** The maximum depth of nested messages. Most messages have few levels; a schema has as many as its attributes. */
const MAX_DEPTH = 100;

// --- Encoding -------------------------------------------------------------------------------------------------------

class Writer {
  private bytes = Buffer.allocUnsafe(256);
  private length = 0;

  private reserve(more: number): void {
    if (this.length + more <= this.bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.bytes.length * 2, this.length + more));
    this.bytes.copy(larger, 0, 0, this.length);
    this.bytes = larger;
  }

  /** Writes a varint. A negative number takes ten bytes: two's complement of 64 bits. */
  varint(value: number): void {
    if (!Number.isSafeInteger(value)) throw new WireError(`${value} is not an integer that can be encoded exactly`);
    this.reserve(10);
    if (value < 0) {
      let rest = BigInt.asUintN(64, BigInt(value));
      while (rest > 0x7fn) {
        this.bytes[this.length++] = Number(rest & 0x7fn) | 0x80;
        rest >>= 7n;
      }
      this.bytes[this.length++] = Number(rest);
      return;
    }
    let rest = value;
    while (rest > 0x7f) {
      this.bytes[this.length++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.bytes[this.length++] = rest;
  }

  raw(data: Uint8Array): void {
    this.varint(data.length);
    this.reserve(data.length);
    this.bytes.set(data, this.length);
    this.length += data.length;
  }

  text(value: string): void {
    const size = Buffer.byteLength(value);
    this.varint(size);
    this.reserve(size);
    this.length += this.bytes.write(value, this.length);
  }

  finish(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }
}

function writeOne(writer: Writer, number: number, kind: Kind, value: unknown, where: string): void {
  switch (kind) {
    case 'string':
      if (typeof value !== 'string') throw new WireError(`${where} is not a string`);
      writer.varint(number * 8 + LENGTH_DELIMITED);
      writer.text(value);
      return;
    case 'bytes':
      if (!(value instanceof Uint8Array)) throw new WireError(`${where} is not a Uint8Array`);
      writer.varint(number * 8 + LENGTH_DELIMITED);
      writer.raw(value);
      return;
    case 'bool':
      if (typeof value !== 'boolean') throw new WireError(`${where} is not a boolean`);
      writer.varint(number * 8 + VARINT);
      writer.varint(value ? 1 : 0);
      return;
    case 'int':
      if (typeof value !== 'number') throw new WireError(`${where} is not a number`);
      writer.varint(number * 8 + VARINT);
      writer.varint(value);
      return;
    default:
      writer.varint(number * 8 + LENGTH_DELIMITED);
      writer.raw(encodeFields(kind, value, where));
  }
}

function isDefault(value: unknown): boolean {
  return value === '' || value === 0 || value === false || (value instanceof Uint8Array && value.length === 0);
}

function encodeFields(type: MessageType<Fields>, value: unknown, where: string): Uint8Array {
  if (value === null || typeof value !== 'object') throw new WireError(`${where} is not a message`);
  const writer = new Writer();
  for (const [name, field] of Object.entries(type.fields)) {
    const content: unknown = (value as Record<string, unknown>)[name];
    if (content === undefined) continue;
    const inside = `${where}.${name}`;
    if (field.cardinality === 'repeated') {
      if (!Array.isArray(content)) throw new WireError(`${inside} is not an array`);
      for (const element of content) writeOne(writer, field.number, field.kind, element, inside);
    } else if (field.cardinality === 'map') {
      if (content === null || typeof content !== 'object') throw new WireError(`${inside} is not an object`);
      const entry = message(`${name} entry`, { key: one(1, 'string'), value: one(2, field.kind) });
      for (const [key, element] of Object.entries(content)) {
        writeOne(writer, field.number, entry, { key, value: element }, inside);
      }
    } else if (field.cardinality === 'optional' || !isDefault(content)) {
      writeOne(writer, field.number, field.kind, content, inside);
    }
  }
  return writer.finish();
}

/** Encodes a message. @throws WireError if a value does not fit its field */
export function encode<F extends Fields>(type: MessageType<F>, value: Encodable<MessageType<F>>): Uint8Array {
  return encodeFields(type, value, type.name);
}

// --- Decoding -------------------------------------------------------------------------------------------------------

/** The decoder of strings. It keeps a byte order mark at the beginning, because it is part of the text. */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

class Reader {
  private position = 0;
  private readonly bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get done(): boolean {
    return this.position >= this.bytes.length;
  }

  private byte(): number {
    const value = this.bytes[this.position++];
    if (value === undefined) throw new WireError('the message ends in the middle of a field');
    return value;
  }

  varint(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.byte();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new WireError('an integer is longer than ten bytes');
  }

  int(): number {
    // Most varints have one byte.
    const first = this.bytes[this.position];
    if (first !== undefined && first < 0x80) {
      this.position++;
      return first;
    }
    const value = Number(BigInt.asIntN(64, this.varint()));
    if (!Number.isSafeInteger(value)) throw new WireError('an integer is beyond 2^53');
    return value;
  }

  raw(): Uint8Array {
    return this.take(this.int());
  }

  take(length: number): Uint8Array {
    if (length < 0 || length > this.bytes.length - this.position) {
      throw new WireError('a field is longer than its message');
    }
    this.position += length;
    return this.bytes.subarray(this.position - length, this.position);
  }

  skip(wireType: number): void {
    if (wireType === VARINT) this.varint();
    else if (wireType === FIXED64) this.take(8);
    else if (wireType === LENGTH_DELIMITED) this.raw();
    else if (wireType === FIXED32) this.take(4);
    else throw new WireError(`wire type ${wireType} does not exist in proto3`);
  }
}

function wireTypeOf(kind: Kind): number {
  return kind === 'bool' || kind === 'int' ? VARINT : LENGTH_DELIMITED;
}

function defaultOf(kind: Kind): unknown {
  if (kind === 'string') return '';
  if (kind === 'bytes') return new Uint8Array();
  if (kind === 'bool') return false;
  if (kind === 'int') return 0;
  return undefined;
}

function readOne(reader: Reader, kind: Kind, depth: number): unknown {
  switch (kind) {
    case 'string':
      try {
        return utf8.decode(reader.raw());
      } catch (error) {
        if (error instanceof WireError) throw error;
        throw new WireError('a string is not valid UTF-8');
      }
    case 'bytes':
      return reader.raw();
    case 'bool':
      return reader.varint() !== 0n;
    case 'int':
      return reader.int();
    default:
      return decodeFields(kind, reader.raw(), depth + 1);
  }
}

function fieldsByNumber(type: MessageType<Fields>): Map<number, [string, Field]> {
  const known = indexes.get(type);
  if (known) return known;
  const index = new Map(Object.entries(type.fields).map(([name, field]) => [field.number, [name, field]]));
  indexes.set(type, index as Map<number, [string, Field]>);
  return index as Map<number, [string, Field]>;
}
const indexes = new WeakMap<MessageType<Fields>, Map<number, [string, Field]>>();

function decodeFields(type: MessageType<Fields>, bytes: Uint8Array, depth: number): Record<string, unknown> {
  if (depth > MAX_DEPTH) throw new WireError('messages are nested too deeply');
  const result: Record<string, unknown> = {};
  const maps: [string, [string, unknown][]][] = [];
  const entries = new Map<string, [string, unknown][]>();
  for (const [name, field] of Object.entries(type.fields)) {
    if (field.cardinality === 'repeated') result[name] = [];
    else if (field.cardinality === 'map') {
      const list: [string, unknown][] = [];
      entries.set(name, list);
      maps.push([name, list]);
    } else result[name] = field.cardinality === 'optional' ? undefined : defaultOf(field.kind);
  }
  const index = fieldsByNumber(type);
  const reader = new Reader(bytes);
  while (!reader.done) {
    const tag = reader.int();
    const number = Math.floor(tag / 8);
    if (number < 1) throw new WireError('a field has the number 0');
    const wireType = tag % 8;
    const known = index.get(number);
    if (!known || wireType !== (known[1].cardinality === 'map' ? LENGTH_DELIMITED : wireTypeOf(known[1].kind))) {
      // The field belongs to a later version of the protocol.
      reader.skip(wireType);
      continue;
    }
    const [name, field] = known;
    if (field.cardinality === 'repeated') {
      (result[name] as unknown[]).push(readOne(reader, field.kind, depth));
    } else if (field.cardinality === 'map') {
      const entry = message('entry', { key: one(1, 'string'), value: one(2, field.kind) });
      const { key, value } = decodeFields(entry, reader.raw(), depth + 1) as { key: string; value: unknown };
      const absent = typeof field.kind === 'object' ? decodeFields(field.kind, new Uint8Array(), depth + 1) : value;
      entries.get(name)?.push([key, value === undefined ? absent : value]);
    } else {
      result[name] = readOne(reader, field.kind, depth);
    }
  }
  // Object.fromEntries defines own properties, so "__proto__" is a key like any other.
  for (const [name, list] of maps) result[name] = Object.fromEntries(list);
  return result;
}

/** Decodes a message, without unknown fields. @throws WireError if the bytes are not a message of this type */
export function decode<F extends Fields>(type: MessageType<F>, bytes: Uint8Array): Decoded<MessageType<F>> {
  return decodeFields(type, bytes, 0) as Decoded<MessageType<F>>;
}
