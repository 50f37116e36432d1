/** The part of the database that an agent mirrors: it is enough for its work, and it is never taken for everything. */
import t from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { openOwnView } from '../../backend/host/view.ts';
import { newId } from '../../backend/model/ids.ts';
import { completeCarriers } from '../../backend/model/network/carriers.ts';
import { memberId } from '../../backend/model/network/members.ts';
import { placementId } from '../../backend/model/placement/placement-id.ts';
import {
  leaders,
  networkCarriers,
  networkMembers,
  networks,
  placements,
  reports,
  schedules,
  vms,
} from '../../backend/model/records/index.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { put, read, remove } from '../../backend/store/collection.ts';
import type { Store } from '../../backend/store/store.ts';
import { bound } from '../support/bound-store.ts';
import { withCluster } from '../support/cluster.ts';
import { until } from '../support/eventually.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { startSimulatedHost } from '../support/simulated-host.ts';
import { temporaryDirectory } from '../support/stores.ts';

const underlay = (number: number) => ({ underlay: { address: `fd00:f::${number}`, mtu: 9000 } });
const keysOf = ({ mirror }: Awaited<ReturnType<typeof openOwnView>>) =>
  [
    [...mirror.list(vms)],
    [...mirror.list(schedules)],
    [...mirror.list(reports)],
    [...mirror.list(placements)],
    [...mirror.list(networkMembers)],
  ].flatMap((list) => list.map(({ key }) => key));

/** A store whose reads of keys with the prefix wait until `release`. */
function slowReads(store: Store, prefix: string): { readonly store: Store; release(): void; readonly waiting: number } {
  const gate = Promise.withResolvers<void>();
  let waiting = 0;
  const list: Store['list'] = async (range, options) => {
    if (range.startsWith(prefix) && range !== prefix) {
      waiting++;
      await gate.promise;
      waiting--;
    }
    return store.list(range, options);
  };
  return {
    store: { ...bound(store), list },
    release: () => gate.resolve(),
    get waiting() {
      return waiting;
    },
  };
}

t.test('an agent mirrors its own VMs, and the members of its networks', async (t) => {
  const cluster = await withCluster(t);
  const scheduler = await startScheduler({ store: cluster.store, logger: silentLogger });
  t.teardown(() => scheduler.close());
  const [one, two] = [
    await startSimulatedHost(t, cluster.store, underlay(1)),
    await startSimulatedHost(t, cluster.store, underlay(2)),
  ];
  const project = newId('project');
  const foreign = newId('network');
  const known = cluster.mirror.get(networks, cluster.network)?.value;
  if (known === undefined) throw new Error('the network is missing');
  await cluster.write(put(networks, foreign, { ...known, id: foreign, project, cidr: '2001:db8:0:9::/64', vni: 9 }));
  const createOn = async (host: Id<'host'>, number: number, network = cluster.network, of?: Id<'project'>) => {
    for (const { id } of [one, two]) await cluster.setPolicy(id, { cordoned: id !== host });
    const interfaces = [{ network, mac: `42:00:00:00:00:0${number}`, address: `2001:db8::${number}` }];
    const id = await cluster.createVm({ interfaces, ...(of && { project: of }) });
    await cluster.until(`VM ${number} runs`, () => cluster.phase(id) === 'running');
    return id;
  };
  const own = await createOn(one.id, 1);
  const other = await createOn(two.id, 2);
  const stranger = await createOn(two.id, 3, foreign, project);
  const view = await openOwnView(cluster.store, silentLogger, one.id);
  t.teardown(() => view.close());
  t.same(keysOf(view), [
    `vms/${own}`,
    `schedules/${own}`,
    `reports/${own}`,
    `placements/${placementId(one.id, own)}`,
    `network-members/${memberId(cluster.network, '42:00:00:00:00:01')}`,
    `network-members/${memberId(cluster.network, '42:00:00:00:00:02')}`,
  ]);
  t.ok(view.isKnown(own));
  t.notOk(view.isKnown(other), 'nothing is known of the VMs of other hosts');
  const fabric = () => one.hypervisor.fabric();
  await cluster.until('the paths are there', () => (fabric()?.routes.length ?? 0) > 0);
  t.match(fabric()?.interfaces, [{ mac: '42:00:00:00:00:02', via: 'fd00:f::2' }]);
  t.strictSame(fabric()?.routes, [{ prefix: '2001:db8:0:9::/64', via: 'fd00:f::2' }], 'other networks go to a carrier');

  await cluster.deleteVm(stranger);
  const stop = cluster.collect();
  t.teardown(stop);
  await cluster.until('the carrier is gone', () => fabric()?.routes.length === 0);
  // The agent learns of a VM that comes and goes.
  const late = await createOn(one.id, 4);
  await until('it is known', () => view.isKnown(late));
  await cluster.deleteVm(late);
  await cluster.until('removed', () => cluster.mirror.get(vms, late) === undefined);
  await view.mirror.catchUp();
  t.notOk(keysOf(view).some((key) => key.includes(late)));
  t.notOk(cluster.mirror.get(reports, late), 'and leaves nothing behind');
});

