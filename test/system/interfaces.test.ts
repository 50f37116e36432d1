/** Interfaces of running VMs, from their declarations to the guests, with simulated hosts. */
import t from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { newId } from '../../backend/model/ids.ts';
import { derivedAddress } from '../../backend/model/network/interface-addresses.ts';
import { networkMembers, networks, type VmRecord, vms } from '../../backend/model/records/index.ts';
import { changingInterfaces, heldInterfaces } from '../../backend/model/vm/interfaces.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { put } from '../../backend/store/collection.ts';
import { withCluster } from '../support/cluster.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { startSimulatedHost } from '../support/simulated-host.ts';

type Interface = VmRecord['interfaces'][number];

t.test('a running guest follows the interfaces of its VM', async (t) => {
  const cluster = await withCluster(t);
  const scheduler = await startScheduler({ store: cluster.store, logger: silentLogger });
  t.teardown(() => scheduler.close());
  let faults = 0;
  const fault = (step: string) => {
    if (step === 'setInterfaces' && faults-- > 0) throw new Error('a fault of the machine');
  };
  const underlay = { address: 'fd00:f::1', mtu: 9000 };
  const host = await startSimulatedHost(t, cluster.store, { underlay, simulated: { fault } });
  const other = newId('network');
  const network = cluster.mirror.get(networks, cluster.network)?.value;
  if (!network) throw new Error('the network is missing');
  await cluster.write(
    put(networks, other, { ...network, id: other, name: 'other', cidr: '2001:db8:0:9::/64', vni: 9 }),
  );
  const nic = (on: Id<'network'>, number: number, more: Partial<Interface> = {}): Interface => {
    const mac = `42:00:00:00:00:0${number}`;
    const prefix = on === other ? '2001:db8:0:9::' : '2001:db8::';
    return { network: on, mac, address: derivedAddress({ mac, address: prefix }), ...more };
  };
  const [one, two, three] = [nic(cluster.network, 1), nic(other, 2), nic(other, 3)];
  const id = await cluster.createVm({ interfaces: [one] });
  await cluster.until('the VM runs', () => cluster.phase(id) === 'running');
  const started = cluster.report(id)?.started_at;
  const set = async (...interfaces: Interface[]) => {
    const generation = (cluster.vm(id)?.generation ?? 0) + 1;
    await cluster.updateVm(id, { interfaces, interfaces_generation: generation });
  };
  const settled = (what: string) =>
    cluster.until(what, () => {
      const [vm, report] = [cluster.vm(id), cluster.report(id)];
      return (
        report?.interfaces !== undefined && vm !== undefined && changingInterfaces(vm, report.interfaces).length === 0
      );
    });
  const members = () =>
    [...cluster.mirror.list(networkMembers)].flatMap(({ id: member, value }) => (value.vm === id ? [member] : []));

  await t.test('an interface in another network comes', async (t) => {
    await set(one, two);
    await settled('the report shows it');
    t.strictSame(host.hypervisor.interfacesOf(id), heldInterfaces([one, two]));
    t.strictSame(
      host.hypervisor.networks().map(({ vni }) => vni),
      [9, 4711],
      'its network is on the host',
    );
    await cluster.until('other hosts know it', () => members().includes(`${other}/${two.mac}`));
    t.equal(cluster.pending(id), '');
  });
  await t.test('its addresses change', async (t) => {
    const chosen = { ...two, address: '2001:db8:0:9::80', secondary_addresses: ['2001:db8:0:9::81'] };
    await set(one, chosen);
    await settled('the report shows them');
    t.strictSame(host.hypervisor.interfacesOf(id), heldInterfaces([one, chosen]));
    await cluster.until(
      'other hosts know them',
      () => cluster.mirror.get(networkMembers, `${other}/${two.mac}`)?.value.more_addresses?.length === 2,
    );
  });
  await t.test('it goes after faults of the machine', async (t) => {
    faults = 3;
    await set(one);
    await settled('the report shows that');
    t.strictSame(host.hypervisor.interfacesOf(id), heldInterfaces([one]));
    await cluster.until('its network leaves the host', () => host.hypervisor.networks().length === 1);
    await cluster.until('other hosts forget it', () => members().length === 1);
  });
  await t.test('a guest keeps an interface that was removed', async (t) => {
    await set(one, three);
    await settled('it is there');
    host.hypervisor.keepInterfaces(id, true);
    await set(one);
    const closed = () => cluster.report(id)?.interfaces?.find(({ mac }) => mac === three.mac)?.addresses.length === 0;
    await cluster.until('it can use no address', closed);
    await cluster.until('the change waits', () => cluster.pending(id) === 'interfaces');
    t.ok(cluster.reasonsOf(id).includes('interfaces_wait'), 'an event tells');
    t.equal(cluster.reasonsOf(id).filter((reason) => reason === 'interfaces_wait').length, 1);
    host.hypervisor.keepInterfaces(id, false);
    await settled('it is gone');
    t.equal(cluster.pending(id), '');
  });
  t.equal(cluster.report(id)?.started_at, started, 'the guest has run all the time');

  await t.test('an agent that starts finds the interfaces', async (t) => {
    await host.close();
    await set(one, two);
    const next = await startSimulatedHost(t, cluster.store, { underlay, dataDir: host.dataDir });
    await settled('the report shows it');
    t.strictSame(next.hypervisor.interfacesOf(id), heldInterfaces([one, two]));
    t.equal(cluster.report(id)?.started_at, started);
    await cluster.updateVm(id, { power_state: 'stopped' });
    await cluster.until('it stops', () => cluster.phase(id) === 'stopped');
    t.equal(cluster.report(id)?.interfaces, undefined, 'a stopped guest has none');
    await set(one);
    await cluster.updateVm(id, { power_state: 'running' });
    await cluster.until('it runs', () => cluster.phase(id) === 'running');
    await settled('it has the declared ones');
    t.strictSame(next.hypervisor.interfacesOf(id), heldInterfaces([one]));
  });
  t.ok(cluster.mirror.get(vms, id));
});
