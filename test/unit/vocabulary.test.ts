/** Sizes, formats, label selectors, page tokens, bearer tokens. */
import fc from 'fast-check';
import t from 'tap';
import { decodePageToken, encodePageToken } from '../../backend/api/requests/page-token.ts';
import { isSecret, newSecret, parseSecret } from '../../backend/api/tokens/secret.ts';
import { newId } from '../../backend/model/ids.ts';
import { formats } from '../../backend/model/text/formats.ts';
import { matches, normalSelector, parseSelector } from '../../backend/model/text/selectors.ts';
import { formatSize, maxSizeBytes, parseSize } from '../../backend/model/text/sizes.ts';

const MiB = 2 ** 20;

t.test('sizes', async (t) => {
  for (const [text, bytes] of [
    ['1MiB', MiB],
    ['512MiB', 512 * MiB],
    ['2GiB', 2 ** 31],
    ['512TiB', maxSizeBytes],
    ['513TiB', undefined],
    ['0GiB', undefined],
    ['-1GiB', undefined],
    ['01GiB', undefined],
    ['1.5GiB', undefined],
    ['1GB', undefined],
    ['1 GiB', undefined],
    ['', undefined],
  ] as const) {
    t.equal(parseSize(text), bytes, text);
  }
  t.equal(formatSize(2 ** 31), '2GiB');
  t.equal(formatSize(2 ** 31 + 1), '2049MiB', 'rounded up');
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: maxSizeBytes / MiB }),
      (count) => parseSize(formatSize(count * MiB)) === count * MiB,
    ),
  );
  fc.assert(
    fc.property(fc.integer({ min: 1, max: maxSizeBytes }), (bytes) => {
      const shown = parseSize(formatSize(bytes)) ?? 0;
      return shown >= bytes && shown - bytes < MiB;
    }),
  );
});

t.test('times', async (t) => {
  for (const [text, valid] of [
    ['2026-01-31T12:00:00Z', true],
    ['2026-01-31T12:00:00.123+02:00', true],
    ['2026-01-31 12:00:00Z', false],
    ['2026-01-31T12:00:00', false],
    ['2026-13-01T00:00:00Z', false],
    ['2026-01-31T24:00:00Z', false],
    ['tomorrow', false],
  ] as const) {
    t.equal(formats['date-time']?.(text) === undefined, valid, text);
  }
});

t.test('bank accounts', async (t) => {
  for (const [format, text, valid] of [
    ['iban', 'CH93 0076 2011 6238 5295 7', true],
    ['iban', 'CH9300762011623852957', true],
    ['iban', 'DE89370400440532013000', true],
    ['iban', 'CH93 0076 2011 6238 5295 8', false],
    ['iban', 'CH93007620116238529', false],
    ['iban', 'XX93 0076 2011 6238 5295 7', false],
    ['bic', 'POFICHBEXXX', true],
    ['bic', 'POFICHBE', true],
    ['bic', '12345678', false],
  ] as const) {
    t.equal(formats[format]?.(text) === undefined, valid, text);
  }
});

t.test('label selectors', async (t) => {
  const labels = { env: 'prod', tier: 'db', 'example.net/team': 'a', empty: '' };
  for (const [text, expected] of [
    ['env=prod', true],
    ['env==prod', true],
    ['env = prod', true],
    ['env=test', false],
    ['env!=test', true],
    ['zone!=a', true],
    ['env=prod,tier=web', false],
    ['env in (prod,test)', true],
    ['env in ( test , prod ), tier', true],
    ['env notin (prod)', false],
    ['zone notin (a)', true],
    ['zone in (a)', false],
    ['example.net/team=a', true],
    ['empty=', true],
    ['empty', true],
    ['!zone', true],
    ['!env', false],
    ['toString', false],
    ['!constructor', true],
    ['in', false],
  ] as const) {
    const selector = parseSelector(text);
    if (typeof selector === 'string') t.fail(`${text}: ${selector}`);
    else t.equal(matches(selector, labels), expected, text);
  }
  for (const text of [
    '',
    ',',
    'a,',
    'a=b=c',
    'a>b',
    'a in',
    'a in (b',
    'a in b',
    'a in (b c)',
    '=a',
    '!',
    '!!a',
    'a b',
    'a=(b)',
    'é=1',
    'a=b\0',
    // The work of a comparison is bounded.
    Array.from({ length: 17 }, (_, index) => `a${index}`).join(','),
  ]) {
    t.type(parseSelector(text), 'string', JSON.stringify(text));
  }
  // A text is either refused with a message, or it is a selector that some labels match and others do not.
  const word = fc.stringMatching(/^[a-z]{1,8}$/);
  fc.assert(
    fc.property(word, word, word, (key, value, other) => {
      const selector = parseSelector(`${key}=${value}`);
      if (typeof selector === 'string') return false;
      return matches(selector, { [key]: value }) && (value === other || !matches(selector, { [key]: other }));
    }),
  );
  fc.assert(fc.property(fc.string(), (text) => parseSelector(text) !== ''));
});

t.test('the normal spelling of a label selector', async (t) => {
  for (const [text, normal] of [
    ['zone=a', 'zone=a'],
    [' zone == a ', 'zone=a'],
    ['zone in ( a )', 'zone=a'],
    ['zone notin (a)', 'zone!=a'],
    ['rack in (b, a,b),! gpu', '!gpu,rack in (a,b)'],
    ['b,a,b', 'a,b'],
    ['empty=', 'empty='],
    ['a in b', undefined],
  ] as const) {
    t.equal(normalSelector(text), normal, text);
  }
  const word = fc.constantFrom('a', 'b', 'c', '');
  const key = fc.constantFrom('x', 'y', 'example.net/z');
  const requirement = fc.oneof(
    key,
    key.map((name) => `! ${name}`),
    fc.tuple(key, fc.constantFrom('=', '==', '!='), word).map(([name, is, value]) => `${name} ${is} ${value}`),
    fc
      .tuple(key, fc.constantFrom('in', 'notin'), fc.array(word, { minLength: 1, maxLength: 4 }))
      .map(([name, is, values]) => `${name} ${is} ( ${values.join(' , ')} )`),
  );
  const labels = fc.dictionary(key, word);
  fc.assert(
    fc.property(fc.array(requirement, { minLength: 1, maxLength: 4 }), labels, (parts, labels) => {
      const text = parts.join(', ');
      const normal = normalSelector(text);
      const [selector, again] = [parseSelector(text), parseSelector(normal ?? '')];
      if (typeof selector === 'string' || typeof again === 'string') return false;
      return normalSelector(normal ?? '') === normal && matches(selector, labels) === matches(again, labels);
    }),
  );
});

t.test('page tokens', async (t) => {
  const id = newId('vm');
  t.equal(decodePageToken(encodePageToken(id)), id);
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        return encodePageToken(decodePageToken(text)) === text;
      } catch (error) {
        return error instanceof Error && error.message.includes('page_token');
      }
    }),
  );
});

t.test('bearer tokens', async (t) => {
  const id = newId('token');
  const { text, hash } = newSecret(id);
  const parsed = parseSecret(text);
  t.equal(parsed?.id, id);
  t.ok(isSecret(parsed?.secret ?? '', hash));
  t.notOk(isSecret('0'.repeat(64), hash));
  t.notOk(hash.includes(parsed?.secret ?? text));
  for (const wrong of ['', 'ucloud_', text.toUpperCase(), `${text}0`, text.slice(1), text.replace('ucloud', 'other')]) {
    t.equal(parseSecret(wrong), undefined);
  }
});
