import fc from 'fast-check';
import t from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { type PlacementStrategy, placementStrategies } from '../../backend/contract/resources/settings.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { memberCount } from '../../backend/model/placement/anti-affinity.ts';
import {
  type Candidate,
  defaultHostPolicy,
  explainPlacementFailure,
  firstRejectingFilter,
  fits,
  type ResourceRequest,
  score,
} from '../../backend/model/placement/filters.ts';
import { HostPool, type PoolHost } from '../../backend/model/placement/host-pool.ts';
import { hostSelectorOf } from '../../backend/model/placement/host-selector.ts';
import { parsePlacementId, placementId, placementsOn } from '../../backend/model/placement/placement-id.ts';

const gib = 2 ** 30;
const hostId = (n: number) => `host-${String(n).padStart(16, '0')}` as Id<'host'>;
const host = (n: number, change: Partial<PoolHost> = {}): PoolHost => ({
  id: hostId(n),
  architecture: 'x86_64',
  alive: true,
  capacity: { cpus: 4, memory: 16 * gib, disk: 100 * gib },
  policy: { ...defaultHostPolicy, cpu_overcommit: 1 },
  ...change,
});
const resourceRequest = (change: Partial<ResourceRequest> = {}): ResourceRequest => ({
  cpus: 1,
  memory: gib,
  disk: 10 * gib,
  architecture: 'x86_64',
  ...change,
});
const poolOf = (...hosts: PoolHost[]) => {
  const pool = new HostPool();
  for (const each of hosts) pool.setHost(each);
  return pool;
};
const selectorOf = (text: string | undefined) => hostSelectorOf(text === undefined ? {} : { host_selector: text });
const inGroup = (group: string, mode: 'required' | 'preferred', change: Partial<ResourceRequest> = {}) =>
  resourceRequest({ ...change, anti_affinity: { group: `prj-1/${group}`, mode } });
const draining = { policy: { ...defaultHostPolicy, draining: true } };

t.test('the owner reads why no host can take the VM', async (t) => {
  const small = (n: number) => host(n, { capacity: { cpus: 8, memory: 12 * gib, disk: 100 * gib } });
  const table: [string, PoolHost[], ResourceRequest, string][] = [
    ['no host at all', [], resourceRequest(), 'there is no host'],
    ['all dead', [host(1, { alive: false }), host(2, { alive: false })], resourceRequest(), 'no host is alive'],
    ['one and drained', [host(1, draining)], resourceRequest(), 'the only host is draining'],
    [
      'all drained',
      [host(1, draining), host(2, draining), host(3, draining)],
      resourceRequest(),
      'all 3 hosts are draining',
    ],
    [
      'another architecture',
      [host(1)],
      resourceRequest({ architecture: 'aarch64' }),
      'no host has the architecture aarch64',
    ],
    [
      'too little memory',
      [small(1), small(2)],
      resourceRequest({ memory: 64 * gib }),
      'needs 64GiB of memory, largest free host has 12GiB',
    ],
    [
      'too little of two things',
      [small(1)],
      resourceRequest({ cpus: 9, disk: 2048 * gib }),
      'needs 9 cpus, largest free host has 8 cpus; needs 2TiB of disk, largest free host has 100GiB',
    ],
    [
      'each somewhere, both nowhere',
      [
        host(1, { capacity: { cpus: 2, memory: 64 * gib, disk: 100 * gib } }),
        host(2, { capacity: { cpus: 32, memory: 4 * gib, disk: 100 * gib } }),
      ],
      resourceRequest({ cpus: 16, memory: 32 * gib }),
      'needs 16 cpus, 32GiB of memory, 10GiB of disk on one host; no host has all of it free',
    ],
    [
      'different reasons on different hosts',
      [host(1, draining), host(2, { alive: false }), host(3, { alive: false }), small(4), small(5)],
      resourceRequest({ memory: 12.5 * gib }),
      'needs 12.5GiB of memory, largest free host has 12GiB; 1 of 5 hosts is draining; 2 of 5 hosts are not alive',
    ],
  ];
  for (const [name, hosts, request, message] of table) {
    const pool = poolOf(...hosts);
    t.equal(pool.find(request), undefined, `${name}: no host`);
    t.equal(pool.explain(request).message, message, name);
  }
});

t.test('VMs are spread: the next VM gets the host with the largest free share', async (t) => {
  const pool = poolOf(host(1), host(2), host(3));
  const taken: (string | undefined)[] = [];
  for (let n = 0; n < 12; n++) {
    const found = pool.find(resourceRequest());
    taken.push(found);
    if (found) pool.setPlacement(found, `vm-${n}`, resourceRequest());
  }
  for (const n of [1, 2, 3]) t.equal(taken.filter((id) => id === hostId(n)).length, 4);
  t.equal(pool.find(resourceRequest()), undefined, 'and when all are full, none');
  pool.setPlacement(hostId(2), 'vm-1', undefined);
  t.equal(pool.find(resourceRequest()), hostId(2), 'until something goes');
});

