/**
 * Real guests in two networks on three hosts: from each other, and from a client behind the spine that has no route to them.
 * Then a /60 is routed to one of them and moves to another, and security groups filter their connections. `npm run show` starts six guests, `npm test` three.
 */
// Boots guests: each takes a core without hardware virtualisation.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { demoImage } from '../support/demo-image.ts';
import { eventually, until } from '../support/eventually.ts';
import { type Flow, flowTable, tryFlows } from '../support/flow-table.ts';
import { rootLogin } from '../support/guest-cloud.ts';
import { Capture, isLong, LabCloud, noLab, tell } from '../support/lab-cloud.ts';
import { noQemu } from '../support/qemu.ts';
import { temporaryDirectory } from '../support/stores.ts';

const skip = noLab() || (await noQemu()) || false;
const pings = isLong ? 100 : 20;

/** The VMs, each with its network and its host. */
const guests = [
  ['web-1', 'web', 'host-1'],
  ['web-2', 'web', 'host-2'],
  ['db-1', 'db', 'host-3'],
  ...(isLong
    ? [
        ['web-3', 'web', 'host-3'],
        ['db-2', 'db', 'host-1'],
        ['db-3', 'db', 'host-2'],
      ]
    : []),
] as [name: string, network: string, host: string][];

/** Gives a guest a namespace with an address, as a container has it, which says the name of the guest at port 7. */
const container = (name: string, prefix: string, inside: string) => `set -e
modprobe veth
sysctl -q -w net.ipv6.conf.eth0.accept_ra=2 net.ipv6.conf.all.forwarding=1
ip -6 route add unreachable ${prefix}
unshare -n sleep 1000000 < /dev/null > /dev/null 2>&1 &
pid=$!
ip link add outer type veth
ip link set veth0 netns $pid
ip -6 addr add ${inside}1/64 dev outer
ip link set outer up
nsenter -t $pid -n sh -c '
  ip link set lo up
  ip link set veth0 up
  ip -6 addr add ${inside}2/64 dev veth0
  ip -6 route add default via ${inside}1
  nc -ll -p 7 -e echo ${name} < /dev/null > /dev/null 2>&1 &
'
`;

/** Connects again and again, and prints each answer that differs from the last one. */
const observer = `
import socket, sys, time
last = None
while True:
    try:
        with socket.create_connection((sys.argv[1], 7), 0.3) as s: answer = s.recv(100).decode().strip()
    except OSError: answer = ''
    if answer != last: print(answer or '-', flush=True)
    last = answer
    time.sleep(0.02)
`;

/** Connects once, and fails without an answer. */
const connect = `
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 2) as s: assert s.recv(100)
`;

