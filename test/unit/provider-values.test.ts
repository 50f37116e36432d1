/** Encoding of values between Terraform and the provider: no value loses data, and hostile input is refused. */
import { ExtData, decode as msgpackDecode } from '@msgpack/msgpack';
import fc from 'fast-check';
import t from 'tap';
import { equalValues } from '../../provider/framework/equality.ts';
import { parseJson, valueFromJson } from '../../provider/protocol/json.ts';
import { decodeValue, encodeValue } from '../../provider/protocol/msgpack.ts';
import { equalNumbers, fromFloat, normalizeNumber, parseNumber } from '../../provider/protocol/number.ts';
import { checkType, typeFromJson, typeText, typeToJson } from '../../provider/protocol/types.ts';
import { ValueError } from '../../provider/protocol/value-error.ts';
import { Decimal, Dynamic, type Type, UNKNOWN, type Value } from '../../provider/protocol/values.ts';

/** Text as Terraform has it. */
const text = fc.string({ unit: 'grapheme' }).map((s) => s.normalize());
const key = fc.oneof(text, fc.constantFrom('__proto__', 'constructor', '0', 'toString'));

const typeArbitrary: fc.Arbitrary<Type> = fc.letrec<{ type: Type }>((tie) => ({
  type: fc.oneof(
    { maxDepth: 3 },
    fc.constantFrom<Type>('string', 'number', 'bool', 'dynamic'),
    fc
      .tuple(fc.constantFrom('list' as const, 'map' as const, 'set' as const), tie('type'))
      .map(([kind, inner]): Type => [kind, inner]),
    fc.array(tie('type'), { maxLength: 3 }).map((inner): Type => ['tuple', inner]),
    fc.dictionary(key, tie('type'), { maxKeys: 4 }).map((members): Type => ['object', { ...members }]),
  ),
})).type;

const number = fc.oneof(
  fc.integer(),
  fc.maxSafeInteger(),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => (Object.is(n, -0) ? 0 : n)),
  fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }),
  fc.tuple(fc.bigInt(), fc.bigInt({ min: 10n ** 20n, max: 10n ** 40n })).map(([a, b]) => new Decimal(`${a}.${b}1`)),
);

/** A random value of a type; null and unknown anywhere, if wished. */
function valueArbitrary(type: Type, unknown: boolean): fc.Arbitrary<Value> {
  const value = (): fc.Arbitrary<Value> => {
    if (type === 'string') return text;
    if (type === 'bool') return fc.boolean();
    if (type === 'number') return number;
    if (type === 'dynamic') {
      return typeArbitrary
        .filter((inner) => inner !== 'dynamic')
        .chain((inner) => valueArbitrary(inner, false).map((v) => new Dynamic(inner, v)));
    }
    if (type[0] === 'list' || type[0] === 'set') return fc.array(valueArbitrary(type[1], unknown), { maxLength: 4 });
    if (type[0] === 'map')
      return fc.dictionary(key, valueArbitrary(type[1], unknown), { maxKeys: 4 }).map((v) => ({ ...v }));
    if (type[0] === 'tuple') return fc.tuple(...type[1].map((inner) => valueArbitrary(inner, unknown)));
    const names = Object.keys(type[1]);
    return fc
      .tuple(...Object.values(type[1]).map((inner) => valueArbitrary(inner, unknown)))
      .map((values) => Object.fromEntries(names.map((name, i) => [name, values[i] ?? null])));
  };
  const rare: fc.WeightedArbitrary<Value>[] = [{ arbitrary: fc.constant<Value>(null), weight: 1 }];
  if (unknown) rare.push({ arbitrary: fc.constant<Value>(UNKNOWN), weight: 1 });
  return fc.oneof<fc.WeightedArbitrary<Value>[]>({ arbitrary: value(), weight: 6 }, ...rare);
}

const typed = (unknown: boolean): fc.Arbitrary<{ type: Type; value: Value }> =>
  typeArbitrary.chain((type) => valueArbitrary(type, unknown).map((value) => ({ type, value })));

