/** Which image of a family is the newest, and where the replacements of an image lead. */
import fc from 'fast-check';
import t from 'tap';
import { isDeprecated, newestOf, replacementsOf } from '../../backend/model/image/families.ts';

const now = new Date('2026-06-01T00:00:00Z');
const image = (id: string, created_at: string, deprecated_at?: string) => ({
  id,
  created_at,
  ...(deprecated_at === undefined ? {} : { deprecated_at }),
});

t.test('the newest image is the latest that is not deprecated', async (t) => {
  const old = image('img-a', '2026-01-01T00:00:00Z');
  const fresh = image('img-b', '2026-03-01T00:00:00Z');
  for (const [what, images, expected] of [
    ['no image', [], undefined],
    ['the later one', [old, fresh], fresh],
    ['in each order', [fresh, old], fresh],
    ['a deprecated one never', [old, { ...fresh, deprecated_at: '2026-06-01T00:00:00Z' }], old],
    ['a time is compared, not its text', [old, { ...fresh, deprecated_at: '2026-06-01T01:00:00+02:00' }], old],
    ['one that will be deprecated', [old, { ...fresh, deprecated_at: '2026-06-01T00:00:01Z' }], 'img-b'],
    ['none if all are deprecated', [image('img-a', '2026-01-01T00:00:00Z', '2026-01-02T00:00:00Z')], undefined],
    ['the id decides between equals', [image('img-d', fresh.created_at), image('img-c', fresh.created_at)], 'img-d'],
  ] as const) {
    const found = newestOf(images, now);
    t.equal(found?.id, typeof expected === 'string' ? expected : expected?.id, what);
  }
});

t.test('the choice depends neither on the order nor on deprecated images', async () => {
  const times = fc.date({ min: new Date('2020-01-01'), max: new Date('2030-01-01'), noInvalidDate: true });
  const images = fc.uniqueArray(
    fc.record({ id: fc.string(), created: times, deprecated: fc.option(times, { nil: undefined }) }),
    { selector: ({ id }) => id },
  );
  fc.assert(
    fc.property(images, (drawn) => {
      const all = drawn.map(({ id, created, deprecated }) =>
        image(id, created.toISOString(), deprecated?.toISOString()),
      );
      const found = newestOf(all, now);
      const usable = all.filter((each) => !isDeprecated(each, now));
      t.equal(found?.id, newestOf(usable.toReversed(), now)?.id);
      t.equal(found === undefined, usable.length === 0);
      t.ok(usable.every(({ created_at }) => found !== undefined && created_at <= found.created_at));
    }),
  );
});

t.test('replacements end, or have a fault', async (t) => {
  const next: Record<string, string> = { a: 'b', b: 'c', d: 'd2', d2: 'd' };
  const find = (id: string) => (id === 'gone' ? undefined : { id, replaced_by: next[id] as string });
  const of = (id: string, first: string) => {
    const start = find(first);
    if (!start) throw new Error('no such image');
    const result = replacementsOf(id, start, (each) => (each === undefined ? undefined : find(each)), 3);
    return 'fault' in result ? result.fault : result.chain.map((each) => each.id);
  };
  t.same(of('x', 'c'), ['c']);
  t.same(of('x', 'a'), ['a', 'b', 'c']);
  t.equal(of('c', 'a'), 'circle', 'the end leads to the beginning');
  t.equal(of('a', 'a'), 'circle');
  t.equal(of('x', 'd'), 'too long', 'a circle elsewhere ends the search too');
  next.c = 'e';
  t.equal(of('x', 'a'), 'too long');
  next.b = 'gone';
  t.same(of('x', 'a'), ['a', 'b'], 'an image that is gone ends the chain');
});
