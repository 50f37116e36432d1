/**
 * Snapshots of real guests: of a running VM with two disks that are written meanwhile, of a stopped VM, and of a volume
 * without VM; agents and QEMU killed in the middle of a copy; and volumes with the data of a snapshot. Runs as a program,
 * inside a network namespace of its own, and prints what it saw as JSON.
 *
 *     node test/support/snapshot-story.ts <data directory> <image>
 */
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Cloud, cleanUp, setUpCloud, startCloud } from '../../scripts/demo/cloud.ts';
import { eventually, exec } from '../../scripts/demo/steps.ts';

/** The observations of the story. */
export interface SnapshotStory {
  /** The counters that the guest wrote to both disks one after the other, as the snapshot of both shows them. */
  readonly counters: readonly [root: number, data: number];
  /** The counter of the guest when the snapshot was complete. */
  readonly later: number;
  readonly allocated: number;
  readonly size: number;
  /** The reason why a guest without guest agent has no consistent snapshot. */
  readonly withoutAgent: string;
  /** True for each snapshot whose file system needs the recovery of its journal. */
  readonly needsRecovery: Readonly<Record<'both' | 'frozen', boolean>>;
  readonly counterAfterFreeze: readonly [before: number, after: number];
  readonly phases: Readonly<Record<string, string>>;
  readonly restored: string;
  readonly written: string;
  /** True if the image has the content of the snapshot. */
  readonly imageIsSame: boolean;
  readonly leftFiles: readonly string[];
  readonly twinPhase: string;
  /** The counters at two places of a volume that the guest wrote while it was copied. The first one is written first. */
  readonly twinCounters: readonly [first: number, second: number];
  readonly counterAfterTwin: number;
  readonly filesAfterDeletion: readonly string[];
  /** The processes that copy, after everything. */
  readonly copyProcesses: string;
  readonly phaseAfterKill: string;
  readonly idleMarks: readonly string[];
  /** The digest of the volume after a restore that was killed in the middle. The guest has started again. */
  readonly afterRestore: { readonly state: string; readonly digest: string };
  /** The space and the size of the restored disk of the VM, in bytes. */
  readonly restoredDisk: readonly [allocated: number, size: number];
}

interface Item {
  readonly id: string;
  readonly address: string;
  readonly status: {
    readonly phase: string;
    readonly ready: boolean;
    readonly reason?: string;
    readonly message?: string;
    readonly taken_at?: string;
    readonly host?: string;
  };
}

const [data = '', image = ''] = process.argv.slice(2);
const options = ['--hypervisor', 'qemu'];
/** Lets root in on another port with the keys of the user, because only root may open devices. */
const userData = `#!/bin/sh
mkdir -p -m 700 /root/.ssh
cp /home/ucloud/.ssh/authorized_keys /root/.ssh/
dropbear -s -p 2222 -r /etc/dropbear/dropbear_ed25519_host_key
`;
const snapshots = join(data, 'host', 'snapshots');
/** The second place of the counter on the volume, in bytes. */
const farOffset = 48 * 1024 ** 2;
const list = (): string[] => (existsSync(snapshots) ? readdirSync(snapshots) : []);
/** Reads a text of 16 bytes at a place of a file. */
const textAt = (path: string, offset: number): string =>
  readFileSync(path)
    .subarray(offset, offset + 16)
    .toString('latin1')
    .replaceAll('\0', '')
    .trim();

/** Copies the file system in the first partition of a disk into a file. Returns its path. */
function fileSystemOf(disk: string): string {
  const content = readFileSync(disk);
  // The first entry of the partition table (MBR) contains the first sector at its byte 8.
  const start = content.readUInt32LE(446 + 8) * 512;
  const path = join(data, 'file-system');
  writeFileSync(path, content.subarray(start));
  return path;
}

/** Tells whether the file system was in use, and not frozen, at the instant of the copy. */
async function recoveryOf(disk: string): Promise<boolean> {
  const { stdout } = await exec('dumpe2fs', ['-h', fileSystemOf(disk)]);
  return stdout.includes('needs_recovery');
}

/** Returns the counter in the file system of the first partition of a disk, after the recovery of its journal. */
async function counterIn(disk: string): Promise<number> {
  const path = fileSystemOf(disk);
  // The exit code 1 means that e2fsck has recovered the journal.
  await exec('sh', ['-c', 'e2fsck -fy "$1" >/dev/null 2>&1 || [ $? = 1 ]', 'sh', path]);
  const { stdout } = await exec('debugfs', ['-R', 'cat /root/counter', path]);
  rmSync(path);
  return Number(stdout.trim());
}

