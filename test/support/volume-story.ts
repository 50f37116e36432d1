/**
 * The life of a volume with a real guest: attached while the guest runs, written, grown, kept over a crash of the cloud,
 * detached, and attached to another VM. Runs as a program, inside a network namespace of its own, and prints what it saw
 * as JSON.
 *
 *     node test/support/volume-story.ts <data directory> <image>
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Cloud, cleanUp, setUpCloud, startCloud } from '../../scripts/demo/cloud.ts';
import { eventually, exec } from '../../scripts/demo/steps.ts';

/** The observations of the story. Sizes are in bytes. */
export interface VolumeStory {
  readonly attachedPhase: string;
  readonly sizeAtFirst: number;
  readonly written: string;
  /** The reasons why the guest keeps a volume that is being detached: one with a file system, and one with swap. */
  readonly inUse: readonly string[];
  readonly refusedSecondVm: string;
  readonly refusedDeletion: string;
  readonly sizeAfterGrowth: number;
  readonly readAfterCrash: string;
  readonly devicesAfterDetachment: readonly string[];
  readonly stoppedPhase: string;
  readonly readByOtherVm: string;
  readonly sizeInOtherVm: number;
  readonly keptAfterVm: boolean;
  readonly statusAfterVm: Readonly<Record<string, unknown>>;
  readonly freedByTrim: boolean;
  readonly dataAfterDeletion: boolean;
}

interface Object_ {
  readonly id: string;
  readonly address: string;
  readonly size: string;
  readonly status: {
    readonly phase: string;
    readonly ready: boolean;
    readonly guest_agent?: boolean;
    readonly reason?: string;
    readonly size?: string;
    readonly message?: string;
  };
}

const [data = '', image = ''] = process.argv.slice(2);
const patience = 60;
/** Lets root in on another port with the keys of the user, because only root may open devices. */
const userData = `#!/bin/sh
mkdir -p -m 700 /root/.ssh
cp /home/ucloud/.ssh/authorized_keys /root/.ssh/
dropbear -s -p 2222 -r /etc/dropbear/dropbear_ed25519_host_key
`;

