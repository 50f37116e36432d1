/** Records as they lie in the database, read and changed by a version older than the one that wrote them. */
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import t from 'tap';
import * as records from '../../backend/model/records/index.ts';
import { put, rewrite } from '../../backend/store/collection.ts';
import { parseRecord } from '../../backend/store/record-codec.ts';
import type { RecordKind } from '../../backend/store/record-kind.ts';

const kinds = Object.values<unknown>(records).filter(
  (each): each is RecordKind => typeof each === 'object' && each !== null && 'prefix' in each,
);

interface JsonSchema {
  readonly type?: string;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly patternProperties?: Readonly<Record<string, JsonSchema>>;
  readonly items?: JsonSchema;
  readonly minimum?: number;
  readonly maxLength?: number;
}

/** Values of a schema; with `newer`, its objects have fields that it does not list. */
function valuesOf(schema: JsonSchema, newer: boolean): fc.Arbitrary<unknown> {
  if (schema.enum) return fc.constantFrom(...schema.enum);
  if (schema.pattern) return fc.stringMatching(new RegExp(schema.pattern));
  switch (schema.type) {
    case 'string':
      return fc.string({ maxLength: Math.min(schema.maxLength ?? 10, 10) });
    case 'boolean':
      return fc.boolean();
    case 'integer':
    case 'number':
      return fc.integer({ min: schema.minimum ?? 0, max: 1_000_000 });
    case 'array':
      return fc.array(valuesOf(schema.items ?? {}, newer), { maxLength: 3 });
    case 'object': {
      const [inMap] = Object.values(schema.patternProperties ?? {});
      if (inMap) return fc.dictionary(fc.string({ maxLength: 5 }), valuesOf(inMap, newer), { maxKeys: 3 });
      const known = fc.record(
        Object.fromEntries(
          Object.entries(schema.properties ?? {}).map(([name, each]) => [name, valuesOf(each, newer)]),
        ),
        { requiredKeys: [...(schema.required ?? [])] },
      );
      if (!newer) return known;
      const names = fc.oneof(
        fc.constantFrom('__proto__', 'constructor', 'toString'),
        fc.stringMatching(/^newer_[a-z]$/),
      );
      const unknown = fc.array(fc.tuple(names, fc.jsonValue({ maxDepth: 2 })), { maxLength: 2 });
      // By entries, so that any name becomes a field of its own.
      return fc
        .tuple(known, unknown)
        .map(([some, more]) => Object.fromEntries([...Object.entries(some as object), ...more]));
    }
    default:
      throw new Error(`no values are known of ${JSON.stringify(schema)}`);
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Returns the unknown fields that `after` has lost. Fields of a nested object count while the object exists. */
function lost(schema: JsonSchema, before: unknown, after: unknown, path: string): string[] {
  if (Array.isArray(before) && Array.isArray(after) && schema.items) {
    const { items } = schema;
    return before.flatMap((each, i) => lost(items, each, after[i], `${path}/${i}`));
  }
  if (!isObject(before) || !isObject(after) || schema.patternProperties) return [];
  return Object.entries(before).flatMap(([name, value]) => {
    const known = schema.properties && Object.hasOwn(schema.properties, name) ? schema.properties[name] : undefined;
    if (known) return lost(known, value, after[name], `${path}/${name}`);
    return Object.hasOwn(after, name) && isDeepStrictEqual(after[name], value) ? [] : [`${path}/${name}`];
  });
}

const entryOf = (kind: RecordKind, value: unknown) => ({
  key: `${kind.prefix}x`,
  value: JSON.stringify(value),
  revision: 1,
  created: 1,
});

t.test('a field of a newer version in a record is neither shown nor lost', async (t) => {
  t.ok(kinds.length > 30, 'there are kinds');
  for (const kind of kinds) {
    const schema = kind.schema as JsonSchema;
    fc.assert(
      fc.property(valuesOf(schema, true), valuesOf(schema, false), fc.func(fc.boolean()), (newer, other, choose) => {
        // As it comes back from the database, where -0 is 0 and nothing is undefined.
        const stored: unknown = JSON.parse(JSON.stringify(newer));
        const before = parseRecord(kind, entryOf(kind, stored));
        const plain = parseRecord(kind, entryOf(kind, before.value));
        if (plain.unknown || !isDeepStrictEqual(plain.value, before.value)) throw new Error('the value is not plain');

        // Some of the fields that are known are changed, whole.
        const changes = Object.entries(other as object).filter(([name]) => choose(name));
        const next = { ...(before.value as object), ...Object.fromEntries(changes) };
        const write = rewrite(kind, before, next);
        if (!('put' in write) || write.put !== before.key) throw new Error('it is another record');
        const after: unknown = JSON.parse(write.value);
        const seen = parseRecord(kind, { ...entryOf(kind, {}), value: write.value });
        const expected: unknown = JSON.parse(JSON.stringify(next));
        if (!isDeepStrictEqual(seen.value, expected)) throw new Error('another value than was written');
        // A list that has changed is another list.
        const kept = { ...(stored as object) } as Record<string, unknown>;
        for (const [name, value] of changes) {
          if (Array.isArray(value) && !isDeepStrictEqual(value, (before.value as Record<string, unknown>)[name]))
            kept[name] = value;
        }
        const gone = lost(schema, kept, after, '');
        if (gone.length > 0) throw new Error(`lost: ${gone.join()}`);
      }),
      { numRuns: 60 },
    );
  }
});

t.test('a record needs its required fields, and no version writes unknown fields', async (t) => {
  const extra = { id: 'x', newer: true };
  t.strictSame(parseRecord(records.names, entryOf(records.names, extra)).value, { id: 'x' });
  t.throws(
    () => parseRecord(records.names, entryOf(records.names, { newer: true })),
    /names\/x is invalid: it must have required property 'id'/,
  );
  t.throws(() => put(records.names, 'x', extra), /must NOT have additional properties \(newer\)/);
});
