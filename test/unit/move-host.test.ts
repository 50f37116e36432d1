/** The choice of the host that a VM moves to. */
import fc from 'fast-check';
import t from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { defaultHostPolicy, firstRejectingFilter, type HostPolicy } from '../../backend/model/placement/filters.ts';
import { HostPool, type PoolHost } from '../../backend/model/placement/host-pool.ts';
import { hostSelectorOf } from '../../backend/model/placement/host-selector.ts';
import { moveHost } from '../../backend/model/placement/move-host.ts';

const hostId = (n: number) => `host-${String(n).padStart(16, '0')}` as Id<'host'>;
const [present, other, third] = [hostId(1), hostId(2), hostId(3)];
const fast = idFrom('storage_pool', 'stp-1111111111111111');
const host = (id: Id<'host'>, change: Partial<PoolHost> = {}): PoolHost => ({
  ...{ id, architecture: 'x86_64', alive: true, policy: defaultHostPolicy },
  capacity: { cpus: 4, memory: 4, disk: 4 },
  ...change,
});
function poolWith(change: Partial<PoolHost> = {}): HostPool {
  const pool = new HostPool();
  pool.setHost(host(present));
  pool.setHost(host(other, change));
  pool.storage.setPool(fast, { kind: 'shared', overcommit: 1 });
  for (const id of [present, other]) pool.storage.setReport(fast, id, { reachable: true, size: 10 });
  return pool;
}
const request = {
  ...{ cpus: 1, memory: 1, disk: 0, present_host: present },
  architecture: 'x86_64' as const,
  pools: [{ pool: fast, name: 'fast', bytes: 0 }],
};
const policy = (change: Partial<HostPolicy>) => ({ policy: { ...defaultHostPolicy, ...change } });
const alone = { anti_affinity: { group: 'prj-1/web', mode: 'required' as const } };

t.test('the reasons against an asked host', async (t) => {
  const lost = poolWith();
  lost.storage.setReport(fast, other, { reachable: false, size: 0 });
  const neighbour = poolWith();
  neighbour.setPlacement(other, 'vm-1', { cpus: 1, memory: 1, disk: 0, ...alone });
  const zone = hostSelectorOf({ host_selector: 'zone=b' });
  const table: [HostPool, object, string][] = [
    [poolWith({ alive: false }), {}, 'it gives no sign of life'],
    [poolWith(policy({ draining: true })), {}, 'it is draining'],
    [poolWith(policy({ cordoned: true })), {}, 'it is cordoned'],
    [poolWith({ architecture: 'aarch64' }), {}, 'it does not have the architecture x86_64'],
    [poolWith(), { host_selector: zone }, 'its labels do not match the host selector zone=b'],
    [poolWith(), { volume_hosts: [present] }, 'volumes of the VM lie on another host'],
    [poolWith(), { present_host: other }, 'the VM is there already'],
    [lost, {}, 'it does not reach the storage pool fast'],
    [
      poolWith(),
      { pools: [{ pool: fast, name: 'fast', bytes: 11 }] },
      'the storage pool fast has not enough space left',
    ],
    [poolWith(), { cpus: 99, memory: 5 }, 'it has not enough cpus and memory left'],
    [neighbour, alone, 'it has a VM of the group web'],
  ];
  for (const [pool, change, reason] of table) {
    const asked = { ...request, ...change };
    t.strictSame(moveHost(pool, asked, other), { refusal: `${other} cannot take the VM: ${reason}` });
    if (asked.present_host === present)
      t.match(moveHost(pool, asked, undefined), { refusal: /^no host can take the VM: / });
  }
  t.strictSame(moveHost(poolWith(), request, other), { host: other });
  t.strictSame(moveHost(poolWith(), request, undefined), { host: other });
  t.match(moveHost(poolWith(), request, third), { refusal: /does not exist/ });
  const single = new HostPool();
  single.setHost(host(present));
  t.strictSame(moveHost(single, { ...request, pools: [] }, undefined), {
    refusal: 'no host can take the VM: the only host is the present host of the VM',
  });
});

t.test('a host is chosen exactly if one passes all filters, and it is never the present one', async (t) => {
  const any = fc.record({
    ...{ alive: fc.boolean(), draining: fc.boolean(), cordoned: fc.boolean() },
    cpus: fc.integer({ min: 0, max: 4 }),
  });
  fc.assert(
    fc.property(fc.array(any, { maxLength: 6 }), fc.integer({ min: 1, max: 7 }), (hosts, asked) => {
      const pool = new HostPool();
      for (const [index, { alive, cpus, ...rules }] of hosts.entries()) {
        const capacity = { cpus, memory: 4, disk: 4 };
        pool.setHost(host(hostId(index + 1), { alive, capacity, ...policy({ ...rules, cpu_overcommit: 1 }) }));
      }
      const needs = { ...request, cpus: 2, pools: [] };
      const possible = pool.hosts().filter((each) => firstRejectingFilter(each, needs) === undefined);
      const best = moveHost(pool, needs, undefined);
      t.equal('host' in best, possible.length > 0);
      if ('host' in best) t.ok(best.host !== present && possible.some(({ id }) => id === best.host));
      const one = moveHost(pool, needs, hostId(asked));
      t.equal(
        'host' in one,
        possible.some(({ id }) => id === hostId(asked)),
      );
    }),
  );
});
