/** Security groups on hosts, with the real driver and guests with the network of a real kernel. */
import t from 'tap';
import type { SecurityGroupSpec, SecurityRuleSpec } from '../../backend/host/hypervisor/specs.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { formatIpv6, linkLocalAddress } from '../../backend/model/network/addresses.ts';
import { FabricLab, type FabricVm } from '../support/fabric-lab.ts';
import { open, reaches, serve } from '../support/guest-services.ts';
import { noNamespaces } from '../support/net-namespace.ts';

const skip = noNamespaces('nft', 'radvd', 'python3', 'ping', 'bridge', 'conntrack');
const groupId = (number: number) => idFrom('security_group', `sg-${String(number).padStart(16, '0')}`);
const ingress = (rule: Omit<SecurityRuleSpec, 'direction'>): SecurityRuleSpec => ({ direction: 'ingress', ...rule });
const group = (number: number, ...rules: SecurityRuleSpec[]): SecurityGroupSpec => ({
  id: groupId(number),
  default_egress: 'allow',
  rules,
});
const having = (vm: FabricVm, ...groups: number[]) => ({ mac: vm.mac, groups: groups.map(groupId) });
const linkLocal = ({ mac }: FabricVm) => formatIpv6(linkLocalAddress(mac));
const tcp = (address: string, port: number) => ({ kind: 'tcp', address, port }) as const;
const udp = (address: string, port: number) => ({ kind: 'udp', address, port }) as const;

