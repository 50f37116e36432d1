import path from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { objectType } from '../../provider/framework/schema.ts';
import { frame } from '../../provider/protocol/grpc.ts';
import { RPCS, type Rpc } from '../../provider/protocol/messages.ts';
import { encodeValue } from '../../provider/protocol/msgpack.ts';
import { type Type, UNKNOWN, type Value } from '../../provider/protocol/values.ts';
import { decode, encode, type Fields, type MessageType } from '../../provider/protocol/wire.ts';
import { CallFailed, PluginClient } from '../support/plugin-client.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { item, Shelf, type StoredItem, shelfProvider, thing } from '../terraform/fixtures/shelf.ts';

/** The types of the values in calls. The fuzzer changes, cuts and swaps the values. */
const ITEM = objectType({ ...item.attributes });
/** Of the data source, which finds the one thing that is always there. */
const FOUND: Type = ['object', { name: 'string', id: 'string', size: 'string' }];
const TYPES: readonly Type[] = [
  ['object', { ...ITEM[1], timeouts: ['object', { create: 'string', delete: 'string' }] }],
  objectType(thing.attributes),
  FOUND,
  ['object', { reason: 'string', token: 'string' }],
  ['object', { store: 'string' }],
  ['object', { id: 'string' }],
  'string',
  'number',
];
const NAMES = ['shelf_item', 'shelf_thing', 'shelf_ticket', 'shelf_none', ''];

/** A value of a type, with null and unknown anywhere, long and large ones, and words that handlers look for. */
function anyOf(type: Type): fc.Arbitrary<Value> {
  const known = (): fc.Arbitrary<Value> => {
    if (type === 'string') {
      return fc.oneof(
        { arbitrary: fc.constantFrom('lamp', 'item-1', '2GiB', 'after-save', '5m'), weight: 9 },
        { arbitrary: fc.string(), weight: 9 },
        { arbitrary: fc.constant('x'.repeat(70_000)), weight: 1 },
      );
    }
    if (type === 'number') return fc.oneof(fc.integer(), fc.bigInt({ min: -(2n ** 300n), max: 2n ** 300n }));
    if (type === 'bool') return fc.boolean();
    if (type === 'dynamic') return fc.constant(null);
    if (type[0] === 'map') return fc.dictionary(fc.string(), anyOf(type[1]), { maxKeys: 3 }).map((v) => ({ ...v }));
    if (type[0] === 'tuple') return fc.tuple(...type[1].map(anyOf));
    if (type[0] !== 'object') return fc.array(anyOf(type[1]), { maxLength: 3 });
    return fc.record(Object.fromEntries(Object.entries(type[1]).map(([name, inner]) => [name, anyOf(inner)])), {
      noNullPrototype: true,
    });
  };
  return fc.oneof<fc.WeightedArbitrary<Value>[]>(
    { arbitrary: known(), weight: 8 },
    { arbitrary: fc.constant(null), weight: 5 },
    { arbitrary: fc.constant(UNKNOWN), weight: 1 },
  );
}

const noise = fc.uint8Array({ maxLength: 40 });
/** Lists in lists, far deeper than any type: dynamic values may claim to be anything. */
const deep = fc.integer({ min: 1, max: 3000 }).map((depth) => new Uint8Array(depth).fill(0x91));

/** The bytes of a value: right, of another type, broken, cut off, or noise. */
const bytesOf = (types: readonly Type[]): fc.Arbitrary<Uint8Array> =>
  fc.constantFrom(...types).chain((type) => {
    const value =
      type === FOUND ? fc.oneof(anyOf(type), fc.constant({ name: 'lamp', id: null, size: null })) : anyOf(type);
    const right = value.map((v) => encodeValue(type, v));
    const broken = fc.tuple(right, fc.nat(), fc.nat({ max: 255 })).map(([bytes, at, byte]) => {
      const copy = Buffer.from(bytes);
      copy[at % copy.length] = byte;
      return copy;
    });
    const cut = fc.tuple(right, fc.nat()).map(([bytes, at]) => bytes.subarray(0, at % bytes.length));
    return fc.oneof<fc.WeightedArbitrary<Uint8Array>[]>(
      { arbitrary: right, weight: 8 },
      { arbitrary: broken, weight: 3 },
      { arbitrary: cut, weight: 1 },
      { arbitrary: noise, weight: 1 },
      { arbitrary: deep, weight: 1 },
    );
  });

const json = fc.oneof(
  fc.json().map((text) => Buffer.from(text)),
  fc
    .record({ id: fc.string(), name: fc.string(), title: fc.string() })
    .map((state) => Buffer.from(JSON.stringify(state))),
  fc.integer({ min: 1, max: 3000 }).map((depth) => Buffer.from('['.repeat(depth) + ']'.repeat(depth))),
  noise,
);

/** Returns the right types for the values of a request, by type name. */
function fitting(name: string, rpc: Rpc): readonly Type[] {
  if (/ProviderConfig|ConfigureProvider/.test(rpc)) return TYPES.slice(4, 5);
  if (rpc === 'CallFunction') return TYPES.slice(6);
  if (name === 'shelf_ticket') return TYPES.slice(3, 4);
  if (name === 'shelf_thing') return TYPES.slice(1, 2);
  return /DataSource|DataResource/.test(rpc) ? TYPES.slice(2, 3) : TYPES.slice(0, 1);
}