t.test('guests on three hosts, and a client behind the spine', { skip, timeout: 1_800_000 }, async (t) => {
  const directory = temporaryDirectory(t);
  const [image, lab] = [await demoImage(directory), await LabCloud.start(t, { hosts: 3, etcd: 3, hypervisor: 'qemu' })];
  const key = join(directory, 'key');
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
  const imageId = await lab.image(image, 'demo');
  const public_key = readFileSync(`${key}.pub`, 'utf8').trim();
  const sshKey = await lab.member.create('ssh-keys', { name: 'me', public_key });
  const prefix = await lab.member.create('prefixes', { name: 'site', length: 48 });
  const networks = new Map<string, string>();
  for (const name of ['web', 'db'])
    networks.set(name, (await lab.member.create('networks', { name, prefix: prefix.id })).id);
  const capture = new Capture(lab);
  const clientAddress = lab.plan.nodes.find(({ name }) => name === 'client')?.address ?? '';
  const addresses = new Map<string, string>();
  const vms = new Map<string, string>();
  for (const [name, network, host] of guests) {
    const { id, address } = await lab.createVm(name, host, {
      ...{ image: imageId, ssh_keys: [sshKey.id], user_data: rootLogin },
      interfaces: [{ network: networks.get(network) }],
    });
    vms.set(name, id);
    addresses.set(name, address);
  }
  const addressOf = (name: string) => addresses.get(name) ?? '';
  const inGuest = (name: string, script: string) => lab.inGuest(addressOf(name), key, script);
  for (const [name] of guests) {
    await lab.reaches(vms.get(name) ?? '', ({ status }) => status.ready);
    await eventually(() => inGuest(name, 'true'));
  }
  const ping = async (from: string, to: string, count: number) => {
    const output = await inGuest(from, `ping -c ${count} -i 0.1 -W 2 ${addressOf(to)}`);
    return Number(/(\d+) packets received/.exec(output)?.[1] ?? 0);
  };

  await t.test('the client reaches all by their own addresses', async (t) => {
    t.notMatch(lab.client.ip('-6', 'route'), 'fd42', 'it has no route to them');
    for (const [name] of guests) {
      const counted = await capture.during(async () =>
        t.equal(await lab.pingFromClient(addressOf(name), pings), pings, name),
      );
      t.strictSame(counted, { tunnelled: 0, flooded: 0, plain: 2 * pings }, 'directly to the host of the VM, and back');
    }
  });

  await t.test('they reach each other at layer 2 and over networks, one packet for each one', async (t) => {
    for (const [from] of guests) {
      for (const [to] of guests) {
        if (from === to) continue;
        const [, , fromHost] = guests.find(([name]) => name === from) ?? [];
        const [, , toHost] = guests.find(([name]) => name === to) ?? [];
        const counted = await capture.during(async () =>
          t.equal(await ping(from, to, pings), pings, `${from} → ${to}`),
        );
        const tunnelled = fromHost === toHost ? 0 : 2 * pings;
        t.strictSame(counted, { tunnelled, flooded: 0, plain: 0 }, 'each ping takes two packets, and none is flooded');
      }
    }
  });

  await t.test('a /60 is routed to a VM, and moves to another one', async (t) => {
    const route = await lab.member.create('prefix-routes', {
      ...{ name: 'containers', prefix: prefix.id, length: 60, vm: vms.get('web-1') },
    });
    const inside = route.cidr.replace(/::\/60$/, '::');
    for (const name of ['web-1', 'db-1']) await inGuest(name, container(name, route.cidr, inside));
    await until('the container of the first VM answers', async () => (await lab.pingFromClient(`${inside}2`, 1)) === 1);
    const answers: { readonly at: number; readonly name: string }[] = [];
    const child = lab.client.spawn('python3', ['-c', observer, `${inside}2`], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.teardown(() => child.kill('SIGKILL'));
    if (!child.stdout) throw new Error('no output');
    createInterface({ input: child.stdout }).on('line', (name) => answers.push({ at: performance.now(), name }));
    await until('the first VM answers', () => answers.at(-1)?.name === 'web-1');
    for (const [to, from] of [
      ['db-1', 'web-1'],
      ['web-1', 'db-1'],
    ] as const) {
      answers.splice(0, answers.length);
      const begin = performance.now();
      await lab.member.update('prefix-routes', route.id, { vm: vms.get(to) });
      const answer = await until(`${to} answers`, () => answers.find(({ name }) => name === to));
      tell(t, `${((answer.at - begin) / 1000).toFixed(2)} s after the change from ${from}, ${to} answers`);
      t.ok(answer.at - begin < 30_000);
      const rest = answers.slice(answers.indexOf(answer) + 1).map(({ name }) => name);
      t.strictSame(
        rest.filter((name) => name === from),
        [],
        'the former VM answers no more',
      );
    }
  });

  await t.test('security groups: a table of flows, within a network, over networks and from outside', async (t) => {
    const { items: hosts } = await lab.operator.list('hosts');
    t.strictSame([...new Set(hosts.map(({ connection_filter }) => connection_filter))], ['bridged']);
    const tierOf = (name: string) => (name.startsWith('web') ? 'web' : 'db');
    const login = { direction: 'ingress', protocol: 'tcp', ports: ['2222'], prefixes: ['::/0'] };
    await lab.member.create('security-groups', {
      ...{ name: 'web', vm_selector: 'tier=web' },
      rules: [
        login,
        { direction: 'ingress', protocol: 'tcp', ports: ['80'], prefixes: ['::/0'] },
        { direction: 'ingress', protocol: 'icmpv6', icmp_types: [128], prefixes: ['::/0'] },
      ],
    });
    await lab.member.create('security-groups', {
      ...{ name: 'database', vm_selector: 'tier=db', default_egress: 'deny' },
      rules: [
        login,
        { direction: 'ingress', protocol: 'tcp', ports: ['5432'], vm_selector: 'tier=web' },
        { direction: 'egress', protocol: 'tcp', ports: ['80'], vm_selector: 'tier=web' },
      ],
    });
    const names = guests.map(([name]) => name);
    for (const name of names) {
      const listeners = [80, 81, 5432].map(
        (port) => `nc -ll -p ${port} -e echo ${name} < /dev/null > /dev/null 2>&1 &`,
      );
      await inGuest(name, listeners.join('\n'));
    }
    for (const name of names) await lab.member.update('vms', vms.get(name) ?? '', { labels: { tier: tierOf(name) } });
    const allowed = (from: string, to: string, service: Flow['service']): boolean => {
      const [source, target] = [from === 'client' ? from : tierOf(from), tierOf(to)];
      // A database server sends nothing but requests to web servers.
      if (source === 'db' && service !== 80) return false;
      return target === 'web' ? service === 80 || service === 'ping' : source === 'web' && service === 5432;
    };
    const services = [80, 81, 5432, 'ping'] as const;
    const flows = ['client', ...names].flatMap((from) =>
      names
        .filter((to) => to !== from)
        .flatMap((to) => services.map((service) => ({ from, to, service, passes: allowed(from, to, service) }))),
    );
    const attempt = async ({ from, to, service }: Flow): Promise<boolean> => {
      const address = addressOf(to);
      if (from === 'client') {
        if (service === 'ping') return (await lab.pingFromClient(address, 1)) === 1;
        return lab.clientSucceeds('python3', '-c', connect, address, `${service}`);
      }
      const line =
        service === 'ping'
          ? `ping -c 1 -W 2 ${address} > /dev/null`
          : `nc -w 2 ${address} ${service} < /dev/null | grep -q .`;
      return (await inGuest(from, `${line} && echo passed || true`)) === 'passed';
    };
    await until('the groups are in force', async () => {
      const closed = names.map((to) => attempt({ from: 'client', to, service: 81, passes: false }));
      return (await Promise.all(closed)).every((passed) => !passed);
    });
    const outcomes = await tryFlows(flows, attempt);
    tell(t, flowTable(outcomes));
    t.strictSame(
      outcomes.filter(({ passes, passed }) => passes !== passed),
      [],
    );
    t.ok(outcomes.some(({ passed }) => passed) && outcomes.some(({ passed }) => !passed));
  });

  await t.test('a forged source does not leave the host of the guest', async (t) => {
    // The address belongs to a guest on another host, so an answer would go there.
    const script = `sysctl -q -w net.ipv6.conf.eth0.accept_dad=0
      ip -6 addr add ${addressOf('web-2')}/128 dev eth0
      ping -c 3 -i 0.2 -W 1 -I ${addressOf('web-2')} ${clientAddress} > /dev/null || true
      ip -6 addr del ${addressOf('web-2')}/128 dev eth0`;
    const counted = await capture.during(() => inGuest('web-1', script));
    t.strictSame(counted, { tunnelled: 0, flooded: 0, plain: 0 });
    t.equal(await lab.pingFromClient(addressOf('web-2'), pings), pings, 'its owner keeps the address');
  });
  t.equal(capture.counts().flooded, 0, 'in all this time, no frame to a group has entered the underlay');
});
