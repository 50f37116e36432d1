import fc from 'fast-check';
import t from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import {
  checkCapacity,
  type PlannedRequest,
  type ProjectQuota,
  refusedByQuota,
} from '../../backend/model/placement/capacity-check.ts';
import { defaultHostPolicy } from '../../backend/model/placement/filters.ts';
import { HostPool } from '../../backend/model/placement/host-pool.ts';
import { noAmounts, plus, type SomeAmounts, vmAmounts } from '../../backend/model/quota/amounts.ts';

const gib = 2 ** 30;
const hostId = (n: number) => `host-${String(n).padStart(16, '0')}` as Id<'host'>;
const policy = { ...defaultHostPolicy, cpu_overcommit: 1 };

/** Creates a pool of hosts with 4 cpus, 16 GiB of memory and 100 GiB of disk each. */
function poolOf(hosts: number, architecture: 'x86_64' | 'aarch64' = 'x86_64'): HostPool {
  const pool = new HostPool();
  const capacity = { cpus: 4, memory: 16 * gib, disk: 100 * gib };
  for (let n = 1; n <= hosts; n++) pool.setHost({ id: hostId(n), architecture, alive: true, capacity, policy });
  return pool;
}
const plannedRequest = (count: number, memory: number, more: Partial<PlannedRequest> = {}): PlannedRequest => {
  const resources = { cpus: 1, memory: memory * gib, disk: 10 * gib };
  return {
    count,
    resources,
    quotaDelta: vmAmounts({ ...resources, disk_size: resources.disk }),
    architectures: ['x86_64'],
    ...more,
  };
};
const project = (limits: SomeAmounts = {}, used: SomeAmounts = {}): ProjectQuota => ({
  name: 'acme',
  limits,
  used: plus(noAmounts, used),
});

