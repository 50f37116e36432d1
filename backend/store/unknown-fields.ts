/**
 * Unknown fields: fields of a record that a newer version has added (docs/adr/0014). Reading a record separates them
 * from its value, so that no other code sees them. Changing the record restores them.
 *
 * Unknown fields of a nested object stay while the object exists. Unknown fields of list items stay only while the list
 * is unchanged, because only the newer version knows how the items correspond.
 */
import { isDeepStrictEqual } from 'node:util';
import type { TSchema } from '@sinclair/typebox';

/** The unknown fields of a value. */
export interface UnknownFields {
  /** The unknown fields of the object itself. */
  readonly fields: Readonly<Record<string, unknown>>;
  /** The unknown fields of nested values, by field name or list index. */
  readonly inside: Readonly<Record<string, UnknownFields>>;
}

/** The part of a JSON schema that defines the known fields. */
interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly patternProperties?: object;
  readonly additionalProperties?: boolean | object;
  readonly items?: JsonSchema;
}

type Fields = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Tells whether the schema lists the fields of an object instead of describing a map. */
const listsFields = ({ properties, patternProperties, additionalProperties }: JsonSchema): boolean =>
  properties !== undefined && patternProperties === undefined && typeof additionalProperties !== 'object';

const own = <T>(fields: Readonly<Record<string, T>>, name: string): T | undefined =>
  Object.hasOwn(fields, name) ? fields[name] : undefined;

/** Returns the schema with `additionalProperties: false` in all objects that list their fields. */
export function closedSchema(schema: TSchema): TSchema {
  const close = (shape: JsonSchema): JsonSchema => ({
    ...shape,
    ...(shape.items ? { items: close(shape.items) } : {}),
    ...(shape.properties
      ? { properties: Object.fromEntries(Object.entries(shape.properties).map(([name, each]) => [name, close(each)])) }
      : {}),
    ...(listsFields(shape) ? { additionalProperties: false } : {}),
  });
  return close(schema as JsonSchema) as TSchema;
}

/** Separates the unknown fields from a JSON value. The result has no `unknown` if all fields are known. */
export function separateUnknownFields(schema: TSchema, value: unknown): { known: unknown; unknown?: UnknownFields } {
  return separateBySchema(schema as JsonSchema, value);
}

function separateBySchema(shape: JsonSchema, value: unknown): { known: unknown; unknown?: UnknownFields } {
  const fields: [string, unknown][] = [];
  const inside: [string, UnknownFields][] = [];
  const descend = (name: string, child: JsonSchema, each: unknown): unknown => {
    const parts = separateBySchema(child, each);
    if (parts.unknown) inside.push([name, parts.unknown]);
    return parts.known;
  };
  const { items, properties = {} } = shape;
  let known = value;
  if (Array.isArray(value) && items) {
    known = value.map((each, i) => descend(String(i), items, each));
  } else if (isObject(value) && listsFields(shape)) {
    const kept: [string, unknown][] = [];
    for (const [name, each] of Object.entries(value)) {
      const child = own(properties, name);
      if (child === undefined) fields.push([name, each]);
      else kept.push([name, descend(name, child, each)]);
    }
    known = Object.fromEntries(kept);
  }
  if (fields.length === 0 && inside.length === 0) return { known };
  return { known, unknown: { fields: Object.fromEntries(fields), inside: Object.fromEntries(inside) } };
}

/** Restores the unknown fields of `before` in `after`, a changed version of it. */
export function restoreUnknownFields(before: unknown, after: unknown, { fields, inside }: UnknownFields): unknown {
  if (Array.isArray(before) && Array.isArray(after)) {
    if (!isDeepStrictEqual(before, after)) return after;
    return after.map((each, i) => {
      const unknown = own(inside, String(i));
      return unknown ? restoreUnknownFields(each, each, unknown) : each;
    });
  }
  if (!isObject(before) || !isObject(after)) return after;
  const entries = Object.entries(after).map(([name, each]): [string, unknown] => {
    const unknown = own(inside, name);
    return [name, unknown ? restoreUnknownFields(own(before, name), each, unknown) : each];
  });
  return Object.fromEntries([...entries, ...Object.entries(fields)]);
}
