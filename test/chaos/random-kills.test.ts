/**
 * Random kills: VMs are created, changed, rebooted and deleted while schedulers and agents are killed and restarted,
 * guests crash and hosts are drained. At every moment, no VM may run twice, no host may give more than it has, and no
 * VM may share a host against its anti-affinity. In the end, database and machines must agree. After the deletion of
 * everything, nothing may remain.
 */

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { UcloudError } from '../../backend/contract/errors.ts';
import type { Id } from '../../backend/contract/fields.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { parsePlacementId, placementsOn } from '../../backend/model/placement/placement-id.ts';
import {
  guests,
  hosts as hostRecords,
  operations,
  placements,
  reports,
  schedules,
  type VmRecord,
  vms,
} from '../../backend/model/records/index.ts';
import { type Cluster, GiB, withCluster } from '../support/cluster.ts';
import { KillableHost, RunHistory } from '../support/killable-host.ts';
import { KillableScheduler } from '../support/killable-scheduler.ts';
import { Random } from '../support/random.ts';
import { capacity } from '../support/simulated-host.ts';
import { temporaryDirectory } from '../support/stores.ts';

const steps = 400;
const maxVms = 30;

/** Returns the anti-affinity modes that the VMs on a host declare for a group. */
const modesOn = (cluster: Cluster, host: Id<'host'>, group: string): string[] =>
  [...cluster.mirror.list(placements, placementsOn(host))].flatMap(({ id }) => {
    const antiAffinity = cluster.vm(parsePlacementId(id).vm)?.anti_affinity;
    return antiAffinity?.group === group ? antiAffinity.mode : [];
  });

/** Checks every state of the database. */
function observe(cluster: Cluster, violations: string[]): () => void {
  const fences = new Map<string, number>();
  return cluster.mirror.subscribe(({ changes }) => {
    for (const { kind, id } of changes) {
      if (kind === placements) {
        const { host, vm } = parsePlacementId(id);
        const given = [...cluster.mirror.list(placements, placementsOn(host))].map(({ value }) => value);
        const memory = given.reduce((sum, each) => sum + each.memory, 0);
        const cpus = given.reduce((sum, each) => sum + each.cpus, 0);
        if (memory > capacity.memory || cpus > capacity.cpus) violations.push(`${host} gives more than it has`);
        const places = [...cluster.mirror.list(placements)].filter((each) => each.id.endsWith(`/${vm}`));
        if (places.length > 1) violations.push(`${vm} is placed ${places.length} times`);
        const modes = modesOn(cluster, host, cluster.vm(vm)?.anti_affinity?.group ?? '');
        if (modes.length > 1 && modes.includes('required')) violations.push(`${vm} shares ${host} with its group`);
      }
      if (kind === schedules) {
        const fence = cluster.schedule(idFrom('vm', id))?.fence;
        if (fence !== undefined && fence < (fences.get(id) ?? 0)) violations.push(`the fence of ${id} went back`);
        if (fence !== undefined) fences.set(id, fence);
      }
    }
  });
}

/** The mirror may still show deleted records. */
function unlessGone(error: unknown): void {
  if (!(error instanceof UcloudError && error.code === 'not_found')) throw error;
}

/** Returns true if a host has room for the VM. */
const hasRoom = (cluster: Cluster, vm: VmRecord): boolean =>
  [...cluster.mirror.list(hostRecords)].some(({ value: { id } }) => {
    const given = [...cluster.mirror.list(placements, placementsOn(id))].map(({ value }) => value);
    const left = (kind: 'cpus' | 'memory' | 'disk') => given.reduce((rest, each) => rest - each[kind], capacity[kind]);
    const others = vm.anti_affinity ? modesOn(cluster, id, vm.anti_affinity.group) : [];
    if (others.includes('required') || (others.length > 0 && vm.anti_affinity?.mode === 'required')) return false;
    return vm.cpus <= left('cpus') && vm.memory <= left('memory') && vm.disk_size <= left('disk');
  });

const sizes = [GiB, 2 * GiB, 8 * GiB, 24 * GiB];

