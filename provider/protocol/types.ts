/** Encoding and decoding of types of Terraform's type system, and the type of a value. */

import { ValueError } from './value-error.ts';
import { Decimal, Dynamic, type Type, UNKNOWN, type Value } from './values.ts';

const MAX_DEPTH = 100;

/** Returns the type in Terraform's notation: compact JSON with sorted members. Equal types have equal texts. */
export function typeText(type: Type): string {
  return JSON.stringify(type, (_key, part: unknown) =>
    part !== null && typeof part === 'object' && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}

/** Returns the notation of the type as bytes, for schemas and dynamic values. */
export function typeToJson(type: Type): Uint8Array {
  return Buffer.from(typeText(type));
}

/** Parses a type. @throws ValueError if the bytes are not a type */
export function typeFromJson(bytes: Uint8Array): Type {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'));
  } catch {
    throw new ValueError('a type is not valid JSON');
  }
  return checkType(json, 0);
}

export function checkType(json: unknown, depth = 0): Type {
  if (depth > MAX_DEPTH) throw new ValueError('a type is nested too deeply');
  if (json === 'string' || json === 'number' || json === 'bool' || json === 'dynamic') return json;
  if (Array.isArray(json)) {
    const [kind, inner] = json as unknown[];
    if (kind === 'list' || kind === 'set' || kind === 'map') return [kind, checkType(inner, depth + 1)];
    if (kind === 'tuple' && Array.isArray(inner)) return [kind, inner.map((element) => checkType(element, depth + 1))];
    if (kind === 'object' && inner !== null && typeof inner === 'object' && !Array.isArray(inner)) {
      const members = Object.entries(inner).map(([name, member]) => [name, checkType(member, depth + 1)] as const);
      return [kind, Object.fromEntries(members)];
    }
  }
  throw new ValueError('not a type');
}

/**
 * Returns the type of a value without a declared type: arrays are tuples, and objects are objects.
 * @throws ValueError if the value is nested too deeply, for instance because it contains itself
 */
export function typeOf(value: Value, depth = 0): Type {
  if (depth > MAX_DEPTH) throw new ValueError('the value is nested too deeply');
  if (value === null || value === UNKNOWN) return 'dynamic';
  if (value instanceof Dynamic) return value.type;
  if (typeof value === 'string') return 'string';
  if (typeof value === 'boolean') return 'bool';
  if (typeof value === 'number' || typeof value === 'bigint' || value instanceof Decimal) return 'number';
  if (isList(value)) return ['tuple', value.map((element) => typeOf(element, depth + 1))];
  const members = Object.entries(value).map(([name, member]) => [name, typeOf(member, depth + 1)] as const);
  return ['object', Object.fromEntries(members)];
}

/** Returns true for an array. Array.isArray does not narrow readonly arrays. */
export function isList(value: Value): value is readonly Value[] {
  return Array.isArray(value);
}

/** Returns true if a value is an object or a map, and not null, a list, a `Decimal` or a `Dynamic`. */
export function isObject(value: unknown): value is { readonly [key: string]: Value } {
  return (
    value !== null &&
    typeof value === 'object' &&
    !Array.isArray(value) &&
    !(value instanceof Decimal) &&
    !(value instanceof Dynamic)
  );
}
