/** Hostile guests, and hostile machines in the underlay, against the tunnels between hosts. */
import t, { type Test } from 'tap';
import { instanceOf } from '../../backend/host/system/instance.ts';
import { gatewayMac, metadataAddress } from '../../backend/model/network/interface-names.ts';
import { until } from '../support/eventually.ts';
import { FabricLab } from '../support/fabric-lab.ts';
import { ethernet, fragment, icmp, ipv6, options, Station, summed, target, udp } from '../support/frames.ts';
import { type NetNamespace, netNamespace, noNamespaces } from '../support/net-namespace.ts';

const skip = noNamespaces('nft', 'radvd', 'python3', 'ping', 'bridge');

/** UDP with data, and a wrong checksum. */
function datagram(from: number, to: number, data: Buffer): Buffer {
  const header = udp(from, to);
  header.writeUInt16BE(8 + data.length, 4);
  return Buffer.concat([header, data]);
}

/** A frame in VXLAN (RFC 7348, 5). */
function vxlan(vni: number, frame: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(8, 0);
  header.writeUInt32BE(vni * 256, 4);
  return Buffer.concat([header, frame]);
}

const plain = (mac: string): string => mac.replaceAll(':', '');

const macOf = (namespace: NetNamespace, device: string): string =>
  (JSON.parse(namespace.ip('-j', 'link', 'show', device)) as [{ address: string }])[0].address;

async function station(t: Test, namespace: NetNamespace): Promise<Station> {
  const opened = await Station.open(namespace);
  t.teardown(() => opened.close());
  return opened;
}

