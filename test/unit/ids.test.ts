import fc from 'fast-check';
import t from 'tap';
import { idPrefixes, type Noun } from '../../backend/contract/fields.ts';
import { isIdOf, newId, newTimeOrderedId } from '../../backend/model/ids.ts';

const nouns = Object.keys(idPrefixes) as Noun[];

t.test('an id names its kind and never comes twice', async (t) => {
  for (const noun of nouns) {
    const ids = new Set(Array.from({ length: 1000 }, () => newId(noun)));
    t.equal(ids.size, 1000);
    const form = new RegExp(`^${idPrefixes[noun]}-[0-9a-hjkmnp-tv-z]{16}$`);
    t.strictSame(
      [...ids].filter((id) => !form.test(id)),
      [],
      `${noun}: all of the form that the contract asks for`,
    );
  }
});

t.test('an id is an id of its own noun alone', async (t) => {
  for (const noun of nouns)
    t.strictSame(
      nouns.filter((other) => isIdOf(other, newId(noun))),
      [noun],
    );
});

t.test('time-ordered ids sort by the time of their making', async (t) => {
  const time = fc.integer({ min: 0, max: 2 ** 47 });
  fc.assert(
    fc.property(time, time, (a, b) => {
      const [first, second] = [newTimeOrderedId('event', new Date(a)), newTimeOrderedId('event', new Date(b))];
      return a === b || a < b === first < second;
    }),
  );
  t.pass('holds for random times');
});

t.test('within a millisecond they sort by the order of their making', async (t) => {
  const now = new Date();
  const ids = Array.from({ length: 1000 }, () => newTimeOrderedId('audit_record', now));
  t.strictSame([...ids].sort(), ids);
  t.equal(new Set(ids).size, 1000);
});