async function story(first: Cloud): Promise<SnapshotStory> {
  let cloud = first;
  await setUpCloud(cloud, data, image);
  const prefix = await cloud.ucloud('prefix', 'create', '--name', 'site');
  const network = await cloud.ucloud('network', 'create', '--name', 'web', '--prefix', String(prefix.id));
  const keyFile = join(data, 'key');
  await exec('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', keyFile]);
  const publicKey = readFileSync(`${keyFile}.pub`, 'utf8').trim();
  await cloud.ucloud('ssh-key', 'create', '--name', 'me', '--public-key', publicKey);
  const run = async (...args: string[]) => (await cloud.ucloud(...args)) as unknown as Item;
  const get = async (noun: string, id: string) => (await cloud.read(`${noun}s/${id}`)) as unknown as Item | undefined;
  const reach = (noun: string, id: string, reached: (item: Item) => boolean) =>
    eventually(`${noun} ${id}`, 90_000, async () => {
      const item = await get(noun, id);
      if (item === undefined || !reached(item)) throw new Error(JSON.stringify(item?.status));
      return item;
    });
  const gone = (noun: string, id: string) =>
    eventually(`${id} is gone`, 60_000, async () => {
      if (await get(noun, id)) throw new Error('it is there');
    });
  const complete = (id: string) =>
    reach('snapshot', id, ({ status }) => status.phase === 'available' || status.phase === 'error');
  const restart = async () => {
    await cloud.kill();
    cloud = await startCloud(data, options);
    running = cloud;
  };

  const volume = await run('volume', 'create', '--name', 'data', '--size', '64MiB');
  const vm = await run(
    ...['vm', 'create', '--name', 'web', '--image', 'demo', '--memory', '192MiB', '--ssh-keys', 'me'],
    ...['--interfaces', JSON.stringify([{ network: network.id }]), '--volumes', volume.id, '--user-data', userData],
  );
  await reach('vm', vm.id, ({ status }) => status.ready);
  const inGuest = async (command: string): Promise<string> => {
    const ssh = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR', 'BatchMode=yes'];
    const args = ['-p', '2222', '-i', keyFile, ...ssh.flatMap((each) => ['-o', each]), `root@${vm.address}`, command];
    return (await exec('ssh', args)).stdout.trim();
  };
  const device = await eventually('the guest has the volume', 30_000, async () => {
    const name = await inGuest(
      `cd /sys/block; for d in vd*; do [ "$(cat $d/serial)" = ${volume.id} ] && echo $d; done`,
    );
    if (name === '') throw new Error('not yet');
    return `/dev/${name}`;
  });
  await inGuest(`dd if=/dev/urandom of=${device} bs=1M count=24 seek=8 conv=fsync 2>/dev/null`);
  // A counter goes to two places of the volume first, and then to a file on the disk of the VM, each with fsync.
  await inGuest(`cat > /root/count <<'END'
#!/bin/sh
n=0
while :; do
  n=$((n + 1))
  printf '%015d\\n' $n | dd of=${device} bs=16 count=1 conv=notrunc,fsync 2>/dev/null
  printf '%015d\\n' $n | dd of=${device} bs=16 count=1 seek=${farOffset / 16} conv=notrunc,fsync 2>/dev/null
  printf '%015d\\n' $n | dd of=/root/counter bs=16 count=1 conv=notrunc,fsync 2>/dev/null
done
END
printf '%015d\\n' 0 > /root/counter; chmod +x /root/count; sync
/root/count >/dev/null 2>&1 </dev/null &`);
  const counter = async () => Number(await inGuest('cat /root/counter'));
  await eventually('the counter runs', 30_000, async () => {
    if ((await counter()) < 5) throw new Error('not yet');
  });

  // ---- both disks of the running VM at one instant
  const both = await run('snapshot', 'create', '--name', 'both', '--vm', vm.id);
  const phases: Record<string, string> = { both: (await complete(both.id)).status.phase };
  const later = await counter();
  const files = { root: join(snapshots, both.id, 'root.raw'), data: join(snapshots, both.id, `${volume.id}.raw`) };
  const rootCounter = await counterIn(files.root);
  const counters = [rootCounter, Number(textAt(files.data, 0))] as const;
  const size = statSync(files.root).size;
  const allocated = statSync(files.root).blocks * 512;

  // ---- the same with frozen file systems, with and without a guest agent
  const frozen = await run('snapshot', 'create', '--name', 'frozen', '--vm', vm.id, '--consistency', 'filesystem');
  phases.frozen = (await complete(frozen.id)).status.phase;
  const needsRecovery = {
    both: await recoveryOf(files.root),
    frozen: await recoveryOf(join(snapshots, frozen.id, 'root.raw')),
  };
  const thawed = await counter();
  const counterAfterFreeze = await eventually('the guest goes on', 30_000, async () => {
    const now = await counter();
    if (now <= thawed) throw new Error(`the counter stays at ${now}`);
    return [thawed, now] as const;
  });
  await inGuest('sed -i /guest-agent/d /etc/inittab; kill -HUP 1; killall qemu-ga || true');
  const lacking = await run('snapshot', 'create', '--name', 'lacking', '--vm', vm.id, '--consistency', 'filesystem');
  const { status: lack } = await complete(lacking.id);
  const withoutAgent = `${lack.phase}: ${lack.reason}`;

  // ---- one volume of the running VM; the cloud is killed while it is copied
  const killed = await run('snapshot', 'create', '--name', 'killed', '--volume', volume.id);
  await restart();
  const phaseAfterKill = (await complete(killed.id)).status.phase;
  const leftFiles = list().filter((name) => name.endsWith('.new'));

  // ---- a volume with the data of this one, which the guest writes; the cloud is killed while it is copied
  const kept = list();
  const twin = await run('volume', 'create', '--name', 'twin', '--size', '64MiB', '--source-volume', volume.id);
  await restart();
  const twinPhase = (await reach('volume', twin.id, ({ status }) => /available|error/.test(status.phase))).status.phase;
  const twinFile = join(data, 'host', 'volumes', `${twin.id}.raw`);
  const twinCounters = [Number(textAt(twinFile, 0)), Number(textAt(twinFile, farOffset))] as const;
  await eventually('its snapshot is gone', 60_000, async () => {
    const more = list().filter((name) => !kept.includes(name));
    if (more.length > 0) throw new Error(more.join());
  });
  const counterAfterTwin = await counter();

  // ---- the stopped VM, and the volume without VM
  await inGuest('killall count; sync').catch(() => undefined);
  const written = (await inGuest(`sha256sum ${device}`)).split(' ')[0] ?? '';
  await cloud.ucloud('vm', 'stop', vm.id);
  await reach('vm', vm.id, ({ status }) => status.phase === 'stopped');
  const stopped = await run('snapshot', 'create', '--name', 'stopped', '--vm', vm.id);
  phases.stopped = (await complete(stopped.id)).status.phase;

  // ---- the disks lose their data, and get it back from the snapshot
  const disk = join(data, 'host', 'vms', vm.id, 'disk.qcow2');
  const volumeFile = join(data, 'host', 'volumes', `${volume.id}.raw`);
  await exec('qemu-io', ['-f', 'qcow2', '-c', 'write -P 9 0 32M', disk]);
  await exec('dd', ['if=/dev/urandom', `of=${volumeFile}`, 'bs=1M', 'count=40', 'conv=notrunc']);
  const operation = await run('vm', 'restore', vm.id, '--snapshot', stopped.id);
  await cloud.ucloud('vm', 'start', vm.id);
  await restart();
  await reach('vm', vm.id, ({ status }) => status.ready);
  const { state } = (await cloud.ucloud('operation', 'get', operation.id)) as unknown as { readonly state: string };
  const { blocks, size: bytes } = statSync(disk);
  const restoredDisk = [blocks * 512, bytes] as const;
  const afterRestore = { state, digest: (await exec('sha256sum', [volumeFile])).stdout.split(' ')[0] ?? '' };

  await cloud.ucloud('vm', 'delete', vm.id);
  await gone('vm', vm.id);
  const alone = await run('snapshot', 'create', '--name', 'alone', '--volume', volume.id);
  phases.alone = (await complete(alone.id)).status.phase;
  await cloud.ucloud('volume', 'delete', volume.id);
  await gone('volume', volume.id);
  const idleMarks = [stopped, alone].map(({ id }) => textAt(join(snapshots, id, `${volume.id}.raw`), 0));

  // ---- an image of the disk of the VM, which does not depend on its snapshot
  const copied = await run('image', 'create', '--name', 'copied', '--snapshot', stopped.id, '--snapshot-disk', 'root');
  await reach('image', copied.id, ({ status }) => status.phase === 'available' || status.phase === 'error');
  const imageFile = join(data, 'images', `${copied.id}.qcow2`);
  const root = join(snapshots, stopped.id, 'root.raw');
  const imageIsSame = await exec('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', imageFile, root]).then(
    () => true,
    () => false,
  );

  // ---- a new volume with the data, after the source is gone
  const copy = await run('volume', 'create', '--name', 'copy', '--size', '96MiB', '--snapshot', alone.id);
  await reach('volume', copy.id, ({ status }) => status.phase === 'available');
  const path = join(data, 'host', 'volumes', `${copy.id}.raw`);
  const { stdout: digest } = await exec('sh', ['-c', 'head -c 67108864 "$1" | sha256sum', 'sh', path]);
  for (const { id } of [both, frozen, lacking, killed, stopped, alone]) {
    await cloud.ucloud('snapshot', 'delete', id);
    await gone('snapshot', id);
  }
  const { stdout: copyProcesses } = await exec('sh', ['-c', 'pgrep -f -- "[-]machine none" || true']);
  return {
    ...{ withoutAgent, needsRecovery, counterAfterFreeze },
    ...{ counters, later, allocated, size, phases, written, leftFiles, phaseAfterKill, idleMarks },
    ...{ afterRestore, restoredDisk, twinPhase, twinCounters, counterAfterTwin },
    imageIsSame,
    restored: digest.split(' ')[0] ?? '',
    filesAfterDeletion: list(),
    copyProcesses: copyProcesses.trim(),
  };
}

let running = await startCloud(data, options);
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