/** A request of the right shape whose content is right in parts. */
const shaped = fc
  .record({
    rpc: fc.constantFrom(...(Object.keys(RPCS) as Rpc[])),
    name: fc.oneof(
      { arbitrary: fc.constantFrom(...NAMES.slice(0, 3)), weight: 6 },
      { arbitrary: fc.constantFrom(...NAMES), weight: 1 },
    ),
    astray: fc.integer({ max: 9, min: 0 }),
  })
  .chain(({ rpc, name, astray }) => {
    const types = astray === 0 ? TYPES : fitting(name, rpc);
    const field = (label: string, kind: Fields[string]['kind']): fc.Arbitrary<unknown> => {
      if (label === 'type_name' || label === 'target_type_name') return fc.constant(name);
      if (label === 'name') return fc.constantFrom('shout', 'none');
      if (label === 'version') return fc.oneof(fc.constantFrom(0, 1), fc.integer());
      if (label === 'id') return fc.oneof(fc.constantFrom('lamp', 'item-1', ''), fc.string());
      if (kind === 'string') return fc.oneof(fc.constantFrom('shelf_thing', '1.11.4'), fc.string());
      if (kind === 'bytes') return fc.oneof(noise, json);
      if (kind === 'bool') return fc.boolean();
      if (kind === 'int') return fc.integer();
      if (kind.name === 'DynamicValue') {
        const msgpack = bytesOf(types);
        return fc.oneof(
          { arbitrary: fc.record({ msgpack }), weight: 5 },
          { arbitrary: fc.record({ json }), weight: 1 },
        );
      }
      if (kind.name === 'RawState') return fc.record({ json });
      return fc.record(
        Object.fromEntries(Object.entries(kind.fields).map(([inner, { kind: k }]) => [inner, field(inner, k)])),
        { requiredKeys: [], noNullPrototype: true },
      );
    };
    const content = Object.entries(RPCS[rpc].request.fields as Fields).map(([label, { kind, cardinality }]) => {
      const one = field(label, kind);
      if (cardinality === 'repeated') return [label, fc.array(one, { maxLength: 3 })] as const;
      return [label, fc.option(one, { nil: undefined, freq: 20 })] as const;
    });
    return fc.record(Object.fromEntries(content)).map((request) => ({
      rpc,
      bytes: encode(RPCS[rpc].request as MessageType<Fields>, request as Record<string, never>),
    }));
  });

t.test('fuzzed calls: each gets an answer, and the server lives', async (t) => {
  const store = path.join(temporaryDirectory(t), 'shelf.json');
  // Every call uses this shelf, and nothing waits.
  const client = await PluginClient.of(t, {
    ...shelfProvider,
    resources: {
      ...shelfProvider.resources,
      item: { ...item, create: async () => ({ id: 'item-1' }) },
    },
    configure: async ({ config }) => (typeof config.store === 'string' ? new Shelf(store) : undefined),
  });
  const configure = () =>
    client.call('ConfigureProvider', { config: { msgpack: encodeValue(['object', { store: 'string' }], { store }) } });
  await configure();
  new Shelf(store).change(({ items }) => {
    items.kept = { id: 'kept', name: 'lamp', mebibytes: 512 } as StoredItem;
  });

  const counts = new Map<Rpc, { fine: number; refused: number }>();
  const count = (rpc: Rpc, bytes: Uint8Array) => {
    const answer = decode(RPCS[rpc].response as MessageType<Fields>, bytes) as Record<string, unknown>;
    const entry = counts.get(rpc) ?? { fine: 0, refused: 0 };
    const errors = (answer.diagnostics ?? []) as { severity: number; summary: string; detail: string }[];
    for (const { summary, detail } of errors) {
      // A message of the JavaScript engine in a diagnostic shows that a check is missing.
      if (/is not a function|Cannot read|call stack|is not iterable/.test(`${summary} ${detail}`)) {
        throw new Error(`${rpc}: ${summary}: ${detail}`);
      }
    }
    if (errors.some(({ severity }) => severity === 1) || answer.error) entry.refused++;
    else entry.fine++;
    counts.set(rpc, entry);
  };
  const raw = fc.record({ rpc: fc.constantFrom(...(Object.keys(RPCS) as Rpc[])), bytes: noise });
  const calls = fc.asyncProperty(
    fc.oneof({ arbitrary: shaped, weight: 12 }, { arbitrary: raw, weight: 1 }),
    async ({ rpc, bytes }) => {
      try {
        count(rpc, await client.raw(`/tfplugin6.Provider/${rpc}`, frame(bytes)));
      } catch (error) {
        // Only bytes that are no message at all are refused at this level.
        if (!(error instanceof CallFailed) || error.status !== 3) throw error;
      }
      if (rpc === 'ConfigureProvider') await configure();
    },
  );
  // The counts are the same in every run; the findings are not.
  await fc.assert(calls, { numRuns: 1500, seed: 3 });
  const counted = structuredClone(counts);
  await fc.assert(calls, { numRuns: 500 });
  const never = { fine: 0, refused: 0 };
  const asked = (Object.keys(RPCS) as Rpc[]).filter((rpc) => Object.keys(RPCS[rpc].request.fields).length > 0);
  t.same(
    asked.filter((rpc) => (counted.get(rpc) ?? never).fine === 0),
    [],
    'some calls of each kind got through to the end',
  );
  t.same(
    asked.filter((rpc) => (counted.get(rpc) ?? never).refused === 0),
    [],
    'and some of each were refused',
  );
  const { resources } = await client.call('GetMetadata', {});
  t.equal(resources.length, 2);
});