t.test('the check considers all planned VMs together', async (t) => {
  const placed = { host: hostId(1), vm: 'vm-1' as Id<'vm'> };
  const full = poolOf(1);
  full.setPlacement(placed.host, placed.vm, { cpus: 2, memory: 12 * gib, disk: 10 * gib });
  const any: PlannedRequest['architectures'] = ['x86_64', 'aarch64'];
  const table: [string, HostPool, ProjectQuota, PlannedRequest[], object[], removed?: (typeof placed)[]][] = [
    ['there is room', poolOf(1), project(), [plannedRequest(4, 4)], []],
    [
      'one more than there is room for',
      poolOf(1),
      project(),
      [plannedRequest(2, 4), plannedRequest(3, 4)],
      [
        {
          index: 1,
          count: 1,
          reason: 'no_host',
          message: 'needs 1 cpu, largest free host has 0 cpus; needs 4GiB of memory, largest free host has 0MiB',
        },
      ],
    ],
    [
      'a small one may still fit after a large one that does not',
      poolOf(1),
      project(),
      [plannedRequest(1, 64), plannedRequest(1, 1)],
      [
        {
          index: 0,
          count: 1,
          reason: 'no_host',
          kind: 'memory',
          message: 'needs 64GiB of memory, largest free host has 16GiB',
        },
      ],
    ],
    [
      'an architecture that no host has',
      poolOf(1, 'aarch64'),
      project(),
      [plannedRequest(1, 1)],
      [{ message: 'no host has the architecture x86_64' }],
    ],
    ['any architecture', poolOf(1, 'aarch64'), project(), [plannedRequest(1, 1, { architectures: any })], []],
    [
      'any architecture, and too large for each',
      poolOf(1, 'aarch64'),
      project(),
      [plannedRequest(1, 64, { architectures: any })],
      [{ message: 'needs 64GiB of memory, largest free host has 16GiB' }],
    ],
    [
      'no host at all',
      poolOf(0),
      project(),
      [plannedRequest(2, 1)],
      [{ index: 0, count: 2, message: 'there is no host' }],
    ],
    [
      'the quota, counted over all',
      poolOf(2),
      project({ vms: 4 }, { vms: 2 }),
      [plannedRequest(1, 1), plannedRequest(3, 1)],
      [
        {
          index: 1,
          count: 2,
          reason: 'quota_exceeded',
          kind: 'vms',
          message: 'the project acme may have 4 VMs and has 2, and 3 more are asked for',
        },
      ],
    ],
    [
      'both, in one row',
      poolOf(1),
      project({ vms: 6 }),
      [plannedRequest(8, 4)],
      [
        { index: 0, first: 4, count: 2, reason: 'no_host' },
        { index: 0, first: 6, count: 2, reason: 'quota_exceeded', kind: 'vms' },
      ],
    ],
    [
      'what the quota refuses takes no room; what finds no host counts',
      poolOf(1),
      project({ memory: 70 * gib }),
      [plannedRequest(1, 71), plannedRequest(1, 64), plannedRequest(1, 8), plannedRequest(1, 6)],
      [
        { index: 0, reason: 'quota_exceeded', kind: 'memory' },
        { index: 1, reason: 'no_host' },
        { index: 2, reason: 'quota_exceeded' },
      ],
    ],
    [
      'a VM that grows takes the difference, on its own host',
      full,
      project({ memory: 16 * gib }, { memory: 12 * gib }),
      [
        plannedRequest(1, 16, { placed, quotaDelta: { memory: 4 * gib } }),
        plannedRequest(1, 1, { quotaDelta: { vms: 1 } }),
      ],
      [{ index: 1, reason: 'no_host' }],
    ],
    [
      'and goes on with what it has when its host is full',
      full,
      project(),
      [plannedRequest(1, 17, { placed, quotaDelta: {} })],
      [
        {
          index: 0,
          count: 1,
          reason: 'host_full',
          kind: 'memory',
          message: 'Its host has not enough memory left for the new size; it keeps what it has.',
        },
      ],
    ],
    [
      'VMs that must not share a host',
      poolOf(2),
      project(),
      [
        plannedRequest(3, 1, {
          resources: { cpus: 1, memory: gib, disk: gib, anti_affinity: { group: 'p/web', mode: 'required' } },
        }),
      ],
      [{ index: 0, first: 2, count: 1, reason: 'no_host', kind: 'anti_affinity', message: /a VM of the group web/ }],
    ],
    ['where one leaves, another fits', full, project(), [plannedRequest(1, 16)], [], [placed]],
  ];
  for (const [what, pool, limited, requests, expected, removed] of table) {
    const before = JSON.stringify(pool.hosts());
    const refusals = checkCapacity(pool, limited, requests, removed);
    t.equal(refusals.length, expected.length, what);
    t.match(refusals, expected, what);
    t.equal(JSON.stringify(pool.hosts()), before, `${what}: nothing is taken`);
  }
  t.match(refusedByQuota(project({ networks: 3, images: 0 }, { networks: 2 }), { networks: 2, images: 1, tokens: 5 }), [
    {
      kind: 'networks',
      first: 1,
      count: 1,
      message: 'the project acme may have 3 networks and has 2, and 2 more are asked for',
    },
    { kind: 'images', count: 1, message: 'the project acme may have no images and has 0' },
  ]);
});

t.test('the check refuses exactly the VMs without a host, and restores the pool', async () => {
  const sizes = fc.array(fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 20 })), { maxLength: 8 });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4 }), sizes, sizes, (hosts, present, planned) => {
      const [tried, real] = [poolOf(hosts), poolOf(hosts)];
      const fill = (pool: HostPool, list: typeof present, from: number) =>
        list.map(([cpus, memory], i) => {
          const resources = { cpus, memory: memory * gib, disk: gib, architecture: 'x86_64' as const };
          const host = pool.find(resources);
          if (host) pool.setPlacement(host, `vm-${from + i}`, resources);
          return host !== undefined;
        });
      for (const pool of [tried, real]) fill(pool, present, 0);
      const before = JSON.stringify(tried.hosts());
      const requests = planned.map(([cpus, memory]) => {
        const resources = { cpus, memory: memory * gib, disk: gib };
        return plannedRequest(1, memory, { resources });
      });
      const refused = new Set(checkCapacity(tried, project(), requests).map(({ index }) => index));
      const found = fill(real, planned, 100);
      return found.every((ok, index) => ok !== refused.has(index)) && JSON.stringify(tried.hosts()) === before;
    }),
  );
});
