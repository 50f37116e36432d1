/** Hostile guests and clients against security groups, and against the connection table of the host. */
import t from 'tap';
import type { SecurityRuleSpec } from '../../backend/host/hypervisor/specs.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { FabricLab, type FabricVm } from '../support/fabric-lab.ts';
import { ethernet, fragment, icmp, ipv6 } from '../support/frames.ts';
import { open, reaches, serve } from '../support/guest-services.ts';
import { noNamespaces } from '../support/net-namespace.ts';

const skip = noNamespaces('nft', 'radvd', 'python3', 'ping', 'bridge', 'conntrack', 'unshare');
const id = idFrom('security_group', `sg-${'0'.repeat(16)}`);
const secured = (vm: FabricVm, ...rules: SecurityRuleSpec[]) => ({
  groups: [{ id, default_egress: 'allow' as const, rules }],
  peers: [],
  interfaces: [{ mac: vm.mac, groups: [id] }],
});
const port80: SecurityRuleSpec = { direction: 'ingress', protocol: 'tcp', ports: ['80'], prefixes: ['::/0'] };

t.test('the rules against guests', { skip, timeout: 300_000 }, async (t) => {
  const lab = new FabricLab(t, 2);
  const network = lab.network(100);
  const [victim, friend, attacker, far] = [
    ...[lab.vm(1, network), lab.vm(1, network), lab.vm(1, network), lab.vm(2, network)],
  ];
  if (!victim || !friend || !attacker || !far) throw new Error('a VM is missing');
  lab.security = secured(victim, { ...port80, prefixes: [`${friend.address}/128`] });
  await lab.convergeAll();
  const guests = {
    victim: await lab.start(victim),
    friend: await lab.start(friend),
    attacker: await lab.start(attacker),
    far: await lab.start(far),
  };
  await serve(t, guests.victim, 'tcp:80', 'udp:5353');
  const { namespace } = lab.at(1).host;
  const entries = () => Number(namespace.run('conntrack', '-C').trim());

  await t.test('a guest takes the address of one that a rule allows', async (t) => {
    const service = { kind: 'tcp', address: victim.address, port: 80 } as const;
    t.ok(await reaches(t, guests.friend, service));
    for (const guest of [guests.attacker, guests.far]) {
      guest.namespace.ip('addr', 'add', `${friend.address}/128`, 'dev', 'eth0', 'nodad');
      guest.namespace.ip('-6', 'route', 'replace', `${victim.address}/128`, 'dev', 'eth0', 'src', friend.address);
      t.notOk(await reaches(t, guest, service));
      guest.namespace.ip('-6', 'route', 'del', `${victim.address}/128`);
      guest.namespace.ip('addr', 'del', `${friend.address}/128`, 'dev', 'eth0');
    }
  });

  await t.test('datagrams to groups do not pass the rules', async (t) => {
    const listen = `
import socket, struct, sys
each = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
each.bind(('::', 5354))
index = socket.if_nametoindex('eth0')
each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, 'ff02::fb') + struct.pack('i', index))
each.settimeout(3)
print('ready', flush=True)
try: print(each.recv(100).decode(), flush=True)
except OSError: print('nothing', flush=True)
`;
    const hear = async (guest: typeof guests.victim) => {
      const child = guest.namespace.spawn('python3', ['-c', listen], { stdio: ['ignore', 'pipe', 'inherit'] });
      t.teardown(() => child.kill('SIGKILL'));
      let text = '';
      await new Promise<void>((resolve) => {
        child.stdout?.on('data', (data: Buffer) => {
          text += data.toString();
          resolve();
        });
      });
      return { end: new Promise((resolve) => child.once('close', () => resolve(text.trim().split('\n').at(-1)))) };
    };
    const [filtered, open] = [await hear(guests.victim), await hear(guests.friend)];
    const send =
      'import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.sendto(b"hello", ("ff02::fb%eth0", 5354))';
    guests.attacker.namespace.run('python3', '-c', send);
    t.equal(await open.end, 'hello', 'a guest without groups hears it');
    t.equal(await filtered.end, 'nothing');
  });

  await t.test('a guest with a group opens connections without end', async (t) => {
    const flood = `
import socket, sys
for number in range(48000):
    each = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    each.bind(('::', 20000 + number % 16000))
    # A full queue of the guest loses packets, so each flow has several.
    each.sendto(b'x', (sys.argv[1], 9))
    each.close()
`;
    // The first entries must not end during the flood.
    namespace.run('sysctl', '-q', '-w', 'net.netfilter.nf_conntrack_udp_timeout=600');
    const before = entries();
    guests.victim.namespace.run('python3', '-c', flood, far.address);
    const count = entries() - before;
    // A change of rules gives no new share.
    lab.security = secured(victim, port80);
    t.strictSame(await lab.converge(1), []);
    guests.victim.namespace.run('python3', '-c', flood.replaceAll('20000', '36000'), far.address);
    const after = entries() - before;
    const rules = namespace.run('nft', 'list', 'ruleset');
    const refused = [...rules.matchAll(/ct count over 8192 \} counter packets (\d+)/g)].map(([, packets]) =>
      Number(packets),
    );
    t.ok(Math.max(...refused) > 100 && count <= 8_300, `${count} entries; refused: ${refused.join(', ')}`);
    t.ok(after <= 8_300, `${after} entries after a change of rules`);
    namespace.run('conntrack', '-F');
  });

  await t.test('a client outside of the rules leaves no entries', async (t) => {
    const before = entries();
    const flood = `
import socket, sys
each = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for port in range(1, 5001): each.sendto(b'x', (sys.argv[1], port))
`;
    guests.attacker.namespace.run('python3', '-c', flood, victim.address);
    t.ok(entries() - before < 50, 'a refused packet is not noted');
  });

  await t.test('fragments that never become whole', async (t) => {
    const first = ipv6({
      source: attacker.address,
      destination: victim.address,
      next: 44,
      payload: fragment(58, 0, true, Buffer.concat([icmp(128), Buffer.alloc(1_000)]), 0),
    });
    const frame = ethernet(attacker.mac, victim.mac, 0x86dd, first);
    // Each fragment has another identification, which begins with byte 58 of the frame.
    const flood = `
import socket, struct, sys, time
each = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
each.bind(('eth0', 0))
frame = bytes.fromhex(sys.argv[1])
for number in range(2000):
    while True:
        try:
            each.send(frame[:58] + struct.pack('!I', number + 1) + frame[62:])
            break
        except OSError: time.sleep(0.001)
`;
    guests.attacker.namespace.run('python3', '-c', flood, frame.toString('hex'));
    const table = namespace.run('nft', 'list', 'ruleset');
    const dropped = Number(/@fragmenters \{[^}]*\} counter packets (\d+)/.exec(table)?.[1] ?? 0);
    t.ok(dropped > 1_000, `${dropped} of 2,000 fragments are dropped before the reassembly`);
  });
});

