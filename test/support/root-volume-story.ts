/**
 * A real guest that boots from a volume: written and grown while it runs, kept over a crash of the cloud and the deletion of
 * its VM, and booted by another VM. Runs as a program, inside a network namespace of its own, and prints what it saw as JSON.
 *
 *     node test/support/root-volume-story.ts <data directory> <image>
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Cloud, cleanUp, setUpCloud, startCloud } from '../../scripts/demo/cloud.ts';
import { eventually, exec } from '../../scripts/demo/steps.ts';

/** The observations of the story. Sizes are in bytes. */
export interface RootVolumeStory {
  readonly diskSize: string;
  readonly ownDisk: boolean;
  readonly root: string;
  readonly sizeInGuest: number;
  readonly refusals: readonly string[];
  readonly statusAfterVm: Readonly<Record<string, unknown>>;
  readonly kept: string;
  readonly otherVm: boolean;
}

interface Item {
  readonly id: string;
  readonly address: string;
  readonly disk_size: string;
  readonly status: Readonly<Record<string, unknown>> & { readonly phase: string; readonly ready: boolean };
}

const [data = '', image = ''] = process.argv.slice(2);
/** Lets root in on another port with the keys of the user. */
const userData = `#!/bin/sh
mkdir -p -m 700 /root/.ssh
cp /home/ucloud/.ssh/authorized_keys /root/.ssh/
dropbear -s -p 2222 -r /etc/dropbear/dropbear_ed25519_host_key
`;

async function story(first: Cloud): Promise<RootVolumeStory> {
  let cloud = first;
  await setUpCloud(cloud, data, image);
  const prefix = await cloud.ucloud('prefix', 'create', '--name', 'site');
  const network = await cloud.ucloud('network', 'create', '--name', 'web', '--prefix', String(prefix.id));
  const keyFile = join(data, 'key');
  await exec('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', keyFile]);
  const publicKey = readFileSync(`${keyFile}.pub`, 'utf8').trim();
  await cloud.ucloud('ssh-key', 'create', '--name', 'me', '--public-key', publicKey);
  const run = async (...args: string[]) => (await cloud.ucloud(...args)) as unknown as Item;
  const refusal = (...args: string[]) => run(...args).then(() => 'accepted', String);
  const volume = await run('volume', 'create', '--name', 'system', '--size', '1GiB', '--image', 'demo');
  // A process may write files of the size of its largest disk, and not every host can raise this limit.
  await run('volume', 'create', '--name', 'large', '--size', '4GiB');
  const createVm = async (name: string) => {
    const interfaces = JSON.stringify([{ network: network.id }]);
    const vm = await run(
      ...['vm', 'create', '--name', name, '--root-volume', 'system', '--memory', '192MiB', '--ssh-keys', 'me'],
      ...['--interfaces', interfaces, '--user-data', userData, '--volumes', 'large'],
    );
    return eventually(`${name} is ready`, 180_000, async () => {
      const item = (await cloud.read(`vms/${vm.id}`)) as unknown as Item | undefined;
      if (!item?.status.ready) throw new Error(JSON.stringify(item?.status));
      return item;
    });
  };
  const inGuest = async ({ address }: Item, command: string): Promise<string> => {
    const ssh = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR', 'BatchMode=yes'];
    const args = ['-p', '2222', '-i', keyFile, ...ssh.flatMap((each) => ['-o', each]), `root@${address}`, command];
    return (await exec('ssh', args)).stdout.trim();
  };
  const gone = (noun: string, id: string) =>
    eventually(`${id} is gone`, 60_000, async () => {
      if (await cloud.read(`${noun}s/${id}`)) throw new Error('it is there');
    });

  const vm = await createVm('one');
  const ownDisk = existsSync(join(data, 'host', 'vms', vm.id, 'disk.qcow2'));
  const device = `cd /sys/block; for d in vd*; do [ "$(cat $d/serial)" = ${volume.id} ] && echo $d; done; true`;
  const root = await inGuest(vm, `mount | grep ' / ' | cut -d' ' -f1; ${device}`);
  await inGuest(vm, 'echo first > /root/kept; hostname >> /root/kept; sync');
  const refusals = [
    await refusal('vm', 'create', '--name', 'thief', '--root-volume', 'system', '--interfaces', `[{"network":"web"}]`),
    await refusal('vm', 'update', vm.id, '--volumes', '["large","system"]'),
    await refusal('vm', 'update', vm.id, '--disk-size', '8GiB'),
    await refusal('volume', 'delete', volume.id),
  ];
  await cloud.kill();
  cloud = await startCloud(data, ['--hypervisor', 'qemu']);
  running = cloud;
  await run('volume', 'update', volume.id, '--size', '2GiB');
  const sizeInGuest = await eventually('the guest sees the growth', 120_000, async () => {
    const size = Number(await inGuest(vm, `cat /sys/block/$(${device})/size`)) * 512;
    if (size <= 1024 ** 3) throw new Error(`${size}`);
    return size;
  });
  const { disk_size: diskSize } = await run('vm', 'get', vm.id);
  await run('vm', 'delete', vm.id);
  await gone('vm', vm.id);
  const { status: statusAfterVm } = await run('volume', 'get', volume.id);
  const next = await createVm('two');
  const kept = await inGuest(next, 'cat /root/kept; hostname');
  return { diskSize, ownDisk, root, sizeInGuest, refusals, statusAfterVm, kept, otherVm: next.id !== vm.id };
}

let running = await startCloud(data, ['--hypervisor', 'qemu']);
try {
  console.log(JSON.stringify(await story(running)));
} catch (error) {
  console.error(readFileSync(join(data, 'ucloud.log'), 'utf8').slice(-5000));
  throw error;
} finally {
  await running.stop();
  await cleanUp(data);
}
process.exit();
