import t, { type Test } from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import type { Component } from '../../backend/model/component.ts';
import { newId } from '../../backend/model/ids.ts';
import { placementId } from '../../backend/model/placement/placement-id.ts';
import { alive, hosts, leaders, placements, reports, schedules, vms } from '../../backend/model/records/index.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { put, remove } from '../../backend/store/collection.ts';
import type { Commit, Store } from '../../backend/store/store.ts';
import { bound } from '../support/bound-store.ts';
import { type Cluster, GiB, withCluster } from '../support/cluster.ts';
import { until } from '../support/eventually.ts';
import { silentLogger } from '../support/silent-logger.ts';

async function scheduler(t: Test, store: Store, id = 'one', leaseSeconds = 30): Promise<Component> {
  const component = await startScheduler({ store, logger: silentLogger, id, leaseSeconds });
  t.teardown(() => component.close());
  return component;
}

const placedOn = (cluster: Cluster, id: Id<'vm'>) => cluster.schedule(id)?.host;

function checkAccounts(t: Test, cluster: Cluster): void {
  for (const { id, value } of cluster.mirror.list(hosts)) {
    const given = [...cluster.mirror.list(placements, `${id}/`)].map((each) => each.value);
    t.ok(given.reduce((sum, { memory }) => sum + memory, 0) <= value.capacity.memory, 'no host gives more than it has');
  }
}

async function reportGone(cluster: Cluster, id: Id<'vm'>): Promise<void> {
  const schedule = cluster.schedule(id);
  if (schedule?.host === undefined) throw new Error(`${id} is not placed`);
  const { host, fence } = schedule;
  const at = new Date().toISOString();
  await cluster.write(put(reports, id, { host, fence, phase: 'gone', at }));
}

t.test('a VM without a host has a reason, and is placed as soon as a host joins', async (t) => {
  const cluster = await withCluster(t);
  await scheduler(t, cluster.store);
  const vm = await cluster.createVm({ memory: 4 * GiB });
  await cluster.until('a reason', () => cluster.schedule(vm)?.message === 'there is no host');
  const host = await cluster.addHost({ capacity: { cpus: 1, memory: 2 * GiB, disk: 100 * GiB } });
  await cluster.until('another reason', () => /largest free host has 2GiB/.test(cluster.schedule(vm)?.message ?? ''));
  t.match(cluster.schedule(vm), { reason: 'no_host', refusals: [{ filter: 'capacity', hosts: 1 }], fence: 0 });
  await cluster.setPolicy(host, { memory_overcommit: 2 });
  await cluster.until('it is placed', () => placedOn(cluster, vm) === host);
  t.match(cluster.mirror.get(placements, `${host}/${vm}`)?.value, { fence: 1, cpus: 1, memory: 4 * GiB });
  t.strictSame(cluster.reasonsOf(vm), ['no_host', 'no_host', 'scheduled'], 'one event for each reason');
  t.notOk(cluster.schedule(vm)?.reason, 'the reason is gone');
});

t.test('drained and dead hosts get no new VM and keep their VMs', async (t) => {
  const cluster = await withCluster(t);
  await scheduler(t, cluster.store);
  const [drained, dead, good] = [await cluster.addHost(), await cluster.addHost(), await cluster.addHost()];
  const before = await Promise.all([1, 2, 3].map(() => cluster.createVm()));
  await cluster.until('one on each', () => before.every((vm) => placedOn(cluster, vm)));
  const places = before.map((vm) => placedOn(cluster, vm));
  await cluster.setPolicy(drained, { draining: true });
  await cluster.write(remove(alive, dead));
  const after = await Promise.all([1, 2, 3].map(() => cluster.createVm()));
  await cluster.until('all on the one left', () => after.every((vm) => placedOn(cluster, vm) === good));
  const last = await cluster.createVm();
  await cluster.until('then none', () => cluster.schedule(last)?.reason === 'no_host');
  t.match(
    cluster.schedule(last)?.message,
    /needs 1 cpu, largest free host has 0 cpus; 1 of 3 hosts is draining; 1 of 3 hosts is not alive/,
  );
  t.strictSame(
    before.map((vm) => placedOn(cluster, vm)),
    places,
    'nothing has moved',
  );
});

