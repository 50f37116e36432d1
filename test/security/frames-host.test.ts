/**
 * Frames of a guest that pass its bridge and reach the host itself: frames to the groups that bridges keep for themselves (IEEE
 * 802.1D, table 7-10) reach the host's protocols with the tap as their interface. After every order of events that
 * used to open that way, on real taps made by the driver.
 */
import t, { type Test } from 'tap';
import { echoServer, heardAll } from '../support/echo-server.ts';
import { until } from '../support/eventually.ts';
import { arp, ethernet, ipv4, ipv6, summed, udp } from '../support/frames.ts';
import { routerAdvertisement } from '../support/hostile-frames.ts';
import { noNamespaces } from '../support/net-namespace.ts';
import { hostAddress, hostIpv4, type LabGuest, type TapLab, tapLab } from '../support/tap-lab.ts';

const skip = noNamespaces('nft', 'radvd', 'python3', 'bridge');

const reserved = Array.from({ length: 16 }, (_, last) => `01:80:c2:00:00:${last.toString(16).padStart(2, '0')}`);
const port = 7777;

function probes(me: LabGuest, to: string, text: string): Buffer[] {
  const payload = Buffer.concat([udp(port, port), Buffer.from(text)]);
  payload.writeUInt16BE(payload.length, 4);
  const datagram = (source: string) =>
    summed(ethernet(me.mac, to, 0x86dd, ipv6({ source, destination: hostAddress, next: 17, payload })));
  return [
    datagram(me.address),
    datagram('2001:db8:bad::1'),
    ethernet(me.mac, to, 0x0800, ipv4('203.0.113.99', hostIpv4, payload)),
    ethernet(me.mac, to, 0x0806, arp(me.mac, '203.0.113.98', hostIpv4)),
    summed(routerAdvertisement(me, to)),
  ];
}

const routers = ({ host }: TapLab): string =>
  host.namespace
    .ip('-6', 'route', 'show', 'default')
    .split('\n')
    .filter((line) => / dev u[tb]/.test(line))
    .join('\n');
const arpOf = ({ host }: TapLab): string => host.namespace.ip('-4', 'neigh', 'show', '203.0.113.98');
const arpAnswer = /^.{24}0806.{12}0002/;

