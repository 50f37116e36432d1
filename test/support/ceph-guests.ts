/** Real guests on a host whose volumes are in a pool of Ceph. The host, the cluster and the guests have one namespace. */
import { execFile, execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { Qmp } from '../../backend/host/hypervisor/qemu/qmp.ts';
import { VmDirectories } from '../../backend/host/hypervisor/qemu/vm-directory.ts';
import type { NetworkSpec, VmSpec } from '../../backend/host/hypervisor/specs.ts';
import type { CephSettings } from '../../backend/host/storage/pools/ceph-commands.ts';
import { instanceOf } from '../../backend/host/system/instance.ts';
import { idFrom, newId } from '../../backend/model/ids.ts';
import { formatIpv6, slaacAddress } from '../../backend/model/network/addresses.ts';
import { storedPrefix } from '../../backend/model/network/prefixes.ts';
import { guests, networks, placements, sshKeys, vms } from '../../backend/model/records/index.ts';
import { rootSlot, type VolumeSpec } from '../../backend/model/vm/volumes.ts';
import { put } from '../../backend/store/collection.ts';
import { type CephCluster, cephCluster } from './ceph.ts';
import { demoImage } from './demo-image.ts';
import { type DeathPoint, type DrivenHost, type DriverProcess, drivenHost } from './driven-host.ts';
import { until } from './eventually.ts';
import { type MetadataServer, metadataServer } from './metadata-server.ts';
import { testSeed } from './seeds.ts';
import { temporaryDirectory } from './stores.ts';

const MiB = 1024 ** 2;
const now = '2026-01-01T00:00:00.000Z';
/** The demo image. */
export const demoImageId = idFrom('image', 'img-0000000000000001');
const network: NetworkSpec = {
  id: idFrom('network', 'net-0000000000000001'),
  vni: 1,
  cidr: 'fd42:0:0:1::/64',
  mtu: 1430,
  dns_servers: [],
};
/** Lets root in on another port with the keys of the user, because only root may open devices. */
const userData = `#!/bin/sh
mkdir -p -m 700 /root/.ssh
cp /home/ucloud/.ssh/authorized_keys /root/.ssh/
dropbear -s -p 2222 -r /etc/dropbear/dropbear_ed25519_host_key
`;

/** The answer of the driver to setVolumes. */
export interface Outcome {
  readonly present: readonly string[];
  /** Messages by volume. */
  readonly faults: readonly (readonly [string, string])[];
}

/** A volume for the first slot, in a pool with these settings. */
export const volumeOf = (settings: CephSettings, number: number, size: number): VolumeSpec => ({
  host: idFrom('host', 'host-0000000000000001'),
  pool: { id: idFrom('storage_pool', 'stp-0000000000000001'), settings },
  id: idFrom('volume', `vol-${String(number).padStart(16, '0')}`),
  slot: 0,
  size,
  max_iops: 0,
  max_throughput: 0,
  created: false,
});

/** A root volume. Its content is there before its VM starts. */
export const rootVolumeOf = (settings: CephSettings, number: number, size: number): VolumeSpec => ({
  ...volumeOf(settings, number, size),
  ...{ slot: rootSlot, root: true, created: true },
});

/** The host with its guests. */
export class CephGuests {
  readonly cluster: CephCluster;
  readonly settings: CephSettings;
  readonly host: DrivenHost;
  driver: DriverProcess;
  readonly #server: MetadataServer;
  readonly #hostId: string;
  readonly #key: string;

  private constructor(
    cluster: CephCluster,
    settings: CephSettings,
    host: DrivenHost,
    server: MetadataServer,
    hostId: string,
    key: string,
  ) {
    this.cluster = cluster;
    this.settings = settings;
    this.host = host;
    this.driver = host.driver('qemu');
    this.#server = server;
    this.#hostId = hostId;
    this.#key = key;
  }

  static async start(t: Test, name: string): Promise<CephGuests> {
    const host = drivenHost(t, name);
    const cluster = await cephCluster(t, host.namespace);
    const settings = await cluster.pool('volumes');
    const directory = temporaryDirectory(t);
    copyFileSync(await demoImage(directory), join(host.imageStore, `${demoImageId}.qcow2`));
    const key = join(directory, 'key');
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
    const hostId = newId('host');
    const guests = new CephGuests(
      cluster,
      settings,
      host,
      await metadataServer(t, host.namespace, hostId),
      hostId,
      key,
    );
    await guests.driver.call('setNetworks', [network]);
    return guests;
  }

  /** Returns the names of the objects that the QEMU of a VM has, such as keys. */
  async objectsOf(vm: Id<'vm'>): Promise<string> {
    const { dataDir } = this.host;
    const { files } = new VmDirectories(join(dataDir, 'vms'), instanceOf(dataDir), 0).paths(vm);
    const qmp = await Qmp.connect(files, 10_000);
    const objects = await qmp.execute('qom-list', { path: '/objects' });
    qmp.close();
    return JSON.stringify(objects);
  }

  /** Kills the driver and starts it again. */
  async restart(death: DeathPoint = {}): Promise<void> {
    await this.driver.kill();
    this.driver = this.host.driver('qemu', death);
  }

  /** Starts a guest, from the root volume if there is one. Resolves when it is ready. */
  async guest(number: number, root?: VolumeSpec): Promise<CephGuest> {
    const mac = `02:00:5e:10:00:0${number}`;
    const address = formatIpv6(slaacAddress(storedPrefix(network.cidr).address, mac));
    const vm: VmSpec = {
      ...{ id: newId('vm'), name: `vm-${number}`, fence: 1, generation: 1, firmware: 'bios' },
      ...{ interfaces: [{ network, mac, address }], volumes: [], seed: testSeed() },
      ...{ cpus: 1, memory: 192 * MiB, disk_size: 1024 * MiB, image: demoImageId },
      ...(root && { image: undefined, disk_size: 0, volumes: [root] }),
    };
    const { id, memory, disk_size } = vm;
    const key = newId('ssh_key');
    const common = { project: newId('project'), labels: {}, created_at: now, updated_at: now };
    const public_key = readFileSync(`${this.#key}.pub`, 'utf8').trim();
    await this.#server.commit({
      write: [
        put(networks, network.id, { ...common, ...network, dns_servers: [], name: 'net', prefix: newId('prefix') }),
        put(sshKeys, key, { ...common, id: key, name: 'key', public_key, fingerprint: '' }),
        put(vms, id, {
          ...common,
          ...{ id, name: `vm-${number}`, description: '', image: demoImageId, ssh_keys: [key], user_data: userData },
          ...{ interfaces: [{ network: network.id, mac, address }], cpus: 1, memory, disk_size },
          ...{ power_state: 'running', delete_protection: false, generation: 1 },
        }),
        put(placements, `${this.#hostId}/${id}`, { fence: 1, cpus: 1, memory, disk: disk_size, at: now }),
      ],
    });
    await this.driver.call('prepare', vm);
    await this.driver.call('start', vm);
    const guest = new CephGuest(this, vm, address, this.#key);
    await until('the guest is ready', async () => (await this.#server.get(guests.prefix + id)) !== undefined, 300);
    return guest;
  }
}

/** A running guest. */
export class CephGuest {
  readonly vm: VmSpec;
  readonly address: string;
  readonly #all: CephGuests;
  readonly #key: string;

  constructor(all: CephGuests, vm: VmSpec, address: string, key: string) {
    this.#all = all;
    this.vm = vm;
    this.address = address;
    this.#key = key;
  }

  setVolumes(...volumes: readonly VolumeSpec[]): Promise<Outcome> {
    return this.#all.driver.call<Outcome>('setVolumes', this.vm.id, volumes);
  }

  /** Runs a command as root, and returns its output. */
  async run(command: string): Promise<string> {
    const options = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR', 'BatchMode=yes'];
    const ssh = [
      'ssh',
      '-p',
      '2222',
      '-i',
      this.#key,
      ...[...options, 'ConnectTimeout=30'].flatMap((each) => ['-o', each]),
    ];
    const args = ['netns', 'exec', this.#all.host.namespace.name, ...ssh, `root@${this.address}`, command];
    return (await promisify(execFile)('ip', args, { timeout: 120_000 })).stdout.trim();
  }

  /** Returns the name of the device with a volume; undefined if the guest has none. */
  async device({ id }: VolumeSpec): Promise<string | undefined> {
    const text = await this.run('cd /sys/block; for d in vd*; do echo "$(cat $d/serial) $d"; done');
    return new Map(text.split('\n').map((line) => line.split(' ') as [string, string])).get(id);
  }

  /** Returns the SHA-256 of the first 8 MiB of a device. */
  async digest(device: string): Promise<string> {
    return (await this.run(`dd if=/dev/${device} bs=1M count=8 2>/dev/null | sha256sum`)).slice(0, 64);
  }
}
