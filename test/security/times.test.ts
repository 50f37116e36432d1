/** A time that does not exist is refused wherever one is given: it is never moved to another day. */
import fc from 'fast-check';
import t from 'tap';
import { formats } from '../../backend/model/text/formats.ts';
import { parseTimestamp } from '../../backend/model/text/timestamps.ts';
import { formats as providerFormats } from '../../provider/derive/semantics.ts';
import { contentOf, startTestApi } from '../support/api.ts';

const none = [
  '2025-02-29T00:00:00Z',
  '2025-02-30T00:00:00Z',
  '2100-02-29T00:00:00Z',
  '1900-02-29T00:00:00Z',
  '2030-04-31T00:00:00Z',
  '2030-06-31T00:00:00Z',
  '2030-09-31T00:00:00Z',
  '2030-11-31T00:00:00Z',
  '2030-00-01T00:00:00Z',
  '2030-13-01T00:00:00Z',
  '2030-01-00T00:00:00Z',
  '2030-01-32T00:00:00Z',
  '2030-01-01T24:00:00Z',
  '2030-01-01T23:60:00Z',
  '2030-01-01T23:59:60Z',
  '2016-12-31T23:59:60Z',
  '2030-01-01T00:00:00+24:00',
  '2030-01-01T00:00:00+01:60',
  '2030-01-01T00:00:00+1:00',
  '2030-01-01T00:00:00+0100',
  '2030-01-01T00:00:00',
  '2030-01-01T00:00Z',
  '2030-01-01',
  '2030-01-01 00:00:00Z',
  '2030-1-1T00:00:00Z',
  '2030-01-01T00:00:00.Z',
  '2030-01-01T00:00:00,5Z',
  '2030-01-01T00:00:00.1234567890Z',
  '30-01-01T00:00:00Z',
  '02030-01-01T00:00:00Z',
  '12030-01-01T00:00:00Z',
  '+002030-01-01T00:00:00Z',
  '-002030-01-01T00:00:00Z',
  '9999-12-31T23:59:59-00:01',
  '0000-01-01T00:00:00+00:01',
  ' 2030-01-01T00:00:00Z',
  '2030-01-01T00:00:00Z\n',
  '٢٠٣٠-01-01T00:00:00Z',
  '1893456000',
  'tomorrow',
];
const some: readonly (readonly [string, string])[] = [
  ['2028-02-29T00:00:00Z', '2028-02-29T00:00:00.000Z'],
  ['2400-02-29t23:59:59z', '2400-02-29T23:59:59.000Z'],
  ['2030-01-31T12:00:00.5+23:59', '2030-01-30T12:01:00.500Z'],
  ['2030-01-31T12:00:00.123456789Z', '2030-01-31T12:00:00.123Z'],
  ['9999-12-31T23:59:59Z', '9999-12-31T23:59:59.000Z'],
  ['2030-01-01T00:00:00-00:00', '2030-01-01T00:00:00.000Z'],
];

t.test('API and provider agree on which times exist', async (t) => {
  for (const text of none) {
    t.ok(formats['date-time']?.(text), text);
    t.equal(providerFormats['date-time']?.normal(text), undefined, text);
  }
  for (const [text, normal] of some) {
    t.equal(parseTimestamp(text)?.toISOString(), normal, text);
    t.equal(providerFormats['date-time']?.normal(text), normal, text);
  }
  const digits = (most: number, width: number) =>
    fc.integer({ min: 0, max: most }).map((n) => String(n).padStart(width, '0'));
  const zone = fc.oneof(
    fc.constantFrom('Z', 'z'),
    fc.tuple(digits(25, 2), digits(61, 2)).map(([h, m]) => `+${h}:${m}`),
  );
  const parts = [
    digits(9999, 4),
    digits(14, 2),
    digits(33, 2),
    digits(25, 2),
    digits(61, 2),
    digits(61, 2),
    zone,
  ] as const;
  fc.assert(
    fc.property(...parts, (year, month, day, hour, minute, second, zone) => {
      const text = `${year}-${month}-${day}T${hour}:${minute}:${second}${zone}`;
      const time = parseTimestamp(text);
      if (time?.toISOString() !== providerFormats['date-time']?.normal(text)) return false;
      if (time === undefined) return true;
      // The day that was written is the day that is meant, in its own zone.
      const [, sign = '+', h = '0', m = '0'] = /([+-])(\d\d):(\d\d)$/.exec(zone) ?? [];
      const offset = (Number(h) * 60 + Number(m)) * (sign === '-' ? -1 : 1);
      const there = new Date(time.getTime() + offset * 60_000).toISOString();
      return there.includes(`${year}-${month}-${day}T${hour}:${minute}:${second}`);
    }),
    { numRuns: 2000 },
  );
});

t.test('a time that does not exist is refused by its field and changes nothing', async (t) => {
  const { operator, store, project } = await startTestApi(t);
  const before = await contentOf(store);
  for (const text of none) {
    const token = await operator.request('POST', '/v1/tokens', { name: 'late', project, expires_at: text });
    t.match(token, { status: 400, body: { errors: [{ pointer: '/expires_at' }] } }, `expires_at = ${text}`);
    const lock = { ID: 'x', Created: text };
    const locked = await operator.request('POST', `/v1/terraform-states/s/lock?project=${project}`, lock);
    t.match(locked, { status: 400, body: { errors: [{ pointer: '/Created' }] } }, `Created = ${text}`);
  }
  t.same(await contentOf(store), before);
  for (const [index, [text, normal]] of some.entries()) {
    const token = await operator.create('tokens', { name: `late-${index}`, project, expires_at: text });
    t.match(token, { expires_at: normal });
  }
});
