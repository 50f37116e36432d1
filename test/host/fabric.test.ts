/** Networks over many hosts, with the real driver on three hosts and guests with the network of a real kernel. */
import t from 'tap';
import { tapName } from '../../backend/model/network/interface-names.ts';
import { until } from '../support/eventually.ts';
import { FabricLab } from '../support/fabric-lab.ts';
import { KernelGuest } from '../support/kernel-guest.ts';
import { noNamespaces } from '../support/net-namespace.ts';

const skip = noNamespaces('nft', 'radvd', 'python3', 'ping', 'bridge');

t.test('networks over three hosts', { skip, timeout: 300_000 }, async (t) => {
  const lab = new FabricLab(t, 3);
  const [one, two] = [lab.network(100), lab.network(200)];
  const [a, b, c, silent] = [lab.vm(1, one), lab.vm(2, one), lab.vm(3, two), lab.vm(2, one)];
  await lab.convergeAll();
  const [guestA, guestB, guestC] = [await lab.start(a), await lab.start(b), await lab.start(c)];

  await t.test('a guest reaches others of its network on another host', async (t) => {
    t.equal(guestA.ping(b.address, 3), 3);
    t.equal(guestB.ping(a.address, 3), 3);
    const before = lab.tunnelled;
    t.equal(guestA.ping(b.address, 100, '-i', '0.002'), 100);
    t.equal(lab.tunnelled - before, 200, 'each ping takes two packets, and nothing is flooded');
  });

  await t.test('packets between networks are routed at the host of the sender', async (t) => {
    t.equal(guestA.ping(c.address, 3), 3);
    t.equal(guestC.ping(b.address, 3), 3);
    const before = lab.tunnelled;
    t.equal(guestA.ping(c.address, 100, '-i', '0.002'), 100);
    t.equal(lab.tunnelled - before, 200, 'both directions are direct');
  });

  await t.test('nothing is learned', async (t) => {
    const entries = lab.at(2).host.namespace.run('bridge', 'fdb', 'show');
    t.match(entries, new RegExp(`${a.mac} dev uv100 dst fd00:f::1 self static`));
    t.notMatch(entries, c.mac, 'the host has no entries of a network without a VM here');
    t.match(lab.at(3).host.namespace.ip('-6', 'route', 'show', silent.address), /dev uvtransit/);
  });

  await t.test('a VM that never sent a packet is reached', async (t) => {
    const { namespace } = lab.at(2).host;
    const tap = tapName(silent.mac);
    await KernelGuest.start(t, namespace, { tap, mac: silent.mac, address: silent.address, kind: 'mute' });
    const sent = () =>
      (JSON.parse(namespace.ip('-j', '-s', 'link', 'show', tap)) as [{ stats64: { rx: { packets: number } } }])[0]
        .stats64.rx.packets;
    t.equal(sent(), 0);
    t.equal(guestA.ping(silent.address, 3), 3, 'at layer 2, from another host');
    t.equal(guestC.ping(silent.address, 3), 3, 'from another network');
    t.equal(sent(), 6, 'it has sent nothing but the answers');
  });

  await t.test('a second run changes nothing', async (t) => {
    for (let number = 1; number <= 3; number++) {
      const before = lab.at(number).host.state();
      await lab.converge(number);
      t.equal(lab.at(number).host.state(), before);
    }
  });
});

