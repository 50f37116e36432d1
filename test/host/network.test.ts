import fc from 'fast-check';
import t, { type Test } from 'tap';
import type { NetworkSpec } from '../../backend/host/hypervisor/specs.ts';
import { routerAddress } from '../../backend/host/network/links.ts';
import { radvdConfig } from '../../backend/host/network/radvd-config.ts';
import type { DropReason } from '../../backend/host/network/tap-filter.ts';
import { run } from '../../backend/host/system/command.ts';
import { instanceOf } from '../../backend/host/system/instance.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { formatIpv6, linkLocalAddress, slaacAddress } from '../../backend/model/network/addresses.ts';
import { bridgeName, metadataAddress, tapName } from '../../backend/model/network/interface-names.ts';
import { storedPrefix } from '../../backend/model/network/prefixes.ts';
import { type DrivenHost, drivenHost, hostIn } from '../support/driven-host.ts';
import { until } from '../support/eventually.ts';
import { ethernet, fragment, icmp, ipv6, Station, target, tcp, udp } from '../support/frames.ts';
import { type NetNamespace, netNamespace, noNamespaces } from '../support/net-namespace.ts';

const skip = noNamespaces('nft', 'radvd', 'rdisc6', 'python3');

const network = (vni: number, fields: Partial<NetworkSpec> = {}): NetworkSpec => ({
  id: idFrom('network', `net-${String(vni).padStart(16, '0')}`),
  vni,
  cidr: `fd42:0:0:${vni.toString(16)}::/64`,
  mtu: 1430,
  dns_servers: [],
  ...fields,
});
const vmId = (number: number) => idFrom('vm', `vm-${String(number).padStart(16, '0')}`);
const macOf = (number: number) => `02:00:5e:10:00:${number.toString(16).padStart(2, '0')}`;
const linkLocalOf = (mac: string) => formatIpv6(linkLocalAddress(mac));
const addressIn = ({ cidr }: NetworkSpec, mac: string) => formatIpv6(slaacAddress(storedPrefix(cidr).address, mac));
const attachment = (spec: NetworkSpec, mac: string) => [{ network: spec, mac, address: addressIn(spec, mac) }];

/** Sorts the interfaces, because recreated interfaces come in another order. */
const sorted = (state: string) => state.split('\n').sort().join('\n');

interface IpLink {
  ifname: string;
  mtu: number;
  address: string;
  master?: string;
  ifalias?: string;
}
const linksOf = (host: DrivenHost) => JSON.parse(host.namespace.ip('-j', 'link', 'show')) as IpLink[];

t.test('addresses are those that hosts form by RFC 4291', async (t) => {
  t.equal(linkLocalOf('52:54:00:00:00:0a'), 'fe80::5054:ff:fe00:a');
  t.equal(linkLocalOf('02:00:5e:10:00:01'), 'fe80::5eff:fe10:1');
  t.equal(routerAddress('fd42:100::/64'), 'fd42:100::1');
  t.equal(routerAddress('2001:db8:0:1::/64'), '2001:db8:0:1::1');
});

t.test('every configuration announces each network and is one that radvd accepts', { skip }, async (t) => {
  const address = fc
    .array(fc.integer({ min: 1, max: 0xffff }), { minLength: 8, maxLength: 8 })
    .map((groups) => groups.map((group) => group.toString(16)).join(':'));
  const networks = fc.uniqueArray(
    fc.record({
      id: fc.constant(idFrom('network', 'net-0000000000000000')),
      vni: fc.integer({ min: 1, max: 0xffffff }),
      cidr: fc.integer({ min: 0, max: 0xffff }).map((n) => `2001:db8:1:${n.toString(16)}::/64`),
      mtu: fc.integer({ min: 1280, max: 9000 }),
      dns_servers: fc.uniqueArray(address, { maxLength: 3 }),
    }),
    { selector: ({ vni }) => vni, minLength: 1, maxLength: 20 },
  );
  fc.assert(
    fc.property(networks, (specs) => {
      const text = radvdConfig(specs);
      const blocks = text.split(/^interface /m).slice(1);
      if (blocks.length !== specs.length) return false;
      return specs.every(({ vni, cidr, mtu, dns_servers }) => {
        const block = blocks.find((candidate) => candidate.startsWith(`${bridgeName(vni)} {`)) ?? '';
        return (
          block.includes(`prefix ${cidr} `) &&
          block.includes(`AdvLinkMTU ${mtu};`) &&
          block.includes('RDNSS') === dns_servers.length > 0 &&
          dns_servers.every((server) => block.includes(server))
        );
      });
    }),
  );
  const directory = t.testdir({ 'radvd.conf': radvdConfig(fc.sample(networks, 1)[0] ?? []) });
  await run('chmod', ['go-w', `${directory}/radvd.conf`]);
  await run('radvd', ['-c', '-C', `${directory}/radvd.conf`]);
});