t.test('tunnels against guests and foreign machines', { skip, timeout: 300_000 }, async (t) => {
  const lab = new FabricLab(t, 3);
  const [one, two] = [lab.network(100), lab.network(200)];
  const [a, b, c] = [lab.vm(1, one), lab.vm(2, one), lab.vm(3, two)];
  await lab.convergeAll();
  const [guestA, guestB, guestC] = [await lab.start(a), await lab.start(b), await lab.start(c)];
  const victim = await station(t, guestC.namespace);

  let count = 0;
  /** A frame for the victim that only its own network may bring. */
  const injected = (): Buffer =>
    summed(
      ethernet(
        '02:00:00:00:66:66',
        c.mac,
        0x86dd,
        ipv6({
          source: 'fd42:0:0:c8::bad',
          destination: c.address,
          next: 17,
          payload: datagram(1234, 4000 + count++, Buffer.from('from another network')),
        }),
      ),
    );
  const arrived = (frame: Buffer) => victim.heard.includes(frame.toString('hex'));
  /** The answer to an echo request comes after what was sent before. */
  const isLost = async (t: Test, send: (inner: Buffer) => void, message: string) => {
    const inner = injected();
    send(inner);
    await until('the victim answers', () => guestB.ping(c.address) === 1);
    t.notOk(arrived(inner), message);
  };
  const removeRules = (number: number) => {
    const { host } = lab.at(number);
    host.namespace.run('nft', 'delete', 'table', 'inet', `ucloud_${instanceOf(host.dataDir)}`);
  };

  await t.test('a guest sends VXLAN to a host', async (t) => {
    const attacker = await station(t, guestA.namespace);
    const sendTo = (destination: string) => (inner: Buffer) =>
      attacker.send(
        summed(
          ethernet(
            a.mac,
            gatewayMac(one.vni),
            0x86dd,
            ipv6({
              source: a.address,
              destination,
              next: 17,
              payload: datagram(5555, 4789, vxlan(two.vni, inner)),
            }),
          ),
        ),
      );
    await isLost(t, sendTo('fd00:f::3'), 'the underlay address of the host');
    await isLost(t, sendTo('fd00:0:0:3::2'), 'another address of the host');

    for (const number of [1, 3]) removeRules(number);
    const inner = injected();
    sendTo('fd00:f::3')(inner);
    await until('the attack works without the rules', () => arrived(inner));
    await lab.convergeAll();
    await isLost(t, sendTo('fd00:f::3'), 'with the rules again');
  });

  await t.test('a machine in the underlay that is no host sends VXLAN', async (t) => {
    const foreign = netNamespace(t, 'foreign');
    lab.spine.ip('link', 'add', 'pf', 'type', 'veth', 'peer', 'eth0', 'netns', foreign.name);
    lab.spine.ip('link', 'set', 'pf', 'up');
    foreign.ip('link', 'set', 'eth0', 'up');
    const attacker = await station(t, foreign);
    const [own, router] = [macOf(foreign, 'eth0'), macOf(lab.spine, 'pf')];
    const packet = { source: 'fd00:0:0:66::6', destination: 'fd00:f::3' };
    const send = (inner: Buffer) =>
      attacker.send(
        summed(
          ethernet(
            own,
            router,
            0x86dd,
            ipv6({ ...packet, next: 17, payload: datagram(5555, 4789, vxlan(two.vni, inner)) }),
          ),
        ),
      );
    await isLost(t, send, 'a datagram');
    const sendInFragments = (inner: Buffer) => {
      const whole = summed(
        ethernet(
          own,
          router,
          0x86dd,
          ipv6({ ...packet, next: 17, payload: datagram(5555, 4789, vxlan(two.vni, inner)) }),
        ),
      ).subarray(54);
      for (const [next, payload, first] of [
        [17, whole, 16],
        // The first fragment ends before the ports.
        [60, options(17, whole), 8],
      ] as const) {
        attacker.send(
          ethernet(
            own,
            router,
            0x86dd,
            ipv6({ ...packet, next: 44, payload: fragment(next, 0, true, payload.subarray(0, first), count) }),
          ),
        );
        attacker.send(
          ethernet(
            own,
            router,
            0x86dd,
            ipv6({ ...packet, next: 44, payload: fragment(next, first / 8, false, payload.subarray(first), count) }),
          ),
        );
      }
    };
    await isLost(t, sendInFragments, 'fragments');

    // The kernel also takes packets to groups, and to the anycast addresses of its routers (RFC 4291, 2.6.1).
    lab.spine.ip('-6', 'route', 'add', 'fd42::/32', 'via', 'fd00:0:0:3::2', 'dev', 'p3');
    const sendTo = (destination: string) => (inner: Buffer) =>
      attacker.send(
        summed(
          ethernet(
            own,
            router,
            0x86dd,
            ipv6({ ...packet, destination, next: 17, payload: datagram(5555, 4789, vxlan(two.vni, inner)) }),
          ),
        ),
      );
    for (const anycast of ['fd42:0:0:c8::', 'fd00:0:0:3::']) await isLost(t, sendTo(anycast), anycast);

    removeRules(3);
    const attacks = [injected(), injected(), injected()] as const;
    send(attacks[0]);
    sendInFragments(attacks[1]);
    sendTo('fd42:0:0:c8::')(attacks[2]);
    await until('the attacks work without the rules', () => attacks.every(arrived));
    await lab.convergeAll();
    await isLost(t, send, 'with the rules again');
  });

  await t.test('a guest, or a machine in the underlay, says that tunnels are too large', async (t) => {
    const { namespace } = lab.at(1).host;
    const attacker = await station(t, guestA.namespace);
    /** Packet Too Big (RFC 4443, 3.2) with the beginning of a tunnel's packet. */
    const tooBig = (next: number, before: Buffer = Buffer.alloc(0)) => {
      const quoted = ipv6({
        source: 'fd00:f::1',
        destination: 'fd00:f::2',
        next,
        payload: Buffer.concat([before, datagram(40000, 4789, vxlan(1, Buffer.alloc(64)))]),
      });
      return icmp(2, Buffer.concat([Buffer.from([0, 0, 5, 0]), quoted]));
    };
    const payloads = [tooBig(17), tooBig(60, Buffer.from([17, 0, 1, 4, 0, 0, 0, 0])), tooBig(58)];
    const learned = () => namespace.ip('-6', 'route', 'get', 'fd00:f::2').includes('mtu 1280');
    const sendAsGuest = () => {
      for (const payload of payloads)
        for (const destination of ['fd42:0:0:64::1', 'fd00:0:0:1::2'])
          attacker.send(
            summed(
              ethernet(a.mac, gatewayMac(one.vni), 0x86dd, ipv6({ source: a.address, destination, next: 58, payload })),
            ),
          );
    };
    sendAsGuest();
    const foreign = netNamespace(t, 'foreign');
    lab.spine.ip('link', 'add', 'pg', 'type', 'veth', 'peer', 'eth0', 'netns', foreign.name);
    lab.spine.ip('link', 'set', 'pg', 'up');
    foreign.ip('link', 'set', 'eth0', 'up');
    const outsider = await station(t, foreign);
    const [own, router] = [macOf(foreign, 'eth0'), macOf(lab.spine, 'pg')];
    const sendAsOutsider = () => {
      for (const payload of payloads)
        for (const destination of ['fd00:f::1', 'fd00:0:0:1::2'])
          outsider.send(
            summed(ethernet(own, router, 0x86dd, ipv6({ source: 'fd00:0:0:77::7', destination, next: 58, payload }))),
          );
    };
    sendAsOutsider();
    t.equal(guestA.ping(b.address, 1, '-s', '1400', '-M', 'do'), 1, 'large packets still pass');
    t.notOk(learned());
    removeRules(1);
    sendAsOutsider();
    await until('the attack works without the rules', learned);
    namespace.ip('-6', 'route', 'flush', 'cache');
    await lab.convergeAll();
    sendAsOutsider();
    sendAsGuest();
    t.equal(guestA.ping(b.address, 1, '-s', '1400', '-M', 'do'), 1);
    t.notOk(learned());
  });

  await t.test('many connections from outside to guests of another host', async (t) => {
    const outside = netNamespace(t, 'outside');
    lab.spine.ip('link', 'add', 'po', 'type', 'veth', 'peer', 'eth0', 'netns', outside.name);
    lab.spine.ip('link', 'set', 'po', 'up');
    lab.spine.ip('addr', 'add', '2001:db8:77::1/64', 'dev', 'po', 'nodad');
    outside.ip('link', 'set', 'eth0', 'up');
    outside.ip('addr', 'add', '2001:db8:77::2/64', 'dev', 'eth0', 'nodad');
    outside.ip('-6', 'route', 'add', 'default', 'via', '2001:db8:77::1');
    lab.spine.ip('-6', 'route', 'replace', 'fd42::/32', 'via', 'fd00:0:0:1::2', 'dev', 'p1');
    const { namespace } = lab.at(1).host;
    const count = () => Number(namespace.run('sysctl', '-n', 'net.netfilter.nf_conntrack_count'));
    const before = count();
    const program = `
import socket, sys
for port in range(1, 301):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.sendto(b'x', (sys.argv[1], port))
`;
    outside.run('python3', '-c', program, c.address);
    await until('they arrive by the host without the VM', () =>
      victim.heard.some((frame) => frame.slice(112, 116) === '012c'),
    );
    t.ok(count() - before < 20, `${count() - before} entries`);
  });

  await t.test('a machine outside of the cloud sends as a VM of another host', async (t) => {
    const outside = netNamespace(t, 'outside');
    lab.spine.ip('link', 'add', 'pv', 'type', 'veth', 'peer', 'eth0', 'netns', outside.name);
    lab.spine.ip('link', 'set', 'pv', 'up');
    outside.ip('link', 'set', 'eth0', 'up');
    lab.spine.ip('-6', 'route', 'replace', 'fd42::/32', 'via', 'fd00:0:0:1::2', 'dev', 'p1');
    const [attacker, near] = [await station(t, outside), await station(t, guestA.namespace)];
    const [own, router] = [macOf(outside, 'eth0'), macOf(lab.spine, 'pv')];
    const sent = (source: string, destination: string): (() => boolean) => {
      const payload = datagram(7, 5000 + count++, Buffer.from('from outside'));
      const frame = summed(ethernet(own, router, 0x86dd, ipv6({ source, destination, next: 17, payload })));
      attacker.send(frame);
      const data = frame.subarray(54).toString('hex');
      return () => [...near.heard, ...victim.heard].some((each) => each.slice(108).startsWith(data));
    };
    const all = [a, c].map(({ address }) => ({
      forged: [b.address, a.address, 'fd42:0:0:1000::1'].map((source) => sent(source, address)),
      own: sent('2001:db8:78::2', address),
    }));
    await until('the packets with its own source', () => all.every(({ own: arrived }) => arrived()));
    for (const { forged } of all)
      t.strictSame(
        forged.map((arrived) => arrived()),
        [false, false, false],
      );
  });

  await t.test('a guest reaches no underlay address', async (t) => {
    for (const address of ['fd00:f::1', 'fd00:f::2', 'fd00:f::3']) t.equal(guestA.ping(address), 0, address);
  });

  await t.test('a guest scans the networks', async (t) => {
    const before = lab.tunnelled;
    for (const cidr of ['fd42:0:0:c8', 'fd42:0:0:64'])
      for (let i = 0; i < 20; i++) guestA.ping(`${cidr}::${(4096 + i * 7).toString(16)}`, 1, '-W', '0.05');
    t.equal(lab.tunnelled - before, 0, 'the underlay sees nothing of it');
    for (let number = 1; number <= 3; number++) {
      const neighbours = lab.at(number).host.namespace.ip('-6', 'neigh', 'show').split('\n');
      // The kernel notes the host's own advertisements.
      const sought = neighbours.filter((line) => /^(?!fe80::1 ).*dev u[bv](?!.*PERMANENT)/.test(line));
      t.strictSame(sought, [], `host ${number} looks for nobody`);
    }
  });

  await t.test('a guest sends as a VM of another host, or as a router, to guests of other hosts', async (t) => {
    const [near, attacker] = [await station(t, guestB.namespace), await station(t, guestA.namespace)];
    const entries = () => [2, 3].map((number) => lab.at(number).host.namespace.run('bridge', 'fdb', 'show'));
    const [before, heard] = [entries(), { near: near.heard.length, far: victim.heard.length }];
    const gateway = gatewayMac(one.vni);
    const said = Buffer.from('as somebody else');
    const data = (source: string, destination: string) =>
      ipv6({ source, destination, next: 17, payload: datagram(7, 7, said) });
    const control = (source: string, destination: string, type: number, body: Buffer) =>
      ipv6({ source, destination, next: 58, payload: icmp(type, body) });
    const linkLocal = guestA.namespace.ip('-6', 'addr', 'show', 'scope', 'link').match(/fe80\S+(?=\/)/)?.[0] ?? '';
    const advertisement = Buffer.from('40000708000000000000000003044040000151800000', 'hex');
    const forged = [
      // The sources of a VM on another host, of a foreign one, and of the underlay.
      ethernet(a.mac, b.mac, 0x86dd, data(c.address, b.address)),
      ethernet(a.mac, b.mac, 0x86dd, data('2001:db8:bad::1', b.address)),
      ethernet(a.mac, gateway, 0x86dd, data(b.address, c.address)),
      ethernet(a.mac, gateway, 0x86dd, data('fd00:f::2', c.address)),
      // The MAC address of a VM on another host, which a switch would learn.
      ethernet(c.mac, b.mac, 0x86dd, data(a.address, b.address)),
      ethernet(b.mac, '33:33:00:00:00:01', 0x86dd, data(b.address, 'ff02::1')),
      // Router advertisements, redirects and claims of addresses (RFC 4861, 4).
      ...[linkLocal, 'fe80::1'].flatMap((source) => [
        ethernet(a.mac, '33:33:00:00:00:01', 0x86dd, control(source, 'ff02::1', 134, advertisement)),
        ethernet(a.mac, b.mac, 0x86dd, control(source, b.address, 134, advertisement)),
        ethernet(
          a.mac,
          b.mac,
          0x86dd,
          control(source, b.address, 137, Buffer.concat([target(c.address), target('::')])),
        ),
      ]),
      ethernet(a.mac, b.mac, 0x86dd, control(a.address, b.address, 136, target(c.address))),
      ethernet(a.mac, '33:33:00:00:00:01', 0x86dd, control(a.address, 'ff02::1', 136, target(b.address))),
    ].map(summed);
    for (const frame of forged) attacker.send(frame);
    for (const { mac, destination } of [
      { mac: b.mac, destination: b.address },
      { mac: gateway, destination: c.address },
    ])
      attacker.send(summed(ethernet(a.mac, mac, 0x86dd, data(a.address, destination))));
    const words = said.toString('hex');
    const received = () => [
      ...near.heard.slice(heard.near).filter((frame) => frame.includes(words)),
      ...victim.heard.slice(heard.far).filter((frame) => frame.includes(words)),
    ];
    await until('the frames with its own addresses', () => received().length === 2);
    // Type 134 and 137 of the upper layer directly behind the header.
    const isRouters = (frame: string) => frame.slice(40, 42) === '3a' && ['86', '89'].includes(frame.slice(108, 110));
    t.strictSame(
      near.heard.slice(heard.near).filter((frame) => isRouters(frame) && frame.slice(12, 24) !== plain(gateway)),
      [],
    );
    t.equal(received().length, 2, 'nothing else');
    t.strictSame(entries(), before, 'no host has learned a MAC address');
    t.equal(guestB.ping(c.address), 1, 'the way between the others is as before');
    const routes = guestB.namespace.ip('-6', 'route', 'show', 'default');
    t.equal(routes.trim().split('\n').length, 1, `only its own router: ${routes}`);

    const { namespace, dataDir } = lab.at(1).host;
    namespace.run('nft', 'delete', 'table', 'netdev', `ucloud_${instanceOf(dataDir)}`);
    const [attack = Buffer.alloc(0)] = forged;
    attacker.send(attack);
    await until('the attack works without the filters', () => near.heard.includes(attack.toString('hex')));
    await lab.convergeAll();
  });

  await t.test('a guest acts as the router or as the metadata server of another host', async (t) => {
    const listener = await station(t, guestB.namespace);
    // The guest is replaced by somebody with access to the bridge, as if the filters of its tap had failed.
    const host = lab.at(1).host;
    host.namespace.run('nft', 'delete', 'table', 'netdev', `ucloud_${instanceOf(host.dataDir)}`);
    const attacker = await station(t, guestA.namespace);
    const before = listener.heard.length;
    const frames = [
      ethernet(
        a.mac,
        b.mac,
        0x86dd,
        ipv6({ source: 'fe80::1', destination: b.address, next: 58, payload: icmp(134, Buffer.alloc(12)) }),
      ),
      ethernet(
        a.mac,
        b.mac,
        0x86dd,
        ipv6({ source: 'fe80::1', destination: b.address, next: 58, payload: icmp(137, Buffer.alloc(36)) }),
      ),
      ethernet(
        a.mac,
        b.mac,
        0x86dd,
        ipv6({ source: metadataAddress, destination: b.address, next: 17, payload: udp(80, 80) }),
      ),
      ethernet(
        gatewayMac(one.vni),
        b.mac,
        0x86dd,
        ipv6({ source: a.address, destination: b.address, next: 17, payload: udp(80, 80) }),
      ),
      ethernet(a.mac, b.mac, 0x86dd, ipv6({ source: a.address, destination: b.address, next: 58, payload: icmp(133) })),
    ].map(summed);
    for (const frame of frames) attacker.send(frame);
    const last = summed(
      ethernet(
        a.mac,
        b.mac,
        0x86dd,
        ipv6({ source: a.address, destination: b.address, next: 58, payload: icmp(136, target(a.address)) }),
      ),
    );
    attacker.send(last);
    await until('the last frame', () => listener.heard.includes(last.toString('hex')));
    const heard = new Set(listener.heard.slice(before));
    t.strictSame(
      frames.map((frame) => heard.has(frame.toString('hex'))),
      frames.map(() => false),
    );
    await lab.convergeAll();
  });

  await t.test('a guest sends to a guest of another network at layer 2', async (t) => {
    const attacker = await station(t, guestA.namespace);
    await isLost(
      t,
      () => {
        const inner = injected();
        inner.write(a.mac.replaceAll(':', ''), 6, 'hex');
        attacker.send(inner);
      },
      'no host forwards the frame',
    );
    t.notOk(victim.heard.some((frame) => frame.startsWith(c.mac.replaceAll(':', '') + a.mac.replaceAll(':', ''))));
  });
});
