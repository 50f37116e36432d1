/** The command line's reading of text: values of options, JSON, and answers as people read them. */
import fc from 'fast-check';
import t from 'tap';
import { parse as parseYaml } from 'yaml';
import { details } from '../../backend/cli/details.ts';
import { parseJson } from '../../backend/cli/json.ts';
import { visible, visibleJson, visibleLines } from '../../backend/cli/terminal.ts';
import { type JsonSchema, parseValue } from '../../backend/cli/values.ts';
import { endpoints } from '../../backend/contract/index.ts';

const labels: JsonSchema = { type: 'object' };
const quota: JsonSchema = {
  type: 'object',
  properties: { vms: { type: 'integer' }, memory: { type: 'string' } },
};
const keys: JsonSchema = { type: 'array', items: { type: 'string' } };
const interfaces: JsonSchema = {
  type: 'array',
  items: {
    type: 'object',
    required: ['network'],
    properties: { network: { type: 'string' }, mac: { type: 'string' } },
  },
};
const pairs: JsonSchema = { type: 'array', items: { type: 'object', required: ['a', 'b'] } };
const nullable = (schema: JsonSchema): JsonSchema => ({ anyOf: [schema, { type: 'null' }] });
const parse = (schema: JsonSchema, ...texts: string[]) => parseValue(schema, 'the_option', texts);

t.test('maps, lists, numbers and booleans as they are written', async (t) => {
  const good: [JsonSchema, string | string[], unknown][] = [
    [labels, 'a=b', { a: 'b' }],
    [labels, 'a=b,c=', { a: 'b', c: '' }],
    [labels, 'a=b=c', { a: 'b=c' }],
    [labels, 'a=b\\,c,d\\=e=f\\\\', { a: 'b,c', 'd=e': 'f\\' }],
    [labels, '__proto__=x', JSON.parse('{"__proto__":"x"}')],
    [labels, '{}', {}],
    [labels, ' {"a": "b"} ', { a: 'b' }],
    [labels, ['a=b', 'c=d'], { a: 'b', c: 'd' }],
    [nullable(labels), 'null', null],
    [quota, 'vms=3,memory=64GiB', { vms: 3, memory: '64GiB' }],
    [keys, 'a,b', ['a', 'b']],
    [keys, 'a\\,b', ['a,b']],
    [keys, '[]', []],
    [keys, ['a', 'b,c', '["d"]'], ['a', 'b', 'c', 'd']],
    [interfaces, 'web,db', [{ network: 'web' }, { network: 'db' }]],
    [interfaces, '[{"network":"web","mac":"x"}]', [{ network: 'web', mac: 'x' }]],
    [{ type: 'integer' }, '12', 12],
    [{ type: 'integer' }, '-3', -3],
    [{ type: 'number' }, '1.5e3', 1500],
    [{ type: 'boolean' }, 'false', false],
    [{ type: 'string' }, '{"not":"parsed"}', '{"not":"parsed"}'],
  ];
  for (const [schema, texts, value] of good) t.same(parse(schema, ...[texts].flat()), value, String(texts));
});

t.test('a part that is not understood is an error that names option and part', async (t) => {
  const bad: [JsonSchema, string | string[], RegExp][] = [
    [quota, 'vms', /^--the-option: "vms" must be key=value$/],
    [nullable(quota), 'vms', /^--the-option: "vms" must be key=value$/],
    [labels, 'a,b=c', /^--the-option: "a" must be key=value$/],
    [labels, 'b=c,a', /"a" must be key=value/],
    [labels, 'b=c,', /"" must be key=value/],
    [labels, 'b=c,,d=e', /"" must be key=value/],
    [labels, '=c', /"=c" must be key=value/],
    [labels, 'a\\=b', /"a\\\\=b" must be key=value/],
    [labels, '', /is empty; \{\} is the empty map/],
    [labels, ' ', /is empty; \{\} is the empty map/],
    [labels, 'null', /"null" must be key=value/],
    [labels, 'a=1,a=2', /"a" is given twice/],
    [labels, ['a=1', 'a=2'], /"a" is given twice/],
    [labels, ['{"a":"1"}', 'a=2'], /"a" is given twice/],
    [labels, '{"a":"1","a":"2"}', /the member "a" is given twice/],
    [labels, '{"a":"1","\\u0061":"2"}', /the member "a" is given twice/],
    [labels, '{', /is not well-formed JSON/],
    [labels, '[1]', /is JSON, but not an object/],
    [nullable(labels), ['a=1', 'null'], /null cannot be combined/],
    [quota, 'vm=3', /"vm" is not one of vms, memory/],
    [quota, 'toString=3', /"toString" is not one of vms, memory/],
    [quota, 'vms=many', /^--the-option\.vms: "many" is not a whole number$/],
    [quota, 'vms=', /^--the-option\.vms: "" is not a whole number$/],
    [quota, 'vms=1e999', /not a whole number/],
    [quota, 'vms=9007199254740993', /not a whole number that can be sent exactly/],
    [quota, '{"vms":1e999}', /the number 1e999 cannot be sent exactly/],
    [quota, '{"vms":9007199254740993}', /cannot be sent exactly/],
    [keys, '', /is empty; \[\] is the empty list/],
    [keys, 'a,,b', /"a,,b" has an empty item/],
    [keys, 'a,', /"a," has an empty item/],
    [keys, '{"a":1}', /is JSON, but not a list/],
    [pairs, 'a', /"a" is not an item; write JSON/],
    [{ type: 'integer' }, '', /"" is not a whole number/],
    [{ type: 'integer' }, '1e999', /not a whole number/],
    [{ type: 'integer' }, '2.0', /not a whole number/],
    [{ type: 'integer' }, 'true', /not a whole number/],
    [{ type: 'integer' }, ['1', '2'], /is given 2 times/],
    [{ type: 'string' }, ['a', 'b'], /is given 2 times/],
    [{ type: 'number' }, '1e999', /not a number/],
    [{ type: 'number' }, 'NaN', /not a number/],
    [{ type: 'boolean' }, 'yes', /"yes" is not true or false/],
    [{ type: 'boolean' }, '1', /"1" is not true or false/],
    [{ type: 'string', enum: ['a', 'b'] }, 'c', /"c" is not one of a, b/],
  ];
  for (const [schema, texts, said] of bad) {
    t.throws(() => parse(schema, ...[texts].flat()), { message: said }, String(texts));
  }
});

