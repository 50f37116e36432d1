/**
 * Attacks of a real guest: the demo image under QEMU sends the frames over its own virtio device. The test tries each attack
 * with the driver's tap, and again after removing its protection from the running kernel.
 *
 * docs/security.md has the table of the observations: `TAP_TIMEOUT=600 node test/security/frames-guest.test.ts` prints it.
 */
// Boots guests: each takes a core without hardware virtualisation.
import { readFileSync } from 'node:fs';
import t from 'tap';
import { type DropReason, dropReasons } from '../../backend/host/network/tap-filter.ts';
import { echoServer, heardAll } from '../support/echo-server.ts';
import { arp, ethernet, fragment, icmp, ipv4, ipv6, packed, summed, target, udp } from '../support/frames.ts';
import { routerAdvertisement } from '../support/hostile-frames.ts';
import { noNamespaces } from '../support/net-namespace.ts';
import { realGuest } from '../support/real-guest.ts';
import { hostAddress, hostIpv4, tapLab, worldAddress } from '../support/tap-lab.ts';

const skip =
  noNamespaces('nft', 'radvd', 'python3', 'bridge', 'perl', 'qemu-system-x86_64', 'qemu-img', 'ssh', 'ssh-keygen') ||
  (process.arch === 'x64' ? false : 'the demo image is for x86_64');

const port = 7777;
const numbers = (count: number): number[] => Array.from({ length: count }, (_, number) => number);

interface Attack {
  readonly name: string;
  readonly sent: string;
  readonly frames: readonly Buffer[];
  /** The reason under which the tap's filter counts the frames; undefined if they pass it and have no effect. */
  readonly reason?: DropReason;
  /** The protection in words, and its removal. */
  readonly without: string;
  readonly takeOut: () => void;
  /** Prepares the attack before the guest sends the frames. */
  readonly prepare?: () => void;
  readonly succeeded: () => boolean;
}

