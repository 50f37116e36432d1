/**
 * A real Ceph cluster for tests: one monitor and one OSD of Debian's packages, with data in memory. It has no manager, so
 * the cluster knows no statistics. The test ends the cluster, and the kernel ends it if the test process is killed.
 *
 * The read leases of the OSD last longer than any test. Without a second OSD, Ceph 16 never renews a lease that has ended
 * while the OSD was stopped, and all requests to its data wait for ever.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import type { CephSettings } from '../../backend/host/storage/pools/ceph-commands.ts';
import { checkCeph } from '../../backend/host/storage/pools/ceph-packages.ts';
import { until } from './eventually.ts';
import { type NetNamespace, noNamespaces } from './net-namespace.ts';
import { temporaryDirectory } from './stores.ts';

const exec = promisify(execFile);

/** Returns why this machine cannot run a Ceph cluster, or false: for the `skip` option of a test. */
export async function noCeph(): Promise<string | false> {
  const missing = await checkCeph();
  return noNamespaces('ceph-mon', 'ceph-osd', 'monmaptool', 'setpriv') || missing.join('; ') || false;
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '::1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** A running cluster. */
export interface CephCluster {
  readonly directory: string;
  /** The address of the monitor with its port. */
  readonly monitor: string;
  /** Runs `ceph`, `rbd` or `rados` as the administrator, and returns the output. */
  admin(program: 'ceph' | 'rbd' | 'rados', ...args: readonly string[]): Promise<string>;
  /** Creates a pool and a user with the rights of the documentation. Returns the settings of a storage pool. */
  pool(name: string): Promise<CephSettings>;
  /** Stops the OSD, so that the pool does not answer. */
  hang(): void;
  /** Lets the OSD go on. */
  goOn(): void;
  /** Makes the OSD count as full with little data, or no longer. Resolves after the cluster knows it. */
  setFull(full: boolean): Promise<void>;
}

/** Starts a cluster on the loopback address, of the namespace if there is one. */
export async function cephCluster(t: Test, namespace?: NetNamespace): Promise<CephCluster> {
  const directory = temporaryDirectory(t);
  const inside = namespace ? ['ip', 'netns', 'exec', namespace.name] : [];
  const [port, oldPort] = await freePorts(2);
  const addresses = `[v2:[::1]:${port},v1:[::1]:${oldPort}]`;
  const path = (...names: string[]) => join(directory, ...names);
  const fsid = randomUUID();
  mkdirSync(path('osd'));
  writeFileSync(
    path('ceph.conf'),
    `[global]
fsid = ${fsid}
mon_host = ${addresses}
ms_bind_ipv4 = false
ms_bind_ipv6 = true
public_addr = [::1]
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
osd_crush_chooseleaf_type = 0
osd_pool_default_read_lease_ratio = 100
osd_pool_default_pg_autoscale_mode = off
pid_file =
log_file =
run_dir = ${directory}
admin_socket = ${directory}/$name.asok
keyring = ${path('admin')}
memstore_device_bytes = ${4 * 1024 ** 3}
osd_objectstore = memstore
[mon.a]
mon_data = ${path('mon')}
keyring = ${path('mon', 'keyring')}
[osd.0]
osd_data = ${path('osd')}
keyring = ${path('osd', 'keyring')}
`,
  );
  const tool = async (program: string, ...args: readonly string[]): Promise<string> => {
    const [command = '', ...rest] = [...inside, program, ...args];
    return (await exec(command, rest, { timeout: 60_000, maxBuffer: 2 ** 26 })).stdout;
  };
  const conf = ['-c', path('ceph.conf')];
  const daemons: ChildProcess[] = [];
  t.teardown(async () => {
    for (const daemon of daemons.reverse()) {
      if (daemon.exitCode !== null || daemon.signalCode !== null) continue;
      daemon.kill('SIGKILL');
      await once(daemon, 'exit');
    }
  });
  const start = async (...args: readonly string[]): Promise<ChildProcess> => {
    const [command = '', ...rest] = [...inside, 'setpriv', '--pdeathsig=KILL', ...args, ...conf, '-f'];
    const daemon = spawn(command, rest, { stdio: 'ignore' });
    await once(daemon, 'spawn');
    daemons.push(daemon);
    return daemon;
  };

  const all = ['mon', 'osd', 'mgr'].flatMap((service) => ['--cap', service, 'allow *']);
  await tool('ceph-authtool', '--create-keyring', path('admin'), '--gen-key', '-n', 'client.admin', ...all);
  const osdRights = ['--cap', 'mon', 'allow profile osd', '--cap', 'osd', 'allow *'];
  await tool('ceph-authtool', '--create-keyring', path('osd', 'keyring'), '--gen-key', '-n', 'osd.0', ...osdRights);
  const monRights = ['--cap', 'mon', 'allow *'];
  await tool('ceph-authtool', '--create-keyring', path('first'), '--gen-key', '-n', 'mon.', ...monRights);
  for (const keyring of [path('admin'), path('osd', 'keyring')]) {
    await tool('ceph-authtool', path('first'), '--import-keyring', keyring);
  }
  await tool('monmaptool', '--create', '--fsid', fsid, '--addv', 'a', addresses, path('map'));
  await tool('ceph-mon', ...conf, '--mkfs', '-i', 'a', '--monmap', path('map'), '--keyring', path('first'));
  await start('ceph-mon', '-i', 'a');
  const osd = randomUUID();
  await tool('ceph', ...conf, 'osd', 'new', osd);
  await tool('ceph-osd', ...conf, '-i', '0', '--mkfs', '--osd-uuid', osd);
  const daemon = await start('ceph-osd', '-i', '0');
  const admin: CephCluster['admin'] = (program, ...args) => tool(program, ...conf, ...args);
  await admin('ceph', 'osd', 'set-require-min-compat-client', 'mimic');

  const pools: string[] = [];
  const monitor = `[::1]:${port}`;
  return {
    directory,
    monitor,
    admin,
    async pool(name) {
      pools.push(name);
      await admin('ceph', 'osd', 'pool', 'create', name, '8');
      await admin('rbd', 'pool', 'init', name);
      const rights = ['mon', 'profile rbd', 'osd', `profile rbd pool=${name}`];
      await admin('ceph', 'auth', 'get-or-create', `client.${name}`, ...rights);
      const key = await admin('ceph', 'auth', 'get-key', `client.${name}`);
      writeFileSync(path(`${name}.key`), key, { mode: 0o600 });
      return { kind: 'ceph', monitors: [monitor], user: name, key_file: path(`${name}.key`), rbd_pool: name };
    },
    hang: () => daemon.kill('SIGSTOP'),
    goOn: () => daemon.kill('SIGCONT'),
    async setFull(full) {
      writeFileSync(path('ballast'), Buffer.alloc(1024 ** 2));
      if (full) await admin('rados', '-p', pools[0] ?? '', 'put', 'ballast', path('ballast'));
      const ratios = full ? ['0.00001', '0.00002', '0.00003'] : ['0.85', '0.9', '0.95'];
      const names = ['nearfull', 'backfillfull', 'full'].map((name) => `set-${name}-ratio`);
      const settings = names.map((name, index) => [name, ratios[index] ?? ''] as const);
      // The cluster refuses ratios that are not in order.
      for (const setting of full ? settings : settings.reverse()) await admin('ceph', 'osd', ...setting);
      const isFull = async () => / exists,full,up /.test(await admin('ceph', 'osd', 'dump'));
      await until(`the OSD is ${full ? 'full' : 'not full'}`, async () => (await isFull()) === full, 60);
    },
  };
}

/** Returns the key of the pool's user. */
export const keyOf = ({ key_file }: CephSettings): string => readFileSync(key_file, 'utf8');
