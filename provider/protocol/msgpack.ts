/**
 * Values as MessagePack, in the encoding of Terraform. The codec needs the type of a value, because sets and lists have the
 * same encoding, as do maps and objects.
 * https://github.com/msgpack/msgpack/blob/master/spec.md
 *
 * - An unknown value is extension 0, or extension 12 with a refinement, such as a known prefix. The decoder drops the
 *   refinement, which only Terraform itself uses.
 * - A number is an integer, a float, or its decimal notation as a string if neither is exact.
 * - A dynamic value is an array of its type, as JSON in a bin, and the value.
 * - Strings and the keys of maps have Unicode's form NFC, in Terraform and in the output of this codec.
 */
import { type ExactNumber, fromFloat, normalizeNumber, parseNumber } from './number.ts';
import { isList, isObject, typeFromJson, typeOf, typeToJson } from './types.ts';
import { ValueError } from './value-error.ts';
import { Decimal, Dynamic, type Type, UNKNOWN, type Value } from './values.ts';

type Path = readonly (string | number)[];
/** Types nest up to a hundred levels; dynamic values in them may nest again. */
const MAX_DEPTH = 200;

// --- Writing --------------------------------------------------------------------------------------------------------

class Writer {
  private bytes = Buffer.allocUnsafe(512);
  private length = 0;

  private reserve(more: number): void {
    if (this.length + more <= this.bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.bytes.length * 2, this.length + more));
    this.bytes.copy(larger, 0, 0, this.length);
    this.bytes = larger;
  }

  byte(value: number): void {
    this.reserve(1);
    this.bytes[this.length++] = value;
  }

  /** A head byte and a big-endian unsigned integer of 1, 2 or 4 bytes. */
  private head(code: number, size: 1 | 2 | 4, value: number): void {
    this.reserve(1 + size);
    this.bytes[this.length] = code;
    this.bytes.writeUIntBE(value, this.length + 1, size);
    this.length += 1 + size;
  }

  array(count: number): void {
    if (count < 16) this.byte(0x90 | count);
    else if (count < 0x10000) this.head(0xdc, 2, count);
    else this.head(0xdd, 4, count);
  }

  map(count: number): void {
    if (count < 16) this.byte(0x80 | count);
    else if (count < 0x10000) this.head(0xde, 2, count);
    else this.head(0xdf, 4, count);
  }

  string(text: string): void {
    const size = Buffer.byteLength(text);
    if (size < 32) this.byte(0xa0 | size);
    else if (size < 0x100) this.head(0xd9, 1, size);
    else if (size < 0x10000) this.head(0xda, 2, size);
    else this.head(0xdb, 4, size);
    this.reserve(size);
    this.length += this.bytes.write(text, this.length);
  }

  bin(data: Uint8Array): void {
    if (data.length < 0x100) this.head(0xc4, 1, data.length);
    else if (data.length < 0x10000) this.head(0xc5, 2, data.length);
    else this.head(0xc6, 4, data.length);
    this.reserve(data.length);
    this.bytes.set(data, this.length);
    this.length += data.length;
  }

  /** Writes the integer if it fits 64 bits, signed or unsigned. Returns false, and writes nothing, if it does not. */
  integer(value: bigint): boolean {
    if (value >= -32n && value < 128n) {
      this.byte(Number(value) & 0xff);
    } else if (value >= 0n && value < 1n << 32n) {
      const small = Number(value);
      if (small < 0x100) this.head(0xcc, 1, small);
      else if (small < 0x10000) this.head(0xcd, 2, small);
      else this.head(0xce, 4, small);
    } else if (BigInt.asUintN(64, value) === value) {
      this.reserve(9);
      this.bytes[this.length] = 0xcf;
      this.bytes.writeBigUInt64BE(value, this.length + 1);
      this.length += 9;
    } else if (BigInt.asIntN(64, value) === value) {
      this.reserve(9);
      this.bytes[this.length] = 0xd3;
      this.bytes.writeBigInt64BE(value, this.length + 1);
      this.length += 9;
    } else {
      return false;
    }
    return true;
  }

  float(value: number): void {
    this.reserve(9);
    this.bytes[this.length] = 0xcb;
    this.bytes.writeDoubleBE(value, this.length + 1);
    this.length += 9;
  }

  unknown(): void {
    this.reserve(3);
    this.bytes[this.length++] = 0xd4;
    this.bytes[this.length++] = 0;
    this.bytes[this.length++] = 0;
  }

  finish(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }
}

