import t, { type Test } from 'tap';
import { UcloudError } from '../../backend/contract/errors.ts';
import type { Id } from '../../backend/contract/fields.ts';
import type { ObservedVm } from '../../backend/host/hypervisor/hypervisor.ts';
import { createSimulatedHypervisor } from '../../backend/host/hypervisor/simulated.ts';
import { startHost } from '../../backend/host/start.ts';
import {
  alive,
  guests,
  hosts,
  imageReports,
  placements,
  reports,
  schedules,
  vms,
} from '../../backend/model/records/index.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { put, remove } from '../../backend/store/collection.ts';
import { isChangeOf } from '../../backend/store/mirror.ts';
import type { Lease, Store } from '../../backend/store/store.ts';
import { bound } from '../support/bound-store.ts';
import { type Cluster, GiB, withCluster } from '../support/cluster.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { capacity, type SimulatedHost, startSimulatedHost } from '../support/simulated-host.ts';
import { temporaryDirectory } from '../support/stores.ts';

async function cloud(t: Test): Promise<Cluster> {
  const cluster = await withCluster(t);
  const scheduler = await startScheduler({ store: cluster.store, logger: silentLogger });
  t.teardown(() => scheduler.close());
  t.teardown(cluster.collect());
  return cluster;
}

const observed = async (host: SimulatedHost, id: Id<'vm'>): Promise<ObservedVm | undefined> =>
  (await host.hypervisor.list()).find((vm) => vm.id === id);

const isRunning = (cluster: Cluster, id: Id<'vm'>) => cluster.phase(id) === 'running';

t.test('the life of a VM: created, ready, stopped, started, rebooted, resized, deleted', async (t) => {
  const cluster = await cloud(t);
  const host = await startSimulatedHost(t, cluster.store);
  await cluster.until('the host is entered', () => cluster.mirror.get(hosts, host.id) !== undefined);
  const vm = await cluster.createVm();
  await cluster.until('ready', () => isRunning(cluster, vm) && cluster.ready(vm));
  t.match(await observed(host, vm), { running: true, fence: 1, generation: 1 });
  t.match(cluster.report(vm), { host: host.id, fence: 1, generation: 1 });
  t.equal(cluster.pending(vm), '');
  t.equal(host.hypervisor.networks()[0]?.id, cluster.network, 'its network is there');

  await cluster.updateVm(vm, { power_state: 'stopped' });
  await cluster.until('stopped', () => cluster.phase(vm) === 'stopped');
  t.match(await observed(host, vm), { running: false });
  t.equal(cluster.schedule(vm)?.host, host.id, 'it keeps its host');

  await cluster.updateVm(vm, { power_state: 'running' });
  await cluster.until('ready again', () => isRunning(cluster, vm) && cluster.ready(vm));
  const started = cluster.report(vm)?.started_at;

  await cluster.updateVm(vm, { labels: { a: 'b' }, name: 'other' });
  t.equal(host.hypervisor.resourcesOf(vm)?.memory, GiB);
  // The test does not wait for the grant of the new size, because the host waits for it before it starts the VM.
  await cluster.updateVm(vm, { memory: 2 * GiB, user_data: '#!/bin/sh' });
  const reboot = await cluster.rebootVm(vm);
  await cluster.until('rebooted', () => cluster.operation(reboot)?.state === 'succeeded');
  t.match(cluster.operation(reboot), { progress: 100, finished_at: String });
  t.not(cluster.report(vm)?.started_at, started);
  t.equal(cluster.pending(vm), '', 'one restart was enough for all that has changed');
  t.equal(host.hypervisor.resourcesOf(vm)?.memory, 2 * GiB);
  await cluster.until('ready after the reboot too', () => cluster.ready(vm));

  await cluster.deleteVm(vm);
  await cluster.until('gone', () => cluster.vm(vm) === undefined && cluster.report(vm) === undefined);
  t.equal(await observed(host, vm), undefined);
  t.strictSame(host.hypervisor.networks(), [], 'so is its network');
  for (const kind of [schedules, placements, reports, guests])
    t.equal(cluster.mirror.size(kind), 0, `no ${kind.prefix}`);
  t.strictSame(cluster.reasonsOf(vm), ['scheduled', 'started', 'stopped', 'started', 'started', 'torn_down']);
});

