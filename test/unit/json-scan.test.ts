/** The scan of JSON accepts the same texts as JSON.parse, and finds the positions of members. */
import fc from 'fast-check';
import t from 'tap';
import { excess, maxDepth, maxValues, scanJson } from '../../backend/model/text/json-scan.ts';

const scan = (text: string, wanted: readonly string[] = [], deepest = 1000) =>
  scanJson(Buffer.from(text), new Set(wanted), deepest);

const parses = (text: string): boolean => {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
};

t.test('it takes what JSON.parse takes, and nothing else', async (t) => {
  const cases = [
    '',
    ' ',
    '{',
    '}',
    '[',
    ']',
    '{}',
    '[]',
    '{} ',
    ' []',
    '{}x',
    '[1,]',
    '[,1]',
    '{"a"}',
    '{"a":}',
    '{"a":1,}',
    '{,}',
    '{a:1}',
    "{'a':1}",
    '01',
    '-',
    '-0',
    '-01',
    '1.',
    '.1',
    '1.5e',
    '1e5',
    '1E+5',
    '1e-05',
    '+1',
    '1e400',
    'NaN',
    'true',
    'tru',
    'truex',
    'null',
    'nul',
    'false',
    '"',
    '"a',
    '"\\"',
    '"\\u00e9"',
    '"\\u00g9"',
    '"\\x"',
    '"\t"',
    '"\\/"',
    '"\u007f"',
    '"é"',
    '[[[]]]',
    '[[[]]',
    '[}',
    '{]',
    '{"a":[1,{"b":null}]}',
    '[1 2]',
    '{"a" :\n1}',
    '\ufeff{}',
    '[\u00a01]',
    '{"a":1"b":2}',
    '[true,false,null]',
    '[truefalse]',
    '""""',
    '1 2',
    '[1]]',
  ];
  for (const text of cases) t.equal(scan(text).ok, parses(text), JSON.stringify(text));
  fc.assert(
    fc.property(fc.json(), (text) => scan(text).ok),
    { numRuns: 300 },
  );
  // Correct JSON with one character changed, which is mostly not JSON.
  fc.assert(
    fc.property(fc.json(), fc.nat(), fc.constantFrom(...'{}[]",:\\0-+.eE t\n1aun'), (text, at, character) => {
      const place = at % (text.length + 1);
      const changed = text.slice(0, place) + character + text.slice(place + 1);
      return !changed.isWellFormed() || scan(changed).ok === parses(changed);
    }),
    { numRuns: 3000 },
  );
});

t.test('it finds the members of the object at the top, as JSON.parse does', async (t) => {
  const read = (text: string, name: string) => {
    const found = scan(text, [name]);
    const place = found.ok ? found.members.get(name) : undefined;
    return (
      place &&
      JSON.parse(
        Buffer.from(text)
          .subarray(...place)
          .toString(),
      )
    );
  };
  t.equal(read('{"a":{"serial":1},"serial": 2 ,"b":{"serial":3}}', 'serial'), 2);
  t.equal(read('{"serial":1,"serial":2}', 'serial'), 2, 'the last counts');
  t.equal(read('{"ser\\u0069al":7}', 'serial'), 7, 'however its name is spelled');
  t.equal(read('[{"serial":1}]', 'serial'), undefined);
  t.same(read('{"é":1,"serial":{"a":[1,2]}}', 'serial'), { a: [1, 2] });
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom('a', 'b', 'serial'), fc.jsonValue()), (object) => {
      const text = JSON.stringify(object, undefined, 1);
      return ['a', 'b', 'serial'].every(
        (name) => JSON.stringify(read(text, name)) === JSON.stringify(JSON.parse(text)[name]),
      );
    }),
  );
});

t.test('how deep it goes', async (t) => {
  const nested = (depth: number) => `${'[{"a":'.repeat(depth / 2)}1${'}]'.repeat(depth / 2)}`;
  t.ok(scan(nested(100), [], 100).ok);
  t.match(scan(nested(102), [], 101), { ok: false, problem: /nested more than 101/ });
  t.match(scan('['.repeat(5_000_000), [], 1000), { ok: false, problem: /nested/ });
  t.equal(excess(nested(maxDepth)), undefined);
  t.match(excess(nested(maxDepth + 2)), /nested more than 64/);
  t.equal(excess(`["${'['.repeat(1000)}\\"${'['.repeat(1000)}\\\\"]`), undefined, 'brackets in text are no nesting');
  t.match(excess(`["\\\\",${'['.repeat(1000)}`), /nested/, 'a text may end in a backslash');
  t.match(excess(`[${'0,'.repeat(maxValues)}0]`), /more than 10000 values/);
  t.equal(excess(`["${','.repeat(2 * maxValues)}"]`), undefined);
});
