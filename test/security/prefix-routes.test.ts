/** Hostile guests against routed prefixes. */
import t, { type Test } from 'tap';
import { gatewayMac } from '../../backend/model/network/interface-names.ts';
import { until } from '../support/eventually.ts';
import { FabricLab, type FabricVm } from '../support/fabric-lab.ts';
import { ethernet, icmp, ipv6, Station, summed, target, udp } from '../support/frames.ts';
import type { KernelGuest } from '../support/kernel-guest.ts';
import { noNamespaces } from '../support/net-namespace.ts';

const skip = noNamespaces('nft', 'radvd', 'python3', 'ping', 'bridge');

t.test('guests against routed prefixes', { skip, timeout: 300_000 }, async (t) => {
  const lab = new FabricLab(t, 3);
  const [one, two] = [lab.network(100), lab.network(200)];
  const [attacker, neighbour, other, victim] = [lab.vm(1, one), lab.vm(1, one), lab.vm(2, one), lab.vm(3, two)];
  const [own, foreign, former] = ['fd42:0:0:1000::', 'fd42:0:0:2000::', 'fd42:0:0:3000::'];
  lab.routes.set(`${own}/60`, attacker);
  lab.routes.set(`${foreign}/60`, other);
  lab.routes.set(`${former}/60`, attacker);
  await lab.convergeAll();
  const guests = {
    attacker: await lab.start(attacker),
    neighbour: await lab.start(neighbour),
    victim: await lab.start(victim),
  };
  const station = async (t: Test, guest: KernelGuest) => {
    const opened = await Station.open(guest.namespace);
    t.teardown(() => opened.close());
    return opened;
  };
  const sender = await station(t, guests.attacker);
  const [atVictim, atNeighbour] = [await station(t, guests.victim), await station(t, guests.neighbour)];

  let port = 4000;
  /** Sends a datagram to the victim. Returns the part that arrives unchanged. */
  const sendFrom = (source: string): string => {
    const payload = udp(1234, port++);
    const packet = ipv6({ source, destination: victim.address, next: 17, payload });
    const frame = summed(ethernet(attacker.mac, gatewayMac(one.vni), 0x86dd, packet));
    sender.send(frame);
    // The frame gets other MAC addresses on its way, and a lower hop limit.
    return frame.subarray(22).toString('hex');
  };
  const arrived = (tail: string) => atVictim.heard.some((frame) => frame.endsWith(tail));
  /** The answer to an echo request comes after what was sent before. */
  const settled = () => until('the victim answers', () => guests.attacker.ping(victim.address) === 1);
  const isLost = async (t: Test, source: string, message: string) => {
    const tail = sendFrom(source);
    await settled();
    t.notOk(arrived(tail), message);
  };

  await t.test('a guest sends from a prefix that is not routed to it', async (t) => {
    for (const source of [`${own}1`, 'fd42:0:0:100f:ffff:ffff:ffff:ffff', `${former}1`]) {
      const tail = sendFrom(source);
      await until(`${source} is its own`, () => arrived(tail));
    }
    await isLost(t, `${foreign}1`, 'that of another VM');
    await isLost(t, 'fd42:0:0:1010::1', 'the address after its own prefix');
    await isLost(t, 'fd42:0:0:fff:ffff:ffff:ffff:ffff', 'the address before its own prefix');
    await isLost(t, other.address, 'the address of another VM');
    await isLost(t, 'fd00:f::2', 'an underlay address');
  });

  await t.test('a guest sends from a prefix that has moved to another VM', async (t) => {
    lab.routes.set(`${former}/60`, victim);
    t.strictSame(await lab.converge(1), [], 'its own host has the change, and the others do not');
    await isLost(t, `${former}1`, 'the first packet after the change');
    await lab.convergeAll();
    await isLost(t, `${former}1`, 'and later ones');
    const tail = sendFrom(`${own}1`);
    await until('its other prefix stays', () => arrived(tail));
  });

  await t.test('a guest claims addresses of its prefix, or fills the tables of others with them', async (t) => {
    const all = 'ff02::1';
    const to = '33:33:00:00:00:01';
    const frames: Buffer[] = [];
    const add = (source: string, type: number, body: Buffer) =>
      frames.push(
        summed(
          ethernet(attacker.mac, to, 0x86dd, ipv6({ source, destination: all, next: 58, payload: icmp(type, body) })),
        ),
      );
    const linkLayer = Buffer.from([1, 1, ...Buffer.from(attacker.mac.replaceAll(':', ''), 'hex')]);
    add(attacker.address, 136, target(`${own}1`));
    add(`${own}1`, 136, target(`${own}1`));
    add(`${own}1`, 136, target(attacker.address));
    add('::', 135, target(`${own}1`));
    for (let number = 1; number <= 50; number++) {
      add(`${own}${number}`, 135, Buffer.concat([target('fe80::1'), linkLayer]));
      add(`${own}${number}`, 135, Buffer.concat([target(neighbour.address), linkLayer]));
      add(`${own}${number}`, 133, Buffer.concat([Buffer.alloc(4), linkLayer]));
    }
    for (const frame of frames) sender.send(frame);
    const last = summed(
      ethernet(
        attacker.mac,
        to,
        0x86dd,
        ipv6({ source: attacker.address, destination: all, next: 58, payload: icmp(136, target(attacker.address)) }),
      ),
    );
    sender.send(last);
    await until('the last frame', () => atNeighbour.heard.includes(last.toString('hex')));
    const heard = new Set(atNeighbour.heard);
    t.strictSame(
      frames.filter((frame) => heard.has(frame.toString('hex'))),
      [],
      'no other guest hears them',
    );
    for (const namespace of [lab.at(1).host.namespace, guests.neighbour.namespace])
      t.notMatch(namespace.ip('-6', 'neigh', 'show'), own, 'nobody has a neighbour of the prefix');
  });

  await t.test('a guest looks for machines of the underlay, with many sources', async (t) => {
    const router = gatewayMac(one.vni);
    for (let number = 1; number <= 300; number++) {
      const destination = `fd00:0:0:1::${(0x1000 + number).toString(16)}`;
      const packet = ipv6({ source: `${own}${number}`, destination, next: 17, payload: udp(1, 1) });
      sender.send(summed(ethernet(attacker.mac, router, 0x86dd, packet)));
    }
    await settled();
    const sought = lab.at(1).host.namespace.ip('-6', 'neigh', 'show', 'dev', 'eth0').split('\n');
    const count = sought.filter((line) => line.startsWith('fd00:0:0:1::1')).length;
    t.ok(count > 0 && count < 60, `the host looks for ${count} of 300`);
  });

  await t.test('a route names an interface that the VM does not have', (t) => {
    const wrong: FabricVm = { ...attacker, mac: '02:00:5e:10:00:ff' };
    lab.routes.set('fd42:0:0:4000::/64', wrong);
    return lab.converge(1).then((faults) => {
      t.strictSame(faults, [], 'a route without its interface disturbs nothing');
      t.equal(lab.at(1).host.namespace.ip('-6', 'route', 'show', 'fd42:0:0:4000::/64'), '');
    });
  });
});