/** A cloud without a scheduler: the test writes the placements. */
async function place(cluster: Cluster, id: Id<'vm'>, host: Id<'host'>, fence = 1): Promise<void> {
  const at = new Date().toISOString();
  const given = { fence, cpus: 1, memory: GiB, disk: GiB, at };
  await cluster.write(put(schedules, id, { host, fence, at }), put(placements, `${host}/${id}`, given));
}

t.test('a VM that is to grow is started with what it has when it gets no more', async (t) => {
  const cluster = await withCluster(t);
  const host = await startSimulatedHost(t, cluster.store);
  const [refused, forgotten] = [await cluster.createVm(), await cluster.createVm()];
  for (const vm of [refused, forgotten]) await place(cluster, vm, host.id);
  await cluster.until('both run', () => isRunning(cluster, refused) && isRunning(cluster, forgotten));
  for (const vm of [refused, forgotten]) await cluster.updateVm(vm, { memory: 2 * GiB, user_data: '#!/bin/sh' });
  await cluster.until('it waits for a restart', () => cluster.pending(forgotten) === 'memory,user_data');
  const reboots = [await cluster.rebootVm(refused), await cluster.rebootVm(forgotten)];
  const isDown = (vm: Id<'vm'>) => host.hypervisor.resourcesOf(vm) === undefined;
  await cluster.until('both wait for the scheduler', () => isDown(refused) && isDown(forgotten));
  const at = new Date().toISOString();
  const note = { reason: 'resize_waits', message: 'Its host has not enough memory left.' };
  await cluster.write(put(schedules, refused, { host: host.id, fence: 1, ...note, at }));
  await cluster.until('who is refused starts', () => isRunning(cluster, refused));
  const ended = () => reboots.every((id) => cluster.operation(id)?.state === 'succeeded');
  await cluster.until('but for a scheduler that is away, not for long', ended);
  for (const vm of [refused, forgotten]) {
    t.equal(host.hypervisor.resourcesOf(vm)?.memory, GiB);
    t.equal(cluster.pending(vm), 'memory', 'the new size still waits, the user data has been given');
  }
});

t.test('VMs outlive their agent, and the next one adopts them', async (t) => {
  const cluster = await withCluster(t);
  const first = await startSimulatedHost(t, cluster.store);
  const [stays, crashes] = [await cluster.createVm(), await cluster.createVm()];
  for (const vm of [stays, crashes]) await place(cluster, vm, first.id);
  await cluster.until('both run', () => isRunning(cluster, stays) && isRunning(cluster, crashes));
  const before = cluster.report(stays)?.started_at;
  await first.close();
  await cluster.until('the host is not alive', () => cluster.mirror.get(alive, first.id) === undefined);
  const meanwhile = createSimulatedHypervisor({ dataDir: first.dataDir, capacity });
  meanwhile.exit(crashes, 'crash');
  await meanwhile.close();

  const second = await startSimulatedHost(t, cluster.store, { dataDir: first.dataDir });
  t.equal(second.id, first.id, 'who has the directory is the host');
  await cluster.until('what ended meanwhile is noticed and started again', () =>
    cluster.reasonsOf(crashes).join().endsWith('started,crashed,started'),
  );
  t.match(await observed(second, stays), { running: true, fence: 1 });
  t.equal(cluster.report(stays)?.started_at, before, 'the other was not touched');
  t.strictSame(cluster.reasonsOf(stays), ['started']);
});