t.test('rules and connections after a crash', { skip, timeout: 300_000 }, async (t) => {
  const lab = new FabricLab(t, 1);
  const network = lab.network(100);
  const [server, client] = [lab.vm(1, network), lab.vm(1, network)];
  lab.security = secured(server, port80);
  await lab.convergeAll();
  const guests = { server: await lab.start(server), client: await lab.start(client) };
  await serve(t, guests.server, 'tcp:80');
  const service = { kind: 'tcp', address: server.address, port: 80 } as const;
  const flow = await open(t, guests.client, service);
  t.ok(flow.answers);
  lab.security = secured(server, { ...port80, ports: ['81'] });
  // The new rules are the first change, and the host dies before it looks at the connections.
  const host = lab.at(1);
  await host.driver.kill();
  host.driver = host.host.driver('network', { dieAfter: 1 });
  await t.rejects(lab.converge(1));
  host.driver = host.host.driver('network');
  t.strictSame(await lab.converge(1), []);
  t.notOk(await flow.again(), 'the next driver has ended the connection');
});

t.test('a kernel without br_netfilter', { skip, timeout: 300_000 }, async (t) => {
  const lab = new FabricLab(t, 1);
  const [bridged, routed] = [lab.network(100), lab.network(200, 1500, 'routed')];
  const [server, plain, other] = [lab.vm(1, bridged), lab.vm(1, bridged), lab.vm(1, routed)];
  const host = lab.at(1);
  await host.driver.kill();
  host.driver = host.host.driverWithoutBridgeFilter();
  lab.security = {
    ...secured(server, port80),
    interfaces: [server, other].map(({ mac }) => ({ mac, groups: [id] })),
  };
  const faults = (await lab.converge(1)) as [string, string][];
  t.match(faults, [[/^ut/, /has security groups, but the kernel has no br_netfilter/]]);
  const links = host.host.namespace.ip('-o', 'link', 'show');
  const isInBridge = ({ mac }: FabricVm) =>
    links.split('\n').some((line) => line.includes(`ut${mac.replaceAll(':', '')}`) && / master ub/.test(line));
  t.strictSame([server, plain, other].map(isInBridge), [false, true, true], 'only this interface stays closed');
});
