/** Networks over many hosts, from the placements by the scheduler to the paths that the agents set. */
import t, { type Test } from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import type { FabricSpec } from '../../backend/host/hypervisor/specs.ts';
import { newId } from '../../backend/model/ids.ts';
import { memberId } from '../../backend/model/network/members.ts';
import {
  alive,
  formats,
  hosts,
  networkMembers,
  networks,
  prefixes,
  schedules,
  storeFormat,
  vms,
} from '../../backend/model/records/index.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { put, remove } from '../../backend/store/collection.ts';
import { type Cluster, withCluster } from '../support/cluster.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { type SimulatedHost, startSimulatedHost } from '../support/simulated-host.ts';

async function withScheduler(t: Test): Promise<Cluster> {
  const cluster = await withCluster(t);
  const scheduler = await startScheduler({ store: cluster.store, logger: silentLogger });
  t.teardown(() => scheduler.close());
  t.teardown(cluster.collect());
  return cluster;
}

const underlayOf = (number: number) => ({ address: `fd00:f::${number}`, mtu: 9000 });
const apart = { anti_affinity: { group: 'apart', mode: 'required' } } as const;

/** Adds a network of the project, or of another one. */
async function addNetwork(cluster: Cluster, number: number, project?: Id<'project'>): Promise<Id<'network'>> {
  const before = cluster.mirror.get(networks, cluster.network)?.value;
  if (!before) throw new Error('the network is missing');
  const id = newId('network');
  const cidr = `2001:db8:0:${number}::/64`;
  await cluster.write(
    put(networks, id, { ...before, id, name: `net-${number}`, cidr, vni: number, ...(project && { project }) }),
  );
  return id;
}

const interfaceIn = (network: Id<'network'>, number: number) => ({
  interfaces: [{ network, mac: `42:00:00:00:00:0${number}`, address: `2001:db8::4000:ff:fe00:${number}` }],
});

const reached = ({ hypervisor }: SimulatedHost): Pick<FabricSpec, 'interfaces' | 'routes'> => {
  const { interfaces = [], routes = [] } = hypervisor.fabric() ?? {};
  return { interfaces: [...interfaces].sort((a, b) => a.mac.localeCompare(b.mac)), routes };
};

t.test('hosts get the paths to the VMs of others with their placements, and lose them', async (t) => {
  const cluster = await withScheduler(t);
  const [a, b, lonely] = [
    await startSimulatedHost(t, cluster.store, { underlay: underlayOf(1) }),
    await startSimulatedHost(t, cluster.store, { underlay: underlayOf(2) }),
    await startSimulatedHost(t, cluster.store),
  ];
  t.equal(cluster.mirror.get(formats, storeFormat)?.value.reader, 5, 'older versions stop');
  await cluster.setPolicy(lonely.id, { cordoned: true });
  const one = await cluster.createVm({ ...apart, ...interfaceIn(cluster.network, 1) });
  const two = await cluster.createVm({ ...apart, ...interfaceIn(cluster.network, 2) });
  await cluster.until('both run', () => [one, two].every((vm) => cluster.phase(vm) === 'running'));
  const [first, second] = cluster.schedule(one)?.host === a.id ? [a, b] : [b, a];
  const [via1, via2] = [first, second].map(({ id }) => cluster.mirror.get(hosts, id)?.value.underlay?.address);
  t.strictSame(cluster.mirror.get(networkMembers, memberId(cluster.network, '42:00:00:00:00:02'))?.value, {
    vm: two,
    host: second.id,
    fence: 1,
    address: '2001:db8::4000:ff:fe00:2',
    project: cluster.mirror.get(vms, two)?.value.project,
  });
  await cluster.until('the host of the first VM knows the second', () => reached(first).interfaces.length === 1);
  t.strictSame(reached(first).interfaces, [
    { vni: 4711, mac: '42:00:00:00:00:02', address: '2001:db8::4000:ff:fe00:2', via: via2 },
  ]);
  t.strictSame(first.hypervisor.fabric()?.peers, [via2]);
  t.match(first.hypervisor.networks(), [{ mtu: 1450, link_mtu: 9000 }]);
  t.equal(lonely.hypervisor.fabric(), undefined, 'networks end at a host without an underlay address');

  await t.test('networks of the same project are reached directly, others through any host of them', async (t) => {
    const [same, other] = [await addNetwork(cluster, 7), await addNetwork(cluster, 8, newId('project'))];
    await cluster.setPolicy(first.id, { cordoned: true });
    await cluster.createVm(interfaceIn(same, 7));
    const foreign = [await cluster.createVm(interfaceIn(other, 8)), await cluster.createVm(interfaceIn(other, 9))];
    await cluster.until(
      'the paths',
      () => reached(first).interfaces.length === 2 && reached(first).routes.length === 1,
    );
    t.strictSame(reached(first), {
      interfaces: [
        { vni: 4711, mac: '42:00:00:00:00:02', address: '2001:db8::4000:ff:fe00:2', via: via2 },
        { mac: '42:00:00:00:00:07', address: '2001:db8::4000:ff:fe00:7', via: via2 },
      ],
      routes: [{ prefix: '2001:db8:0:8::/64', via: via2 }],
    });
    for (const vm of foreign) await cluster.deleteVm(vm);
    await cluster.until('no way to a network without VMs', () => reached(first).routes.length === 0);
  });

  await t.test('the prefixes of the cloud without VMs are unreachable', async (t) => {
    const id = newId('prefix');
    const { project, created_at, updated_at } = cluster.vm(one) ?? cluster.newVm();
    const common = { id, project, name: 'p', labels: {}, created_at, updated_at, delete_protection: false };
    await cluster.write(
      put(prefixes, id, { ...common, pool: newId('prefix_pool'), cidr: '2001:db8::/48', length: 48 }),
    );
    await cluster.until(
      'the host knows',
      () => first.hypervisor.fabric()?.unreachable.includes('2001:db8::/48') ?? false,
    );
    t.pass();
  });

  await cluster.deleteVm(two);
  await cluster.until('the path ends', () => !reached(first).interfaces.some(({ mac }) => mac.endsWith('02')));
  await cluster.until('the member is gone', () => cluster.schedule(two) === undefined);
  t.equal(cluster.mirror.get(networkMembers, memberId(cluster.network, '42:00:00:00:00:02')), undefined);
  t.equal(via1?.startsWith('fd00:f::'), true);
});

