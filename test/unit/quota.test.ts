import fc from 'fast-check';
import t from 'tap';
import { type QuotaKind, quotaKinds } from '../../backend/contract/resources/quotas.ts';
import {
  exceeded,
  explainExceeded,
  growthFrom,
  limitsOf,
  noAmounts,
  plus,
  prefixAmounts,
  type SomeAmounts,
  showQuota,
} from '../../backend/model/quota/amounts.ts';

const gib = 2 ** 30;

t.test('the error of an exceeded quota names the limit, the use and the request', async (t) => {
  const table: [QuotaKind, limit: number, used: number, more: number, string][] = [
    ['vms', 10, 10, 1, 'the project acme may have 10 VMs and has 10'],
    ['vms', 10, 8, 3, 'the project acme may have 10 VMs and has 8, and 3 more are asked for'],
    ['vms', 1, 1, 1, 'the project acme may have 1 VM and has 1'],
    ['networks', 0, 0, 1, 'the project acme may have no networks and has 0'],
    [
      'memory',
      16 * gib,
      12 * gib,
      8 * gib,
      'the project acme may have 16GiB of memory and has 12GiB, and 8GiB more is asked for',
    ],
    ['disk', gib, 0, 1.5 * gib, 'the project acme may have 1GiB of disk and has 0MiB, and 1536MiB more is asked for'],
    [
      'subnets',
      256,
      256,
      16,
      'the project acme may have 256 /64s in its prefixes and has 256, and 16 more are asked for',
    ],
  ];
  for (const [kind, limit, used, more, words] of table) {
    t.equal(explainExceeded('acme', kind, { limit, used, more }), words);
  }
});

t.test('limits keep their meaning on the way into the store and back', async (t) => {
  t.equal(limitsOf({}), undefined);
  t.same(limitsOf({ disk: '1024MiB', vms: 0 }), { vms: 0, disk: gib });
  t.same(showQuota(limitsOf({ disk: '1024MiB', vms: 0, memory: '1536MiB' })), {
    vms: 0,
    memory: '1536MiB',
    disk: '1GiB',
  });
  t.same(showQuota(undefined), {});
});

t.test('a prefix counts for its /64s', async (t) => {
  t.same(
    [20, 56, 63, 64].map((length) => prefixAmounts({ length }).subnets),
    [2 ** 44, 256, 2, 1],
  );
});

const someAmounts = fc
  .dictionary(fc.constantFrom(...quotaKinds), fc.nat(20))
  .map((amounts): SomeAmounts => ({ ...amounts }));

t.test('admitted changes in sequence never exceed the limits; shrinking is always admitted', async () => {
  fc.assert(
    fc.property(someAmounts, someAmounts, fc.array(fc.tuple(someAmounts, someAmounts)), (limits, start, changes) => {
      let used = plus(noAmounts, start);
      for (const [before, after] of changes) {
        const growth = growthFrom(before, after);
        const refused = exceeded(limits, used, growth);
        for (const kind of quotaKinds) {
          const more = growth[kind] ?? 0;
          const over = more > 0 && used[kind] + more > (limits[kind] ?? Number.POSITIVE_INFINITY);
          if (over !== refused.includes(kind)) return false;
        }
        if (refused.length === 0) used = plus(used, growth);
      }
      return quotaKinds.every(
        (kind) => used[kind] <= Math.max(limits[kind] ?? Number.POSITIVE_INFINITY, start[kind] ?? 0),
      );
    }),
  );
});
