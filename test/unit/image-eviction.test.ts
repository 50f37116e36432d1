/** The choice of the copies of images that a host removes. */
import fc from 'fast-check';
import t from 'tap';
import { copiesToEvict, keptFreeBytes, leftFreeBytes } from '../../backend/model/image/eviction.ts';

const copies = fc.uniqueArray(
  fc.record({ image: fc.nat(20).map(String), bytes: fc.integer({ min: 1, max: 100 }), usedAtMs: fc.nat(50) }),
  { selector: ({ image }) => image },
);

t.test('a host removes no needed copy, no more than it must, and the least recently used first', async (t) => {
  fc.assert(
    fc.property(copies, fc.func(fc.boolean()), fc.nat(300), fc.nat(300), (held, isNeeded, free, wanted) => {
      const evicted = copiesToEvict(held, isNeeded, free, wanted);
      const unneeded = held.filter(({ image }) => !isNeeded(image));
      const kept = unneeded.filter((copy) => !evicted.includes(copy));
      const freed = evicted.reduce((sum, { bytes }) => sum + bytes, free);
      t.notOk(evicted.some(({ image }) => isNeeded(image)));
      t.ok(freed >= wanted || kept.length === 0, 'enough is free, or nothing is left to remove');
      t.ok(evicted.length === 0 || freed - (evicted.at(-1)?.bytes ?? 0) < wanted, 'the last one was necessary');
      const newest = Math.max(...evicted.map(({ usedAtMs }) => usedAtMs));
      t.ok(kept.every(({ usedAtMs }) => usedAtMs >= newest));
    }),
  );
});

t.test('the free space that a host keeps, and that a fetch leaves', async (t) => {
  const GiB = 2 ** 30;
  t.equal(keptFreeBytes(100 * GiB), 10 * GiB);
  t.equal(keptFreeBytes(1000 * GiB), 16 * GiB);
  t.equal(leftFreeBytes(1000 * GiB), 4 * GiB);
});