t.test('anti-affinity keeps the VMs of a group on different hosts', async (t) => {
  const place = (pool: HostPool, vm: string, request: ResourceRequest) => {
    const found = pool.find(request);
    if (found) pool.setPlacement(found, vm, request);
    return found;
  };

  await t.test('VMs with the mode required wait instead of sharing a host', async (t) => {
    const pool = poolOf(host(1), host(2), host(3, { alive: false }));
    const web = inGroup('web', 'required');
    t.strictSame([place(pool, 'a', web), place(pool, 'b', web)], [hostId(1), hostId(2)]);
    t.equal(pool.find(web), undefined, 'there is no third host');
    t.strictSame(pool.explain(web), {
      refusals: [
        { filter: 'anti_affinity', hosts: 2, message: 'all 2 hosts with room have a VM of the group web already' },
        { filter: 'alive', hosts: 1, message: '1 of 3 hosts is not alive' },
      ],
      message: 'all 2 hosts with room have a VM of the group web already; 1 of 3 hosts is not alive',
    });
    t.ok(pool.find(inGroup('app', 'required')), 'another group has room');
    t.ok(pool.find(resourceRequest()), 'and so has a VM without one');
    t.ok(pool.find({ ...web, anti_affinity: { group: 'prj-2/web', mode: 'required' } }), 'or one of another project');
    pool.setPlacement(hostId(2), 'b', undefined);
    t.equal(pool.find(web), hostId(2), 'when one goes, the next has its host');
  });

  await t.test('a host without room is rejected for its capacity, not for the group', async (t) => {
    const pool = poolOf(host(1), host(2));
    place(pool, 'a', inGroup('web', 'required', { cpus: 4 }));
    place(pool, 'b', inGroup('web', 'required'));
    const request = inGroup('web', 'required', { cpus: 2 });
    t.equal(
      pool.explain(request).message,
      'the only host with room has a VM of the group web already; needs 2 cpus, largest free host has 0 cpus',
    );
  });

  await t.test('VMs with the mode preferred share a host only if necessary, with the fewest members', async (t) => {
    const pool = poolOf(host(1), host(2), host(3, { capacity: { cpus: 64, memory: 256 * gib, disk: 9000 * gib } }));
    const web = inGroup('web', 'preferred');
    const first = ['a', 'b', 'c'].map((vm) => place(pool, vm, web));
    t.strictSame(first.toSorted(), [1, 2, 3].map(hostId), 'one on each, though one host has far more free');
    const second = ['d', 'e', 'f'].map((vm) => place(pool, vm, web));
    t.strictSame(second.toSorted(), [1, 2, 3].map(hostId), 'and again');
    t.equal(pool.find(inGroup('web', 'required')), undefined, 'who requires it has come too late');
  });

  await t.test('a VM with the mode required also keeps off VMs with the mode preferred', async (t) => {
    const pool = poolOf(host(1), host(2));
    place(pool, 'a', inGroup('web', 'required'));
    const web = inGroup('web', 'preferred');
    t.strictSame([place(pool, 'b', web), place(pool, 'c', web)], [hostId(2), hostId(2)]);
    pool.removeHost(hostId(2));
    t.equal(
      pool.explain(web).message,
      'the only host with room has a VM of the group web already that must not share its host with another',
    );
    pool.setHost(host(2));
    t.equal(pool.find(web), hostId(2), 'a host that comes back still has its VMs');
    t.equal(pool.find(inGroup('web', 'required')), undefined);
  });

  await t.test('a resized VM stays in its group', async (t) => {
    const pool = poolOf(host(1));
    const web = inGroup('web', 'required');
    place(pool, 'a', web);
    pool.setPlacement(hostId(1), 'a', { ...web, cpus: 2 });
    t.equal(pool.find(web), undefined);
    pool.setPlacement(hostId(1), 'a', undefined);
    t.ok(pool.find(web));
  });
});

// ---- comparison with a model: a plain list; every placement compares all hosts -------------------------------------

const resources = (max: number) =>
  fc.record({
    cpus: fc.integer({ min: 1, max }),
    memory: fc.integer({ min: 1, max }),
    disk: fc.integer({ min: 1, max }),
  });
const architecture = fc.constantFrom('x86_64' as const, 'aarch64' as const);
const antiAffinity = fc.option(
  fc.record({
    group: fc.constantFrom('prj-1/a', 'prj-1/b'),
    mode: fc.constantFrom('required' as const, 'preferred' as const),
  }),
  { nil: undefined },
);
const selector = fc.constantFrom(undefined, undefined, 'rack=a', 'rack in (a,b)', '!rack');
const strategy = fc.constantFrom(...placementStrategies);
const number = fc.integer({ min: 0, max: 11 });
const change = fc.oneof(
  fc.record({
    do: fc.constant('host' as const),
    host: fc.record({
      id: number.map(hostId),
      architecture,
      alive: fc.boolean(),
      capacity: resources(20),
      policy: fc.record({
        labels: fc.constantFrom<Record<string, string>>({}, { rack: 'a' }, { rack: 'b' }),
        draining: fc.boolean(),
        cordoned: fc.boolean(),
        cpu_overcommit: fc.constantFrom(0.5, 1, 4),
        memory_overcommit: fc.constantFrom(1, 1.5),
      }),
    }),
  }),
  fc.record({ do: fc.constant('remove' as const), id: number.map(hostId) }),
  fc.record({
    do: fc.constant('place' as const),
    request: fc.tuple(resources(8), architecture, antiAffinity, selector.map(selectorOf)).map(
      ([given, kind, anti_affinity, host_selector]): ResourceRequest => ({
        ...given,
        architecture: kind,
        ...(anti_affinity && { anti_affinity }),
        ...(host_selector && { host_selector }),
      }),
    ),
  }),
  fc.record({ do: fc.constant('end' as const), pick: fc.nat() }),
  fc.record({ do: fc.constant('strategy' as const), strategy }),
);