t.test('networks come, are repaired, and go without a trace', { skip }, async (t) => {
  const host = drivenHost(t, 'net');
  const before = host.state();
  const driver = host.driver('network');
  const [one, two] = [network(1), network(2, { mtu: 1280 })];
  await driver.call('declare', [one, two]);
  await driver.call('attach', vmId(1), attachment(one, macOf(1)));
  t.strictSame(await driver.call('converge'), []);

  const tap = linksOf(host).find(({ ifname }) => ifname === tapName(macOf(1)));
  t.match(tap, { mtu: 1430, master: 'ub1', ifalias: `ucloud:${instanceOf(host.dataDir)}:${vmId(1)}` });
  t.match(
    linksOf(host).find(({ ifname }) => ifname === 'ub2'),
    { mtu: 1280, address: '06:00:5e:00:00:02' },
  );
  const addresses = host.namespace.ip('-6', '-o', 'addr', 'show', 'dev', 'ub1');
  for (const address of ['fe80::1/64', 'fe80::a9fe:a9fe/128', 'fd42:0:0:1::1/64']) t.match(addresses, address);
  t.notMatch(addresses, /tentative|dadfailed/);
  t.equal(addresses.trim().split('\n').length, 3, 'and no address that the kernel made by itself');

  const sysctl = (name: string) => host.namespace.run('sysctl', '-n', name).trim();
  t.equal(sysctl('net.ipv6.conf.all.forwarding'), '1');
  t.equal(sysctl('net.ipv6.conf.eth0.accept_ra'), '2', 'the uplink still listens to its router');
  t.equal(sysctl('net.ipv6.conf.ub1.accept_ra'), '0', 'a bridge does not');

  const converged = host.state();
  t.strictSame(await driver.call('converge'), []);
  t.equal(host.state(), converged, 'nothing is done twice');

  host.namespace.ip('link', 'del', 'dev', 'ub2');
  host.namespace.ip('addr', 'del', 'fe80::1/64', 'dev', 'ub1');
  host.namespace.ip('addr', 'add', 'fe80::bad/64', 'dev', 'ub1');
  host.namespace.ip('link', 'set', 'dev', tapName(macOf(1)), 'nomaster', 'down');
  host.namespace.run('nft', 'flush', 'ruleset');
  t.strictSame(await driver.call('converge'), []);
  t.equal(sorted(host.state()), sorted(converged), 'what others broke is repaired');

  // Others open the taps to IPv6, let the bridges learn, and put prefixes on them.
  const [name, table] = [tapName(macOf(1)), `ucloud_${instanceOf(host.dataDir)}`];
  for (const family of ['netdev', 'inet']) host.namespace.run('nft', 'delete', 'table', family, table);
  host.namespace.run('sysctl', '-q', '-w', `net.ipv6.conf.${name}.disable_ipv6=0`, `net.ipv6.conf.${name}.accept_ra=2`);
  host.namespace.ip('link', 'set', 'dev', name, 'type', 'bridge_slave', 'learning', 'on', 'flood', 'on');
  host.namespace.ip('link', 'set', 'dev', 'ub1', 'type', 'bridge', 'no_linklocal_learn', '0');
  host.namespace.run('bridge', 'fdb', 'replace', macOf(9), 'dev', name, 'master', 'static');
  host.namespace.ip('addr', 'del', 'fd42:0:0:1::1/64', 'dev', 'ub1');
  host.namespace.ip('addr', 'add', 'fd42:0:0:1::1/64', 'dev', 'ub1', 'nodad');
  t.strictSame(await driver.call('converge'), []);
  t.equal(sysctl(`net.ipv6.conf.${name}.disable_ipv6`), '1', 'taps have no IPv6 again');
  t.equal(sysctl(`net.ipv6.conf.${name}.accept_ra`), '0');
  t.equal(
    host.namespace.ip('-6', 'route', 'show', 'fd42:0:0:1::/64', 'dev', 'ub1'),
    '',
    'nor is the prefix on the bridge',
  );
  t.equal(sorted(host.state()), sorted(converged), 'all is as it would have been made');

  await driver.call('declare', [two]);
  t.strictSame(await driver.call('converge'), []);
  const unplugged = linksOf(host).find(({ ifname }) => ifname === tapName(macOf(1)));
  t.ok(unplugged && unplugged.master === undefined, 'a VM whose network is taken from the host is unplugged');
  t.notOk(linksOf(host).some(({ ifname }) => ifname === 'ub1'));
  await driver.call('require', [one]);
  t.strictSame(await driver.call('converge'), []);
  t.equal(sorted(host.state()), sorted(converged), 'and plugged in again');

  t.ok((await driver.call<string[]>('inventory')).includes('interface ub1'));
  await driver.call('clean');
  t.equal(host.state(), before);
  t.strictSame(await driver.call('inventory'), []);
  await driver.kill();
});