t.test('under random kills, no VM runs twice, no host exceeds its resources, and nothing is left', async (t) => {
  const random = new Random(Number(process.env.UCLOUD_TEST_SEED ?? Date.now() % 2 ** 31));
  t.comment(`seed ${random.seed}`);
  const cluster = await withCluster(t);
  const history = new RunHistory();
  t.teardown(observe(cluster, history.violations));
  t.teardown(history.watch(cluster.mirror));
  t.teardown(cluster.collect());
  const directory = temporaryDirectory(t);
  const hosts = ['a', 'b', 'c'].map((name) => {
    mkdirSync(join(directory, name));
    return new KillableHost(cluster.store, join(directory, name), history, { leaseSeconds: 1 });
  });
  const schedulers = [new KillableScheduler(cluster.store), new KillableScheduler(cluster.store)];
  for (const each of [...hosts, ...schedulers]) await each.start();
  for (const { id } of hosts) if (id) await cluster.setPolicy(id);

  const living = () =>
    [...cluster.mirror.list(vms)].filter(({ value }) => !value.deleted_at).map(({ value }) => value.id);
  const user = async () => {
    const vm = random.pick(living());
    const action = random.below(6);
    if (vm === undefined || (action < 2 && living().length < maxVms)) {
      const mode = random.below(2) ? ('required' as const) : ('preferred' as const);
      const group = random.pick(['web', 'app', undefined, undefined]);
      await cluster.createVm({
        memory: random.pick(sizes) ?? GiB,
        cpus: 1 + random.below(4),
        ...(group && { anti_affinity: { group, mode } }),
      });
    } else if (action < 3) await cluster.deleteVm(vm);
    else if (action === 3) await cluster.updateVm(vm, { power_state: random.below(2) ? 'running' : 'stopped' });
    else if (action === 4) await cluster.updateVm(vm, { memory: random.pick(sizes) ?? GiB });
    else if (cluster.phase(vm) === 'running') await cluster.rebootVm(vm, random.below(2) === 0);
  };
  const fate = async () => {
    const host = random.pick(hosts);
    const scheduler = random.pick(schedulers);
    switch (random.below(6)) {
      case 0:
      case 1:
        return host?.start(1 + random.below(20));
      case 2:
        return host?.start();
      case 3:
        return random.below(2) === 0 ? scheduler?.start() : undefined;
      case 4:
        return host?.id ? cluster.setPolicy(host.id, { draining: random.below(2) === 0 }) : undefined;
      default: {
        const vm = random.pick([...history.running.keys()]);
        const where = hosts.find(({ hypervisor }) => vm && hypervisor.resourcesOf(vm));
        return vm && where?.crashGuest(vm);
      }
    }
  };
  for (let step = 0; step < steps; step++) {
    if (random.below(8) === 0) await fate();
    else await user().catch(unlessGone);
    if (random.below(3) === 0) await delay(random.below(20));
  }

  // The calm phase: all processes run, no host is drained.
  for (const each of [...hosts, ...schedulers]) await each.start();
  for (const { id } of hosts) if (id) await cluster.setPolicy(id);
  const settled = (id: Id<'vm'>): boolean => {
    const schedule = cluster.schedule(id);
    const vm = cluster.vm(id);
    const open = [...cluster.mirror.list(operations)].some(
      ({ value }) => value.target === id && (value.state === 'pending' || value.state === 'running'),
    );
    if (vm === undefined || vm.deleted_at !== undefined) return false;
    if (schedule?.host === undefined) return schedule?.reason === 'no_host' && !hasRoom(cluster, vm);
    const report = cluster.report(id);
    return !open && report?.fence === schedule.fence && report.phase === vm.power_state && !report.reason;
  };
  const unsettled = () => [...cluster.mirror.list(vms)].filter(({ value }) => !settled(value.id));
  await cluster
    .until('everything is as declared', () => unsettled().length === 0)
    .catch((error: unknown) => {
      for (const { value } of unsettled()) {
        const { id } = value;
        t.comment(JSON.stringify({ vm: value, schedule: cluster.schedule(id), report: cluster.report(id) }));
      }
      throw error;
    });
  const should = [...cluster.mirror.list(vms)].filter(
    ({ value }) => value.power_state === 'running' && cluster.schedule(value.id)?.host,
  );
  const does = (await Promise.all(hosts.map(({ hypervisor }) => hypervisor.list())))
    .flat()
    .filter(({ running }) => running);
  t.strictSame(does.map(({ id }) => id).sort(), should.map(({ id }) => id).sort(), 'what should run does, and no more');
  for (const { id, fence } of does) t.equal(fence, cluster.schedule(id)?.fence);
  t.comment(`${[...history.runs.values()].reduce((sum, runs) => sum + runs, 0)} runs of ${history.runs.size} VMs`);

  for (const id of living()) await cluster.deleteVm(id);
  await cluster.until('all are gone', () => cluster.mirror.size(vms) === 0 && cluster.mirror.size(reports) === 0);
  for (const kind of [schedules, placements, guests])
    t.equal(cluster.mirror.size(kind), 0, `no ${kind.prefix} is left`);
  for (const { hypervisor } of hosts) t.strictSame(await hypervisor.list(), []);
  const open = [...cluster.mirror.list(operations)].filter(({ value }) => !value.finished_at);
  t.strictSame(open, [], 'every reboot has ended one way or the other');
  t.strictSame(history.violations, []);
  for (const each of [...hosts, ...schedulers]) await each.close();
});
