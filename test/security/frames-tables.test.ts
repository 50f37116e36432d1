/**
 * Tables of the host that all guests share. A guest can neither fill them nor change the entries of others. The test writes
 * frames to the real tap of the driver.
 */
import t from 'tap';
import { routerAddress } from '../../backend/host/network/links.ts';
import { metadataAddress } from '../../backend/model/network/interface-names.ts';
import { until } from '../support/eventually.ts';
import { ethernet, fragment, icmp, ipv6, summed, target, tcp, udp } from '../support/frames.ts';
import { type NetNamespace, noNamespaces } from '../support/net-namespace.ts';
import { hostAddress, tapLab, worldAddress } from '../support/tap-lab.ts';

const skip = noNamespaces('nft', 'radvd', 'python3', 'bridge', 'ping');

const numbers = (count: number): number[] => Array.from({ length: count }, (_, number) => number);
const macOf = (number: number): string =>
  `02:bb:00:00:${[number >> 8, number].map((byte) => (byte & 255).toString(16).padStart(2, '0')).join(':')}`;

t.test('tables of the host', { skip }, async (t) => {
  const lab = await tapLab(t, 'tables');
  const { namespace } = lab.host;
  t.strictSame(await lab.converge(), []);
  const [a, b, c] = [await lab.open(t, lab.a), await lab.open(t, lab.b), await lab.open(t, lab.c)];
  const packet = (next: number, payload: Buffer, destination: string, source = lab.a.address) =>
    ipv6({ source, destination, next, payload });
  const toRouter = (next: number, payload: Buffer, destination: string, sum = next !== 47) => {
    const frame = ethernet(lab.a.mac, lab.router, 0x86dd, packet(next, payload, destination));
    // Packets with a wrong checksum are not tracked anyway.
    return sum ? summed(frame) : frame;
  };
  const marker = ethernet(lab.a.mac, lab.b.mac, 0x86dd, packet(17, udp(9, 9), lab.b.address));

  await t.test('a guest cannot move or fill the entries of its bridge', async (t) => {
    const strangers = numbers(1000).map((number) =>
      ethernet(macOf(number), lab.b.mac, 0x86dd, packet(17, udp(1, number), lab.b.address)),
    );
    // Groups that bridges keep for themselves teach them sources, too.
    const thefts = ['33:33:00:00:00:01', lab.router, '01:80:c2:00:00:0e', '01:80:c2:00:00:00', '01:80:c2:00:00:02'].map(
      (to) => ethernet(lab.b.mac, to, 0x86dd, packet(58, icmp(135, target(lab.b.address)), 'ff02::1', lab.b.linkLocal)),
    );
    const before = lab.bridgeEntries();
    const entry = { mac: lab.b.mac, ifname: lab.b.tap, state: 'static' };
    t.match(
      before.find(({ mac }) => mac === lab.b.mac),
      entry,
    );

    await a.send([...thefts, ...strangers]);
    t.strictSame(lab.bridgeEntries(), before, 'nothing is learned');
    lab.withoutFilters('netdev');
    await a.send([...thefts, ...strangers]);
    t.strictSame(lab.bridgeEntries(), before, 'nor without the filter');

    namespace.ip('link', 'set', 'dev', lab.a.tap, 'type', 'bridge_slave', 'learning', 'on');
    await a.send([...thefts, ...strangers]);
    t.ok(lab.bridgeEntries().length > 1000, 'with learning on, the table fills');
    t.match(
      lab.bridgeEntries().find(({ mac }) => mac === lab.b.mac),
      { ifname: lab.a.tap },
      'and the entry is stolen',
    );

    t.strictSame(await lab.converge(), []);
    t.strictSame(
      new Set(lab.bridgeEntries().map((each) => `${each.mac} ${each.ifname}`)),
      new Set(before.map((each) => `${each.mac} ${each.ifname}`)),
      'the agent puts all of it back',
    );
    await a.send([...thefts, ...strangers]);
    t.match(
      lab.bridgeEntries().find(({ mac }) => mac === lab.b.mac),
      entry,
    );

    namespace.run('bridge', 'fdb', 'del', lab.b.mac, 'dev', lab.b.tap, 'master');
    t.strictSame(await lab.converge(), []);
    t.match(
      lab.bridgeEntries().find(({ mac }) => mac === lab.b.mac),
      entry,
      'an entry that somebody has deleted, too',
    );
  });

  await t.test('a guest cannot fill the connection table of its host', async (t) => {
    const flood = numbers(1000).flatMap((number) => [
      // Through the host to another network and to the world, to the host, to the metadata server.
      toRouter(17, udp(1000 + number, 53), lab.c.address),
      toRouter(17, udp(1000 + number, 53), worldAddress),
      toRouter(17, udp(1000 + number, 53), hostAddress),
      toRouter(58, icmp(128, Buffer.from([number >> 8, number & 255, 0, 1])), routerAddress(lab.networks[0].cidr)),
      toRouter(6, tcp(1000 + number, 80), metadataAddress),
      toRouter(47, Buffer.alloc(8, number), lab.c.address),
    ]);
    const before = lab.trackedConnections();
    await a.send(flood);
    await until('datagrams arrive in the other network', () => c.heard.length >= 2000);
    t.ok(
      lab.trackedConnections() - before < 20,
      `${lab.trackedConnections() - before} entries of ${flood.length} packets`,
    );

    // The host's own connections are tracked, and rules for them work.
    namespace.run('nft', 'add', 'table', 'inet', 'operator');
    namespace.run(
      'nft',
      'add',
      'chain',
      'inet',
      'operator',
      'input',
      '{ type filter hook input priority -1; policy drop; }',
    );
    for (const rule of [
      'ct state established,related accept',
      'icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept',
      'iifname lo accept',
    ])
      namespace.run('nft', 'add', 'rule', 'inet', 'operator', 'input', ...rule.split(' '));
    t.match(
      namespace.run('ping', '-6', '-c1', '-W30', worldAddress),
      ' 0% packet loss',
      'stateful rules of the operator',
    );
    namespace.run('nft', 'delete', 'table', 'inet', 'operator');

    const tracked = lab.trackedConnections();
    for (const chain of ['arriving', 'prerouting']) namespace.run('nft', 'flush', 'chain', 'inet', lab.table, chain);
    await a.send(flood);
    t.ok(lab.trackedConnections() - tracked > 3000, 'without the rules, the table fills');
    t.strictSame(await lab.converge(), []);
  });

  await t.test('a guest cannot fill the memory for fragments of its host', async (t) => {
    const first = (destination: string) =>
      numbers(4000).map((id) =>
        toRouter(44, fragment(17, 0, true, Buffer.concat([udp(9, 9), Buffer.alloc(1200)]), id), destination, false),
      );
    // Not to the world, whose memory is not the host's.
    const toOther = first(lab.c.address);
    const toHost = first(hostAddress);
    /** One of another guest arrives in the other network. */
    let id = 10_000;
    const passes = async (): Promise<boolean> => {
      id++;
      const parts = [
        fragment(17, 0, true, Buffer.concat([udp(9, 9), Buffer.alloc(1000)]), id),
        fragment(17, 126, false, Buffer.alloc(100), id),
      ];
      const whole = packet(17, udp(8, id), lab.c.address, lab.b.address);
      c.heard.length = 0;
      await b.send([
        ...parts.map((part) => ethernet(lab.b.mac, lab.router, 0x86dd, packet(44, part, lab.c.address, lab.b.address))),
        summed(ethernet(lab.b.mac, lab.router, 0x86dd, whole)),
      ]);
      const port = Buffer.from([0, 8, id >> 8, id & 255]).toString('hex');
      await until('what was sent behind it', () => c.heard.some((frame) => frame.slice(108).startsWith(port)));
      const mark = id.toString(16).padStart(8, '0');
      return c.heard.filter((frame) => frame.slice(40, 42) === '2c' && frame.slice(116, 124) === mark).length === 2;
    };
    const hears = (from: NetNamespace, to: string): boolean => {
      try {
        return from.run('ping', '-6', '-c1', '-W5', '-s4000', to).includes(' 0% packet loss');
      } catch {
        return false;
      }
    };
    t.ok(await passes());
    await a.send(toOther);
    t.ok(await passes(), 'fragments of others go through the host');
    await a.send(toHost);
    t.ok(await passes(), 'after fragments to the host, too');
    t.ok(hears(lab.world, hostAddress), 'and the host hears what comes in fragments from elsewhere');

    namespace.run('nft', 'flush', 'chain', 'inet', lab.table, 'arriving');
    // The default of the kernel, which the host has raised.
    namespace.run('sysctl', '-q', '-w', 'net.netfilter.nf_conntrack_frag6_high_thresh=4194304');
    await a.send(toOther);
    t.notOk(await passes(), 'without the rules, none go through');
    t.notOk(hears(lab.world, hostAddress), 'nor does the host hear any');
    t.strictSame(await lab.converge(), []);
    t.ok(await passes(), 'with them, at once');
  });

  await t.test('a guest and the world cannot fill the neighbours of a host', async (t) => {
    const made = (prefix: string) => numbers(1000).map((number) => `${prefix}${(number + 0x4000).toString(16)}`);
    const scan = async (...prefixes: string[]) => {
      await a.send(prefixes.flatMap((prefix) => made(prefix).map((address) => toRouter(17, udp(1, 2), address))));
      await a.send([marker]);
      await b.hears(marker);
      b.heard.length = 0;
    };
    const inside = ['fd42:0:0:7::bad:', 'fd42:0:0:8::bad:', 'fe80::bad:'];
    const before = lab.soughtNeighbours();
    await scan(...inside);
    t.ok(lab.soughtNeighbours() - before <= 0, 'made-up addresses of guests');
    await scan('2001:db8:ff::bad:');
    t.ok(lab.soughtNeighbours() - before < 100, `${lab.soughtNeighbours() - before} on the link of the host`);
    lab.world.run(
      'python3',
      '-c',
      `
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for i in range(2000):
    try: s.sendto(b'x', ('fd42:0:0:7::bad:%x' % i, 9))
    except OSError: pass
`,
    );
    const found = lab.soughtNeighbours() - before;
    t.ok(found < 100, `${found} after a scan from outside`);
    t.match(namespace.ip('-6', 'neigh', 'show', lab.b.address, 'dev', lab.bridge), `lladdr ${lab.b.mac} PERMANENT`);
    t.match(namespace.ip('-6', 'neigh', 'show', lab.b.linkLocal, 'dev', lab.bridge), `lladdr ${lab.b.mac} PERMANENT`);

    // As it was: the prefix is on the bridge, and nobody counts.
    namespace.ip('-6', 'route', 'add', lab.networks[0].cidr, 'dev', lab.bridge);
    namespace.ip('-6', 'route', 'add', 'fe80::/64', 'dev', lab.bridge);
    lab.withoutFilters('inet');
    for (const prefix of ['fd42:0:0:7::bad:', 'fe80::bad:', '2001:db8:ff::bad:']) {
      const sought = lab.soughtNeighbours();
      await scan(prefix);
      t.ok(lab.soughtNeighbours() - sought > 200, `${prefix} makes neighbours without the protection`);
      namespace.ip('-6', 'neigh', 'flush', 'nud', 'incomplete');
      namespace.ip('-6', 'neigh', 'flush', 'nud', 'failed');
    }
    namespace.ip('-6', 'neigh', 'replace', lab.b.address, 'lladdr', lab.a.mac, 'dev', lab.bridge, 'nud', 'permanent');
    t.strictSame(await lab.converge(), []);
    t.strictSame(
      namespace.ip('-6', 'route', 'show', lab.networks[0].cidr, 'dev', lab.bridge),
      '',
      'the agent puts it back',
    );
    t.match(namespace.ip('-6', 'neigh', 'show', lab.b.address, 'dev', lab.bridge), `lladdr ${lab.b.mac} PERMANENT`);
    const again = lab.soughtNeighbours();
    await scan(...inside);
    t.ok(lab.soughtNeighbours() - again <= 0);
  });
  await lab.driver.kill();
});