t.test('killed after every single change, it converges, and so does the removal', { skip }, async (t) => {
  const host = drivenHost(t, 'crash');
  const before = host.state();
  const [one, two] = [network(1, { dns_servers: ['2001:db8::53'] }), network(2)];

  const driver = host.driver('network');
  const crashing = (...calls: [string, ...unknown[]][]) => driver.call<number>('crashAfterEveryChange', ...calls);
  const make: [string, ...unknown[]][] = [
    ['declare', [one, two]],
    ['attach', vmId(1), attachment(one, macOf(1))],
    ['adopt'],
    ['converge'],
  ];
  const remove: [string, ...unknown[]][] = [['adopt'], ['declare', []], ['converge']];
  const lost = await crashing(...make);
  t.ok(lost > 20, `${lost} predecessors were lost`);
  const other = drivenHost(t, 'calm');
  const calm = other.driver('network');
  for (const [method, ...args] of make) await calm.call(method, ...args);
  const shape = (h: DrivenHost) =>
    sorted(h.state().replaceAll(instanceOf(h.dataDir), 'instance').replaceAll(h.dataDir, 'data'));
  t.equal(shape(host), shape(other), 'the machine is as if nothing had ever crashed');
  await calm.kill();

  // The agent was killed between the creation and the marking of a bridge. Then the network is removed.
  await crashing(...remove);
  const half = host.driver('network', { dieAfter: 1 });
  await t.rejects(
    half.call('declare', [one]).then(() => half.call('converge')),
    /the driver ended/,
  );
  const marks = () => linksOf(host).map(({ ifname, ifalias }) => `${ifname} ${ifalias}`);
  t.strictSame(marks(), ['lo undefined', 'eth0 undefined', 'ub1 undefined']);
  await crashing(...remove);
  t.strictSame(marks(), ['lo undefined', 'eth0 undefined'], 'the bridge without a mark is gone, too');

  await crashing(...make);
  await crashing(['clean']);
  t.equal(host.state(), before);
  await driver.kill();
});