t.test(
  'a dead host does not carry the way to its networks, and an address that two hosts have leads nowhere',
  async (t) => {
    const cluster = await withCluster(t);
    const here = await startSimulatedHost(t, cluster.store, { underlay: underlayOf(9) });
    const carriers = [];
    for (const number of [1, 2, 3, 3]) carriers.push(await cluster.addHost({ underlay: underlayOf(number) }));
    const other = await addNetwork(cluster, 8, newId('project'));
    const [first, second] = carriers.slice(0, 2) as [Id<'host'>, Id<'host'>];
    for (const [index, host] of carriers.entries())
      await cluster.write(
        put(networkMembers, memberId(other, `42:00:00:00:01:0${index}`), {
          vm: newId('vm'),
          host,
          fence: 1,
          address: `2001:db8:0:8::${index}`,
        }),
      );
    const way = () => here.hypervisor.fabric()?.routes[0]?.via;
    await cluster.until('a way', () => way() !== undefined);
    t.notOk(here.hypervisor.fabric()?.peers.includes('fd00:f::3'));
    for (const [dead, living] of [
      [first, 'fd00:f::2'],
      [second, 'fd00:f::1'],
    ] as const) {
      await cluster.write(remove(alive, dead));
      await cluster.until('the way leads to the living host', () => way() === living);
      await cluster.write(put(alive, dead, { at: new Date().toISOString() }));
      await cluster.until('the host is alive again', () => cluster.mirror.get(alive, dead) !== undefined);
    }
  },
);

t.test('prefixes with the underlay address of a host stay reachable, but for their networks', async (t) => {
  const cluster = await withCluster(t);
  const host = await startSimulatedHost(t, cluster.store, { underlay: underlayOf(1) });
  const at = new Date().toISOString();
  const declared = { project: newId('project'), labels: {}, created_at: at, updated_at: at, delete_protection: false };
  const [free, mixed] = [newId('prefix'), newId('prefix')];
  for (const [id, cidr] of [
    [free, 'fd42::/48'],
    [mixed, 'fd00:f::/48'],
  ] as const)
    await cluster.write(put(prefixes, id, { ...declared, id, name: id, pool: newId('prefix_pool'), cidr, length: 48 }));
  const network = await addNetwork(cluster, 5);
  const before = cluster.mirror.get(networks, network)?.value;
  if (!before) throw new Error('the network is missing');
  await cluster.write(put(networks, network, { ...before, prefix: mixed, cidr: 'fd00:f:0:5::/64' }));
  await cluster.until('the prefixes', () => (host.hypervisor.fabric()?.unreachable.length ?? 0) === 2);
  t.strictSame([...(host.hypervisor.fabric()?.unreachable ?? [])].sort(), ['fd00:f:0:5::/64', 'fd42::/48']);
});

t.test('the scheduler writes members that are missing, and removes those of VMs that are gone', async (t) => {
  const cluster = await withCluster(t);
  const host = await cluster.addHost();
  const vm = await cluster.createVm(interfaceIn(cluster.network, 1));
  const start = () => startScheduler({ store: cluster.store, logger: silentLogger, leaseSeconds: 30 });
  let scheduler = await start();
  await cluster.until('placed', () => cluster.schedule(vm)?.host === host);
  await scheduler.close();
  // An earlier version has placed one VM, and removed another one.
  const [mine, left] = [memberId(cluster.network, '42:00:00:00:00:01'), memberId(cluster.network, '42:00:00:00:00:02')];
  await cluster.write(
    remove(networkMembers, mine),
    put(networkMembers, left, { vm: newId('vm'), host, fence: 3, address: '2001:db8::4000:ff:fe00:2' }),
  );
  scheduler = await start();
  t.teardown(() => scheduler.close());
  await cluster.until('right again', () => {
    const { mirror } = cluster;
    return mirror.get(networkMembers, mine)?.value.host === host && mirror.get(networkMembers, left) === undefined;
  });
  t.equal(cluster.mirror.get(schedules, vm)?.value.fence, 1, 'the placement is the same');
});

t.test('an underlay address that is not free is refused', async (t) => {
  const cluster = await withCluster(t);
  const first = await startSimulatedHost(t, cluster.store, { underlay: underlayOf(1), name: 'first' });
  await t.rejects(startSimulatedHost(t, cluster.store, { underlay: underlayOf(1) }), {
    message: `the underlay address fd00:f::1 belongs to the host first (${first.id}); each host needs an address of its own`,
  });
  await t.rejects(startSimulatedHost(t, cluster.store, { underlay: { address: '2001:db8::9', mtu: 1500 } }), {
    message: /the underlay address 2001:db8::9 lies in the prefix 2001:db8::\/64 of the network net-/,
  });
});
