/** Files that have been quiet, by the times of their changes. */
import fc from 'fast-check';
import t from 'tap';
import { QuietSince } from '../../backend/model/file/quiet-since.ts';

const ns = (ms: number) => BigInt(Math.round(ms)) * 1_000_000n;
const quietMs = 10_000;

t.test('a file is quiet when it changed before what was seen a quiet time ago', async (t) => {
  const since = new QuietSince(quietMs);
  since.note(ns(500), ns(1000));
  since.tick(0);
  t.notOk(since.isQuiet(ns(100)), 'nothing was seen a quiet time ago');
  since.tick(quietMs - 1);
  t.notOk(since.isQuiet(ns(100)));
  since.tick(quietMs);
  t.ok(since.isQuiet(ns(499)));
  t.notOk(since.isQuiet(ns(500)), 'a change at the same time may be a later one');
});

t.test('a change in the future makes no other file quiet', async (t) => {
  const since = new QuietSince(quietMs);
  since.note(ns(10 ** 12), ns(1000));
  since.tick(0);
  since.tick(quietMs);
  t.notOk(since.isQuiet(ns(10 ** 11)));
});

t.test('no file is quiet that changed within the time, whatever clock the file server has', async (t) => {
  const step = fc.record({
    file: fc.integer({ min: 0, max: 3 }),
    changes: fc.boolean(),
    afterMs: fc.integer({ min: 0, max: 8000 }),
  });
  let certain = 0;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: -100_000, max: 100_000 }), (steps, skewMs) => {
      const since = new QuietSince(quietMs);
      const changed = [0, 0, 0, 0];
      let now = 1_000_000;
      for (const { file, changes, afterMs } of steps) {
        now += afterMs;
        if (changes) changed[file] = now;
        const stamp = ns((changed[file] ?? 0) + skewMs);
        since.tick(now);
        since.note(stamp, ns(now));
        if (!since.isQuiet(stamp)) continue;
        certain++;
        if (now - (changed[file] ?? 0) < quietMs) return false;
      }
      return true;
    }),
  );
  t.ok(certain > 0, `${certain} files were certainly quiet`);
});