t.test('two hosts on one machine leave each other alone', { skip }, async (t) => {
  const host = drivenHost(t, 'two');
  const before = host.state();
  const first = host.driver('network');
  await first.call('declare', [network(1)]);
  await first.call('converge');
  const other = hostIn(t, host.namespace);
  const second = other.driver('network');
  await second.call('declare', [network(1), network(2)]);
  t.match(await second.call('converge'), [['ub1', /exists and belongs to "ucloud:/]]);
  await second.call('clean');
  t.strictSame(
    linksOf(host).map(({ ifname }) => ifname),
    ['lo', 'eth0', 'ub1'],
  );
  t.equal([...host.processes().values()].filter((line) => line.startsWith('radvd')).length, 1);
  await first.call('converge');
  await first.call('clean');
  t.equal(host.state(), before);
  await first.kill();
  await second.kill();
});

/** A guest without a VM: a network namespace, its eth0 at the place of the tap. */
function guest(t: Test, host: DrivenHost, mac: string): NetNamespace {
  const namespace = netNamespace(t, 'vm');
  namespace.run('sysctl', '-q', '-w', 'net.ipv6.conf.default.use_tempaddr=0');
  const tap = tapName(mac);
  host.namespace.ip(
    'link',
    'add',
    'name',
    tap,
    'type',
    'veth',
    'peer',
    'name',
    'eth0',
    'address',
    mac,
    'netns',
    namespace.name,
  );
  return namespace;
}

async function receive(answering: NetNamespace, program: string, ...args: string[]): Promise<boolean> {
  try {
    answering.run(program, ...args);
    return true;
  } catch {
    return false;
  }
}

t.test('guests on a network', { skip }, async (t) => {
  const host = drivenHost(t, 'guests');
  let driver = host.driver('network');
  const web = network(7, { dns_servers: ['2001:db8::53'] });
  const [macA, macB] = [macOf(1), macOf(2)];
  const [addressA, addressB] = [addressIn(web, macA), addressIn(web, macB)];
  const [linkLocalA, linkLocalB] = [linkLocalOf(macA), linkLocalOf(macB)];
  const a = guest(t, host, macA);
  const b = guest(t, host, macB);
  await driver.call('declare', [web]);
  await driver.call('attach', vmId(1), attachment(web, macA));
  await driver.call('attach', vmId(2), attachment(web, macB));
  t.strictSame(await driver.call('converge'), []);
  for (const namespace of [a, b]) namespace.ip('link', 'set', 'dev', 'eth0', 'up');

  await t.test('they find router, prefix, MTU and resolver, and get the address that was foreseen', async (t) => {
    for (const [namespace, address] of [
      [a, addressA],
      [b, addressB],
    ] as const) {
      await until('it has its address', () =>
        namespace
          .ip('-6', '-o', 'addr', 'show', 'dev', 'eth0', 'scope', 'global', '-tentative')
          .includes(`${address}/64`),
      );
    }
    const routes = a.ip('-6', 'route', 'show', 'default');
    t.match(routes, /default via fe80::1 dev eth0 proto ra/);
    t.equal(routes.trim().split('\n').length, 1, 'one router');
    const advertisement = a.run('rdisc6', '-1', 'eth0');
    t.match(advertisement, /Recursive DNS server\s*: 2001:db8::53/);
    t.match(advertisement, /MTU +: +1430 /);
    t.match(advertisement, /from fe80::1/);
  });

  await t.test('they reach each other, the host, and are reached by it', async (t) => {
    t.ok(await receive(a, 'ping', '-6', '-c1', '-W30', addressB));
    t.ok(await receive(a, 'ping', '-6', '-c1', '-W30', '-s2000', addressB), 'in fragments, too');
    t.ok(await receive(a, 'ping', '-6', '-c1', '-W30', 'fd42:0:0:7::1'));
    t.ok(await receive(host.namespace, 'ping', '-6', '-c1', '-W30', addressA));
  });

  await t.test('of the host they reach the metadata server and nothing else', async (t) => {
    const listen = (namespace: NetNamespace, address: string, port: number) => {
      const code = `require('node:net').createServer((s) => s.end('hello')).listen(${port}, ${JSON.stringify(address)}, () => console.log('listening'))`;
      const server = namespace.spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
      t.teardown(() => server.kill('SIGKILL'));
      return new Promise((resolve) => server.stdout?.once('data', resolve));
    };
    const connects = (namespace: NetNamespace, address: string, port: number, milliseconds = 60_000) => {
      const code = `const s = require('node:net').connect(${port}, ${JSON.stringify(address)}); s.setTimeout(${milliseconds}, () => process.exit(1)); s.on('data', () => process.exit(0)); s.on('error', () => process.exit(1))`;
      return receive(namespace, process.execPath, '-e', code);
    };
    await listen(host.namespace, `${metadataAddress}%ub7`, 80);
    await listen(host.namespace, '::', 8080);
    await listen(a, '::', 8080);
    t.ok(await connects(a, `${metadataAddress}%eth0`, 80));
    t.ok(await connects(host.namespace, addressA, 8080), 'answers to the host come through');
    // A frame that does not arrive causes a timeout.
    t.notOk(await connects(a, 'fd42:0:0:7::1', 8080, 1500));
    t.notOk(await connects(a, 'fe80::1%eth0', 8080, 1500));
  });

  await t.test('what they must not send is dropped and counted, everything else arrives', async (t) => {
    const counters = (): Record<string, number> => {
      const listed = JSON.parse(
        host.namespace.run('nft', '-j', 'list', 'counters', 'table', 'netdev', `ucloud_${instanceOf(host.dataDir)}`),
      ) as { nftables: { counter?: { name: string; packets: number } }[] };
      return Object.fromEntries(
        listed.nftables.flatMap(({ counter }) => (counter ? [[counter.name, counter.packets]] : [])),
      );
    };
    const everybody = '33:33:00:00:00:01';
    const all = 'ff02::1';
    const router = '06:00:5e:00:00:07';
    const from = (source: string, next: number, payload: Buffer, destination = all, sender = macA, to = everybody) =>
      ethernet(sender, to, 0x86dd, ipv6({ source, destination, next, payload }));
    const rogue: [string, DropReason, Buffer][] = [
      ['another MAC', 'mac', from(linkLocalA, 58, icmp(128), linkLocalB, macB, macB)],
      ['the MAC of the router', 'mac', from(linkLocalA, 58, icmp(128), linkLocalB, router, macB)],
      ['IPv4', 'type', ethernet(macA, macB, 0x0800, Buffer.alloc(40))],
      ['ARP', 'type', ethernet(macA, 'ff:ff:ff:ff:ff:ff', 0x0806, Buffer.alloc(40))],
      [
        'a VLAN tag',
        'type',
        ethernet(
          macA,
          macB,
          0x8100,
          Buffer.concat([
            Buffer.from('000186dd', 'hex'),
            ipv6({ source: addressA, destination: addressB, next: 58, payload: icmp(128) }),
          ]),
        ),
      ],
      ['the address of another', 'source', from(addressB, 58, icmp(128), linkLocalB, macA, macB)],
      ['the link-local address of another', 'source', from(linkLocalB, 58, icmp(128), addressB, macA, macB)],
      ['the address of the metadata server', 'source', from(metadataAddress, 58, icmp(128), addressB, macA, macB)],
      ['no address, but an echo request', 'source', from('::', 58, icmp(128))],
      ['no address, but UDP', 'source', from('::', 17, udp(1, 2))],
      ['a router advertisement', 'icmp', from(linkLocalA, 58, icmp(134, Buffer.alloc(12)))],
      [
        'a router advertisement in a fragment',
        'fragment',
        from(linkLocalA, 44, fragment(58, 0, true, icmp(134, Buffer.alloc(12)))),
      ],
      [
        'a router advertisement behind destination options',
        'icmp',
        from(linkLocalA, 60, Buffer.concat([Buffer.from('3a00010400000000', 'hex'), icmp(134, Buffer.alloc(12))])),
      ],
      ['a fragment to everybody', 'fragment', from(addressA, 44, fragment(58, 1, false, Buffer.alloc(16)))],
      [
        'a redirect',
        'icmp',
        from(linkLocalA, 58, icmp(137, Buffer.concat([target('fe80::1'), target(addressB)])), addressB, macA, macB),
      ],
      ['a multicast listener query', 'icmp', from(linkLocalA, 58, icmp(130, Buffer.alloc(20)))],
      ['a claim to the address of another', 'claim', from(linkLocalA, 58, icmp(136, target(addressB)))],
      ['a claim to the address of the router', 'claim', from(linkLocalA, 58, icmp(136, target('fe80::1')))],
      ['a probe that makes another give up its address', 'claim', from('::', 58, icmp(135, target(addressB)))],
      ['an answer of a DHCPv6 server', 'dhcp', from(linkLocalA, 17, udp(547, 546))],
    ];
    const honest: [string, Buffer][] = [
      ['a search for the router', from('::', 58, icmp(133))],
      ['a probe for its own address', from('::', 58, icmp(135, target(addressA)))],
      ['a claim to its own address', from(addressA, 58, icmp(136, target(addressA)))],
      ['a claim to its link-local address', from(linkLocalA, 58, icmp(136, target(linkLocalA)))],
      ['a search for a neighbour', from(addressA, 58, icmp(135, target(addressB)))],
      ['UDP', from(addressA, 17, udp(5353, 53), addressB, macA, macB)],
      ['a request of a DHCPv6 client', from(linkLocalA, 17, udp(546, 547), 'ff02::1:2')],
      [
        'a first fragment',
        from(addressA, 44, fragment(17, 0, true, Buffer.concat([udp(1, 2), Buffer.alloc(8)])), addressB, macA, macB),
      ],
      ['a later fragment', from(addressA, 44, fragment(17, 2, false, Buffer.alloc(16)), addressB, macA, macB)],
      ['TCP', from(addressA, 6, tcp(1, 2), addressB, macA, macB)],
    ];
    const sender = await Station.open(a);
    const receiver = await Station.open(b);
    t.teardown(() => [sender, receiver].map((station) => station.close()));
    const before = counters();
    const frames = [
      ...rogue.map(([what, reason, frame]) => ({ what, reason, frame })),
      ...honest.map(([what, frame]) => ({ what, reason: undefined, frame })),
    ];
    // The last bytes of each frame identify it.
    const tail = (index: number) => `5ca1ab1e${index.toString(16).padStart(8, '0')}`;
    for (const [index, { frame }] of frames.entries())
      sender.send(Buffer.concat([frame, Buffer.from(tail(index), 'hex')]));
    await until('the last frame arrives', () =>
      receiver.heard.some((frame) => frame.endsWith(tail(frames.length - 1))),
    );
    const expected = new Map<string, number>();
    for (const [index, { what, reason }] of frames.entries()) {
      t.equal(
        receiver.heard.some((frame) => frame.endsWith(tail(index))),
        reason === undefined,
        what,
      );
      if (reason) expected.set(reason, (expected.get(reason) ?? 0) + 1);
    }
    const after = counters();
    for (const [reason, count] of expected) {
      const name = `${tapName(macA)}_${reason}`;
      t.equal((after[name] ?? 0) - (before[name] ?? 0), count, `${count} drops counted as ${reason}`);
    }

    await driver.call('takeCommands');
    await driver.call('converge');
    const drops = new Map(await driver.call<[string, number][]>('sourceDrops'));
    const listings = (await driver.call<string[]>('takeCommands')).filter((command) => command.startsWith('nft'));
    const sources = [macA, macB].map((mac) => counters()[`${tapName(mac)}_source`]);
    t.strictSame([drops.get(vmId(1)), drops.get(vmId(2))], sources, 'the driver counts drops by VM');
    t.ok((sources[0] ?? 0) > 0);
    t.match(
      listings,
      [/list table netdev/, /list table inet/],
      'no command only for the counts, and no change of rules',
    );
    t.equal(listings.length, 2);

    await driver.call('attach', vmId(3), attachment(web, macOf(3)));
    await driver.call('converge');
    t.strictSame(
      counters()[`${tapName(macA)}_claim`],
      after[`${tapName(macA)}_claim`],
      'counters go on when a VM comes',
    );
  });

  await t.test('they hear of changes, whatever happens to radvd and the agent', async (t) => {
    const radvd = () => [...host.processes()].filter(([, line]) => line.startsWith('radvd')).map(([pid]) => pid);
    const [pid = 0] = radvd();
    await driver.kill();
    driver = host.driver('network');
    await driver.call('attach', vmId(1), attachment(web, macA));
    await driver.call('attach', vmId(2), attachment(web, macB));
    await driver.call('declare', [{ ...web, dns_servers: ['2001:db8::54'] }, network(8)]);
    await driver.call('converge');
    t.strictSame(radvd(), [pid], 'the next agent finds it and goes on with it');
    t.match(a.run('rdisc6', '-1', 'eth0'), /Recursive DNS server\s*: 2001:db8::54/);
    process.kill(pid, 'SIGKILL');
    await until('radvd is gone', () => radvd().length === 0);
    await driver.call('converge');
    t.match(a.run('rdisc6', '-1', 'eth0'), /Recursive DNS server\s*: 2001:db8::54/);
    await driver.kill();
  });
});