t.test('numbers are exact and have one form each', async (t) => {
  const table: [string, unknown][] = [
    ['0', 0],
    ['-0', 0],
    ['1.50', 1.5],
    ['0.1', 0.1],
    ['1e3', 1000],
    ['9007199254740991', 9007199254740991],
    ['9007199254740993', 9007199254740993n],
    ['12345678901234567890', 12345678901234567890n],
    ['0.1000000000000000055511151231257827', new Decimal('0.1000000000000000055511151231257827')],
    ['', undefined],
    ['0x10', undefined],
    ['1e99999999999', undefined],
  ];
  for (const [text, expected] of table) t.same(parseNumber(text), expected, `"${text}"`);
  t.equal(fromFloat(0.5), 0.5);
  t.ok(fromFloat(0.1) instanceof Decimal, 'the float 0.1 is not the number 0.1');
  t.equal(fromFloat(2 ** 60), 2n ** 60n);
  fc.assert(
    fc.property(number, (n) => {
      const form = normalizeNumber(n);
      return form !== undefined && equalNumbers(form, n) && equalNumbers(n, form);
    }),
  );
  fc.assert(
    fc.property(fc.bigInt(), (n) => {
      const parsed = parseNumber(String(n));
      return typeof parsed === 'number' ? Number.isSafeInteger(parsed) && BigInt(parsed) === n : parsed === n;
    }),
  );
});

t.test('any value of any type comes back from MessagePack as it was', async () => {
  fc.assert(
    fc.property(typed(true), ({ type, value }) =>
      equalValues(type, decodeValue(type, encodeValue(type, value)), value),
    ),
    { numRuns: 500 },
  );
});

t.test('another library reads our MessagePack', async (t) => {
  fc.assert(
    fc.property(typed(true), ({ type, value }) => {
      // The library refuses the key "__proto__", which is a key like any other to Terraform.
      const bytes = encodeValue(type, value);
      fc.pre(!Buffer.from(bytes).includes('__proto__'));
      msgpackDecode(bytes, { useBigInt64: true, mapKeyConverter: String, keyDecoder: null });
    }),
    { numRuns: 300 },
  );
  t.match(msgpackDecode(encodeValue('string', UNKNOWN)), new ExtData(0, new Uint8Array([0])));
  for (const length of [0, 15, 16, 31, 32, 255, 256, 65_535, 65_536]) {
    t.equal(msgpackDecode(encodeValue('string', 'x'.repeat(length))), 'x'.repeat(length));
    t.same(msgpackDecode(encodeValue(['list', 'bool'], Array(length).fill(true))), Array(length).fill(true));
  }
  for (const n of [
    0n,
    127n,
    128n,
    255n,
    256n,
    65_535n,
    65_536n,
    2n ** 32n - 1n,
    2n ** 32n,
    2n ** 63n,
    2n ** 64n - 1n,
  ]) {
    for (const signed of [n, -n]) {
      if (signed < -(2n ** 63n)) continue;
      t.equal(BigInt(msgpackDecode(encodeValue('number', signed), { useBigInt64: true }) as number), signed);
    }
  }
});

t.test('values from Terraform: refinements, decimal strings, floats, JSON', async (t) => {
  t.equal(decodeValue('string', Buffer.from('c7070c8201c202a2612d', 'hex')), UNKNOWN);
  t.equal(
    decodeValue('number', Buffer.from(`b4${Buffer.from('12345678901234567890').toString('hex')}`, 'hex')),
    12345678901234567890n,
  );
  t.equal(decodeValue('number', Buffer.from('cb3ff8000000000000', 'hex')), 1.5);
  t.same(valueFromJson(['map', 'number'], parseJson(Buffer.from('{"a":12345678901234567890,"b":0.1,"c":1e2}'))), {
    a: 12345678901234567890n,
    b: 0.1,
    c: 100,
  });
  t.same(
    valueFromJson(['object', { kept: 'string', fresh: 'bool' }], { kept: 'x', dropped: 1 }),
    { kept: 'x', fresh: null },
    'attributes come and go between versions',
  );
  t.same(Object.keys(valueFromJson(['map', 'string'], parseJson(Buffer.from('{"__proto__":"x"}'))) as object), [
    '__proto__',
  ]);
});

