/** Routed prefixes, from their declarations to the routes that the agents set. */
import t from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { newId } from '../../backend/model/ids.ts';
import { hosts, networks, type PrefixRouteRecord, prefixRoutes, vms } from '../../backend/model/records/index.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { put, remove } from '../../backend/store/collection.ts';
import { withCluster } from '../support/cluster.ts';
import { hostRecord } from '../support/host-record.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { startSimulatedHost } from '../support/simulated-host.ts';

t.test('routes follow their VM to its host, and concern other hosts as its network does', async (t) => {
  const cluster = await withCluster(t);
  const scheduler = await startScheduler({ store: cluster.store, logger: silentLogger });
  t.teardown(() => scheduler.close());
  const start = (number: number) =>
    startSimulatedHost(t, cluster.store, { underlay: { address: `fd00:f::${number}`, mtu: 9000 } });
  const [one, two, three] = [await start(1), await start(2), await start(3)];
  /** Creates a VM on the host. Others are closed meanwhile. */
  const createOn = async (host: Id<'host'>, number: number, network: Id<'network'>, project?: Id<'project'>) => {
    for (const { id } of [one, two, three]) await cluster.setPolicy(id, { cordoned: id !== host });
    const mac = `42:00:00:00:00:0${number}`;
    const interfaces = [{ network, mac, address: `2001:db8::${number}` }];
    const id = await cluster.createVm({ interfaces, ...(project && { project }) });
    await cluster.until(`VM ${number} runs`, () => cluster.phase(id) === 'running');
    return { id, mac };
  };
  const before = cluster.mirror.get(networks, cluster.network)?.value;
  if (!before) throw new Error('the network is missing');
  const [other, project] = [newId('network'), newId('project')];
  await cluster.write(put(networks, other, { ...before, id: other, cidr: '2001:db8:0:8::/64', vni: 8, project }));
  const first = await createOn(one.id, 1, cluster.network);
  const second = await createOn(two.id, 2, cluster.network);
  await createOn(three.id, 3, other, project);

  const id = newId('prefix_route');
  const route = (to: { readonly id: Id<'vm'>; readonly mac: string }, cidr: string): PrefixRouteRecord => ({
    id,
    project: before.project,
    name: 'route',
    labels: {},
    prefix: newId('prefix'),
    cidr,
    length: Number(cidr.split('/')[1]),
    vm: to.id,
    mac: to.mac,
    delete_protection: false,
    created_at: before.created_at,
    updated_at: before.created_at,
  });
  const cidr = '2001:db8:0:10::/60';
  const seen = () =>
    [one, two, three].map((host) => {
      const via = host.hypervisor.fabric()?.routes.find(({ prefix }) => prefix === cidr)?.via;
      // The third host has no VM of the project, so any host of the network will do.
      return { own: host.hypervisor.routes(), via: host === three && via !== undefined ? 'any' : via };
    });
  const becomes = async (name: string, wanted: ReturnType<typeof seen>) => {
    await cluster.until(name, () => JSON.stringify(seen()) === JSON.stringify(wanted));
    t.strictSame(seen(), wanted, name);
  };
  const none = { own: [], via: undefined };

  await cluster.write(put(prefixRoutes, id, route(first, cidr)));
  await becomes('a route to the first VM; the third host uses any host of the network', [
    { own: [{ prefix: cidr, mac: first.mac }], via: undefined },
    { own: [], via: 'fd00:f::1' },
    { own: [], via: 'any' },
  ]);
  await cluster.write(put(prefixRoutes, id, route(second, cidr)));
  await becomes('the route has moved', [
    { own: [], via: 'fd00:f::2' },
    { own: [{ prefix: cidr, mac: second.mac }], via: undefined },
    { own: [], via: 'any' },
  ]);

  await t.test('no host starts with an underlay address in a routed prefix', async (t) => {
    const underlay = { address: '2001:db8:0:1f::9', mtu: 9000 };
    await t.rejects(startSimulatedHost(t, cluster.store, { underlay }), {
      message: /^the underlay address 2001:db8:0:1f::9 lies in 2001:db8:0:10::\/60, which prt-\w+ routes to a VM/,
    });
  });

  await t.test('a route with the underlay address of a host leads nowhere', async () => {
    const late = newId('host');
    const underlay = { address: '2001:db8:0:1f::9', mtu: 9000 };
    await cluster.write(put(hosts, late, { ...hostRecord({ id: late, name: 'late' }), underlay }));
    await becomes('no host has the route', [none, none, none]);
    await cluster.write(remove(hosts, late));
  });
  await becomes('the route is back', [
    { own: [], via: 'fd00:f::2' },
    { own: [{ prefix: cidr, mac: second.mac }], via: undefined },
    { own: [], via: 'any' },
  ]);

  await t.test('a route of an interface that its VM does not have leads nowhere', async () => {
    await cluster.write(put(prefixRoutes, id, route({ id: second.id, mac: first.mac }, cidr)));
    await becomes('no host has the route', [none, none, none]);
  });
  await cluster.write(put(prefixRoutes, id, route(second, cidr)));
  await becomes('a right route again', [
    { own: [], via: 'fd00:f::2' },
    { own: [{ prefix: cidr, mac: second.mac }], via: undefined },
    { own: [], via: 'any' },
  ]);
  const vm = cluster.mirror.get(vms, second.id)?.value;
  if (!vm) throw new Error('the VM is missing');
  await cluster.write(put(vms, second.id, { ...vm, deleted_at: new Date().toISOString() }));
  await becomes('the VM is gone, and no host has the route', [none, none, none]);
});