for (const kind of ['bridged', 'routed'] as const) {
  t.test(`security groups in a ${kind} network over two hosts`, { skip, timeout: 300_000 }, async (t) => {
    const lab = new FabricLab(t, 2);
    const [network, other] = [lab.network(100, 1500, kind), lab.network(200, 1500, kind)];
    // The server has a neighbour on its host, one on another host, and one in another network.
    const [server, near, far, outer] = [lab.vm(1, network), lab.vm(1, network), lab.vm(2, network), lab.vm(2, other)];
    const web = ingress({ protocol: 'tcp', ports: ['8', '80', '8000-8010'], prefixes: ['::/0'] });
    lab.security = { groups: [group(1, web)], peers: [], interfaces: [having(server, 1)] };
    await lab.convergeAll();
    const guests = {
      server: await lab.start(server),
      near: await lab.start(near),
      far: await lab.start(far),
      outer: await lab.start(outer),
    };
    const clients = [guests.near, guests.far, guests.outer];
    await serve(t, guests.server, 'tcp:80', 'tcp:81', 'tcp:8005', 'push:8006', 'push:8', 'udp:80', 'udp:53');
    for (const guest of clients) await serve(t, guest, 'tcp:90', 'udp:90');

    await t.test('allowed ports answer, and no others', async (t) => {
      for (const guest of clients) {
        t.ok(await reaches(t, guest, tcp(server.address, 80)));
        t.ok(await reaches(t, guest, tcp(server.address, 8005)));
        t.notOk(await reaches(t, guest, tcp(server.address, 81)));
        t.notOk(await reaches(t, guest, udp(server.address, 80)));
        t.equal(guest.ping(server.address), 0, 'no rule allows echo requests');
      }
    });

    await t.test('connections from the VM and their answers pass', async (t) => {
      for (const { address } of [near, far, outer]) {
        t.ok(await reaches(t, guests.server, tcp(address, 90)));
        t.ok(await reaches(t, guests.server, udp(address, 90)));
        t.equal(guests.server.ping(address), 1);
        // br_netfilter forgets the size of the fragments of a packet that leaves the bridge (docs/adr/0028-security-groups.md).
        if (kind === 'bridged' && address === outer.address) continue;
        t.ok(await reaches(t, guests.server, { ...udp(address, 90), bytes: 4_000 }), 'also in fragments');
      }
    });

    await t.test('link-local addresses are filtered too', async (t) => {
      const service = tcp(linkLocal(server), 81);
      t.notOk(await reaches(t, guests.near, service));
      t.notOk(await reaches(t, guests.far, service));
      t.equal(await reaches(t, guests.near, tcp(linkLocal(server), 80)), kind === 'bridged');
    });

    await t.test('other interfaces are not filtered, and have no entries', async (t) => {
      t.ok(await reaches(t, guests.near, tcp(far.address, 90)));
      t.ok(await reaches(t, guests.far, udp(near.address, 90)));
      const entries = lab.at(2).host.namespace.run('conntrack', '-L', '-f', 'ipv6');
      t.notMatch(entries, /src=fd42/, 'this host has no interface with a group');
    });

    await t.test('a changed rule applies to established connections', async (t) => {
      const flows = await Promise.all(clients.map((guest) => open(t, guest, tcp(server.address, 80))));
      const kept = await Promise.all(clients.map((guest) => open(t, guest, tcp(server.address, 8005))));
      const outwards = await open(t, guests.server, tcp(far.address, 90));
      // The server sends by itself, so its packets are the first after the change.
      const pushed = await open(t, guests.far, { kind: 'push', address: server.address, port: 8006 });
      const revoked = await open(t, guests.far, { kind: 'push', address: server.address, port: 8 });
      for (const each of [...flows, ...kept, outwards, pushed, revoked]) t.ok(each.answers);
      lab.security = {
        ...lab.security,
        groups: [group(1, ingress({ protocol: 'tcp', ports: ['8000-8010'], prefixes: ['::/0'] }))],
      };
      t.strictSame(await lab.converge(1), []);
      for (const flow of [...flows, revoked]) t.notOk(await flow.again());
      for (const flow of [...kept, outwards, pushed]) t.ok(await flow.again());
    });

    await t.test('an address that leaves a group loses its connections', async (t) => {
      const addresses = (...vms: FabricVm[]) => vms.flatMap((vm) => [vm.address, linkLocal(vm)]);
      const set = (...vms: FabricVm[]) => ({
        groups: [group(1, ingress({ protocol: 'any', peers: 'friends' }))],
        peers: [{ name: 'friends', addresses: addresses(...vms) }],
        interfaces: [having(server, 1)],
      });
      lab.security = set(near, far, outer);
      t.strictSame(await lab.converge(1), []);
      const flows = await Promise.all(clients.map((guest) => open(t, guest, udp(server.address, 53))));
      for (const flow of flows) t.ok(flow.answers);
      lab.security = set(near, outer);
      t.strictSame(await lab.converge(1), []);
      t.strictSame(await Promise.all(flows.map((flow) => flow.again())), [true, false, true]);
      for (const guest of clients) t.equal(guest.ping(server.address), guest === guests.far ? 0 : 1);
    });

    await t.test('several groups allow what any of them allows, and types of ICMPv6 are rules', async (t) => {
      lab.security = {
        groups: [
          group(1, ingress({ protocol: 'icmpv6', icmp_types: [128], prefixes: [`${far.address}/128`] })),
          group(2, ingress({ protocol: 'tcp', ports: ['81'], prefixes: [network.cidr] }), web),
        ],
        peers: [],
        interfaces: [having(server, 1, 2)],
      };
      t.strictSame(await lab.converge(1), []);
      t.equal(guests.far.ping(server.address), 1);
      t.equal(guests.near.ping(server.address), 0);
      t.ok(await reaches(t, guests.near, tcp(server.address, 81)));
      t.notOk(await reaches(t, guests.outer, tcp(server.address, 81)));
      t.ok(await reaches(t, guests.outer, tcp(server.address, 80)));
    });

    await t.test('egress rules restrict connections from the VM', async (t) => {
      const rule: SecurityRuleSpec = {
        direction: 'egress',
        protocol: 'tcp',
        ports: ['90'],
        prefixes: [network.cidr],
      };
      lab.security = {
        groups: [{ ...group(3, rule), default_egress: 'deny' }],
        peers: [],
        interfaces: [having(server, 3)],
      };
      t.strictSame(await lab.converge(1), []);
      t.ok(await reaches(t, guests.server, tcp(near.address, 90)));
      t.ok(await reaches(t, guests.server, tcp(far.address, 90)));
      t.notOk(await reaches(t, guests.server, tcp(outer.address, 90)));
      t.notOk(await reaches(t, guests.server, udp(near.address, 90)));
      t.equal(guests.server.ping(near.address), 0);
      t.equal(guests.server.ping('fe80::1%eth0'), 1, 'the router always answers');
    });

    await t.test('a second run changes nothing, and the removal of the groups opens the interface', async (t) => {
      const { namespace } = lab.at(1).host;
      // Connections add elements to sets.
      const state = () => [namespace.run('nft', '-t', '-s', 'list', 'ruleset'), namespace.ip('link', 'show')];
      const before = state();
      t.strictSame(await lab.converge(1), []);
      t.strictSame(state(), before);
      lab.security = { groups: [], peers: [], interfaces: [] };
      t.strictSame(await lab.converge(1), []);
      t.equal(guests.far.ping(server.address), 1);
      t.notMatch(lab.at(1).host.namespace.run('nft', 'list', 'tables'), /_groups/);
    });
  });
}
