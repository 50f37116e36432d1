/** The demo image: a guest under QEMU, with a metadata server, becomes the declared VM. */
// Boots guests: each takes a core without hardware virtualisation.

import { execFile, execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { newId } from '../../backend/model/ids.ts';
import { metadataAddress } from '../../backend/model/network/interface-names.ts';
import { guests, networks, placements, sshKeys, type VmRecord, vms } from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { cacheDir, demoImage } from '../support/demo-image.ts';
import { until } from '../support/eventually.ts';
import { metadataServer } from '../support/metadata-server.ts';
import { type NetNamespace, netNamespace, noNamespaces } from '../support/net-namespace.ts';
import { qemuGuest } from '../support/qemu-guest.ts';
import { temporaryDirectory } from '../support/stores.ts';

const run = promisify(execFile);

const project = newId('project');
const host = newId('host');
const mac = '42:00:5e:10:00:01';
const address = 'fd42:100::4000:5eff:fe10:1';
const now = '2026-01-01T00:00:00.000Z';
const common = { project, labels: {}, created_at: now, updated_at: now };

/** A host's side of one network: bridge, gateway, router advertisements, a tap. */
function makeLink(t: Test, ns: NetNamespace, directory: string, bridge: string): void {
  ns.run('sysctl', '-qw', 'net.ipv6.conf.all.forwarding=1');
  ns.ip('link', 'add', 'name', bridge, 'type', 'bridge', 'stp_state', '0', 'mcast_snooping', '0');
  ns.ip('link', 'set', 'dev', bridge, 'addrgenmode', 'none', 'up');
  for (const each of ['fe80::1/64', `${metadataAddress}/64`, 'fd42:100::1/64'])
    ns.ip('address', 'add', each, 'dev', bridge, 'nodad');
  ns.ip('tuntap', 'add', 'name', 'tap0', 'mode', 'tap', 'vnet_hdr');
  ns.ip('link', 'set', 'dev', 'tap0', 'addrgenmode', 'none', 'master', bridge, 'up');
  const config = join(directory, 'radvd.conf');
  const prefix = 'prefix fd42:100::/64 { AdvOnLink on; AdvAutonomous on; };';
  writeFileSync(
    config,
    `interface ${bridge} { AdvSendAdvert on; AdvRASrcAddress { fe80::1; }; ${prefix} RDNSS fd42:100::53 {}; };\n`,
  );
  const radvd = ns.spawn('radvd', ['-n', '-C', config, '-p', join(directory, 'radvd.pid'), '-m', 'none']);
  t.teardown(() => radvd.kill());
}

const skip =
  noNamespaces('qemu-system-x86_64', 'qemu-img', 'radvd', 'ssh', 'ssh-keygen', 'apt-get', 'mke2fs') ||
  (process.arch === 'x64' ? false : 'the demo image is for x86_64');

t.test('the demo image becomes the VM that was declared', { skip, timeout: 580_000 }, async (t) => {
  const directory = temporaryDirectory(t);
  const image = await demoImage(directory);
  const disk = join(directory, 'disk.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', image, '-F', 'qcow2', disk, '1G']);
  const keys = ['first', 'second'].map((name) => {
    const path = join(directory, name);
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', path]);
    const record = {
      ...common,
      id: newId('ssh_key'),
      name,
      public_key: readFileSync(`${path}.pub`, 'utf8').trim(),
      fingerprint: '',
    };
    return { path, record };
  });
  const [first, second] = keys;
  if (!first || !second) throw new Error('two keys');

  const ns = netNamespace(t, 'host');
  const network = {
    ...common,
    id: newId('network'),
    name: 'net',
    prefix: newId('prefix'),
    cidr: 'fd42:100::/64',
    mtu: 1500,
    dns_servers: [],
    vni: 7,
  };
  makeLink(t, ns, directory, 'ub7');
  const server = await metadataServer(t, ns, host);
  const declare = (id: Id<'vm'>, change: Partial<VmRecord>): VmRecord => ({
    ...common,
    id,
    name: 'web-1',
    description: '',
    image: newId('image'),
    interfaces: [{ network: network.id, mac, address }],
    user_data: '#!/bin/sh\necho "ran as $(id -un)" >>/home/ucloud/ran\n',
    cpus: 1,
    memory: 2 ** 28,
    disk_size: 2 ** 30,
    ssh_keys: [first.record.id],
    power_state: 'running',
    delete_protection: false,
    generation: 1,
    ...change,
  });
  const vm = declare(newId('vm'), {});
  const placement = { fence: 1, cpus: 1, memory: 2 ** 28, disk: 2 ** 30, at: now };
  await server.commit({
    write: [
      put(networks, network.id, network),
      ...keys.map(({ record }) => put(sshKeys, record.id, record)),
      put(vms, vm.id, vm),
      put(placements, `${host}/${vm.id}`, placement),
    ],
  });

  const ssh = async (key: string, command: string): Promise<string> => {
    const options = ['StrictHostKeyChecking=accept-new', `UserKnownHostsFile=${join(directory, 'known_hosts')}`];
    options.push('BatchMode=yes', 'IdentitiesOnly=yes', 'ConnectTimeout=60', 'LogLevel=ERROR');
    const args = ['netns', 'exec', ns.name, 'ssh', ...options.flatMap((each) => ['-o', each]), '-i', key];
    return (await run('ip', [...args, `ucloud@${address}`, command], { timeout: 120_000 })).stdout;
  };
  const readyAt = async (): Promise<string | undefined> => {
    const entry = await server.get(guests.prefix + vm.id);
    return entry && JSON.parse(entry.value).ready_at;
  };
  const isReady = (seconds: number, since?: string) =>
    until(
      'the guest is ready',
      async () => {
        const at = await readyAt();
        return at !== undefined && at !== since && at;
      },
      seconds,
    );

  const boot = () => qemuGuest(t, ns, { directory, disk, tap: 'tap0', mac });
  const start = performance.now();
  let guest = boot();
  const firstReady = await isReady(240).catch((err: unknown) => {
    t.comment(guest.console);
    throw err;
  });
  t.comment(`ready ${((performance.now() - start) / 1000).toFixed(1)} s after the start`);
  t.equal(await ssh(first.path, 'hostname'), 'web-1\n', 'ssh by the address known beforehand; the name as declared');
  t.equal(await ssh(first.path, 'cat ran'), 'ran as root\n', 'user data has run');
  t.match(
    await ssh(first.path, 'cat /etc/resolv.conf'),
    /^nameserver fd42:100::53$/m,
    'the resolver that was announced',
  );
  t.ok(
    Number(await ssh(first.path, "df -k / | awk 'END { print $2 }'")) > 900_000,
    'the root file system fills the disk',
  );
  t.notMatch(await ssh(first.path, 'ip -o -4 addr show dev eth0'), /inet/, 'no IPv4 anywhere');
  await t.rejects(ssh(second.path, 'true'), 'another key does not get in');

  const rotated = { ...first.record, public_key: second.record.public_key };
  await server.commit({ write: [put(sshKeys, rotated.id, rotated)] });
  await until(
    'the new public key is let in',
    () =>
      ssh(second.path, 'true').then(
        () => true,
        () => false,
      ),
    180,
  );
  await t.rejects(ssh(first.path, 'true'), 'and the old one is refused, while the guest runs on');
  await server.commit({ write: [put(sshKeys, first.record.id, first.record)] });
  await until(
    'and back',
    () =>
      ssh(first.path, 'true').then(
        () => true,
        () => false,
      ),
    180,
  );
  await ssh(first.path, 'echo mine >file; grep -c . /etc/dropbear/dropbear_ed25519_host_key >/dev/null; sync');

  const seconds = await guest.powerOff();
  // 2.4 s on an idle machine; of that, init waits 2 s for the processes that it ends.
  t.ok(seconds < 60, `the power button ends it in ${seconds.toFixed(1)} s`);

  const changed = declare(vm.id, {
    name: 'web-2',
    ssh_keys: [second.record.id],
    user_data: '#!/bin/sh\necho "and again" >>/home/ucloud/ran\n',
  });
  await server.commit({ write: [put(vms, vm.id, changed)] });
  guest = boot();
  const secondReady = await isReady(240, firstReady);
  // The known host key still fits, or ssh would refuse.
  t.equal(
    await ssh(second.path, 'cat file; hostname; cat ran'),
    'mine\nweb-2\nran as root\nand again\n',
    'data lasts, the new name is there, and the new user data has run',
  );
  await t.rejects(ssh(first.path, 'true'), 'the key that was taken away does not get in');
  await guest.powerOff();

  guest = boot();
  await isReady(120, secondReady);
  t.equal(await ssh(second.path, 'cat ran'), 'ran as root\nand again\n', 'what has run does not run again');
  guest.kill();
});

t.test('the image comes from the cache the second time', { skip }, async (t) => {
  const directory = temporaryDirectory(t);
  const made = () =>
    readdirSync(cacheDir)
      .filter((name) => /^(demo-image|build)-/.test(name))
      .map((name) => {
        const { ino, mtimeMs } = statSync(join(cacheDir, name));
        return { name, ino, mtimeMs };
      });
  await demoImage(directory);
  const before = made();
  await demoImage(directory);
  t.same(made(), before, 'nothing was built');
  const { size } = statSync(join(directory, 'demo.qcow2'));
  t.ok(size < 40 * 1024 * 1024, `it has ${Math.round(size / 1024 ** 2)} MiB`);
});