t.test('attacks of a real guest', { skip, timeout: 580_000 }, async (t) => {
  const lab = await tapLab(t, 'guest');
  const { a, b, c, router, host } = lab;
  const { namespace } = host;
  t.strictSame(await lab.converge(), []);
  const heard = await echoServer(t, namespace, port);
  const victim = await lab.open(t, b);
  const other = await lab.open(t, c);
  const guest = await realGuest(t, lab, a);

  const packet = (next: number, payload: Buffer, change: Partial<Parameters<typeof ipv6>[0]> = {}) =>
    ipv6({ source: a.address, destination: b.address, next, payload, ...change });
  const toVictim = (payload: Buffer, source = a.mac) => ethernet(source, b.mac, 0x86dd, payload);
  const datagram = (text: string) => {
    const payload = Buffer.concat([udp(port, port), Buffer.from(text)]);
    payload.writeUInt16BE(payload.length, 4);
    return payload;
  };
  const toHost = (text: string, source: string, to: string) =>
    summed(ethernet(a.mac, to, 0x86dd, packet(17, datagram(text), { source, destination: hostAddress })));
  const toRouter = (destination: string, payload = udp(1, 2), next = 17) =>
    summed(ethernet(a.mac, router, 0x86dd, packet(next, payload, { destination })));

  const noFilter = () => lab.withoutFilters('netdev');
  const noProtection = () => {
    lab.withoutFilters('netdev', 'inet');
    lab.sysctl(`${a.tap}.disable_ipv6`, 0);
    lab.sysctl(`${a.tap}.accept_ra`, 2);
    namespace.ip('-6', 'addr', 'replace', 'fe80::77/64', 'dev', a.tap, 'nodad');
  };
  const withoutFilter = { without: 'without the filter of the tap', takeOut: noFilter };
  const withoutProtection = {
    without: 'without filters, and with IPv6 on the tap (`disable_ipv6=0`, `accept_ra=2`)',
    takeOut: noProtection,
  };
  const arrives = (frames: readonly Buffer[]) => () => frames.every((frame) => victim.has(frame));
  const betweenGuests = (name: string, sent: string, reason: DropReason, frames: readonly Buffer[]): Attack => ({
    ...{ name, sent, reason, frames, ...withoutFilter },
    succeeded: arrives(frames),
  });
  const hears = (line: string) => () => heard.includes(line);

  let sought = 0;
  let tracked = 0;
  const claim = icmp(136, target(b.address));
  // The victim reads from a queue of bounded length, which a flood could fill.
  const nobody = '02:bb:00:01:00:00';
  const strangers = numbers(1000).map((number) => {
    const source = `02:bb:00:00:${[number >> 8, number & 255].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`;
    return ethernet(source, nobody, 0x86dd, packet(17, udp(1, number)));
  });
  const attacks: Attack[] = [
    {
      name: 'to become the router of the host',
      sent: 'a router advertisement with high preference to 01:80:c2:00:00:03',
      frames: [summed(routerAdvertisement(a, '01:80:c2:00:00:03'))],
      reason: 'group',
      ...withoutProtection,
      succeeded: () => namespace.ip('-6', 'route', 'show', 'default').includes(`via ${a.linkLocal} dev ${a.tap}`),
    },
    betweenGuests(
      'to become the router of other guests',
      'a router advertisement with high preference to ff02::1',
      'icmp',
      [summed(routerAdvertisement(a, '33:33:00:00:00:01'))],
    ),
    {
      name: 'to reach a service of the host',
      sent: 'UDP to 01:80:c2:00:00:0e',
      frames: [toHost('group', a.address, '01:80:c2:00:00:0e')],
      reason: 'group',
      ...withoutProtection,
      succeeded: hears(`${a.address} group`),
    },
    {
      name: 'to reach a service of the host through the bridge',
      sent: 'UDP to the MAC of the router',
      frames: [toHost('router', a.address, router)],
      without: 'without the filter of the host',
      takeOut: () => lab.withoutFilters('inet'),
      succeeded: hears(`${a.address} router`),
    },
    {
      name: 'to reach a service of the host by IPv4',
      sent: 'IPv4 and UDP to 01:80:c2:00:00:0e',
      frames: [ethernet(a.mac, '01:80:c2:00:00:0e', 0x0800, ipv4('203.0.113.99', hostIpv4, datagram('ipv4')))],
      reason: 'type',
      ...withoutProtection,
      succeeded: hears('203.0.113.99 ipv4'),
    },
    {
      name: 'to be an IPv4 neighbour of the host',
      sent: 'ARP to 01:80:c2:00:00:0e',
      frames: [ethernet(a.mac, '01:80:c2:00:00:0e', 0x0806, arp(a.mac, '203.0.113.98', hostIpv4))],
      reason: 'type',
      ...withoutProtection,
      succeeded: () => namespace.ip('-4', 'neigh', 'show', '203.0.113.98').includes(a.mac),
    },
    betweenGuests('to pass for another guest', 'an echo request with the MAC of another', 'mac', [
      toVictim(packet(58, icmp(128)), c.mac),
    ]),
    betweenGuests('to pass for another guest', 'an echo request with the IPv6 address of another', 'source', [
      toVictim(packet(58, icmp(128), { source: c.address })),
    ]),
    betweenGuests('to speak IPv4 to another guest', 'IPv4', 'type', [
      ethernet(a.mac, b.mac, 0x0800, ipv4('203.0.113.9', '203.0.113.2', udp(7, 7))),
    ]),
    betweenGuests('to speak IPv4 to another guest', 'ARP', 'type', [
      ethernet(a.mac, b.mac, 0x0806, arp(a.mac, '203.0.113.9', '203.0.113.2')),
    ]),
    betweenGuests('to take the address of another', 'a neighbour advertisement', 'claim', [
      toVictim(packet(58, claim, { source: a.linkLocal })),
    ]),
    betweenGuests('to take the address of another', 'a neighbour advertisement in two fragments', 'fragment', [
      toVictim(packet(44, fragment(60, 0, true, Buffer.from([58, 0, 1, 4, 0, 0, 0, 0])))),
      toVictim(packet(44, fragment(60, 1, false, claim))),
    ]),
    betweenGuests('to redirect another', 'a redirect', 'icmp', [
      toVictim(packet(58, icmp(137, Buffer.concat([target('fe80::1'), packed(b.address)])), { source: a.linkLocal })),
    ]),
    betweenGuests('to configure another', 'an answer of a DHCPv6 server', 'dhcp', [
      toVictim(packet(17, udp(547, 546))),
    ]),
    {
      name: 'to fill and change the table of the bridge',
      sent: 'UDP from the MACs of 1,000 strangers and of another guest',
      frames: [...strangers, ethernet(c.mac, nobody, 0x86dd, packet(17, udp(1, 1)))],
      reason: 'mac',
      without: 'without the filter of the tap, with learning',
      takeOut: () => {
        noFilter();
        namespace.ip('link', 'set', 'dev', a.tap, 'type', 'bridge_slave', 'learning', 'on');
      },
      succeeded: () => lab.bridgeEntries().length > 1000,
    },
    {
      name: 'to fill the neighbours of the host',
      sent: 'UDP to 1,000 made-up addresses of its network, by the router',
      frames: numbers(1000).map((number) => toRouter(`fd42:0:0:7::bad:${(number + 0x4000).toString(16)}`)),
      without: 'with a route to the network on the bridge',
      takeOut: () => {
        namespace.ip('-6', 'route', 'add', lab.networks[0].cidr, 'dev', lab.bridge);
      },
      prepare: () => {
        sought = lab.soughtNeighbours();
      },
      succeeded: () => lab.soughtNeighbours() - sought > 200,
    },
    {
      name: 'to fill the connection table of the host',
      sent: 'UDP from 1,000 ports to another network and the world',
      frames: numbers(1000).flatMap((number) =>
        [c.address, worldAddress].map((address) => toRouter(address, udp(1000 + number, 53))),
      ),
      without: 'without its rules `notrack`',
      takeOut: () => {
        for (const chain of ['arriving', 'prerouting'])
          namespace.run('nft', 'flush', 'chain', 'inet', lab.table, chain);
      },
      prepare: () => {
        tracked = lab.trackedConnections();
      },
      succeeded: () => lab.trackedConnections() - tracked > 1000,
    },
  ];

  let rounds = 0;
  /** Sends the frames and then an honest one. When that one arrives, all others have had their effect. */
  const observe = async ({ frames, prepare, succeeded }: Attack) => {
    rounds++;
    const last = ethernet(a.mac, b.mac, 0x86dd, packet(17, udp(9, 20_000 + rounds)));
    prepare?.();
    await guest.send([...frames, last]);
    await victim.hears(last);
    await heardAll(heard, namespace, port, `last ${rounds}`);
    return succeeded();
  };

  const rows: string[] = [];
  const row = (...cells: string[]) => rows.push(`| ${cells.join(' | ')} |`);
  await t.test('fail, and each succeeds with its protection taken out', async (t) => {
    for (const attack of attacks) {
      const { name, sent, frames, reason, without, takeOut } = attack;
      const before = lab.drops(a);
      const succeeded = await observe(attack);
      const after = lab.drops(a);
      const dropped = dropReasons.filter((each) => (after[each] ?? 0) > (before[each] ?? 0));
      t.notOk(succeeded, `${name}: ${sent}`);
      t.strictSame(dropped, reason === undefined ? [] : [reason], 'counted by its reason');
      if (reason !== undefined) t.equal((after[reason] ?? 0) - (before[reason] ?? 0), frames.length, 'all of them');
      const effect = dropped.length > 0 ? `dropped (\`${dropped.join()}\`)` : 'no effect';
      const expected = reason === undefined ? 'no effect' : `dropped (\`${reason}\`)`;
      row(name, sent, 'as the agent makes it', expected, succeeded ? 'succeeds' : effect);

      victim.heard.length = 0;
      takeOut();
      const open = await observe(attack);
      t.ok(open, `${name}, ${without}`);
      row(name, sent, without, 'succeeds', open ? 'succeeds' : 'no effect');
      namespace.ip('-6', 'route', 'flush', 'default');
      namespace.ip('-6', 'neigh', 'flush', 'dev', lab.bridge);
      t.strictSame(await lab.converge(), [], 'the agent puts the protection back');
    }
  });

  await t.test('its device takes no instructions to the kernel', async (t) => {
    // VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_UFO.
    for (const bit of [0, 11, 12, 14]) t.notOk(await guest.hasFeature(bit), `feature ${bit}`);
    t.ok(await guest.hasFeature(5), 'features are read: its MAC is given');
  });

  await t.test('are in docs/security.md as they were observed', async (t) => {
    for (const line of rows) t.comment(line);
    const page = readFileSync(new URL('../../docs/security.md', import.meta.url), 'utf8');
    for (const line of rows) t.ok(page.includes(`\n${line}\n`), line);
  });
  await other.close();
  await lab.driver.kill();
});
