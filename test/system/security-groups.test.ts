/** Security groups, from their declarations to the filters that the agents set. */
import t from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { newId } from '../../backend/model/ids.ts';
import { networks, type SecurityGroupRecord, securityGroups, vms } from '../../backend/model/records/index.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { put, remove } from '../../backend/store/collection.ts';
import { withCluster } from '../support/cluster.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { startSimulatedHost } from '../support/simulated-host.ts';

t.test('the filters of interfaces follow groups, labels of VMs and defaults of networks', async (t) => {
  const cluster = await withCluster(t);
  const scheduler = await startScheduler({ store: cluster.store, logger: silentLogger });
  t.teardown(() => scheduler.close());
  const start = (number: number) =>
    startSimulatedHost(t, cluster.store, { underlay: { address: `fd00:f::${number}`, mtu: 9000 } });
  const hosts = [await start(1), await start(2)];
  const before = cluster.mirror.get(networks, cluster.network)?.value;
  if (!before) throw new Error('the network is missing');
  const { project } = before;
  const at = before.created_at;
  const group = (name: string, change: Partial<SecurityGroupRecord> = {}): SecurityGroupRecord => ({
    id: newId('security_group'),
    ...{ project, name, labels: {}, description: '', default_egress: 'allow', rules: [], delete_protection: false },
    ...{ created_at: at, updated_at: at },
    ...change,
  });
  const write = (record: SecurityGroupRecord) => cluster.write(put(securityGroups, record.id, record));
  /** Creates a VM on the host. The other one is closed meanwhile. */
  const createOn = async (
    number: number,
    last: number,
    labels: Record<string, string>,
    own: readonly SecurityGroupRecord[] = [],
  ) => {
    for (const [index, { id }] of hosts.entries()) await cluster.setPolicy(id, { cordoned: index + 1 !== number });
    const [mac, address] = [`42:00:00:00:00:0${last}`, `2001:db8::4000:ff:fe00:${last}`];
    const named = own.length > 0 && { security_groups: own.map(({ id }) => id) };
    const id = await cluster.createVm({ labels, interfaces: [{ network: cluster.network, mac, address, ...named }] });
    await cluster.until(`VM ${last} runs`, () => cluster.phase(id) === 'running');
    return { id, mac, address };
  };
  const security = (number: number) => hosts[number - 1]?.hypervisor.security();
  const groupsAt = (number: number, mac: string) =>
    security(number)?.interfaces.find((each) => each.mac === mac)?.groups ?? [];
  const peersAt = (number: number, of: Id<'security_group'>) => {
    const names =
      security(number)
        ?.groups.find(({ id }) => id === of)
        ?.rules.flatMap(({ peers }) => peers ?? []) ?? [];
    return security(number)?.peers.flatMap(({ name, addresses }) => (names.includes(name) ? addresses : [])) ?? [];
  };
  const settle = (what: string, check: () => boolean) => cluster.until(what, check);

  const web = group('web', { vm_selector: 'tier=web' });
  await write(web);
  const first = await createOn(1, 1, { tier: 'web' });
  t.strictSame(groupsAt(1, first.mac), [web.id], 'the filter is there before the VM runs');
  const second = await createOn(2, 2, { tier: 'db' });
  t.strictSame(groupsAt(2, second.mac), []);

  await t.test('interfaces without a group have the groups of their network', async (t) => {
    const database = group('database', {
      rules: [
        { direction: 'ingress', protocol: 'tcp', ports: ['5432'], security_group: web.id },
        { direction: 'ingress', protocol: 'any', vm_selector: 'tier in (db,backup)' },
      ],
    });
    await write(database);
    await cluster.write(put(networks, before.id, { ...before, default_security_groups: [database.id] }));
    await settle('the second VM has the group of the network', () => groupsAt(2, second.mac).includes(database.id));
    t.strictSame(groupsAt(1, first.mac), [web.id], 'the first VM has a group of its own');
    await settle('the addresses of the web servers', () => peersAt(2, database.id).includes(first.address));
    t.strictSame(peersAt(2, database.id), [
      ...[first.address, 'fe80::4000:ff:fe00:1'],
      ...[second.address, 'fe80::4000:ff:fe00:2'],
    ]);
    const third = await createOn(1, 3, { tier: 'web' });
    await settle('a new web server may connect', () => peersAt(2, database.id).includes(third.address));
  });

  await t.test('a change of labels changes the groups', async (t) => {
    const record = cluster.mirror.get(vms, second.id);
    if (!record) throw new Error('the VM is missing');
    await cluster.write(put(vms, second.id, { ...record.value, labels: { tier: 'web' } }));
    await settle('the second VM is a web server', () => groupsAt(2, second.mac).includes(web.id));
    t.strictSame(groupsAt(2, second.mac), [web.id], 'the groups of the network no longer apply');
  });

  await t.test('an interface has the groups that it names', async (t) => {
    const own = group('own');
    await write(own);
    const fourth = await createOn(1, 4, { tier: 'web' }, [own]);
    t.strictSame(groupsAt(1, fourth.mac), [own.id, web.id].toSorted(), 'beside those of its VM, before the VM runs');
    const fifth = await createOn(2, 5, {}, [own]);
    t.strictSame(groupsAt(2, fifth.mac), [own.id], 'in place of those of the network');
    const { hypervisor } = hosts[1] ?? {};
    const applied = JSON.stringify(hypervisor?.interfacesOf(fifth.id));
    const { interfaces_generation: before } = cluster.mirror.get(vms, fifth.id)?.value ?? {};
    const [link] = cluster.mirror.get(vms, fifth.id)?.value.interfaces ?? [];
    if (!link) throw new Error('the VM is missing');
    const { security_groups: _groups, ...bare } = link;
    await cluster.updateVm(fifth.id, { interfaces: [bare] });
    await settle('it has the groups of the network again', () => !groupsAt(2, fifth.mac).includes(own.id));
    await cluster.updateVm(fifth.id, { interfaces: [{ ...bare, security_groups: [own.id, web.id] }] });
    await settle('it has both groups', () => groupsAt(2, fifth.mac).length === 2);
    t.equal(JSON.stringify(hypervisor?.interfacesOf(fifth.id)), applied);
    t.equal(cluster.mirror.get(vms, fifth.id)?.value.interfaces_generation, before);
    for (const { id } of [fourth, fifth]) await cluster.updateVm(id, { deleted_at: at });
    await settle('the filters are gone', () =>
      [groupsAt(1, fourth.mac), groupsAt(2, fifth.mac)].every((each) => each.length === 0),
    );
    await cluster.write(remove(securityGroups, own.id));
  });

  await t.test('a change of a group reaches the hosts of its interfaces', async (t) => {
    const rules: SecurityGroupRecord['rules'] = [{ direction: 'ingress', protocol: 'any', self: true }];
    await write({ ...web, rules });
    await settle('the rule', () => security(2)?.groups.find(({ id }) => id === web.id)?.rules.length === 1);
    t.ok(peersAt(2, web.id).includes(first.address), 'itself names the interfaces of the group');
    await write({ ...web, rules, vm_selector: 'tier=front' });
    await settle('no VM has the group', () => security(1)?.groups.every(({ id }) => id !== web.id) ?? false);
    t.ok(groupsAt(1, first.mac).length === 1, 'the group of the network applies again');
    await cluster.write(put(networks, before.id, before), remove(securityGroups, web.id));
    await settle(
      'nothing is filtered',
      () => security(1)?.interfaces.every(({ groups }) => groups.length === 0) ?? false,
    );
  });

  await t.test('a new interface stays closed until the scheduler has written its groups', async (t) => {
    await scheduler.close();
    const record = cluster.mirror.get(vms, first.id);
    if (!record) throw new Error('the VM is missing');
    const added = { network: cluster.network, mac: '42:00:00:00:00:0a', address: '2001:db8::4000:ff:fe00:a' };
    const interfaces = [...record.value.interfaces, added];
    await cluster.write(put(vms, first.id, { ...record.value, interfaces, interfaces_generation: 2 }));
    await settle('the guest has the interface', () => {
      return hosts[0]?.hypervisor.interfacesOf(first.id).some(({ mac }) => mac === added.mac) ?? false;
    });
    t.notOk(security(1)?.interfaces.some(({ mac }) => mac === added.mac));
    const next = await startScheduler({ store: cluster.store, logger: silentLogger });
    t.teardown(() => next.close());
    await settle('the interface is open', () => security(1)?.interfaces.some(({ mac }) => mac === added.mac) ?? false);
  });
});
