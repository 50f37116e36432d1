/** When a snapshot schedule is due, and which of its snapshots stay. */
import fc from 'fast-check';
import t from 'tap';
import { type Cron, lastDue, nextDue, parseCron } from '../../backend/model/snapshot/cron.ts';
import { expiredSnapshots, type ScheduledSnapshot } from '../../backend/model/snapshot/retention.ts';

const cronOf = (text: string): Cron => {
  const cron = parseCron(text);
  if (typeof cron === 'string') throw new Error(`${text} ${cron}`);
  return cron;
};

t.test('the next time after a moment', async (t) => {
  const rows: readonly [cron: string, now: string, next: string][] = [
    ['0 3 * * *', '2026-01-01T02:59:59Z', '2026-01-01T03:00:00.000Z'],
    ['0 3 * * *', '2026-01-01T03:00:00Z', '2026-01-02T03:00:00.000Z'],
    ['30 */6 * * *', '2026-01-01T07:00:00Z', '2026-01-01T12:30:00.000Z'],
    ['30 2/6 * * *', '2026-01-01T21:00:00Z', '2026-01-02T02:30:00.000Z'],
    ['5 * * * *', '2026-12-31T23:30:00Z', '2027-01-01T00:05:00.000Z'],
    ['0 4 * * 1-5', '2026-01-02T05:00:00Z', '2026-01-05T04:00:00.000Z'],
    ['0 4 * * 7', '2026-01-01T00:00:00Z', '2026-01-04T04:00:00.000Z'],
    ['0 4 1,15 * 3', '2026-01-01T05:00:00Z', '2026-01-07T04:00:00.000Z'],
    ['0 4 29 2 *', '2026-01-01T00:00:00Z', '2028-02-29T04:00:00.000Z'],
    ['0 4 29 2 *', '2096-03-01T00:00:00Z', '2104-02-29T04:00:00.000Z'],
    ['0 0 31 * *', '2026-02-01T00:00:00Z', '2026-03-31T00:00:00.000Z'],
  ];
  for (const [cron, now, next] of rows) t.equal(nextDue(cronOf(cron), new Date(now))?.toISOString(), next, cron);
});

t.test('a text that is no schedule is refused with its rule', async (t) => {
  const rows: readonly [cron: string, rule: RegExp][] = [
    ['', /five fields/],
    ['0 3 * *', /five fields/],
    ['0  3 * * *', /five fields/],
    ['* 3 * * *', /one number for the minute/],
    ['0,30 3 * * *', /one number for the minute/],
    ['60 3 * * *', /from 0 to 59 for the minute/],
    ['0 24 * * *', /from 0 to 23 for the hour/],
    ['0 5-3 * * *', /for the hour/],
    ['0 */0 * * *', /for the hour/],
    ['0 3 0 * *', /from 1 to 31/],
    ['0 3 * 13 *', /from 1 to 12/],
    ['0 3 * * 8', /from 0 to 7/],
    ['0 3 * * MON', /from 0 to 7/],
    ['@daily', /five fields/],
    ['0 3 30 2 *', /a day that exists/],
    ['0 3 31 4,6,9,11 *', /a day that exists/],
  ];
  for (const [cron, rule] of rows) t.match(parseCron(cron), rule, cron);
});

const numbers = (min: number, max: number) =>
  fc.oneof(
    fc.constant('*'),
    fc.integer({ min, max }).map(String),
    fc.integer({ min: 1, max: 9 }).map((step) => `*/${step}`),
    fc.tuple(fc.integer({ min, max }), fc.integer({ min, max })).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`),
    fc.uniqueArray(fc.integer({ min, max }), { minLength: 1, maxLength: 4 }).map((all) => all.join()),
  );
const crons = fc
  .tuple(fc.integer({ min: 0, max: 59 }).map(String), numbers(0, 23), numbers(1, 31), numbers(1, 12), numbers(0, 7))
  .map((parts) => parseCron(parts.join(' ')))
  .filter((cron): cron is Cron => typeof cron !== 'string');
const moments = fc.date({ min: new Date('2020-01-01'), max: new Date('2030-01-01'), noInvalidDate: true });

t.test('after an outage of any length, exactly the last missed time is due', async (t) => {
  fc.assert(
    fc.property(crons, moments, fc.integer({ min: 1, max: 400 }), (cron, after, hours) => {
      const now = new Date(after.getTime() + hours * 3_600_000);
      const missed: number[] = [];
      for (let at = nextDue(cron, after); at && at <= now; at = nextDue(cron, at)) missed.push(at.getTime());
      const due = lastDue(cron, after, now);
      t.equal(due?.getTime(), missed.at(-1));
      // After the snapshot of this time, nothing is due until the next time.
      if (due) t.equal(lastDue(cron, due, now), undefined);
    }),
  );
});

t.test('the newest complete snapshots stay, and nothing else counts', async (t) => {
  const snapshot = fc.record({
    phase: fc.constantFrom('pending', 'creating', 'available', 'error', 'deleting'),
    created_at: fc.integer({ min: 0, max: 5 }).map((second) => new Date(second * 1000).toISOString()),
    delete_protection: fc.boolean(),
  });
  const lists = fc
    .array(snapshot, { maxLength: 20 })
    .map((all) => all.map((each, index): ScheduledSnapshot => ({ ...each, id: `snap-${index}` })));
  fc.assert(
    fc.property(lists, fc.integer({ min: 1, max: 5 }), (all, retain) => {
      const gone = new Set(expiredSnapshots(all, retain));
      const left = all.filter(({ id }) => !gone.has(id));
      const counted = ({ phase, delete_protection }: ScheduledSnapshot) => phase === 'available' && !delete_protection;
      t.equal(left.filter(counted).length, Math.min(retain, all.filter(counted).length));
      for (const { id, phase, delete_protection } of all) {
        if (gone.has(id)) t.ok(!delete_protection && (phase === 'available' || phase === 'error'));
      }
      const removed = all.filter((each) => gone.has(each.id) && each.phase === 'available');
      const oldest =
        left
          .filter(counted)
          .map(({ created_at }) => created_at)
          .toSorted()[0] ?? '';
      t.ok(
        removed.every(({ created_at }) => created_at <= oldest),
        'the oldest ones go',
      );
      t.ok(left.filter(({ phase, delete_protection }) => phase === 'error' && !delete_protection).length <= 1);
      t.strictSame(expiredSnapshots(left, retain), [], 'once is enough');
    }),
  );
});
