/**
 * Values as JSON: the form in which Terraform passes stored states (`UpgradeResourceState`) and, rarely, other values.
 * JSON has no unknown values. The parser reads numbers from their text, so that no number loses a digit.
 */
import { type ExactNumber, parseNumber } from './number.ts';
import { checkType } from './types.ts';
import { ValueError } from './value-error.ts';
import { Decimal, Dynamic, type Type, type Value } from './values.ts';

/** A JSON value. A number that `number` cannot hold exactly is a `bigint` or a `Decimal`. */
export type Json = null | boolean | string | ExactNumber | Json[] | { [key: string]: Json };

/** JSON.parse, whose reviver gets the text of primitive values (ECMAScript proposal json-parse-with-source). */
const parseWithSource = JSON.parse as (
  text: string,
  reviver?: (key: string, value: unknown, context: { source?: string }) => unknown,
) => Json;

/** Parses JSON without loss of digits. @throws ValueError if the bytes are not JSON */
export function parseJson(bytes: Uint8Array): Json {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  try {
    // Only long numbers can lose digits, and a reviver is slow.
    if (!/\d{16}|\d[.eE]/.test(text)) return parseWithSource(text);
    return parseWithSource(text, (_key, value, { source }) => {
      if (typeof value !== 'number' || source === undefined) return value;
      const exact = parseNumber(source);
      if (exact === undefined) throw new ValueError(`${source} is not a number that can be read`);
      return exact;
    });
  } catch (error) {
    if (error instanceof ValueError) throw error;
    throw new ValueError('not valid JSON');
  }
}

/**
 * Returns the value of this type for JSON. States outlive schemas, so unknown attributes are dropped, and missing attributes
 * are null.
 * @throws ValueError if the JSON does not fit the type
 */
export function valueFromJson(type: Type, json: Json | undefined, path: readonly (string | number)[] = []): Value {
  if (json === null || json === undefined) return null;
  if (type === 'string') {
    // Terraform converts between primitive types, so an old state may contain a number for a string.
    if (typeof json === 'string') return json;
    if (typeof json !== 'object' || json instanceof Decimal) return String(json);
    throw new ValueError('expected a string', path);
  }
  if (type === 'bool') {
    if (typeof json === 'boolean') return json;
    if (json === 'true' || json === 'false') return json === 'true';
    throw new ValueError('expected a bool', path);
  }
  if (type === 'number') {
    if (typeof json === 'number' || typeof json === 'bigint' || json instanceof Decimal) return json;
    const parsed = typeof json === 'string' ? parseNumber(json) : undefined;
    if (parsed === undefined) throw new ValueError('expected a number', path);
    return parsed;
  }
  if (type === 'dynamic') {
    if (!isJsonObject(json) || !('type' in json)) throw new ValueError('expected a dynamic value', path);
    const actual = checkType(json.type);
    return new Dynamic(actual, valueFromJson(actual, json.value, path));
  }
  if (type[0] === 'list' || type[0] === 'set' || type[0] === 'tuple') {
    if (!Array.isArray(json)) throw new ValueError(`expected a ${type[0]}`, path);
    if (type[0] !== 'tuple') return json.map((element, index) => valueFromJson(type[1], element, [...path, index]));
    if (json.length !== type[1].length) throw new ValueError(`expected ${type[1].length} elements`, path);
    return type[1].map((element, index) => valueFromJson(element, json[index], [...path, index]));
  }
  if (!isJsonObject(json)) throw new ValueError(`expected a ${type[0]}`, path);
  const entries =
    type[0] === 'map'
      ? Object.entries(json).map(([key, element]) => [key, valueFromJson(type[1], element, [...path, key])])
      : Object.entries(type[1]).map(([name, member]) => [
          name,
          valueFromJson(member, Object.hasOwn(json, name) ? json[name] : null, [...path, name]),
        ]);
  return Object.fromEntries(entries) as Value;
}

function isJsonObject(json: Json): json is { [key: string]: Json } {
  return json !== null && typeof json === 'object' && !Array.isArray(json) && !(json instanceof Decimal);
}