function best(
  hosts: readonly Candidate[],
  request: ResourceRequest,
  strategy: PlacementStrategy,
): Id<'host'> | undefined {
  const able = hosts.filter((each) => firstRejectingFilter(each, request) === undefined);
  const others = ({ groups }: Candidate) =>
    request.anti_affinity?.mode === 'preferred' ? memberCount(groups, request.anti_affinity) : 0;
  able.sort((a, b) => others(a) - others(b) || score(b, strategy) - score(a, strategy) || (a.id < b.id ? -1 : 1));
  return able[0]?.id;
}

t.test('the pool finds the same host as a comparison of all hosts, and never exceeds a host', async (t) => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 120 }), (changes) => {
      const pool = new HostPool();
      let strategy: PlacementStrategy = 'spread';
      const placed: { vm: string; host: Id<'host'>; request: ResourceRequest }[] = [];
      changes.forEach((step, n) => {
        if (step.do === 'host') pool.setHost(step.host);
        else if (step.do === 'remove') pool.removeHost(step.id);
        else if (step.do === 'strategy') {
          strategy = step.strategy;
          pool.setStrategy(strategy);
        } else if (step.do === 'end') {
          const [end] = placed.splice(step.pick % Math.max(1, placed.length), 1);
          if (end) pool.setPlacement(end.host, end.vm, undefined);
        } else {
          const found = pool.find(step.request);
          if (found !== best(pool.hosts(), step.request, strategy)) throw new Error(`found ${found}`);
          if (found === undefined) {
            const { refusals } = explainPlacementFailure(pool.hosts(), step.request);
            if (refusals.reduce((sum, { hosts }) => sum + hosts, 0) !== pool.size)
              throw new Error('a host without reason');
            return;
          }
          const before = pool.get(found);
          if (!before || firstRejectingFilter(before, step.request)) throw new Error('a host that a filter refuses');
          if (!fits(step.request, before.free)) throw new Error('over capacity');
          pool.setPlacement(found, `vm-${n}`, step.request);
          placed.push({ vm: `vm-${n}`, host: found, request: step.request });
        }
      });
      for (const each of pool.hosts()) {
        const mine = placed.filter((placement) => placement.host === each.id);
        for (const kind of ['cpus', 'memory', 'disk'] as const) {
          const used = mine.reduce((sum, { request }) => sum + request[kind], 0);
          if (each.total[kind] - used !== each.free[kind]) throw new Error(`the account of ${kind} is wrong`);
        }
        const hostGroups = mine.flatMap(({ request }) => request.anti_affinity ?? []);
        for (const { group, mode } of hostGroups) {
          const all = hostGroups.filter((other) => other.group === group).length;
          if (mode === 'required' && all > 1) throw new Error('a VM that requires to be alone is not');
          if (each.groups.get(group)?.all !== all) throw new Error('a group is counted wrongly');
        }
        if (each.groups.size !== new Set(hostGroups.map(({ group }) => group)).size)
          throw new Error('a group too many');
      }
    }),
    { numRuns: 300 },
  );
  t.pass('for random histories');
});

t.test('the result does not depend on the order of insertion', async (t) => {
  const hosts = Array.from({ length: 9 }, (_, n) =>
    host(n, { capacity: { cpus: 4 + (n % 3), memory: 16 * gib, disk: 100 * gib } }),
  );
  const fill = (order: readonly PoolHost[]) => {
    const pool = poolOf(...order);
    return Array.from({ length: 30 }, (_, n) => {
      const found = pool.find(resourceRequest());
      if (found) pool.setPlacement(found, `vm-${n}`, resourceRequest());
      return found;
    });
  };
  const expected = fill(hosts);
  fc.assert(
    fc.property(fc.shuffledSubarray(hosts, { minLength: hosts.length }), (order) => {
      t.strictSame(fill(order), expected);
    }),
    { numRuns: 20 },
  );
});

t.test('the id of a placement names its host and its VM', async (t) => {
  const [host, vm] = [idFrom('host', 'host-0000000000000001'), idFrom('vm', 'vm-0000000000000002')];
  const id = placementId(host, vm);
  t.strictSame(parsePlacementId(id), { host, vm });
  t.ok(id.startsWith(placementsOn(host)));
  t.notOk(placementId(idFrom('host', `${host}0`), vm).startsWith(placementsOn(host)), 'a longer id is another host');
});