t.test('a waiting VM gets the room of a deleted VM after the host has removed it', async (t) => {
  const cluster = await withCluster(t);
  await scheduler(t, cluster.store);
  await cluster.addHost({ capacity: { cpus: 1, memory: 16 * GiB, disk: 100 * GiB } });
  const first = await cluster.createVm({ power_state: 'stopped' });
  await cluster.until('also a stopped VM is placed', () => placedOn(cluster, first) !== undefined);
  const second = await cluster.createVm();
  const third = await cluster.createVm();
  await cluster.until('both wait', () => [second, third].every((vm) => cluster.schedule(vm)?.reason === 'no_host'));
  await cluster.deleteVm(third);
  await cluster.until('nothing to tear down', () => cluster.schedule(third) === undefined);
  await cluster.deleteVm(first);
  const { host = newId('host') } = cluster.schedule(first) ?? {};
  const at = new Date().toISOString();
  await cluster.write(put(reports, first, { host, fence: 0, phase: 'gone', at }));
  t.ok(cluster.schedule(first), 'a report with an old fence does not count');
  await reportGone(cluster, first);
  await cluster.until('the next has its place', () => placedOn(cluster, second) !== undefined);
  t.notOk(cluster.schedule(first));
  t.equal(cluster.mirror.size(placements), 1);
});

t.test('a deleted VM on a removed host is released', async (t) => {
  const cluster = await withCluster(t);
  await scheduler(t, cluster.store);
  const host = await cluster.addHost();
  const vm = await cluster.createVm();
  await cluster.until('placed', () => placedOn(cluster, vm) === host);
  await cluster.write(remove(alive, host), remove(hosts, host));
  await cluster.deleteVm(vm);
  await cluster.until('released', () => cluster.schedule(vm) === undefined);
  t.equal(cluster.mirror.size(placements), 0);
});

t.test(
  'the scheduler grants more if the host has room, and reclaims resources after the guest uses less',
  async (t) => {
    const cluster = await withCluster(t);
    await scheduler(t, cluster.store);
    const host = await cluster.addHost();
    const vm = await cluster.createVm({ memory: 4 * GiB });
    const granted = () => cluster.mirror.get(placements, `${host}/${vm}`)?.value.memory;
    await cluster.until('placed', () => granted() === 4 * GiB);
    const resources = { cpus: 1, memory: 4 * GiB, disk: GiB };
    const at = new Date().toISOString();
    const running = { host, fence: 1, phase: 'running' as const, at, resources };
    await cluster.write(put(reports, vm, running));
    await cluster.updateVm(vm, { memory: 32 * GiB });
    await cluster.until('too much', () => cluster.schedule(vm)?.reason === 'resize_waits');
    t.equal(granted(), 4 * GiB);
    await cluster.setPolicy(host, { memory_overcommit: 2 });
    await cluster.until('granted', () => granted() === 32 * GiB && cluster.schedule(vm)?.reason === undefined);
    t.equal(cluster.schedule(vm)?.fence, 1, 'it is the same placement');
    await cluster.updateVm(vm, { memory: GiB });
    await cluster.until('back to what it still runs with', () => granted() === 4 * GiB);
    await cluster.write(put(reports, vm, { ...running, resources: { ...resources, memory: GiB } }));
    await cluster.until('and after its restart, all of it', () => granted() === GiB);
  },
);

t.test('resources that a VM gives back are free only after the commit that reclaims them', async (t) => {
  const cluster = await withCluster(t);
  const host = await cluster.addHost({ capacity: { cpus: 64, memory: 16 * GiB, disk: 1000 * GiB } });
  const vm = await cluster.createVm({ memory: 12 * GiB });
  const key = placements.prefix + placementId(host, vm);
  const held: (() => void)[] = [];
  let holds = false;
  const store: Store = {
    ...bound(cluster.store.session()),
    commit: async (commit: Commit) => {
      const reclaims = commit.write.some((write) => 'put' in write && write.put === key);
      if (holds && reclaims) await new Promise<void>((resolve) => held.push(resolve));
      return cluster.store.commit(commit);
    },
  };
  const release = () => {
    holds = false;
    for (const each of held.splice(0)) each();
  };
  await scheduler(t, store);
  t.teardown(release);
  await cluster.until('placed', () => placedOn(cluster, vm) === host);
  const reportMemory = (memory: number) => {
    const resources = { cpus: 1, memory, disk: GiB };
    const at = new Date().toISOString();
    return cluster.write(put(reports, vm, { host, fence: 1, phase: 'running', at, resources }));
  };
  await reportMemory(12 * GiB);
  await cluster.updateVm(vm, { memory: 4 * GiB });
  holds = true;
  await reportMemory(4 * GiB);
  await cluster.until('the scheduler reclaims memory', () => held.length > 0);
  const next = await cluster.createVm({ memory: 8 * GiB });
  await cluster.until('the next VM must wait', () => cluster.schedule(next)?.reason === 'no_host');
  // The guest uses all of its memory again, so the commit that reclaims it fails.
  await reportMemory(12 * GiB);
  release();
  const probe = await cluster.createVm({ memory: GiB });
  await cluster.until('the scheduler goes on', () => placedOn(cluster, probe) === host);
  t.equal(placedOn(cluster, next), undefined);
  checkAccounts(t, cluster);
  await reportMemory(4 * GiB);
  await cluster.until('the next VM gets the reclaimed memory', () => placedOn(cluster, next) === host);
  checkAccounts(t, cluster);
});

