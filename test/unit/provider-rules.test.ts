/** A plan refuses every value that the API refuses by its contract alone: for every field, and values of all kinds. */
import t from 'tap';
import { validator } from '../../backend/api/requests/validation.ts';
import { UcloudError } from '../../backend/contract/errors.ts';
import { endpoints } from '../../backend/contract/index.ts';
import type { Field, Fields } from '../../provider/derive/fields.ts';
import { flawsOf } from '../../provider/derive/rules.ts';
import { sameUserData, warningForUserData } from '../../provider/derive/user-data.ts';
import { creatable, schemaOf } from '../../provider/schema/resources.gen.ts';

const texts = [
  ...['', ' ', 'web', 'Web', '-web', 'web\n', 'ü', '\0', 'a\0b', '\ud800', 'x'.repeat(64), 'x'.repeat(20_000)],
  ...['x'.repeat(40_000), '#!/bin/sh\0', '#!/bin/sh\r\n', 'a\u0007b', 'key-0123456789abcdef', 'prj-0123456789abcdef'],
  ...['img-0123456789abcdei', '1GiB', '0GiB', '1 GiB', '1gib', '512TiB', '513TiB', '999999999TiB', '1.5GiB'],
  ...['2001:db8::/32', '2001:db8::1/32', '2001:db8::/129', '2001:db8::/032', '2001:db8::1', '2001:db8::g', '10.0.0.1'],
  ...['fe80::1%eth0', '42:00:5e:10:00:01', '43:00:5e:10:00:01', '42:00:5e:10:00', 'x86_64', 'riscv', 'operator'],
  ...['zone=a', 'zone in (a,b),!gpu', 'zone=', 'zone in a', ',', 'a b', ' zone = a '],
  ...['2030-01-31T12:00:00Z', '2030-02-30T12:00:00Z', '2030-01-31T24:00:00Z', '2030-01-31', '12030-01-31T12:00:00Z'],
  ...[
    '2030-01-31T12:00:00.1234567890Z',
    '2030-01-31T12:00:00+25:00',
    'file:a.raw',
    'file:../a',
    'ftp://x',
    'https://x',
  ],
  ...['https://x y', '0'.repeat(64), 'A'.repeat(64), 'ssh-ed25519 AAAA', 'ssh-rsa AAAAB3NzaC1yc2E=', 'running'],
];
const numbers = [0, -1, 1, 1.5, 19, 20, 56, 64, 65, 256, 257, 1280, 9000, 9001, 2 ** 31, 2 ** 53, 1e300];
const label = { [`${'x'.repeat(64)}`]: 'a' };
const maps = [{}, { team: 'web' }, { '-': 'a' }, { team: '-' }, { team: 'x'.repeat(64) }, label, { '': '' }];
const many = (length: number, of: (index: number) => unknown) => Array.from({ length }, (_, index) => of(index));

function valuesFor(field: Field): unknown[] {
  switch (field.type) {
    case 'string':
      return texts;
    case 'integer':
    case 'number':
      return numbers;
    case 'map':
      return [...maps, Object.fromEntries(many(65, (index) => [`k${index}`, 'v']) as [string, string][])];
    case 'list':
      if (!field.items) return [[]];
      // Terraform itself refuses text in a list of numbers.
      if (field.items.type !== 'string') return numbers.map((number) => [number]);
      return [...texts.map((text) => [text]), many(40, (i) => `2001:db8::${i}`), ['2001:db8::1', '2001:db8::1']];
    default:
      return [];
  }
}

/** Returns the faults that the plan finds in a value of a field and its parts. */
function planned(field: Field, value: unknown): unknown[] {
  const own = [...flawsOf(field, value)];
  const parts = Array.isArray(value) ? value : [value];
  if (!field.fields) return own;
  return [
    ...own,
    ...parts.flatMap((part) =>
      Object.entries(part as object).flatMap(([name, inner]) => {
        const nested = field.fields?.[name];
        return nested ? planned(nested, inner) : [];
      }),
    ),
  ];
}

