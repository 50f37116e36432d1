/** Prefixes that are routed to VMs, with the real driver and guests with the network of a real kernel. */
import t from 'tap';
import { instanceOf } from '../../backend/host/system/instance.ts';
import { tapName } from '../../backend/model/network/interface-names.ts';
import { until } from '../support/eventually.ts';
import { FabricLab, type FabricVm } from '../support/fabric-lab.ts';
import type { KernelGuest } from '../support/kernel-guest.ts';
import { noNamespaces } from '../support/net-namespace.ts';

const skip = noNamespaces('nft', 'radvd', 'python3', 'ping', 'bridge');

/** Lets the guest answer at an address of the prefix, and forward all other packets. */
function serve({ namespace }: KernelGuest, address: string): void {
  namespace.run('sysctl', '-q', '-w', 'net.ipv6.conf.all.accept_ra=2', 'net.ipv6.conf.eth0.accept_ra=2');
  namespace.run('sysctl', '-q', '-w', 'net.ipv6.conf.all.forwarding=1');
  namespace.ip('addr', 'add', `${address}/128`, 'dev', 'lo');
}

/** Returns the number of frames that the filter of the VM's tap has dropped for this reason. */
function drops(lab: FabricLab, { host, mac }: FabricVm, reason: string): number {
  const { namespace, dataDir } = lab.at(host).host;
  const table = namespace.run('nft', 'list', 'table', 'netdev', `ucloud_${instanceOf(dataDir)}`);
  return Number(new RegExp(`counter ${tapName(mac)}_${reason} \\{\\s*packets (\\d+)`).exec(table)?.[1]);
}

