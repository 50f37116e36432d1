/**
 * Fields of a record that this version does not know: a newer one has added them (docs/adr/0014). They are kept apart
 * from the value when a record is read, so that nothing in the process meets them, and put back when the record is
 * changed.
 *
 * In nested objects they are put back as long as the object is there, in the objects of a list as long as the list is
 * the same: which of its items is which, only who knows the field could tell.
 */
import { isDeepStrictEqual } from 'node:util';
import type { TSchema } from '@sinclair/typebox';

export interface UnknownFields {
  /** Those of the object itself. */
  readonly fields: Readonly<Record<string, unknown>>;
  /** Those further inside, by known field or by the index in a list. */
  readonly inside: Readonly<Record<string, UnknownFields>>;
}

/** What of a JSON schema says which fields are known. */
interface Shape {
  readonly properties?: Readonly<Record<string, Shape>>;
  readonly patternProperties?: object;
  readonly additionalProperties?: boolean | object;
  readonly items?: Shape;
}

type Fields = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Whether the schema lists the fields of an object, rather than describing a map. */
const listsFields = ({ properties, patternProperties, additionalProperties }: Shape): boolean =>
  properties !== undefined && patternProperties === undefined && typeof additionalProperties !== 'object';

const own = <T>(fields: Readonly<Record<string, T>>, name: string): T | undefined =>
  Object.hasOwn(fields, name) ? fields[name] : undefined;

/** The schema with no other fields in any of its objects than those that it lists. */
export function closed(schema: TSchema): TSchema {
  const close = (shape: Shape): Shape => ({
    ...shape,
    ...(shape.items ? { items: close(shape.items) } : {}),
    ...(shape.properties
      ? { properties: Object.fromEntries(Object.entries(shape.properties).map(([name, each]) => [name, close(each)])) }
      : {}),
    ...(listsFields(shape) ? { additionalProperties: false } : {}),
  });
  return close(schema as Shape) as TSchema;
}

/** Takes a JSON value apart. `unknown` is missing if there is nothing unknown in it. */
export function separate(schema: TSchema, value: unknown): { known: unknown; unknown?: UnknownFields } {
  return separateShape(schema as Shape, value);
}

function separateShape(shape: Shape, value: unknown): { known: unknown; unknown?: UnknownFields } {
  const fields: [string, unknown][] = [];
  const inside: [string, UnknownFields][] = [];
  const descend = (name: string, child: Shape, each: unknown): unknown => {
    const parts = separateShape(child, each);
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

/** Puts back into `after` what was unknown in `before`, of which it is a changed version. */
export function carry(before: unknown, after: unknown, { fields, inside }: UnknownFields): unknown {
  if (Array.isArray(before) && Array.isArray(after)) {
    if (!isDeepStrictEqual(before, after)) return after;
    return after.map((each, i) => {
      const unknown = own(inside, String(i));
      return unknown ? carry(each, each, unknown) : each;
    });
  }
  if (!isObject(before) || !isObject(after)) return after;
  const entries = Object.entries(after).map(([name, each]): [string, unknown] => {
    const unknown = own(inside, name);
    return [name, unknown ? carry(own(before, name), each, unknown) : each];
  });
  return Object.fromEntries([...entries, ...Object.entries(fields)]);
}
