import t, { type Test } from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import type { ObservedVm } from '../../backend/host/hypervisor/hypervisor.ts';
import { guests, hosts, placements, reports, schedules } from '../../backend/model/records.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { type Cluster, GiB, withCluster } from '../support/cluster.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { type SimulatedHost, startSimulatedHost } from '../support/simulated-host.ts';

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
  t.match(cluster.mirror.get(hosts, host.id)?.value ?? (await cluster.store.get(`hosts/${host.id}`)), {});
  const vm = await cluster.createVm();
  await cluster.until('ready', () => isRunning(cluster, vm) && cluster.ready(vm));
  t.match(await observed(host, vm), { running: true, fence: 1, generation: 1 });
  t.match(cluster.report(vm), { host: host.id, fence: 1, generation: 1, restart_required: false });
  t.equal(host.hypervisor.networks()[0]?.id, cluster.network, 'its network is there');

  await cluster.updateVm(vm, { power_state: 'stopped' });
  await cluster.until('stopped', () => cluster.phase(vm) === 'stopped');
  t.match(await observed(host, vm), { running: false });
  t.equal(cluster.schedule(vm)?.host, host.id, 'it keeps its host');

  await cluster.updateVm(vm, { power_state: 'running' });
  await cluster.until('ready again', () => isRunning(cluster, vm) && cluster.ready(vm));
  const started = cluster.report(vm)?.started_at;

  await cluster.updateVm(vm, { labels: { a: 'b' }, name: 'other' });
  await cluster.updateVm(vm, { memory: 2 * GiB });
  await cluster.until('a change of size waits for a restart', () => cluster.report(vm)?.restart_required === true);
  t.equal(host.hypervisor.resourcesOf(vm)?.memory, GiB);
  const reboot = await cluster.rebootVm(vm);
  await cluster.until('rebooted', () => cluster.operation(reboot)?.state === 'succeeded');
  t.match(cluster.operation(reboot), { progress: 100, finished_at: String });
  t.not(cluster.report(vm)?.started_at, started);
  t.equal(cluster.report(vm)?.restart_required, false);
  t.equal(host.hypervisor.resourcesOf(vm)?.memory, 2 * GiB);
  await cluster.until('ready after the reboot too', () => cluster.ready(vm));

  await cluster.deleteVm(vm);
  await cluster.until('gone', () => cluster.vm(vm) === undefined && cluster.report(vm) === undefined);
  t.equal(await observed(host, vm), undefined);
  t.strictSame(host.hypervisor.networks(), [], 'so is its network');
  for (const kind of [schedules, placements, reports, guests])
    t.equal(cluster.mirror.size(kind), 0, `no ${kind.prefix}`);
  t.strictSame(cluster.reasonsOf(vm), ['scheduled', 'started', 'stopped', 'started', 'started', 'deleted']);
});