t.test('types come back from their JSON, and nothing else is a type', async (t) => {
  const [one, other]: [Type, Type] = [
    ['object', { a: 'string', b: ['list', ['object', { c: 'bool', d: 'bool' }]] }],
    ['object', { b: ['list', ['object', { d: 'bool', c: 'bool' }]], a: 'string' }],
  ];
  t.equal(typeText(one), typeText(other), 'the order in which an object names its members says nothing');
  t.equal(typeText(one), '["object",{"a":"string","b":["list",["object",{"c":"bool","d":"bool"}]]}]');
  fc.assert(fc.property(typeArbitrary, (type) => typeText(typeFromJson(typeToJson(type))) === typeText(type)));
  for (const wrong of [null, 1, 'text', [], ['list'], ['object', []], ['tuple', {}], ['list', 'x'], {}]) {
    t.throws(() => checkType(wrong), ValueError, JSON.stringify(wrong));
  }
});

t.test('bytes that are no value are refused, whatever they are', async () => {
  const onlyValueErrors = (type: Type, bytes: Uint8Array) => {
    try {
      decodeValue(type, bytes);
    } catch (error) {
      if (!(error instanceof ValueError)) throw error;
    }
  };
  fc.assert(fc.property(typeArbitrary, fc.uint8Array({ maxLength: 60 }), onlyValueErrors), { numRuns: 1000 });
  // Valid values with a byte changed or cut off get further than noise.
  fc.assert(
    fc.property(typed(true), fc.nat(), fc.nat({ max: 255 }), fc.nat(), ({ type, value }, at, byte, cut) => {
      const bytes = Buffer.from(encodeValue(type, value));
      bytes[at % bytes.length] = byte;
      onlyValueErrors(type, bytes);
      onlyValueErrors(type, bytes.subarray(0, cut % bytes.length));
    }),
    { numRuns: 1000 },
  );
  // Lengths that promise gigabytes cost nothing.
  onlyValueErrors(['list', 'string'], Buffer.from('ddffffffff', 'hex'));
  onlyValueErrors('string', Buffer.from('dbffffffff', 'hex'));
});

t.test('values as Terraform would write them', async (t) => {
  // Terraform holds text in Unicode's form NFC, and compares it so.
  t.equal(decodeValue('string', encodeValue('string', 'e\u0301')), '\u00e9');
  t.same(decodeValue(['map', 'bool'], encodeValue(['map', 'bool'], { 'e\u0301': true })), { '\u00e9': true });
  const third = new Decimal(`0.${'3'.repeat(154)}`);
  for (const n of [third, new Decimal('-1.00000000000000000000000000000000000000001'), 2n ** 512n - 1n, 5e-324]) {
    t.ok(equalNumbers(decodeValue('number', encodeValue('number', n)) as typeof n, n), `${n} comes back`);
  }
  t.equal(equalNumbers(third, new Decimal(`${third.text}3`)), false, 'every digit counts');
  t.equal(
    valueFromJson('string', parseJson(Buffer.from('0.12345678901234567890'))),
    '0.12345678901234567890',
    'a number in a state, of an attribute that has become a string',
  );
  const endless: Value[] = [];
  endless.push(endless);
  t.throws(() => encodeValue('dynamic', endless), ValueError, 'a value that contains itself is refused, not followed');
});

t.test('a value of another type is refused with its place', async (t) => {
  const type: Type = ['object', { list: ['list', ['object', { n: 'number' }]] }];
  t.throws(() => encodeValue(type, { list: [{ n: 1 }, { n: 'two' }] }), {
    name: 'ValueError',
    message: 'list.1.n: expected a number, got a string',
  });
  t.throws(() => encodeValue('number', Number.NaN), ValueError);
  t.throws(() => encodeValue(['tuple', ['string']], []), ValueError);
  t.same(decodeValue(type, encodeValue(type, {})), { list: null }, 'what is missing is null');
});