t.test('a guest that ends by itself is started again, ever more slowly', async (t) => {
  const cluster = await withCluster(t);
  const host = await startSimulatedHost(t, cluster.store);
  const vm = await cluster.createVm();
  await place(cluster, vm, host.id);
  const running = (runs: number) => () =>
    isRunning(cluster, vm) && cluster.reasonsOf(vm).filter((reason) => reason === 'started').length === runs;
  await cluster.until('it runs', running(1));
  host.hypervisor.exit(vm, 'guest_shutdown');
  await cluster.until('again', running(2));
  host.hypervisor.exit(vm, 'crash');
  await cluster.until('and again', running(3));
  t.strictSame(cluster.reasonsOf(vm), ['started', 'guest_shutdown', 'started', 'crashed', 'started']);
  const [, shutdown, , crash] = cluster.eventsOf(vm);
  t.match(shutdown, { severity: 'info', message: 'The guest shut itself down; the host starts it again.' });
  t.match(crash, { severity: 'warning', message: 'The VM ended unexpectedly; the host starts it again in 1 s.' });
});

t.test('a guest that does not listen is ended after its grace', async (t) => {
  const cluster = await withCluster(t);
  const host = await startSimulatedHost(t, cluster.store, { graceSeconds: 0.1 });
  const vm = await cluster.createVm();
  await place(cluster, vm, host.id);
  await cluster.until('it runs', () => isRunning(cluster, vm));
  host.hypervisor.hang(vm);
  await cluster.updateVm(vm, { power_state: 'stopped' });
  await cluster.until('it is asked', () => cluster.phase(vm) === 'stopping');
  await cluster.until('then ended', () => cluster.phase(vm) === 'stopped');
  const refused = await cluster.rebootVm(vm);
  await cluster.until('what is to be stopped is not rebooted', () => cluster.operation(refused)?.state === 'failed');
  t.match(cluster.operation(refused)?.error, { code: 'invalid_state' });
});