t.test('a map is parsed completely, or not at all', async () => {
  const escaped = (text: string) => text.replace(/[\\,=]/g, '\\$&');
  const text = fc.string({ minLength: 1 }).filter((part) => !/^\s*[[{]|^\s+$/.test(part));
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(text, fc.string()), { minLength: 1, selector: ([key]) => key }), (entries) => {
      const written = entries.map((pair) => pair.map(escaped).join('='));
      const value = parse(labels, written.join(',')) as object;
      return JSON.stringify(Object.entries(value)) === JSON.stringify(Object.entries(Object.fromEntries(entries)));
    }),
  );
  fc.assert(
    fc.property(fc.string(), (written) => {
      let value: object;
      try {
        value = parse(labels, written) as object;
      } catch {
        return true;
      }
      // Each part has given an entry.
      return (
        written.trimStart().startsWith('{') || Object.keys(value).length === written.split(/(?<!\\)(?:\\\\)*,/).length
      );
    }),
  );
});

t.test('JSON of people is JSON, and loses nothing', async () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 4 }), (text) => {
      const exact = !/[0-9]{16}/.test(text);
      return !exact || JSON.stringify(parseJson(text)) === JSON.stringify(JSON.parse(text));
    }),
  );
});

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is for
const control = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/;
const hostile = fc.string({
  unit: fc.oneof(
    fc.constantFrom(
      '\u001b[2J',
      '\u009b31m',
      '\u202e',
      '\n',
      '\t',
      '\r',
      '\u0007',
      ' ',
      ':',
      '#',
      '-',
      '"',
      "'",
      '1',
      'e',
      '|',
    ),
    fc.string({ minLength: 1, maxLength: 1, unit: 'binary' }),
  ),
  maxLength: 12,
});

t.test('text of other users cannot control the terminal', async (t) => {
  fc.assert(fc.property(hostile, (text) => !control.test(visible(text)) && !/\n/.test(visible(text))));
  fc.assert(fc.property(hostile, (text) => !control.test(visibleLines(text))));
  fc.assert(
    fc.property(hostile, (text) => {
      const shown = visibleJson({ [text]: text }, 2);
      return !control.test(shown) && JSON.parse(shown)[text] === text;
    }),
  );
  t.equal(visible('\u001b]0;owned\u0007'), '\\u001b]0;owned\\u0007');
  t.equal(visible('Grüße aus 東京 👩‍🚀'), 'Grüße aus 東京 👩‍🚀');
});

t.test('an object is shown as YAML that means the same', async (t) => {
  const tree = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 3 },
      hostile,
      fc.constantFrom(
        'true',
        'no',
        '12',
        '1e3',
        '.5',
        '0x1f',
        '~',
        '',
        'a: b',
        'a #b',
        '- a',
        '2001:db8::',
        '2026-01-01T00:00:00.000Z',
      ),
      fc.constantFrom('#!/bin/sh\necho "$x"\n', 'a\n\nb', 'a\n b\n\tc', ' a\nb', 'a\n\n', 'a\n  \nb', '\n', 'x\r\ny'),
      fc.integer(),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(hostile, tie('value'), { maxKeys: 3, noNullPrototype: true }),
    ),
  }));
  fc.assert(
    fc.property(fc.dictionary(hostile, tree.value, { minKeys: 1, maxKeys: 4, noNullPrototype: true }), (item) => {
      const shown = details(item, new Map());
      return !control.test(shown) && JSON.stringify(parseYaml(shown)) === JSON.stringify(item);
    }),
    { numRuns: 500 },
  );
  for (const { id, success } of endpoints) {
    const { example } = success;
    if (typeof example === 'object') t.same(parseYaml(details(example as object, new Map())), example, id);
  }
});

t.test('names stand beside the ids', async (t) => {
  const names = new Map([['img-0123456789abcdef', 'demo\u001b[31m']]);
  const item = {
    image: 'img-0123456789abcdef',
    interfaces: [{ network: 'net-0123456789abcdef', mac: 'x' }],
    ssh_keys: [],
  };
  t.equal(
    details(item, names),
    `image: img-0123456789abcdef  # demo\\u001b[31m
interfaces:
  - network: net-0123456789abcdef
    mac: x
ssh_keys: []
`,
  );
});