async function story(first: Cloud): Promise<VolumeStory> {
  let cloud = first;
  await setUpCloud(cloud, data, image);
  const prefix = await cloud.ucloud('prefix', 'create', '--name', 'site');
  const network = await cloud.ucloud('network', 'create', '--name', 'web', '--prefix', String(prefix.id));
  const keyFile = join(data, 'key');
  await exec('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', keyFile]);
  const publicKey = readFileSync(`${keyFile}.pub`, 'utf8').trim();
  await cloud.ucloud('ssh-key', 'create', '--name', 'me', '--public-key', publicKey);

  const get = async (noun: string, id: string) =>
    (await cloud.read(`${noun}s/${id}`)) as unknown as Object_ | undefined;
  const reach = (what: string, noun: string, id: string, reached: (item: Object_) => boolean) =>
    eventually(what, patience * 1000, async () => {
      const item = await get(noun, id);
      if (item === undefined || !reached(item)) throw new Error(JSON.stringify(item?.status));
      return item;
    });
  const gone = (what: string, noun: string, id: string) =>
    eventually(what, patience * 1000, async () => {
      const item = await get(noun, id);
      if (item) throw new Error(JSON.stringify(item));
    });
  const refusal = async (...args: string[]): Promise<string> => {
    try {
      await cloud.ucloud(...args);
    } catch (error) {
      return (error as { stderr?: string }).stderr ?? String(error);
    }
    return 'accepted';
  };
  const createVm = async (name: string, ...more: string[]) => {
    const args = ['--name', name, '--image', 'demo', '--interfaces', JSON.stringify([{ network: network.id }])];
    const vm = await cloud.ucloud(
      'vm',
      'create',
      ...args,
      '--memory',
      '192MiB',
      '--ssh-keys',
      'me',
      '--user-data',
      userData,
      ...more,
    );
    return vm as unknown as Object_;
  };
  const inGuest = async ({ address }: Object_, command: string): Promise<string> => {
    const options = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR', 'BatchMode=yes'];
    const args = [
      '-p',
      '2222',
      '-i',
      keyFile,
      ...options.flatMap((option) => ['-o', option]),
      `root@${address}`,
      command,
    ];
    return (await exec('ssh', args)).stdout.trim();
  };
  /** Returns the names of the guest's disks by their serial numbers. */
  const disks = async (vm: Object_): Promise<Map<string, string>> => {
    const text = await inGuest(vm, 'cd /sys/block; for d in vd*; do echo "$(cat $d/serial) $d"; done');
    return new Map(text.split('\n').map((line) => line.split(' ') as [string, string]));
  };
  const deviceIn = async (vm: Object_, volume: string): Promise<string> =>
    eventually('the guest has the device', 30_000, async () => {
      const name = (await disks(vm)).get(volume);
      if (name === undefined) throw new Error('not yet');
      return name;
    });
  const sizeIn = async (vm: Object_, name: string) => Number(await inGuest(vm, `cat /sys/block/${name}/size`)) * 512;
  const digest = (vm: Object_, name: string) => inGuest(vm, `dd if=/dev/${name} bs=1M count=8 2>/dev/null | sha256sum`);

  const vm = await createVm('first');
  await reach('the first VM is ready', 'vm', vm.id, ({ status }) => status.ready);
  const volume = (await cloud.ucloud('volume', 'create', '--name', 'data', '--size', '64MiB')) as unknown as Object_;
  const attach = async (to: Object_) =>
    (await cloud.ucloud('volume-attachment', 'create', '--vm', to.id, '--volume', volume.id)) as unknown as Object_;
  const attachment = await attach(vm);
  const attached = await reach(
    'attached',
    'volume-attachment',
    attachment.id,
    ({ status }) => status.phase === 'attached',
  );
  const device = await deviceIn(vm, volume.id);
  const sizeAtFirst = await sizeIn(vm, device);
  await inGuest(vm, `dd if=/dev/urandom of=/dev/${device} bs=1M count=8 conv=fsync 2>/dev/null`);
  const written = await digest(vm, device);

  await reach('the guest agent is reported', 'vm', vm.id, ({ status }) => status.guest_agent === true);
  const spare = (await cloud.ucloud('volume', 'create', '--name', 'spare', '--size', '64MiB')) as unknown as Object_;
  const uses: readonly (readonly [begin: string, end: string])[] = [
    ['mke2fs -q -t ext4 DEV && mount -t ext4 DEV /mnt && echo x > /mnt/x', 'echo y > /mnt/y && umount /mnt'],
    ['mkswap DEV && swapon DEV', 'swapoff DEV'],
  ];
  const inUse: string[] = [];
  for (const [begin, end] of uses) {
    const { id } = (await cloud.ucloud(
      'volume-attachment',
      'create',
      '--vm',
      vm.id,
      '--volume',
      spare.id,
    )) as unknown as Object_;
    const name = await deviceIn(vm, spare.id);
    await inGuest(vm, begin.replaceAll('DEV', `/dev/${name}`));
    await reach('attached', 'volume-attachment', id, ({ status }) => status.phase === 'attached');
    await cloud.ucloud('volume-attachment', 'delete', id);
    const kept = await reach('in use', 'volume-attachment', id, ({ status }) => status.reason === 'in_use');
    inUse.push(String(kept.status.message));
    // The commands succeed because the guest still has the volume.
    await inGuest(vm, end.replaceAll('DEV', `/dev/${name}`));
    await gone('detached', 'volume-attachment', id);
  }
  const refusedDeletion = await refusal('volume', 'delete', volume.id);
  const second = await createVm('second', '--power-state', 'stopped');
  const refusedSecondVm = await refusal('volume-attachment', 'create', '--vm', second.id, '--volume', volume.id);

  await cloud.ucloud('volume', 'update', volume.id, '--size', '128MiB', '--max-iops', '1000');
  await reach('grown', 'volume', volume.id, ({ status }) => status.size === '128MiB');
  const sizeAfterGrowth = await sizeIn(vm, device);

  await cloud.kill();
  cloud = await startCloud(data, ['--hypervisor', 'qemu']);
  running = cloud;
  await reach('still attached', 'volume-attachment', attachment.id, ({ status }) => status.phase === 'attached');
  const readAfterCrash = await digest(vm, device);

  await cloud.ucloud('volume', 'update', volume.id, '--force-detach', 'true');
  await cloud.ucloud('volume-attachment', 'delete', attachment.id);
  await gone('detached', 'volume-attachment', attachment.id);
  const devicesAfterDetachment = [...(await disks(vm)).keys()];

  const other = await attach(second);
  const ready = await reach('ready', 'volume-attachment', other.id, ({ status }) => status.phase !== 'pending');
  await cloud.ucloud('vm', 'start', second.id);
  await reach('the second VM is ready', 'vm', second.id, ({ status }) => status.ready);
  const otherDevice = await deviceIn(second, volume.id);
  const readByOtherVm = await digest(second, otherDevice);
  const sizeInOtherVm = await sizeIn(second, otherDevice);
  const file = join(data, 'host', 'volumes', `${volume.id}.raw`);
  const before = statSync(file).blocks;
  await inGuest(second, `blkdiscard /dev/${otherDevice}`);
  const freedByTrim = before > 0 && statSync(file).blocks < before / 2;

  await cloud.ucloud('vm', 'delete', second.id);
  await gone('the second VM is gone', 'vm', second.id);
  const keptAfterVm = existsSync(file);
  const status = (await get('volume', volume.id))?.status;
  await cloud.ucloud('volume', 'delete', volume.id);
  await gone('the volume is gone', 'volume', volume.id);
  return {
    attachedPhase: attached.status.phase,
    ...{ sizeAtFirst, written, inUse, refusedSecondVm, refusedDeletion, sizeAfterGrowth, readAfterCrash },
    ...{ devicesAfterDetachment, stoppedPhase: ready.status.phase, readByOtherVm, sizeInOtherVm, keptAfterVm },
    statusAfterVm: status as unknown as Record<string, unknown>,
    freedByTrim,
    dataAfterDeletion: existsSync(file),
  };
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
