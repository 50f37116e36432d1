/**
 * The metadata server on real bridges: two networks with VMs, which namespaces simulate. The test checks which VM gets which
 * metadata. Only addresses count, because the filters of a host enforce them. Here, no filter does, so the test can also use
 * addresses that belong to no VM.
 */
import t, { type Test } from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { readReport, recordReady } from '../../backend/metadata/ready.ts';
import { newId } from '../../backend/model/ids.ts';
import { formatIpv6, parseIpv6, slaacAddress } from '../../backend/model/network/addresses.ts';
import { bridgeName, metadataAddress } from '../../backend/model/network/interface-names.ts';
import {
  guests,
  type NetworkRecord,
  networks,
  placements,
  reports,
  type SshKeyRecord,
  sshKeys,
  type VmRecord,
  vms,
} from '../../backend/model/records/index.ts';
import { put, read, remove } from '../../backend/store/collection.ts';
import { until } from '../support/eventually.ts';
import { type MetadataServer, metadataServer } from '../support/metadata-server.ts';
import { type NetNamespace, netNamespace, noNamespaces } from '../support/net-namespace.ts';
import { withStore } from '../support/stores.ts';

const project = newId('project');
const host = newId('host');
const now = '2026-01-01T00:00:00.000Z';
const common = { project, labels: {}, created_at: now, updated_at: now };

const network = (name: string, vni: number, cidr: string): NetworkRecord => ({
  ...common,
  id: newId('network'),
  name,
  prefix: newId('prefix'),
  cidr,
  mtu: 1430,
  dns_servers: ['2001:db8::53'],
  vni,
});

const sshKey = (name: string): SshKeyRecord => ({
  ...common,
  id: newId('ssh_key'),
  name,
  public_key: `ssh-ed25519 AAAA${name} ${name}`,
  fingerprint: `SHA256:${name}`,
});

function vm(name: string, on: NetworkRecord, mac: string, keys: readonly Id<'ssh_key'>[], userData?: string): VmRecord {
  const subnet = parseIpv6(on.cidr.split('/')[0] ?? '') ?? 0n;
  return {
    ...common,
    id: newId('vm'),
    name,
    labels: { name },
    description: '',
    image: newId('image'),
    interfaces: [{ network: on.id, mac, address: formatIpv6(slaacAddress(subnet, mac)) }],
    ...(userData !== undefined && { user_data: userData }),
    cpus: 1,
    memory: 2 ** 29,
    disk_size: 2 ** 30,
    ssh_keys: [...keys],
    power_state: 'running',
    delete_protection: false,
    generation: 1,
  };
}

const place = (id: Id<'vm'>, fence = 1) =>
  put(placements, `${host}/${id}`, { fence, cpus: 1, memory: 2 ** 29, disk: 2 ** 30, at: now });

/** Creates a bridge like the agent of a host. */
function makeBridge(ns: NetNamespace, { vni, cidr }: NetworkRecord): string {
  const name = bridgeName(vni);
  ns.ip('link', 'add', 'name', name, 'type', 'bridge', 'stp_state', '0', 'mcast_snooping', '0');
  ns.ip('link', 'set', 'dev', name, 'addrgenmode', 'none', 'up');
  for (const address of ['fe80::1/64', `${metadataAddress}/64`, cidr.replace('::/64', '::1/64')])
    ns.ip('address', 'add', address, 'dev', name, 'nodad');
  return name;
}