t.test('an agent decides nothing about a VM while it does not know its records', async (t) => {
  const cluster = await withCluster(t);
  const scheduler = await startScheduler({ store: cluster.store, logger: silentLogger });
  t.teardown(() => scheduler.close());
  const dataDir = temporaryDirectory(t);
  const steps: string[] = [];
  const simulated = { fault: (step: string) => void steps.push(step) };
  const link = slowReads(cluster.store, 'vms/');
  const host = await startSimulatedHost(t, link.store, { dataDir, simulated });
  const id = await cluster.createVm();
  await cluster.until('placed', () => cluster.mirror.get(placements, placementId(host.id, id)) !== undefined);
  await until('the agent asks for the VM', () => link.waiting > 0);
  // Changes of other records of the VM make the agent look.
  const schedule = await read(cluster.store, schedules, id);
  if (schedule === undefined) throw new Error('no schedule');
  for (let n = 0; n < 5; n++) {
    const result = await cluster.store.commit({
      write: [put(schedules, id, { ...schedule.value, at: new Date().toISOString() })],
    });
    t.ok(result.ok);
  }
  await cluster.mirror.catchUp();
  t.notOk(cluster.mirror.get(reports, id), 'no report');
  t.notOk(
    steps.some((step) => ['destroy', 'prepare', 'start'].includes(step)),
    'no step',
  );
  link.release();
  await cluster.until('it runs', () => cluster.phase(id) === 'running');

  await t.test('also with a running guest, after a restart', async (t) => {
    await host.close();
    steps.length = 0;
    const slow = slowReads(cluster.store, 'vms/');
    const again = startSimulatedHost(t, slow.store, { dataDir, simulated });
    await until('the agent asks for the VM', () => slow.waiting > 0);
    t.equal(cluster.phase(id), 'running');
    slow.release();
    const restarted = await again;
    await cluster.mirror.catchUp();
    t.notOk(steps.some((step) => ['stop', 'destroy', 'start'].includes(step)));
    t.ok(restarted.hypervisor.resourcesOf(id), 'the guest runs');
  });

  await t.test('a placement that comes and goes before its VM is known', async (t) => {
    const slow = slowReads(cluster.store, 'vms/');
    const other = await startSimulatedHost(t, slow.store, { simulated });
    steps.length = 0;
    const passing = newId('vm');
    const size = { cpus: 1, memory: 1, disk: 1 };
    const key = placementId(other.id, passing);
    for (let fence = 1; fence <= 5; fence++) {
      await cluster.store.commit({ write: [put(placements, key, { fence, ...size, at: new Date().toISOString() })] });
      await cluster.store.commit({ write: [remove(placements, key)] });
    }
    slow.release();
    const next = await cluster.createVm();
    await cluster.until('another VM runs', () => cluster.phase(next) === 'running');
    t.notOk(cluster.mirror.get(reports, passing));
    t.notOk(steps.includes('start') && other.hypervisor.resourcesOf(passing));
  });
});

t.test('while a scheduler of an earlier version leads, agents know all members', async (t) => {
  const cluster = await withCluster(t);
  const { store } = cluster;
  const host = newId('host');
  const [network, vm] = [newId('network'), newId('vm')];
  const member = put(networkMembers, memberId(network, '42:00:00:00:00:07'), {
    vm,
    host: newId('host'),
    fence: 1,
    address: '2001:db8::7',
  });
  await store.commit({ write: [member, put(networkCarriers, completeCarriers, { hosts: [] })] });
  const view = await openOwnView(store, silentLogger, host);
  t.teardown(() => view.close());
  t.equal(view.mirror.size(networkMembers), 0, 'no scheduler leads, but the carriers are complete');
  await store.commit({ write: [put(leaders, 'scheduler', { id: 'old' })] });
  await until('all members', () => view.mirror.size(networkMembers) === 1);
  await store.commit({ write: [put(leaders, 'scheduler', { id: 'new', carriers: true })] });
  await until('none again', () => view.mirror.size(networkMembers) === 0);
});
