/** A hostile host, and a hostile machine behind the spine of a lab, against the router and the underlay. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { askBird } from '../../backend/host/bgp/bird-control.ts';
import { createNamespaces, removeNamespaces } from '../../backend/lab/namespaces.ts';
import { labPlan, namespaceOf, nodeNamed, spine } from '../../backend/lab/plan.ts';
import { startDaemon } from '../../backend/lab/processes.ts';
import { SpineBird, spinePeer } from '../../backend/lab/spine.ts';
import { until } from '../support/eventually.ts';
import { ethernet, ipv6, Station, summed, udp } from '../support/frames.ts';
import { NetNamespace, noNamespaces } from '../support/net-namespace.ts';
import { temporaryDirectory } from '../support/stores.ts';

const skip = noNamespaces('nft', 'sysctl', 'bird', 'python3');

interface Route {
  readonly dst: string;
  readonly gateway?: string;
}

t.test('the spine of a lab against hosts and machines around it', { skip, timeout: 120_000 }, async (t) => {
  const directory = temporaryDirectory(t);
  const plan = labPlan(directory, { hosts: 2, etcd: 1, hypervisor: 'simulated' });
  t.teardown(() => removeNamespaces(plan.id));
  const bird = new SpineBird(plan.id);
  t.teardown(() => bird.remove());
  await createNamespaces(plan);
  const namespace = (name: string) => new NetNamespace(namespaceOf(plan.id, name), true);
  const [router, hostile, client] = [namespace(spine), namespace('host-1'), namespace('client')];
  const addressOf = (name: string) => nodeNamed(plan, name).address;
  const log = join(directory, 'log');
  await startDaemon({ lab: plan.id, node: spine, daemon: 'bird', program: await bird.prepare(plan), log });

  await t.test('a host announces what is not its own', async (t) => {
    const [own, other, etcd] = [addressOf('host-1'), addressOf('host-2'), addressOf('etcd-1')];
    const table = (name: string, routes: readonly string[]) => `
protocol static ${name} { ipv6 { table ${name}_routes; }; ${routes.map((each) => `route ${each} unreachable;`).join(' ')} }
protocol pipe { table ${name}_routes; peer table master6; export all; import none; }`;
    const routesOf = {
      right: ['2001:db8:1::/64', '2001:db8:1::5/128'],
      underlay: [`${etcd}/128`, etcd.replace(/2$/, '/64'), plan.prefix, 'fc00::/7', '::/0'],
      theft: ['2001:db8:2::/64'],
    };
    const config = join(directory, 'hostile.conf');
    writeFileSync(
      config,
      `router id 192.0.2.66;
protocol device {}
${Object.keys(routesOf)
  .map((name) => `ipv6 table ${name}_routes;`)
  .join('\n')}
${Object.entries(routesOf)
  .map(([name, routes]) => table(name, routes))
  .join('\n')}
protocol bgp {
  local as ${spinePeer.local_asn}; neighbor fe80::a as ${spinePeer.asn}; interface "uplink"; direct;
  connect delay time 1;
  ipv6 {
    import none;
    next hop address ${own};
    export filter {
      if net = 2001:db8:2::/64 then { bgp_next_hop = ${other}; }
      accept;
    };
  };
}
`,
    );
    hostile.run('bird', '-c', config, '-s', join(directory, 'hostile.ctl'));
    const established = async () => (await bird.sessions(plan))?.find(({ host }) => host === 'host-1');
    await until('the right prefixes are there', async () => (await established())?.prefixes === 2);
    const sent = await askBird(join(directory, 'hostile.ctl'), 'show protocols all');
    t.ok(
      sent.some((line) => /Routes: .* 8 exported/.test(line)),
      'the host has announced all eight',
    );
    const routes = (JSON.parse(router.ip('-j', '-6', 'route', 'show', 'proto', 'bird')) as Route[]).map(
      ({ dst, gateway }) => `${dst} via ${gateway}`,
    );
    t.strictSame(routes.toSorted(), [`2001:db8:1::/64 via ${own}`, `2001:db8:1::5 via ${own}`]);
    t.match(router.ip('-6', 'route', 'get', etcd), /dev etcd-1/, 'the underlay is where it was');
  });

  await t.test('a machine that is no host speaks BGP', async (t) => {
    const program = `
import socket, sys
for address in sys.argv[1:]:
    s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM); s.settimeout(3)
    try: s.connect(socket.getaddrinfo(address, 179)[0][4]); s.sendall(b'\\xff' * 16); print(address, repr(s.recv(100)))
    except OSError as error: print(address, type(error).__name__)
`;
    const { gateway } = nodeNamed(plan, 'client');
    const answers = client.run('python3', '-c', program, 'fe80::a%uplink', gateway, plan.router.address);
    t.notMatch(answers, /\b b'\\xff/, 'nobody answers with a message');
    t.strictSame(
      (await bird.sessions(plan))?.map(({ host }) => host),
      ['host-1', 'host-2'],
    );
    const protocols = await askBird(bird.socket, 'show protocols');
    t.equal(protocols.filter((line) => line.startsWith('session_')).length, 1, 'there is no other session');
  });

  await t.test('a machine behind the spine sends as a host', async (t) => {
    const macOf = (at: NetNamespace, device: string) =>
      (JSON.parse(at.ip('-j', 'link', 'show', device)) as [{ address: string }])[0].address;
    const [victim, attacker] = [
      await Station.open(namespace('host-2'), 'uplink'),
      await Station.open(client, 'uplink'),
    ];
    for (const each of [victim, attacker]) t.teardown(() => each.close());
    const [own, next] = [macOf(client, 'uplink'), macOf(router, 'client')];
    const frame = (source: string, port: number) =>
      summed(
        ethernet(
          own,
          next,
          0x86dd,
          ipv6({ source, destination: addressOf('host-2'), next: 17, payload: udp(port, 4789) }),
        ),
      );
    const arrived = (port: number) =>
      victim.heard.some((each) => each.slice(108, 116) === `${port.toString(16).padStart(4, '0')}12b5`);
    attacker.send(frame(addressOf('host-1'), 1001));
    attacker.send(frame(nodeNamed(plan, 'host-1').gateway, 1002));
    attacker.send(frame(plan.router.address, 1003));
    attacker.send(frame(addressOf('client'), 1004));
    await until('the packet with its own source', () => arrived(1004));
    t.strictSame([1001, 1002, 1003].map(arrived), [false, false, false]);
    router.run('nft', 'delete', 'table', 'inet', 'lab_sources');
    attacker.send(frame(addressOf('host-1'), 1005));
    await until('the attack works without the rules', () => arrived(1005));
  });
});