t.test('a prefix is routed to a VM', { skip, timeout: 300_000 }, async (t) => {
  const lab = new FabricLab(t, 3);
  const [one, two] = [lab.network(100), lab.network(200)];
  const router = lab.vm(1, one);
  const [besides, elsewhere, other] = [lab.vm(1, one), lab.vm(2, one), lab.vm(3, two)];
  const [prefix, inside] = ['fd42:0:0:1000::/60', 'fd42:0:0:1007::1'];
  lab.routes.set(prefix, router);
  lab.routes.set('fd42:0:0:2000::5/128', router);
  await lab.convergeAll();
  const guest = await lab.start(router);
  serve(guest, inside);
  guest.namespace.ip('addr', 'add', 'fd42:0:0:2000::5/128', 'dev', 'lo');
  const others = {
    'a VM of the network on the same host': await lab.start(besides),
    'a VM of the network on another host': await lab.start(elsewhere),
    'a VM of another network on another host': await lab.start(other),
  };

  for (const [name, from] of Object.entries(others)) {
    t.equal(from.ping(inside, 2), 2, name);
    t.equal(from.ping('fd42:0:0:2000::5'), 1, `${name}: a single address`);
    t.equal(guest.ping(from.address, 2, '-I', inside), 2, `${name}, with a source in the prefix`);
  }

  await t.test('a second run changes nothing', async (t) => {
    for (let number = 1; number <= 3; number++) {
      const before = lab.at(number).host.state();
      await lab.converge(number);
      t.equal(lab.at(number).host.state(), before);
    }
  });

  await t.test('a client behind the fabric, also by a host without the VM', async (t) => {
    const { spine } = lab;
    spine.ip('addr', 'add', 'fd99::1/128', 'dev', 'lo');
    for (const number of [1, 2]) {
      spine.ip('-6', 'route', 'replace', prefix, 'via', `fd00:0:0:${number}::2`, 'dev', `p${number}`);
      t.match(spine.run('ping', '-6', '-n', '-c', '1', '-W', '2', '-I', 'fd99::1', inside), / 1 received/);
    }
  });

  await t.test('a packet to an address that the VM does not have does not circle', (t) => {
    const from = others['a VM of the network on another host'];
    const [sources, loops] = [drops(lab, router, 'source'), drops(lab, router, 'loop')];
    t.equal(from.ping('fd42:0:0:100a::dead', 3, '-W', '1'), 0);
    t.equal(drops(lab, router, 'source') - sources, 3, 'the VM sends each packet back once, with a foreign source');
    t.equal(guest.ping('fd42:0:0:100a::dead', 3, '-W', '1', '-I', inside), 0);
    t.equal(drops(lab, router, 'loop') - loops, 3, 'packets of the VM to its own prefix do not reach the router');
    t.end();
  });

  await t.test('connections of the prefix are not tracked, and hosts have the wanted routes', (t) => {
    const { namespace, dataDir } = lab.at(1).host;
    t.match(
      namespace.run('nft', 'list', 'chain', 'inet', `ucloud_${instanceOf(dataDir)}`, 'arriving'),
      /ip6 daddr \{[^}]*fd42:0:0:1000::\/60[^}]*\} notrack/,
    );
    t.match(namespace.ip('-6', 'route', 'show', prefix), new RegExp(`via ${router.address} dev ub100`));
    for (const number of [2, 3])
      t.match(lab.at(number).host.namespace.ip('-6', 'route', 'show', prefix), /via fe80::\S+ dev uvtransit/);
    t.end();
  });

  await t.test('the route moves to a VM of another network on another host', async (t) => {
    const next = others['a VM of another network on another host'];
    serve(next, inside);
    const from = others['a VM of the network on another host'];
    const start = performance.now();
    lab.routes.set(prefix, other);
    await lab.convergeAll();
    await until('the other VM answers', () => from.ping(inside) === 1);
    t.comment(`${Math.round(performance.now() - start)} ms until the other VM answers`);
    t.equal(next.ping(from.address, 1, '-I', inside), 1, 'it sends from the prefix');
    const before = drops(lab, router, 'source');
    t.equal(guest.ping(from.address, 2, '-W', '1', '-I', inside), 0, 'the former VM does not');
    t.equal(drops(lab, router, 'source') - before, 2);
    t.match(lab.at(1).host.namespace.ip('-6', 'route', 'show', prefix), /dev uvtransit/);
    t.match(lab.at(3).host.namespace.ip('-6', 'route', 'show', prefix), /dev ub200/);
    t.equal(from.ping('fd42:0:0:2000::5'), 1, 'its other route stays');
  });

  await t.test('a route without its VM, and no route', async (t) => {
    const from = others['a VM of the network on another host'];
    const { driver, host } = lab.at(3);
    await others['a VM of another network on another host'].stop();
    await driver.call('detach', other.vm);
    t.strictSame(await driver.call('converge'), []);
    t.equal(host.namespace.ip('-6', 'route', 'show', prefix), '');
    t.throws(() => from.namespace.run('ping', '-6', '-n', '-c', '1', '-W', '2', inside), /./, 'no answer');
    lab.routes.clear();
    await lab.convergeAll();
    for (let number = 1; number <= 3; number++) {
      t.equal(lab.at(number).host.namespace.ip('-6', 'route', 'show', prefix), '');
      t.notMatch(lab.at(number).host.state(), 'fd42:0:0:1000::/60', 'nothing of the route is left');
    }
  });
});

t.test('a prefix is routed to a VM of a host without others', { skip, timeout: 300_000 }, async (t) => {
  const lab = new FabricLab(t, 1);
  const network = lab.network(100);
  const [router, neighbour] = [lab.vm(1, network), lab.vm(1, network)];
  const { driver } = lab.at(1);
  const [prefix, inside] = ['fd42:0:0:1000::/60', 'fd42:0:0:1000::1'];
  await driver.call('declare', [network], undefined, [{ prefix, mac: router.mac }]);
  for (const { vm, mac, address } of lab.vms) await driver.call('attach', vm, [{ network, mac, address }]);
  t.strictSame(await driver.call('converge'), []);
  const [guest, from] = [await lab.start(router), await lab.start(neighbour)];
  serve(guest, inside);
  t.equal(from.ping(inside, 2), 2);
  t.equal(guest.ping(from.address, 2, '-I', inside), 2);

  await guest.stop();
  await driver.call('detach', router.vm);
  t.strictSame(await driver.call('converge'), []);
  const said = (() => {
    try {
      return from.namespace.run('ping', '-6', '-n', '-c', '1', '-W', '2', inside);
    } catch (error) {
      return String((error as { stdout?: unknown }).stdout);
    }
  })();
  t.match(said, /No route/, 'while the VM is stopped, packets do not leave by the default route');
});