t.test('VMs with required anti-affinity never share a host', async (t) => {
  const cluster = await withCluster(t);
  const group = (mode: 'required' | 'preferred') => ({ anti_affinity: { group: 'web', mode } });
  const members = (host: Id<'host'>) =>
    [...cluster.mirror.list(placements, `${host}/`)].filter(({ value }) => value.anti_affinity).length;
  const sessions = [cluster.store.session(), cluster.store.session()] as const;
  const machines: Id<'host'>[] = [];
  for (let n = 0; n < 6; n++)
    machines.push(await cluster.addHost({ capacity: { cpus: 40, memory: 160 * GiB, disk: 1000 * GiB } }));
  // The VMs are declared before a scheduler runs, so that one commit places them together.
  const ids = await Promise.all(Array.from({ length: 8 }, () => cluster.createVm(group('required'))));
  await Promise.all(Array.from({ length: 40 }, () => cluster.createVm()));
  await scheduler(t, sessions[0], 'one', 1);
  const waiting = () => ids.filter((id) => cluster.schedule(id)?.reason === 'no_host');
  await cluster.until(
    'as many as there are hosts',
    () => cluster.mirror.size(placements) === 46 && waiting().length === 2,
  );
  t.strictSame(machines.map(members), [1, 1, 1, 1, 1, 1]);
  t.match(cluster.schedule(waiting()[0] ?? newId('vm')), {
    message: 'all 6 hosts with room have a VM of the group web already',
    refusals: [{ filter: 'anti_affinity', hosts: 6 }],
  });

  await t.test('a VM in deletion counts, also for the next leader', async (t) => {
    const leaving = ids.find((id) => placedOn(cluster, id) !== undefined) ?? newId('vm');
    const host = placedOn(cluster, leaving);
    await cluster.deleteVm(leaving);
    await scheduler(t, sessions[1], 'two');
    await sessions[0].close();
    await cluster.until('two leads', () => cluster.mirror.get(leaders, 'scheduler')?.value.id === 'two');
    const probe = await cluster.createVm();
    await cluster.until('it has decided', () => placedOn(cluster, probe) !== undefined);
    t.equal(waiting().length, 2, 'the deleted one is not gone yet');
    await reportGone(cluster, leaving);
    await cluster.until('one of those who wait has its host', () => waiting().length === 1);
    t.strictSame([...ids].filter((id) => id !== leaving && placedOn(cluster, id) === host).length, 1);
    t.strictSame(machines.map(members), [1, 1, 1, 1, 1, 1]);

    await cluster.addHost();
    await cluster.until('and the last gets a new host', () => waiting().length === 0);
    const soft = await cluster.createVm(group('preferred'));
    await cluster.until('who only prefers it is kept off, too', () => cluster.schedule(soft)?.reason === 'no_host');
    t.match(cluster.schedule(soft)?.message, /must not share its host/);
  });
});

t.test('VMs with preferred anti-affinity share a host only if no other host has room', async (t) => {
  const cluster = await withCluster(t);
  await scheduler(t, cluster.store);
  const [small, large] = [
    await cluster.addHost(),
    await cluster.addHost({ capacity: { cpus: 64, memory: 640 * GiB, disk: 9000 * GiB } }),
  ];
  const anti_affinity = { group: 'app', mode: 'preferred' as const };
  const ids: Id<'vm'>[] = [];
  for (let n = 1; n <= 6; n++) {
    ids.push(await cluster.createVm({ anti_affinity }));
    await cluster.until(`VM ${n} is placed`, () => cluster.mirror.size(placements) === n);
  }
  t.strictSame(
    [small, large].map((host) => ids.filter((id) => placedOn(cluster, id) === host).length),
    [3, 3],
  );
  const host = placedOn(cluster, ids[0] ?? newId('vm'));
  await cluster.updateVm(ids[0] ?? newId('vm'), { memory: 2 * GiB });
  const placement = () => cluster.mirror.get(placements, `${host}/${ids[0]}`)?.value;
  await cluster.until('a new size', () => placement()?.memory === 2 * GiB);
  t.match(placement()?.anti_affinity, { mode: 'preferred' }, 'which is still of the group');
});