t.test('from a guest to its host', { skip }, async (t) => {
  const lab = await tapLab(t, 'tohost');
  const { namespace } = lab.host;
  // As the administrator may have them for the uplink's sake.
  lab.sysctl('default.accept_ra', 2);
  lab.sysctl('default.disable_ipv6', 0);
  t.strictSame(await lab.converge(), []);
  const heard = await echoServer(t, namespace, port);
  const guest = await lab.open(t, lab.a);

  const attack = async (text: string) => {
    heard.length = 0;
    guest.heard.length = 0;
    namespace.ip('-4', 'neigh', 'flush', 'all');
    await guest.send([...reserved, lab.router].flatMap((to) => probes(lab.a, to, `${text} ${to}`)));
    await heardAll(heard, namespace, port, `${text} last`);
    return heard.filter((line) => !line.startsWith('::1'));
  };
  const isClosed = async (t: Test, what: string) => {
    t.equal(lab.read(`${lab.a.tap}.accept_ra`), '0', what);
    t.equal(lab.read(`${lab.a.tap}.disable_ipv6`), '1', what);
    t.strictSame(await attack(what.replaceAll(/\W+/g, '-')), [], `${what}: no service of the host hears the guest`);
    t.equal(routers(lab), '', `${what}: the guest is no router of its host`);
    t.equal(arpOf(lab), '', `${what}: nor an IPv4 neighbour`);
    t.notOk(
      guest.heard.some((frame) => arpAnswer.test(frame)),
      `${what}: ARP is not answered`,
    );
  };

  await t.test('a guest cannot become the router of its host, nor reach its services', async (t) => {
    await isClosed(t, 'new taps, with accept_ra 2 by default');

    // The order of a host's reboot: taps are there, forwarding is not.
    lab.sysctl('all.forwarding', 0);
    await lab.restartAgent();
    await lab.converge();
    await isClosed(t, 'forwarding reset, agent restarted');
    t.equal(lab.read('up0.accept_ra'), '2', 'the uplink still listens to its router');

    for (const [key, value] of [
      ['disable_ipv6', 0],
      ['accept_ra', 2],
      ['forwarding', 0],
    ] as const)
      lab.sysctl(`${lab.a.tap}.${key}`, value);
    await lab.converge();
    await isClosed(t, 'settings of the tap undone by somebody');

    lab.sysctl('all.disable_ipv6', 1);
    lab.sysctl('all.disable_ipv6', 0);
    // The kernel has removed it.
    namespace.ip('addr', 'add', `${hostAddress}/64`, 'dev', 'up0', 'nodad');
    lab.sysctl('all.forwarding', 0);
    await lab.converge();
    await isClosed(t, 'IPv6 switched off and on for all interfaces');

    namespace.run('nft', 'flush', 'ruleset');
    namespace.ip('link', 'set', 'dev', lab.a.tap, 'nomaster');
    await lab.converge();
    await isClosed(t, 'rules flushed and tap unplugged by somebody');
  });

  await t.test('nor while one layer alone is left of what keeps it off', async (t) => {
    lab.sysctl(`${lab.a.tap}.disable_ipv6`, 0);
    lab.sysctl(`${lab.a.tap}.accept_ra`, 2);
    t.strictSame(await attack('filter'), [], 'the filter alone');
    t.equal(routers(lab), '');
    namespace.ip('link', 'set', 'dev', lab.a.tap, 'nomaster');
    t.strictSame(await attack('unplugged'), [], 'the filter alone, and no bridge');
    t.equal(routers(lab), '');
    await lab.converge();
    lab.withoutFilters('netdev', 'inet');
    await attack('settings');
    t.equal(routers(lab), '', 'the settings alone: no router');
    await lab.converge();
  });

  await t.test('taps of other hosts on the machine, and of programs, are no uplinks', async (t) => {
    const others: [string, string[]][] = [
      ['utother', ['tuntap', 'add', 'name', 'utother', 'mode', 'tap']],
      ['other', ['link', 'add', 'name', 'other', 'type', 'bridge']],
      ['port', ['link', 'add', 'name', 'port', 'type', 'veth', 'peer', 'name', 'peer']],
    ];
    for (const [name, args] of others) {
      namespace.ip(...args);
      namespace.ip('link', 'set', 'dev', name, 'up');
      lab.sysctl(`${name}.accept_ra`, 1);
    }
    namespace.ip('link', 'set', 'dev', 'other', 'alias', 'ucloud:00000000:net-0000000000000009');
    namespace.ip('link', 'set', 'dev', 'port', 'master', 'other');
    lab.sysctl('peer.accept_ra', 1);
    lab.sysctl('all.forwarding', 0);
    await lab.converge();
    for (const [name] of others) t.equal(lab.read(`${name}.accept_ra`), '1', `${name} is left alone`);
    t.equal(lab.read('peer.accept_ra'), '2', 'an interface of the administrator is an uplink');
    for (const name of ['utother', 'port', 'other']) namespace.ip('link', 'del', 'dev', name);
  });

  await t.test('all of it succeeds with the protection taken out', async (t) => {
    lab.withoutFilters('netdev', 'inet');
    lab.sysctl(`${lab.a.tap}.disable_ipv6`, 0);
    lab.sysctl(`${lab.a.tap}.accept_ra`, 2);
    await until('the tap has a link-local address for its routers', () => {
      namespace.ip('-6', 'addr', 'replace', 'fe80::77/64', 'dev', lab.a.tap, 'nodad');
      return true;
    });
    const arrived = await attack('open');
    t.ok(
      arrived.some((line) => line.startsWith(lab.a.address) && line.includes('01:80:c2')),
      'UDP by a reserved group',
    );
    t.ok(
      arrived.some((line) => line.startsWith('2001:db8:bad::1')),
      'with a source that is not its own',
    );
    t.ok(
      arrived.some((line) => line.startsWith('203.0.113.99')),
      'IPv4',
    );
    await until('an answer to ARP', () => guest.heard.some((frame) => arpAnswer.test(frame)));
    t.match(routers(lab), new RegExp(`via ${lab.a.linkLocal} dev ${lab.a.tap}`), 'a default router');
    namespace.ip('-6', 'route', 'flush', 'default');
    await lab.converge();
    await isClosed(t, 'repaired');
  });
  await lab.driver.kill();
});