function describe(value: Value): string {
  if (isList(value)) return 'a list';
  if (value instanceof Decimal || typeof value === 'bigint') return 'a number';
  if (value === undefined) return 'undefined';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

function writeNumber(writer: Writer, value: ExactNumber, path: Path): void {
  const exact = normalizeNumber(value);
  if (exact === undefined) throw new ValueError('not a number', path);
  if (exact instanceof Decimal) writer.string(exact.text);
  else if (typeof exact === 'bigint') {
    if (!writer.integer(exact)) writer.string(exact.toString());
  } else if (Number.isInteger(exact)) writer.integer(BigInt(exact));
  else if (Number.isFinite(exact)) writer.string(String(exact));
  else writer.float(exact);
}

function write(writer: Writer, type: Type, value: Value, path: Path): void {
  if (path.length > MAX_DEPTH) throw new ValueError('the value is nested too deeply');
  if (value === null) {
    writer.byte(0xc0);
    return;
  }
  if (value === UNKNOWN) {
    writer.unknown();
    return;
  }
  if (type === 'string') {
    if (typeof value !== 'string') throw new ValueError(`expected a string, got ${describe(value)}`, path);
    writer.string(value.normalize());
  } else if (type === 'bool') {
    if (typeof value !== 'boolean') throw new ValueError(`expected a bool, got ${describe(value)}`, path);
    writer.byte(value ? 0xc3 : 0xc2);
  } else if (type === 'number') {
    if (typeof value !== 'number' && typeof value !== 'bigint' && !(value instanceof Decimal)) {
      throw new ValueError(`expected a number, got ${describe(value)}`, path);
    }
    writeNumber(writer, value, path);
  } else if (type === 'dynamic') {
    const actual = value instanceof Dynamic ? value.type : typeOf(value);
    writer.array(2);
    writer.bin(typeToJson(actual));
    write(writer, actual, value instanceof Dynamic ? value.value : value, path);
  } else if (type[0] === 'list' || type[0] === 'set') {
    if (!isList(value)) throw new ValueError(`expected a ${type[0]}, got ${describe(value)}`, path);
    writer.array(value.length);
    value.forEach((element, index) => {
      write(writer, type[1], element, [...path, index]);
    });
  } else if (type[0] === 'tuple') {
    if (!isList(value)) throw new ValueError(`expected a tuple, got ${describe(value)}`, path);
    if (value.length !== type[1].length) throw new ValueError(`expected ${type[1].length} elements`, path);
    writer.array(value.length);
    type[1].forEach((element, index) => {
      write(writer, element, value[index] ?? null, [...path, index]);
    });
  } else if (type[0] === 'map') {
    if (!isObject(value)) throw new ValueError(`expected a map, got ${describe(value)}`, path);
    const entries = Object.entries(value);
    writer.map(entries.length);
    for (const [key, element] of entries) {
      writer.string(key.normalize());
      write(writer, type[1], element, [...path, key]);
    }
  } else {
    if (!isObject(value)) throw new ValueError(`expected an object, got ${describe(value)}`, path);
    const members = Object.entries(type[1]);
    writer.map(members.length);
    for (const [name, member] of members) {
      writer.string(name);
      write(writer, member, Object.hasOwn(value, name) ? (value[name] ?? null) : null, [...path, name]);
    }
  }
}

/** Encodes a value. A missing attribute of an object becomes null. @throws ValueError if the value does not fit the type */
export function encodeValue(type: Type, value: Value): Uint8Array {
  const writer = new Writer();
  write(writer, type, value, []);
  return writer.finish();
}

// --- Reading --------------------------------------------------------------------------------------------------------

class Reader {
  private position = 0;
  private readonly bytes: Buffer;
  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get remaining(): number {
    return this.bytes.length - this.position;
  }

  peek(): number {
    const byte = this.bytes[this.position];
    if (byte === undefined) throw new ValueError('the value ends too early');
    return byte;
  }

  byte(): number {
    const byte = this.peek();
    this.position++;
    return byte;
  }

  take(length: number): Buffer {
    if (length > this.remaining) throw new ValueError('the value ends too early');
    this.position += length;
    return this.bytes.subarray(this.position - length, this.position);
  }

  uint(size: 1 | 2 | 4): number {
    return this.take(size).readUIntBE(0, size);
  }

  /** Reads the number of elements. Each element takes at least one byte, which limits the number. */
  count(fixBase: number, fixMask: number, code16: number, path: Path, what: string): number {
    const head = this.byte();
    let count: number;
    if ((head & ~fixMask & 0xff) === fixBase) count = head & fixMask;
    else if (head === code16) count = this.uint(2);
    else if (head === code16 + 1) count = this.uint(4);
    else throw new ValueError(`expected ${what}`, path);
    if (count > this.remaining) throw new ValueError('the value ends too early', path);
    return count;
  }

  isString(): boolean {
    const head = this.peek();
    return (head & 0xe0) === 0xa0 || (head >= 0xd9 && head <= 0xdb);
  }

  string(path: Path): string {
    const head = this.byte();
    let size: number;
    if ((head & 0xe0) === 0xa0) size = head & 0x1f;
    else if (head === 0xd9) size = this.uint(1);
    else if (head === 0xda) size = this.uint(2);
    else if (head === 0xdb) size = this.uint(4);
    else throw new ValueError('expected a string', path);
    return this.take(size).toString('utf8');
  }

  bin(path: Path): Buffer {
    const head = this.byte();
    if (head === 0xc4) return this.take(this.uint(1));
    if (head === 0xc5) return this.take(this.uint(2));
    if (head === 0xc6) return this.take(this.uint(4));
    throw new ValueError('expected binary data', path);
  }

  number(path: Path): ExactNumber {
    let value: ExactNumber | undefined;
    if (this.isString()) {
      value = parseNumber(this.string(path));
    } else {
      const head = this.byte();
      if (head < 0x80) value = head;
      else if (head >= 0xe0) value = head - 0x100;
      else if (head === 0xca) value = fromFloat(this.take(4).readFloatBE());
      else if (head === 0xcb) value = fromFloat(this.take(8).readDoubleBE());
      else if (head === 0xcc) value = this.uint(1);
      else if (head === 0xcd) value = this.uint(2);
      else if (head === 0xce) value = this.uint(4);
      else if (head === 0xcf) value = normalizeNumber(this.take(8).readBigUInt64BE());
      else if (head === 0xd0) value = this.take(1).readInt8();
      else if (head === 0xd1) value = this.take(2).readInt16BE();
      else if (head === 0xd2) value = this.take(4).readInt32BE();
      else if (head === 0xd3) value = normalizeNumber(this.take(8).readBigInt64BE());
    }
    if (value === undefined) throw new ValueError('expected a number', path);
    return value;
  }

  /** Consumes an extension, if one is next. Every extension is an unknown value. */
  extension(): boolean {
    const head = this.peek();
    let size: number;
    if (head >= 0xd4 && head <= 0xd8) {
      this.byte();
      size = 1 << (head - 0xd4);
    } else if (head >= 0xc7 && head <= 0xc9) {
      this.byte();
      size = this.uint(head === 0xc7 ? 1 : head === 0xc8 ? 2 : 4);
    } else {
      return false;
    }
    this.take(1 + size);
    return true;
  }
}

function memberType(type: readonly ['map', Type] | readonly ['object', Readonly<Record<string, Type>>], key: string) {
  if (type[0] === 'map') return type[1];
  return Object.hasOwn(type[1], key) ? type[1][key] : undefined;
}

function read(reader: Reader, type: Type, path: Path, depth: number): Value {
  if (depth > MAX_DEPTH) throw new ValueError('the value is nested too deeply', path);
  if (reader.peek() === 0xc0) {
    reader.byte();
    return null;
  }
  if (reader.extension()) return UNKNOWN;
  if (type === 'string') {
    return reader.string(path);
  }
  if (type === 'bool') {
    const head = reader.byte();
    if (head !== 0xc2 && head !== 0xc3) throw new ValueError('expected a bool', path);
    return head === 0xc3;
  }
  if (type === 'number') return reader.number(path);
  if (type === 'dynamic') {
    if (reader.count(0x90, 0x0f, 0xdc, path, 'a dynamic value') !== 2)
      throw new ValueError('not a dynamic value', path);
    const actual = typeFromJson(reader.bin(path));
    return new Dynamic(actual, read(reader, actual, path, depth + 1));
  }
  if (type[0] === 'list' || type[0] === 'set') {
    const count = reader.count(0x90, 0x0f, 0xdc, path, `a ${type[0]}`);
    const elements: Value[] = [];
    for (let i = 0; i < count; i++) elements.push(read(reader, type[1], [...path, i], depth + 1));
    return elements;
  }
  if (type[0] === 'tuple') {
    const count = reader.count(0x90, 0x0f, 0xdc, path, 'a tuple');
    if (count !== type[1].length) throw new ValueError(`expected ${type[1].length} elements`, path);
    return type[1].map((element, index) => read(reader, element, [...path, index], depth + 1));
  }
  const count = reader.count(0x80, 0x0f, 0xde, path, `a ${type[0] === 'map' ? 'map' : 'object'}`);
  const entries: [string, Value][] = [];
  for (let i = 0; i < count; i++) {
    const key = reader.string(path);
    const member = memberType(type, key);
    if (member === undefined) throw new ValueError(`there is no attribute "${key}"`, path);
    entries.push([key, read(reader, member, [...path, key], depth + 1)]);
  }
  if (type[0] === 'map') return Object.fromEntries(entries);
  const given = new Map(entries);
  return Object.fromEntries(
    Object.keys(type[1]).map((name) => {
      const value = given.get(name);
      if (value === undefined) throw new ValueError(`the attribute "${name}" is missing`, path);
      return [name, value];
    }),
  );
}

/** Decodes a value. @throws ValueError if the bytes are not a value of this type */
export function decodeValue(type: Type, bytes: Uint8Array): Value {
  const reader = new Reader(bytes);
  const value = read(reader, type, [], 0);
  if (reader.remaining > 0) throw new ValueError('there are bytes after the value');
  return value;
}
