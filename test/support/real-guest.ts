/**
 * A guest of a lab that is a real VM: the demo image under QEMU, with the agent's command line, on the tap of the driver. A
 * program from its user data sends frames over its virtio device.
 */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { qemuArguments, unprivileged } from '../../backend/host/hypervisor/qemu/command-line.ts';
import { ConsoleLog } from '../../backend/host/hypervisor/qemu/console-log.ts';
import { launch } from '../../backend/host/hypervisor/qemu/launch.ts';
import { Qmp } from '../../backend/host/hypervisor/qemu/qmp.ts';
import { withTaps } from '../../backend/host/hypervisor/qemu/taps.ts';
import { prepareDisk } from '../../backend/host/storage/disks.ts';
import { writeSeedDisk } from '../../backend/host/storage/seed-disk.ts';
import { run as runProgram } from '../../backend/host/system/command.ts';
import { newId } from '../../backend/model/ids.ts';
import { guests, networks, placements, sshKeys, vms } from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { demoImage } from './demo-image.ts';
import { until } from './eventually.ts';
import { frameSender, senderInput } from './frame-sender.ts';
import { metadataServer } from './metadata-server.ts';
import { testSeed } from './seeds.ts';
import { type LabGuest, type TapLab, uid } from './tap-lab.ts';

const memory = 256 * 1024 ** 2;
const diskSize = 1024 ** 3;
const now = '2026-01-01T00:00:00.000Z';

/** Lets the ssh user run the program as root, because raw sockets need this. */
const userData = (program: Buffer): string => `#!/bin/sh
modprobe af_packet
base64 -d >/bin/send-frames <<'END'
${program.toString('base64')}
END
chmod 4755 /bin/send-frames
`;

type Ssh = (command: string, input?: Buffer) => Promise<string>;

export class RealGuest {
  readonly #ssh: Ssh;
  readonly #interfaceIndex: number;

  constructor(ssh: Ssh, interfaceIndex: number) {
    this.#ssh = ssh;
    this.#interfaceIndex = interfaceIndex;
  }

  /** Resolves when the guest's driver has all of them, in this order. Rejects if the guest's kernel refuses one. */
  async send(frames: readonly Buffer[]): Promise<void> {
    await this.#ssh('cat >/tmp/frames && send-frames </tmp/frames', senderInput(this.#interfaceIndex, frames));
  }

  /** Runs a command in the guest as the ssh user, and returns its output. */
  run(command: string): Promise<string> {
    return this.#ssh(command);
  }

  /** Returns true if the device of the guest offers a feature, by its number (virtio 1.2, 5.1.3). */
  async hasFeature(bit: number): Promise<boolean> {
    return (await this.#ssh('cat /sys/class/net/eth0/device/features'))[bit] === '1';
  }
}

/** Returns the records of the network and the VM, like those of the API and the scheduler. */
async function declare(t: Test, lab: TapLab, { network, mac, address }: LabGuest, publicKey: string) {
  const [host, project, vm, key] = [newId('host'), newId('project'), newId('vm'), newId('ssh_key')];
  const server = await metadataServer(t, lab.host.namespace, host);
  const common = { project, labels: {}, created_at: now, updated_at: now };
  await server.commit({
    write: [
      put(networks, network.id, { ...common, ...network, dns_servers: [], name: 'net', prefix: newId('prefix') }),
      put(sshKeys, key, { ...common, id: key, name: 'key', public_key: publicKey, fingerprint: '' }),
      put(vms, vm, {
        ...common,
        ...{ id: vm, name: 'guest', description: '', image: newId('image'), ssh_keys: [key] },
        ...{ interfaces: [{ network: network.id, mac, address }], user_data: userData(frameSender()) },
        ...{ cpus: 1, memory, disk_size: diskSize, power_state: 'running', delete_protection: false, generation: 1 },
      }),
      put(placements, `${host}/${vm}`, { fence: 1, cpus: 1, memory, disk: diskSize, at: now }),
    ],
  });
  return { vm, isReady: async () => (await server.get(guests.prefix + vm)) !== undefined };
}

export interface RealGuestOptions {
  /** True for offloads, which the agent does not allow: QEMU itself, as root, opens the tap with virtio headers. */
  readonly offloads?: boolean;
}

/** Starts a guest, and resolves when it is ready. It ends with the test. */
export async function realGuest(
  t: Test,
  lab: TapLab,
  guest: LabGuest,
  { offloads = false }: RealGuestOptions = {},
): Promise<RealGuest> {
  const { namespace } = lab.host;
  const directory = mkdtempSync(join(tmpdir(), 'ucloud-guest-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));
  const path = (name: string) => join(directory, name);
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path('key')]);
  const image = await demoImage(directory);
  await prepareDisk(runProgram, path('disk.qcow2'), image, diskSize);
  const { vm, isReady } = await declare(t, lab, guest, readFileSync(path('key.pub'), 'utf8').trim());

  await writeSeedDisk(runProgram, path('seed.img'), testSeed());
  const size = { cpus: 1, memory, firmware: 'bios' } as const;
  const args = qemuArguments({ vm, accelerator: 'tcg', ...size, interfaces: [guest], instance: '00000000' });
  const netdev = `tap,id=net0,ifname=${guest.tap},script=no,downscript=no,vnet_hdr=on,vhost=off`;
  const program = offloads
    ? args.map((arg) => (arg.startsWith('tap,id=net0,') ? netdev : arg))
    : withTaps([guest.tap], unprivileged(uid, [], args));
  const { pid } = await launch({
    command: ['ip', 'netns', 'exec', namespace.name, ...program],
    ...{
      disk: { path: path('disk.qcow2'), image },
      seed: path('seed.img'),
      qmp: path('qmp'),
      files: path('files'),
      serial: path('serial'),
      agent: path('agent'),
      log: path('log'),
    },
  });
  t.teardown(() => process.kill(pid, 'SIGKILL'));
  writeFileSync(path('console'), '');
  const console = new ConsoleLog(path('serial'), path('console'), (error) => t.comment(error));
  t.teardown(() => console.close());
  const qmp = await Qmp.connect(path('qmp'), 60_000);
  await qmp.execute('cont', {}, 60_000);
  qmp.close();
  await until('the guest is ready', isReady, 300).catch((error: unknown) => {
    t.comment(readFileSync(path('console'), 'latin1'), readFileSync(path('log'), 'latin1'));
    throw error;
  });

  const options = ['StrictHostKeyChecking=accept-new', `UserKnownHostsFile=${path('known_hosts')}`, 'BatchMode=yes'];
  options.push('IdentitiesOnly=yes', 'ConnectTimeout=60', 'LogLevel=ERROR');
  options.push(`ControlPath=${path('connection')}`);
  const ssh = ['netns', 'exec', namespace.name, 'ssh', ...options.flatMap((each) => ['-o', each]), '-i', path('key')];
  // The exchange of keys takes seconds under emulation, so all commands share one connection.
  const connection = spawn('ip', [...ssh, '-M', '-N', `ucloud@${guest.address}`], { stdio: 'ignore' });
  t.teardown(() => connection.kill('SIGKILL'));
  await until('the guest accepts the key', () => existsSync(path('connection')), 120);
  const run: Ssh = async (command, input = Buffer.alloc(0)) => {
    const work = promisify(execFile)('ip', [...ssh, `ucloud@${guest.address}`, command], { timeout: 120_000 });
    work.child.stdin?.end(input);
    return (await work).stdout;
  };
  return new RealGuest(run, Number(await run('cat /sys/class/net/eth0/ifindex')));
}