t.test('a step that keeps failing is reported and tried again until it works', async (t) => {
  const cluster = await withCluster(t);
  let broken = true;
  const fault = (step: string) => {
    if (step === 'start' && broken) throw new Error('/var/lib/ucloud/host/vms: no space left on device');
  };
  const host = await startSimulatedHost(t, cluster.store, { simulated: { fault } });
  const vm = await cluster.createVm();
  await place(cluster, vm, host.id);
  await cluster.until('an error', () => cluster.phase(vm) === 'error');
  t.match(cluster.report(vm), { reason: 'step_failed', message: /^a step failed on the host; .* \(failed \d+ times/ });
  t.notMatch(cluster.report(vm)?.message, /var/, "what is the operator's business stays in the log");
  broken = false;
  await cluster.until('it runs', () => isRunning(cluster, vm));
  t.equal(cluster.report(vm)?.message, undefined);
  t.strictSame(cluster.reasonsOf(vm), ['step_failed', 'started'], 'said once');
});

t.test('a VM waits for its image, and says so', async (t) => {
  const cluster = await withCluster(t);
  const at = new Date().toISOString();
  await cluster.write(put(imageReports, cluster.image, { phase: 'importing', at }));
  const host = await startSimulatedHost(t, cluster.store);
  const vm = await cluster.createVm();
  await place(cluster, vm, host.id);
  await cluster.until('it waits', () => cluster.report(vm)?.reason === 'image_not_available');
  await cluster.write(put(imageReports, cluster.image, { phase: 'error', message: 'not an image', at }));
  await cluster.until('it cannot', () => cluster.phase(vm) === 'error');
  t.match(cluster.report(vm)?.message, /not an image/);
  await cluster.write(put(imageReports, cluster.image, { phase: 'available', at }));
  await cluster.until('it runs', () => isRunning(cluster, vm));
});

t.test('only the newest placement counts', async (t) => {
  const cluster = await withCluster(t);
  const [old, young] = [await startSimulatedHost(t, cluster.store), await startSimulatedHost(t, cluster.store)];
  const vm = await cluster.createVm();
  await place(cluster, vm, old.id);
  await cluster.until('it runs', () => isRunning(cluster, vm));
  const at = new Date().toISOString();
  await cluster.store.commit({
    write: [
      remove(placements, `${old.id}/${vm}`),
      put(placements, `${young.id}/${vm}`, { fence: 2, cpus: 1, memory: GiB, disk: GiB, at }),
      put(schedules, vm, { host: young.id, fence: 2, at }),
    ],
  });
  await cluster.until('it runs there', () => cluster.report(vm)?.host === young.id && isRunning(cluster, vm));
  let left: ObservedVm | undefined = { id: vm, running: true };
  await cluster.until('here it is no more', () => {
    void observed(old, vm).then((seen) => {
      left = seen;
    });
    return left === undefined;
  });
  t.match(cluster.report(vm), { host: young.id, fence: 2 }, 'and the old host has not touched the report');

  await cluster.write(put(placements, `${young.id}/${vm}`, { fence: 3, cpus: 1, memory: GiB, disk: GiB, at }));
  await cluster.until(
    'a run of an older placement is not adopted',
    () => cluster.report(vm)?.fence === 3 && isRunning(cluster, vm),
  );
  t.match(await observed(young, vm), { running: true, fence: 3 });
});

t.test('a VM that an empty database does not know is left alone', async (t) => {
  const cluster = await withCluster(t);
  const first = await startSimulatedHost(t, cluster.store);
  const vm = await cluster.createVm();
  await place(cluster, vm, first.id);
  await cluster.until('it runs', () => isRunning(cluster, vm));
  await first.close();

  const empty = await withCluster(t);
  const second = await startSimulatedHost(t, empty.store, { dataDir: first.dataDir });
  const probe = await empty.createVm();
  await place(empty, probe, second.id);
  await empty.until('the host works', () => isRunning(empty, probe));
  t.match(await observed(second, vm), { running: true });
  t.strictSame((await second.hypervisor.clean()).length, 2, 'until the operator cleans the host');
});

t.test('a VM whose record cannot be read runs on, and its host says what is wrong', async (t) => {
  const cluster = await withCluster(t);
  const host = await startSimulatedHost(t, cluster.store);
  const vm = await cluster.createVm();
  await place(cluster, vm, host.id);
  await cluster.until('it runs', () => isRunning(cluster, vm));
  const [before, record] = [cluster.report(vm)?.started_at, await cluster.store.get(vms.prefix + vm)];
  await cluster.store.commit({ write: [{ put: vms.prefix + vm, value: '{' }] });
  await cluster.until('it is told', () => cluster.report(vm)?.reason === 'step_failed');
  t.match(await observed(host, vm), { running: true });
  await cluster.store.commit({ write: [{ put: vms.prefix + vm, value: record?.value ?? '' }] });
  await cluster.until('all is well again', () => isRunning(cluster, vm) && cluster.report(vm)?.reason === undefined);
  t.equal(cluster.report(vm)?.started_at, before);
});

t.test('of two agents of one host the newer one acts, and the older one ends', async (t) => {
  const cluster = await withCluster(t);
  const older = await startSimulatedHost(t, cluster.store);
  const before =
    cluster.mirror.get(alive, older.id)?.revision ?? (await cluster.store.get(`alive/${older.id}`))?.revision;
  const newer = await startSimulatedHost(t, cluster.store, { dataDir: older.dataDir });
  await cluster.until('the sign of life is another', () => cluster.mirror.get(alive, newer.id)?.revision !== before);
  const vm = await cluster.createVm();
  await place(cluster, vm, newer.id);
  await cluster.until('it runs', () => isRunning(cluster, vm));
  t.match(await observed(newer, vm), { running: true });
  t.equal(await observed(older, vm), undefined, 'the older agent has started nothing');
  await older.close();
  t.ok(await cluster.store.get(`alive/${newer.id}`), 'and its end does not take the sign of life away');
});

t.test('an agent that has been replaced cannot start what it was about to', async (t) => {
  const cluster = await withCluster(t);
  const session = cluster.store.session();
  const held = Promise.withResolvers<void>();
  const arrived = Promise.withResolvers<void>();
  const result = Promise.withResolvers<boolean>();
  const host = await startSimulatedHost(t, {
    ...bound(session),
    commit: async (commit) => {
      const starts = commit.write.some((write) => 'put' in write && write.value.includes('"phase":"starting"'));
      if (!starts) return session.commit(commit);
      arrived.resolve();
      await held.promise;
      const answer = await session.commit(commit);
      result.resolve(answer.ok);
      return answer;
    },
  });
  const vm = await cluster.createVm();
  await place(cluster, vm, host.id);
  await arrived.promise;
  // As the next agent of the host does when it begins.
  await cluster.write(put(alive, host.id, { at: new Date().toISOString() }));
  held.resolve();
  t.equal(await result.promise, false, 'its sign of life is not the one in the database');
  await host.close();
  t.match(await observed(host, vm), { running: false });
});

t.test('without a lease nothing is started, and what may run elsewhere is ended', async (t) => {
  const cluster = await withCluster(t);
  const session = cluster.store.session();
  const leases: Lease[] = [];
  let away = false;
  const store: Store = {
    ...bound(session),
    lease: async (ttl) => {
      if (away) throw new UcloudError('store_unavailable', 'cut off');
      const lease = await session.lease(ttl);
      leases.push(lease);
      return lease;
    },
  };
  const host = await startSimulatedHost(t, store, { restartableElsewhere: (vm) => vm.labels.disk === 'shared' });
  const local = await cluster.createVm();
  const shared = await cluster.createVm({ labels: { disk: 'shared' } });
  for (const vm of [local, shared]) await place(cluster, vm, host.id);
  await cluster.until('both run', () => isRunning(cluster, local) && isRunning(cluster, shared));
  away = true;
  // As when the database was away for longer than the lease lasts.
  await leases[0]?.revoke();
  await cluster.until('the one is ended', () => host.hypervisor.resourcesOf(shared) === undefined);
  const late = await cluster.createVm();
  await place(cluster, late, host.id);
  await cluster.until('the new one is as far as it may be', () => cluster.phase(late) === 'preparing');
  t.match(await observed(host, local), { running: true }, 'a VM with its disk here goes on');
  t.equal((await observed(host, late))?.running ?? false, false);
  away = false;
  const runs = (vm: Id<'vm'>) => isRunning(cluster, vm) && host.hypervisor.resourcesOf(vm) !== undefined;
  await cluster.until('with a lease all run', () => [local, shared, late].every(runs));
});

t.test('an agent that starts decides nothing until it knows which VMs run', async (t) => {
  const cluster = await cloud(t);
  const dataDir = temporaryDirectory(t);
  const first = await startSimulatedHost(t, cluster.store, { dataDir });
  const vm = await cluster.createVm();
  await cluster.until('ready', () => isRunning(cluster, vm) && cluster.ready(vm));
  await first.close();

  const hypervisor = createSimulatedHypervisor({ dataDir, capacity, bootMs: 1, readyMs: 1, shutdownMs: 1 });
  const { list } = hypervisor;
  const asked = Promise.withResolvers<void>();
  const mayAnswer = Promise.withResolvers<void>();
  const slow = Object.assign(hypervisor, {
    list: async () => {
      asked.resolve();
      await mayAnswer.promise;
      return list();
    },
  });
  t.teardown(() => slow.close());
  const reported: string[] = [];
  cluster.mirror.subscribe(({ changes }) => {
    for (const change of changes)
      if (isChangeOf(reports, change))
        reported.push(`${change.stored?.value.phase} ${change.stored?.value.reason ?? ''}`);
  });
  const common = { store: cluster.store, logger: silentLogger, dataDir, name: 'testing', version: '0', retryMs: 5 };
  const starting = startHost({ ...common, hypervisor: slow });
  await asked.promise;
  // Changes of the VM and of others while the agent looks at the machine.
  await cluster.updateVm(vm, { labels: { a: 'b' } });
  await cluster.updateVm(vm, { power_state: 'stopped' });
  await cluster.updateVm(vm, { power_state: 'running' });
  const last = await cluster.createVm();
  await cluster.until('placed', () => cluster.schedule(last)?.host === first.id);
  mayAnswer.resolve();
  const host = await starting;
  t.teardown(() => host.close());
  await cluster.until('the other VM runs', () => isRunning(cluster, last));
  t.notOk(cluster.reasonsOf(vm).includes('crashed'));
  t.notOk(
    reported.some((each) => /^stopped/.test(each)),
    reported.join(', '),
  );
  t.ok(slow.resourcesOf(vm), 'the guest has run all the time');
});