t.test('one of two schedulers leads, and the other takes over', async (t) => {
  const cluster = await withCluster(t);
  const leader = () => cluster.mirror.get(leaders, 'scheduler')?.value.id;
  const [hostA, hostB] = [await cluster.addHost(), await cluster.addHost()];
  const [one, two] = [cluster.store.session(), cluster.store.session()];
  await scheduler(t, one, 'one', 5);
  await cluster.until('one leads', () => leader() === 'one');
  const second = await scheduler(t, two, 'two');
  const before = await cluster.createVm();
  await cluster.until('placed', () => placedOn(cluster, before) !== undefined);
  t.equal(leader(), 'one');
  // The first scheduler dies: nothing renews its lease.
  await one.close();
  await cluster.until('two leads', () => leader() === 'two');
  const vms = await Promise.all(Array.from({ length: 7 }, () => cluster.createVm()));
  await cluster.until('all placed', () => vms.every((vm) => placedOn(cluster, vm)));
  t.equal(cluster.mirror.size(placements, `${hostA}/`), 4);
  t.equal(cluster.mirror.size(placements, `${hostB}/`), 4, 'the new leader knows what the old one has given away');
  await second.close();
  await cluster.until('it steps down at once when stopped', () => leader() === undefined);
});

t.test('a former leader cannot write, even before it knows of its loss', async (t) => {
  const cluster = await withCluster(t);
  const host = await cluster.addHost({ capacity: { cpus: 1, memory: 16 * GiB, disk: 100 * GiB } });
  // The commits of the first leader are delayed, as by a stalled network.
  const held: (() => void)[] = [];
  const results: boolean[] = [];
  let hold = false;
  const slow: Store = {
    ...bound(cluster.store.session()),
    commit: async (commit: Commit) => {
      if (!hold) return cluster.store.commit(commit);
      await new Promise<void>((resolve) => held.push(resolve));
      const result = await cluster.store.commit(commit);
      results.push(result.ok);
      return result;
    },
  };
  await scheduler(t, slow, 'slow');
  await cluster.until('it leads', () => cluster.mirror.get(leaders, 'scheduler')?.value.id === 'slow');
  hold = true;
  const vm = await cluster.createVm();
  await cluster.until('its decision is under way', () => held.length > 0);
  // Meanwhile another scheduler leads and has given the only free place to another VM.
  const other = await cluster.createVm({ cpus: 1, memory: GiB });
  const at = new Date().toISOString();
  await cluster.write(
    put(leaders, 'scheduler', { id: 'fast' }),
    put(schedules, other, { host, fence: 1, at }),
    put(placements, `${host}/${other}`, { fence: 1, cpus: 1, memory: GiB, disk: GiB, at }),
  );
  hold = false;
  for (const release of held) release();
  await cluster.until('what was late has come', () => results.length === held.length);
  t.notOk(results.includes(true), 'and was refused');
  t.equal(placedOn(cluster, vm), undefined);
  t.equal(cluster.mirror.size(placements), 1);
  await cluster.write(remove(leaders, 'scheduler'));
  await cluster.until('in its next term it knows better', () => cluster.schedule(vm)?.reason === 'no_host');
});

t.test('a VM with an unreadable record keeps its placement and does not block other VMs', async (t) => {
  const cluster = await withCluster(t);
  const host = await cluster.addHost();
  let refused = 0;
  const counting: Store = {
    ...bound(cluster.store.session()),
    commit: async (commit: Commit) => {
      const result = await cluster.store.commit(commit);
      if (!result.ok) refused++;
      return result;
    },
  };
  await scheduler(t, counting);
  const vm = await cluster.createVm();
  await cluster.until('placed', () => placedOn(cluster, vm) === host);
  await cluster.store.commit({ write: [{ put: vms.prefix + vm, value: '{' }, remove(hosts, host)] });
  await until('it was tried to release it', () => refused > 1);
  const another = await cluster.addHost();
  for (let n = 0; n < 4; n++) {
    const other = await cluster.createVm();
    await cluster.until('others are placed', () => placedOn(cluster, other) === another);
  }
  t.ok(refused < 10, `it was not tried on and on: ${refused} times`);
  t.ok(cluster.mirror.get(placements, `${host}/${vm}`), 'its place is kept');
});

t.test('two hundred VMs at once fill the hosts evenly and never exceed them', async (t) => {
  const cluster = await withCluster(t);
  for (let n = 0; n < 10; n++) await cluster.addHost({ capacity: { cpus: 100, memory: 16 * GiB, disk: 100 * GiB } });
  await scheduler(t, cluster.store);
  const ids = await Promise.all(Array.from({ length: 200 }, () => cluster.createVm()));
  const waiting = () => ids.filter((vm) => cluster.schedule(vm)?.reason === 'no_host');
  await cluster.until('160 fit', () => cluster.mirror.size(placements) === 160 && waiting().length === 40);
  checkAccounts(t, cluster);
  t.equal(cluster.mirror.size(vms), 200);
});
