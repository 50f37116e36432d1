/** The order in which the scheduler prefers hosts: spread or pack. Random hosts and random VMs. */
import fc from 'fast-check';
import t from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { placementStrategies } from '../../backend/contract/resources/settings.ts';
import {
  defaultHostPolicy,
  firstRejectingFilter,
  freeShare,
  type ResourceRequest,
} from '../../backend/model/placement/filters.ts';
import { HostPool, type PoolHost } from '../../backend/model/placement/host-pool.ts';

const hostId = (n: number) => `host-${String(n).padStart(16, '0')}` as Id<'host'>;
const host = (n: number, cpus = 8): PoolHost => ({
  id: hostId(n),
  architecture: 'x86_64',
  alive: true,
  capacity: { cpus, memory: cpus * 100, disk: cpus * 100 },
  policy: { ...defaultHostPolicy, cpu_overcommit: 1 },
});
const poolOf = (hosts: readonly PoolHost[]) => {
  const pool = new HostPool();
  for (const each of hosts) pool.setHost(each);
  return pool;
};
const request = (): ResourceRequest => ({ cpus: 1, memory: 1, disk: 1, architecture: 'x86_64' });

const size = fc.record({ cpus: fc.integer({ min: 1, max: 4 }), memory: fc.nat(400), disk: fc.nat(400) });
const vmRequests = fc.array(size, { maxLength: 60 }).map((sizes) => sizes.map((each) => ({ ...request(), ...each })));

t.test('pack begins an empty host only for a VM that no other host can take', async (t) => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 16 }), { minLength: 1, maxLength: 9 }), vmRequests, (sizes, vms) => {
      const pool = poolOf(sizes.map((cpus, n) => host(n, cpus)));
      pool.setStrategy('pack');
      for (const [n, vm] of vms.entries()) {
        const able = pool.hosts().filter((each) => firstRejectingFilter(each, vm) === undefined);
        const found = pool.find(vm);
        if (found === undefined) {
          if (able.length > 0) throw new Error('a VM waits although a host has room');
          continue;
        }
        const begun = able.filter((each) => freeShare(each) < 1);
        const least = Math.min(...able.map(freeShare));
        const chosen = able.find(({ id }) => id === found);
        if (chosen === undefined) throw new Error('a host that cannot take the VM');
        if (begun.length > 0 && freeShare(chosen) === 1) throw new Error('a host begun too early');
        if (freeShare(chosen) > least + 1e-9) throw new Error('not the fullest host');
        pool.setPlacement(found, `vm-${n}`, vm);
      }
    }),
    { numRuns: 300 },
  );
  t.pass('for random hosts and VMs');
});

t.test('spread keeps the free shares of equal hosts within the largest VM', async (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 9 }), vmRequests, (count, vms) => {
      const pool = poolOf(Array.from({ length: count }, (_, n) => host(n, 256)));
      let largest = 0;
      for (const [n, vm] of vms.entries()) {
        const found = pool.find(vm);
        if (found === undefined) throw new Error('all VMs have room');
        pool.setPlacement(found, `vm-${n}`, vm);
        largest = Math.max(largest, vm.cpus / 256, vm.memory / 25_600, vm.disk / 25_600);
        const shares = pool.hosts().map(freeShare);
        if (Math.max(...shares) - Math.min(...shares) > largest + 1e-9) throw new Error('one host has far more');
      }
    }),
    { numRuns: 200 },
  );
  t.pass('for random VMs');
});

t.test('hosts of equal share get VMs in the order of their ids', async (t) => {
  const hosts = [1, 2, 3].map((n) => host(n, 2));
  for (const strategy of placementStrategies) {
    fc.assert(
      fc.property(fc.shuffledSubarray(hosts, { minLength: hosts.length }), (order) => {
        const pool = poolOf(order);
        pool.setStrategy(strategy);
        const found = Array.from({ length: 6 }, (_, n) => {
          const id = pool.find(request());
          if (id) pool.setPlacement(id, `vm-${n}`, request());
          return id;
        });
        const expected = strategy === 'pack' ? [1, 1, 2, 2, 3, 3] : [1, 2, 3, 1, 2, 3];
        return JSON.stringify(found) === JSON.stringify(expected.map(hostId));
      }),
      { numRuns: 20 },
    );
  }
  t.pass('for both strategies, in any order of insertion');
});

t.test('the strategy can change while hosts have VMs', async (t) => {
  const pool = poolOf([1, 2, 3].map((n) => host(n)));
  pool.setPlacement(hostId(2), 'a', request());
  t.equal(pool.find(request()), hostId(1));
  pool.setStrategy('pack');
  t.equal(pool.find(request()), hostId(2));
  pool.setHost(host(9, 2));
  pool.setPlacement(hostId(9), 'b', request());
  t.equal(pool.find(request()), hostId(9), 'the fullest host, also among later ones');
  pool.setStrategy('spread');
  t.equal(pool.find(request()), hostId(1));
});

t.test('a resource that a host does not have at all is no reason to prefer or avoid the host', async (t) => {
  const diskless = { ...host(2), capacity: { cpus: 8, memory: 800, disk: 0 } };
  const vm = { ...request(), disk: 0 };
  for (const strategy of placementStrategies) {
    const pool = poolOf([host(1), diskless]);
    pool.setStrategy(strategy);
    pool.setPlacement(hostId(1), 'a', vm);
    t.equal(pool.find(vm), strategy === 'pack' ? hostId(1) : hostId(2), strategy);
  }
});