/** Single values of all kinds for every field, however deep. */
function* cases(
  fields: Fields,
  path: readonly string[] = [],
): Generator<[path: string[], field: Field, value: unknown]> {
  for (const [name, field] of Object.entries(fields)) {
    if (field.create === undefined) continue;
    for (const value of valuesFor(field)) yield [[...path, name], field, value];
    if (field.fields) yield* cases(field.fields, [...path, name]);
  }
}

t.test('a plan refuses every creation that the contract refuses', async (t) => {
  let refused = 0;
  for (const noun of creatable) {
    const endpoint = endpoints.find(({ id }) => id === `${noun}_create`);
    if (!endpoint) throw new Error(noun);
    const validate = validator(endpoint);
    const { fields } = schemaOf(noun);
    const missed: unknown[] = [];
    for (const [path, field, value] of cases(fields)) {
      const [outer = '', inner] = path;
      const whole = fields[outer];
      const given = inner === undefined ? value : whole?.type === 'list' ? [{ [inner]: value }] : { [inner]: value };
      const pointer = `/${outer}${inner === undefined ? '' : `${whole?.type === 'list' ? '/0' : ''}/${inner}`}`;
      let told = false;
      try {
        validate({ params: {}, query: {}, headers: {}, body: structuredClone({ [outer]: given }) });
      } catch (error) {
        if (!(error instanceof UcloudError)) throw error;
        told = error.errors.some((one) => `${one.pointer}/`.startsWith(`${pointer}/`));
      }
      // A string that cannot be stored is looked for only in what is valid otherwise.
      if (!told) continue;
      refused += 1;
      if (planned(field, value).length === 0) missed.push([pointer, value]);
    }
    t.strictSame(missed.slice(0, 5), [], noun);
  }
  t.ok(refused > 1000, `${refused} values are refused`);
});

t.test('text that no field may hold is refused in every one', async (t) => {
  for (const noun of creatable) {
    for (const [path, field] of cases(schemaOf(noun).fields)) {
      if (field.type !== 'string') continue;
      for (const text of ['a\0', '\udfff']) {
        t.not(flawsOf(field, text).length, 0, `${noun} ${path.join('.')}`);
      }
    }
  }
});

t.test('user data that will not run', async (t) => {
  const odd: readonly (readonly [text: string, what: RegExp])[] = [
    ['', /is empty/],
    ['H4sIAAAAAAAAA', /compressed/],
    ['IyEvYmluL3NoCg==', /base64/],
    ['\ufeff#!/bin/sh\n', /byte order mark/],
    ['\n#!/bin/sh\n', /blank or an empty line/],
    ['apt-get install nginx', /neither a script nor in a format of cloud-init/],
    ['#!\necho', /names no interpreter/],
    ['#!sh\necho', /names no path/],
    ['#!/bin/sh\recho', /carriage return/],
    [`#!/${'x'.repeat(300)}\n`, /too long/],
    ['#!/bin/sh\r\necho\r\n', /CRLF/],
  ];
  for (const [text, what] of odd) {
    const told = warningForUserData(text);
    t.match(`${told?.summary} ${told?.detail}`, what, JSON.stringify(text.slice(0, 30)));
  }
  const forCloudInit = [
    '#cloud-config\npackages: [nginx]\n',
    '#include\nhttps://x',
    'Content-Type: multipart/mixed; boundary="x"',
  ];
  for (const text of ['#!/bin/sh', '#! /bin/sh -e\n', '#!/usr/bin/env python3\nprint()\n', ...forCloudInit])
    t.equal(warningForUserData(text), undefined);
  t.ok(sameUserData('#!/bin/sh\r\na\r\n', '#!/bin/sh\na\n'), 'line ends of a script are no difference');
  t.notOk(sameUserData('#!/bin/sh\n', '#!/bin/sh\n\n'));
  t.notOk(sameUserData('text\r\n', 'text\n'), 'those of something else may be');
});