/** Creates a namespace on a bridge that simulates a VM. */
function plugIn(t: Test, ns: NetNamespace, bridge: string, machine: VmRecord): NetNamespace {
  const guest = netNamespace(t, 'vm');
  const [{ mac, address } = { mac: '', address: '' }] = machine.interfaces;
  const port = `p${mac.replaceAll(':', '').slice(-6)}`;
  ns.ip('link', 'add', 'name', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', guest.name);
  ns.ip('link', 'set', 'dev', port, 'addrgenmode', 'none', 'master', bridge, 'up');
  guest.run('sh', '-c', 'echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad');
  guest.ip('link', 'set', 'dev', 'eth0', 'address', mac, 'up');
  guest.ip('address', 'add', `${address}/64`, 'dev', 'eth0', 'nodad');
  return guest;
}

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** Sends a request from inside a guest. Status 0 means no answer. */
function ask(guest: NetNamespace, path: string, ...options: readonly string[]): Answer {
  const url = `http://[${metadataAddress}%25eth0]${path}`;
  const fixed = ['--silent', '--globoff', '--noproxy', '*', '--max-time', '5', '--write-out', '\n%{http_code}'];
  try {
    const output = guest.run('curl', ...fixed, ...options, url);
    const end = output.lastIndexOf('\n');
    return { status: Number(output.slice(end + 1)), body: output.slice(0, end) };
  } catch {
    return { status: 0, body: '' };
  }
}

interface Lab {
  readonly ns: NetNamespace;
  readonly server: MetadataServer;
}

async function lab(t: Test): Promise<Lab> {
  const ns = netNamespace(t, 'host');
  return { ns, server: await metadataServer(t, ns, host) };
}

const serving = (guest: NetNamespace, path = '/v1/instance-id') =>
  until(`${path} is served`, () => ask(guest, path).status === 200);

const skip = noNamespaces('curl');

t.test('each VM hears of itself, whichever address it asks from', { skip }, async (t) => {
  const { ns, server } = await lab(t);
  const red = network('red', 101, '2001:db8:0:1::/64');
  const blue = network('blue', 102, '2001:db8:0:2::/64');
  const alice = sshKey('alice');
  const bob = sshKey('bob');
  const web = vm('web', red, '42:00:5e:00:00:01', [alice.id, bob.id], '#!/bin/sh\necho "web"\n');
  // Another link has the same MAC address, and hence the same link-local address.
  const db = vm('db', blue, '42:00:5e:00:00:01', [bob.id]);
  const plain = vm('mail', red, '42:00:5e:00:00:02', []);
  const chosen = '2001:db8:0:1::25';
  const mail = { ...plain, interfaces: plain.interfaces.map((each) => ({ ...each, secondary_addresses: [chosen] })) };
  const elsewhere = vm('elsewhere', red, '42:00:5e:00:00:03', [alice.id]);
  await server.commit({
    write: [
      ...[red, blue].map((each) => put(networks, each.id, each)),
      ...[alice, bob].map((each) => put(sshKeys, each.id, each)),
      ...[web, db, mail, elsewhere].map((each) => put(vms, each.id, each)),
      ...[web, db, mail].map(({ id }) => place(id)),
    ],
  });
  const redBridge = makeBridge(ns, red);
  const blueBridge = makeBridge(ns, blue);
  const webGuest = plugIn(t, ns, redBridge, web);
  const mailGuest = plugIn(t, ns, redBridge, mail);
  const elsewhereGuest = plugIn(t, ns, redBridge, elsewhere);
  const dbGuest = netNamespace(t, 'vm');
  ns.ip('link', 'add', 'name', 'pdb', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', dbGuest.name);
  ns.ip('link', 'set', 'dev', 'pdb', 'addrgenmode', 'none', 'master', blueBridge, 'up');
  dbGuest.run('sh', '-c', 'echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad');
  dbGuest.ip('link', 'set', 'dev', 'eth0', 'address', '42:00:5e:00:00:01', 'up');
  await serving(webGuest);
  await serving(dbGuest);

  t.same(ask(webGuest, '/v1/instance-id'), { status: 200, body: `${web.id}\n` });
  t.same(ask(dbGuest, '/v1/instance-id'), { status: 200, body: `${db.id}\n` }, 'the link decides');
  t.same(ask(mailGuest, '/v1/host-name'), { status: 200, body: 'mail\n' });
  const [own] = web.interfaces;
  t.same(ask(webGuest, '/v1/host-name', '--interface', own?.address ?? '').body, 'web\n', 'from its global address');
  t.same(ask(webGuest, '/v1/ssh-keys').body, `${alice.public_key}\n${bob.public_key}\n`);
  t.same(ask(webGuest, '/ssh-keys').body, `${alice.public_key}\n${bob.public_key}\n`, 'where the first ucloud had it');
  t.same(ask(mailGuest, '/v1/ssh-keys'), { status: 200, body: '' });
  t.same(ask(webGuest, '/v1/addresses'), { status: 200, body: '' }, 'it forms its address by itself');
  t.same(ask(mailGuest, '/v1/addresses').body, `42:00:5e:00:00:02 ${chosen}\n`);
  mailGuest.ip('address', 'add', `${chosen}/128`, 'dev', 'eth0', 'nodad');
  ns.ip('-6', 'route', 'add', chosen, 'dev', redBridge);
  t.same(ask(mailGuest, '/v1/host-name', '--interface', chosen).body, 'mail\n', 'from its chosen address');
  t.match(JSON.parse(ask(webGuest, '/nocloud/meta-data').body), {
    'instance-id': web.id,
    'local-hostname': 'web',
    'public-keys': [alice.public_key, bob.public_key],
  });
  t.match(ask(webGuest, '/nocloud/network-config').body, own?.mac ?? '', 'cloud-init gets the interfaces of this VM');
  t.same(ask(webGuest, '/nocloud/user-data').body, ask(webGuest, '/v1/user-data').body);
  t.match(ask(webGuest, '/nocloud/vendor-data').body, 'text/cloud-boothook');
  t.same(ask(webGuest, '/v1/user-data').body, web.user_data);
  const other = { ...web, user_data: '#!/bin/sh\n# changed\n', user_data_generation: 2, generation: 2 };
  await server.commit({ write: [put(vms, web.id, other)] });
  t.same(ask(webGuest, '/v1/user-data').body, other.user_data, 'what is declared now, however far the mirror is');
  t.same(ask(mailGuest, '/v1/user-data'), { status: 200, body: '' }, 'none is not an error');
  t.strictSame(JSON.parse(ask(webGuest, '/v1/metadata').body), {
    id: web.id,
    name: 'web',
    host_name: 'web',
    project,
    labels: { name: 'web' },
    ssh_keys: [alice.public_key, bob.public_key],
    interfaces: [
      {
        mac: own?.mac,
        network: { id: red.id, name: 'red' },
        mtu: 1430,
        addresses: [{ address: own?.address, prefix_length: 64 }],
        gateway: 'fe80::1',
        dns_servers: ['2001:db8::53'],
      },
    ],
  });
  t.same(
    JSON.parse(ask(webGuest, '/v1/network-data').body).interfaces,
    JSON.parse(ask(webGuest, '/v1/metadata').body).interfaces,
  );
  t.match(ask(webGuest, '/').body, /^\/v1\/metadata$/m, 'lists what there is');

  t.equal(ask(elsewhereGuest, '/v1/metadata').status, 404, 'a VM that is placed elsewhere is not known here');
  webGuest.ip('address', 'add', '2001:db8:0:1::bad/64', 'dev', 'eth0', 'nodad');
  t.equal(ask(webGuest, '/v1/metadata', '--interface', '2001:db8:0:1::bad').status, 404, 'nor is an address of nobody');
  const address = mail.interfaces[0]?.address ?? '';
  for (const header of [
    `X-Forwarded-For: ${address}`,
    `Forwarded: for="[${address}]"`,
    `X-Real-IP: ${address}`,
    'Via: 1.1 x',
  ]) {
    const answer = ask(webGuest, '/v1/instance-id', '-H', header);
    t.equal(answer.status, 403, `${header} is refused`);
    t.notMatch(answer.body, mail.id);
  }
  t.same(ask(webGuest, '/v1/instance-id', '-H', 'Host: mail').body, `${web.id}\n`, 'the Host header means nothing');
  for (const path of ['/v1', '/v1/', '/v2/metadata', '/v1/metadata/', '/__proto__', '/constructor', '/../etc/passwd'])
    t.equal(ask(webGuest, path, '--path-as-is').status, 404, path);
  t.equal(ask(webGuest, '/v1/metadata', '-X', 'DELETE').status, 405);
  t.equal(ask(webGuest, '/v1/ready').status, 405);

  t.test('changes show at once', async (t) => {
    await server.commit({ write: [put(vms, web.id, { ...web, ssh_keys: [bob.id] })] });
    await until('the key is gone', () => ask(webGuest, '/v1/ssh-keys').body === `${bob.public_key}\n`);
    await server.commit({ write: [remove(sshKeys, bob.id)] });
    await until('a deleted key is gone too', () => ask(webGuest, '/v1/ssh-keys').body === '');
    await server.commit({ write: [remove(placements, `${host}/${mail.id}`)] });
    await until('a VM that has left is not known', () => ask(mailGuest, '/v1/metadata').status === 404);
    await server.commit({ write: [remove(placements, `${host}/${db.id}`)] });
    await until('a network without VMs here has no listener', () => ask(dbGuest, '/v1/metadata').status === 0);
    await server.commit({ write: [place(db.id, 2)] });
    await serving(dbGuest);
    t.pass('and has one again when one comes');
  });
});

t.test('bridges come late, go, and come again', { skip }, async (t) => {
  const { ns, server } = await lab(t);
  const red = network('red', 201, '2001:db8:0:1::/64');
  const web = vm('web', red, '42:00:5e:00:00:11', []);
  await server.commit({ write: [put(networks, red.id, red), put(vms, web.id, web), place(web.id)] });
  const bridge = makeBridge(ns, red);
  const guest = plugIn(t, ns, bridge, web);
  await serving(guest);
  ns.ip('link', 'del', 'dev', bridge);
  makeBridge(ns, red);
  ns.ip('link', 'set', 'dev', 'p000011', 'master', bridge, 'up');
  await serving(guest);
  t.pass('served on the new bridge of the same name');
});

t.test('the word of a guest that it is ready', { skip }, async (t) => {
  const { ns, server } = await lab(t);
  const red = network('red', 301, '2001:db8:0:1::/64');
  const web = vm('web', red, '42:00:5e:00:00:21', []);
  const other = vm('other', red, '42:00:5e:00:00:22', []);
  await server.commit({
    write: [put(networks, red.id, red), ...[web, other].flatMap((each) => [put(vms, each.id, each), place(each.id)])],
  });
  const guest = plugIn(t, ns, makeBridge(ns, red), web);
  await serving(guest);
  const report = (started_at: string) =>
    put(reports, web.id, {
      host,
      fence: 1,
      phase: 'running',
      generation: 1,
      started_at,
      at: now,
    });
  const readyAt = async (): Promise<string | undefined> => {
    const entry = await server.get(guests.prefix + web.id);
    return entry && JSON.parse(entry.value).ready_at;
  };
  const eventReasons = async () => (await server.list('events/')).entries.map(({ value }) => JSON.parse(value).reason);

  await server.commit({ write: [report(new Date(Date.now() - 1000).toISOString())] });
  const before = Date.now();
  t.equal(ask(guest, '/v1/ready', '-d', 'user_data=ok').status, 204);
  const first = await readyAt();
  t.ok(
    Date.parse(first ?? '') >= before && Date.parse(first ?? '') <= Date.now(),
    'recorded with the time of the host',
  );
  t.same(await eventReasons(), ['ready'], 'with an event');

  t.equal(ask(guest, '/v1/ready', '-d', 'user_data=ok').status, 204);
  t.equal(await readyAt(), first, 'said twice, it is recorded once');
  t.same(await eventReasons(), ['ready']);

  await server.commit({ write: [report(new Date().toISOString())] });
  t.equal(ask(guest, '/v1/ready', '-d', 'user_data=failed\nexit_code=3').status, 204);
  const said = await server.get(guests.prefix + web.id);
  t.match(JSON.parse(said?.value ?? ''), { user_data: 'failed', exit_code: 3 });
  t.ok((await readyAt()) !== first, 'after another start it counts again');
  t.same((await eventReasons()).sort(), ['ready', 'ready', 'user_data_failed'], 'and failed user data is told');
  for (const word of ['interrupted', 'unknown', 'ignored', 'constructor']) {
    await server.commit({ write: [report(new Date().toISOString())] });
    t.equal(ask(guest, '/v1/ready', '-d', `user_data=${word}`).status, 204);
  }
  const troubles = (await eventReasons()).filter((reason) => reason !== 'ready');
  const reasons = ['user_data_failed', 'user_data_ignored', 'user_data_interrupted', 'user_data_unavailable'];
  t.same(troubles.sort(), reasons);
  for (const [body, kept] of [
    ['user_data=ok\nexit_code=1', { user_data: 'ok' }],
    ['user_data=failed\nexit_code=999', { user_data: 'failed' }],
    ['user_data=failed\nexit_code=-1', { user_data: 'failed' }],
    ['user_data=__proto__', {}],
    [`user_data=${'o'.repeat(3000)}`, {}],
    ['\0user_data=ok\0', {}],
  ] as const) {
    t.strictSame(readReport(body), kept, 'a guest that says anything else has said nothing');
  }

  t.equal(ask(guest, '/v1/ready', '-d', 'x'.repeat(5000)).status, 413, 'a long word is refused');
  await server.commit({ write: [remove(placements, `${host}/${web.id}`)] });
  await until('a VM that is placed elsewhere', () => ask(guest, '/v1/ready', '-d', 'user_data=ok').status === 404);
});

t.test('the word of a guest that has just been placed elsewhere changes nothing', async (t) => {
  const store = await withStore(t);
  const red = network('red', 1, '2001:db8:0:1::/64');
  const web = vm('web', red, '42:00:5e:00:00:21', []);
  await store.commit({ write: [put(vms, web.id, web), place(web.id, 1)] });
  const machine = await read(store, vms, web.id);
  const placement = await read(store, placements, `${host}/${web.id}`);
  if (!machine || !placement) throw new Error('not written');
  await store.commit({ write: [place(web.id, 2)] });
  t.equal(await recordReady(store, { vm: machine, placement }, ''), false);
  t.equal(await store.get(guests.prefix + web.id), undefined);
  t.same((await store.list('events/')).entries, []);
});

t.test('a hostile guest is a nuisance to itself only', { skip }, async (t) => {
  const { ns, server } = await lab(t);
  const red = network('red', 401, '2001:db8:0:1::/64');
  const bad = vm('bad', red, '42:00:5e:00:00:31', []);
  const good = vm('good', red, '42:00:5e:00:00:32', []);
  await server.commit({
    write: [put(networks, red.id, red), ...[bad, good].flatMap((each) => [put(vms, each.id, each), place(each.id)])],
  });
  const bridge = makeBridge(ns, red);
  const badGuest = plugIn(t, ns, bridge, bad);
  const goodGuest = plugIn(t, ns, bridge, good);
  await serving(badGuest);
  const script = new URL('../support/hostile-guest.ts', import.meta.url).pathname;
  const seen = JSON.parse(badGuest.run(process.execPath, script, `${metadataAddress}%eth0`));
  t.equal(seen.connections, 8, 'it may have so many connections');
  t.equal(seen.garbage, 400, 'garbage is refused');
  t.equal(seen.headers, 431, 'endless headers are refused');
  t.ok(seen.limited > 0, 'and so are too many requests');
  t.same(ask(goodGuest, '/v1/instance-id'), { status: 200, body: `${good.id}\n` }, 'the other is served meanwhile');
});