t.test('a VM that moves between hosts', { skip, timeout: 300_000 }, async (t) => {
  const lab = new FabricLab(t, 3);
  const network = lab.network(100);
  const [a, moving] = [lab.vm(1, network), lab.vm(2, network)];
  await lab.convergeAll();
  const guest = await lab.start(a);
  const placesOn = (number: number) => {
    const { namespace } = lab.at(number).host;
    const entries = namespace.run('bridge', 'fdb', 'show').split('\n');
    return {
      entries: entries
        .filter((line) => line.startsWith(moving.mac) && line.includes(' static'))
        .map((line) => line.trim()),
      routes: namespace.ip('-6', 'route', 'show', moving.address).trim(),
      neighbours: namespace.ip('-6', 'neigh', 'show', moving.address, 'nud', 'permanent').trim(),
    };
  };
  const first = [1, 2, 3].map(placesOn);
  for (let round = 0; round < 9; round++) {
    const source = moving.host;
    moving.host = (source % 3) + 1;
    // The order of a move: target, source, others.
    for (const number of [moving.host, source, ...[1, 2, 3].filter((each) => each !== moving.host && each !== source)])
      t.strictSame(await lab.converge(number), []);
    const carriers = new Set([1, moving.host]);
    for (let number = 1; number <= 3; number++) {
      const { entries, routes, neighbours } = placesOn(number);
      const isHere = moving.host === number;
      if (isHere) t.match(entries, [/ut005e100002 master ub100 static|ut02005e100002 master ub100 static/]);
      else if (carriers.has(number)) t.ok(entries.some((line) => line.includes(`dst fd00:f::${moving.host} self`)));
      t.equal(entries.length, isHere ? 1 : carriers.has(number) ? 2 : 0, `no other entry on host ${number}`);
      t.match(routes, isHere ? /dev ub100/ : /via .* dev uvtransit/);
      t.equal(routes.split('\n').length, 1, 'one route');
      t.equal(neighbours !== '', carriers.has(number), `neighbours of host ${number}`);
    }
  }
  t.equal(moving.host, 2);
  t.strictSame([1, 2, 3].map(placesOn), first, 'after a full circle, all is as in the beginning');
  const there = await lab.start(moving);
  t.equal(guest.ping(there.address, 3), 3);
});

t.test('packets that are too large for a tunnel', { skip, timeout: 300_000 }, async (t) => {
  const lab = new FabricLab(t, 2, 1500);
  const links = { mtu: 1430, link_mtu: 1500 };
  const [one, two] = [
    { ...lab.network(100), ...links },
    { ...lab.network(200), ...links },
  ];
  const [a, b, c] = [lab.vm(1, one), lab.vm(2, one), lab.vm(2, two)];
  await lab.convergeAll();
  const [guest] = [await lab.start(a), await lab.start(b), await lab.start(c)];
  t.match(guest.namespace.run('sysctl', '-n', 'net.ipv6.conf.eth0.mtu'), /1430/, 'the guest learns the MTU');
  t.equal(guest.ping(b.address, 1, '-M', 'do', '-s', `${1430 - 48}`), 1, 'a packet of the MTU arrives');

  // A guest that ignores the MTU.
  guest.namespace.run('sysctl', '-q', '-w', 'net.ipv6.conf.eth0.accept_ra_mtu=0', 'net.ipv6.conf.eth0.mtu=1500');
  for (const address of [b.address, c.address]) {
    guest.ping(address, 1, '-M', 'do', '-s', '1440');
    await until('the guest learns the MTU of the path', () =>
      guest.namespace.ip('-6', 'route', 'get', address).includes('mtu 1430'),
    );
    t.equal(guest.ping(address, 1, '-s', '1440'), 1, 'and then sends fragments');
  }
});

t.test('faults of one tunnel, and the end of a host', { skip, timeout: 300_000 }, async (t) => {
  const lab = new FabricLab(t, 2);
  const [one, two] = [lab.network(100), lab.network(200)];
  const [, b] = [lab.vm(1, one), lab.vm(2, one), lab.vm(1, two)];
  const { host, driver } = lab.at(1);
  const before = host.state();
  // Another program has a VXLAN device with the number of the transit.
  host.namespace.ip('link', 'add', 'other', 'type', 'vxlan', 'id', '16777215', 'local', '::1', 'dstport', '4789');
  const faults = (await lab.converge(1)) as [string, string][];
  t.strictSame([...new Set(faults.map(([name]) => name))], ['uvtransit']);
  const entries = () => host.namespace.run('bridge', 'fdb', 'show', 'dev', 'uv100');
  t.match(entries(), `${b.mac} dst fd00:f::2 self static`, 'networks work without the transit');
  host.namespace.ip('link', 'del', 'other');
  t.strictSame(await lab.converge(1), []);
  t.match(host.namespace.ip('-6', 'route', 'show', b.address), /dev uvtransit/);

  for (const { vm } of lab.vms) await driver.call('detach', vm);
  await driver.call('clean');
  t.equal(host.state().replace(/accept_ra = 2/, 'accept_ra = 1'), before.replace(/accept_ra = 2/, 'accept_ra = 1'));
  t.strictSame(await driver.call('inventory'), []);
  t.equal(host.namespace.ip('-6', 'route', 'show', 'proto', '117'), '', 'no prefix stays unreachable');
});
