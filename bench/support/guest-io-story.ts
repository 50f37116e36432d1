/**
 * Reads and writes a volume in a guest of ucloud, and a file of the same size in a guest whose QEMU a user has started by hand,
 * in turn. Runs as a program, inside a network namespace of its own, and prints the rates as JSON.
 *
 *     node bench/support/guest-io-story.ts <data directory> <image> <MiB of the volume> <seconds of a reading> <rounds>
 */
import { execFileSync, spawn } from 'node:child_process';
import { copyFileSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Accelerator, machine } from '../../backend/host/hypervisor/qemu/command-line.ts';
import { type Guest, GuestCloud } from '../../test/support/guest-cloud.ts';

/** The way of each access, as options of ioping: direct I/O in random order, if nothing else is said. */
export const accesses = {
  'random read, 4 KiB': ['-s', '4k'],
  'random write, 4 KiB': ['-s', '4k', '-WWW'],
  'sequential read, 1 MiB': ['-s', '1m', '-L'],
  'sequential write, 1 MiB': ['-s', '1m', '-L', '-WWW'],
} as const;
export type Access = keyof typeof accesses;

/** Operations per second, a figure for each round. */
export type Rates = Record<Access, { ucloud: number[]; bare: number[] }>;

const [data = '', image = '', mebibytes = '', seconds = '', rounds = ''] = process.argv.slice(2);
const path = (name: string) => join(data, name);

/** Returns the path of ioping and of all its libraries, and the path of their loader. */
function tool(): { readonly files: readonly string[]; readonly loader: string } {
  const program = execFileSync('sh', ['-c', 'command -v ioping'], { encoding: 'utf8' }).trim();
  const libraries = execFileSync('ldd', [program], { encoding: 'utf8' }).match(/\/\S+(?= \(0x)/g) ?? [];
  const loader = libraries.find((library) => basename(library).startsWith('ld-'));
  if (loader === undefined) throw new Error(`ldd names no loader of ${program}`);
  return { files: [program, ...libraries], loader: basename(loader) };
}

/** Copies the tool to the guest. Returns the beginning of its command line. */
async function bring(cloud: GuestCloud, guest: Guest): Promise<string> {
  const { files, loader } = tool();
  for (const file of files) {
    const name = `/tmp/${basename(file)}`;
    await cloud.feedGuest(guest, `cat >${name} && chmod 755 ${name}`, readFileSync(file));
  }
  return `/tmp/${loader} --library-path /tmp /tmp/ioping`;
}

/** Returns the operations per second, from the raw statistics of ioping: count, nanoseconds, and more. */
async function rateOf(cloud: GuestCloud, guest: Guest, command: string): Promise<number> {
  const [count = Number.NaN, ns = Number.NaN] = (await cloud.inGuest(guest, command)).split(' ').map(Number);
  if (!(count > 0 && ns > 0)) throw new Error(`${command} has read or written nothing`);
  return (count * 1e9) / ns;
}

const mac = '02:00:00:00:00:42';
const tap = 'bare';

/** Returns the command line of the VM's QEMU. */
function commandLineOf(vm: string): string {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      if (line.startsWith('qemu-system') && line.includes(vm)) return line;
    } catch {
      // The process has ended.
    }
  }
  throw new Error(`${vm} has no QEMU`);
}

/** Starts QEMU with the machine and the I/O options that the host uses, and with nothing in between. */
function startBare(
  disk: string,
  accelerator: Accelerator,
): { readonly address: string; readonly failed: Promise<never>; stop(): Promise<void> } {
  execFileSync('ip', ['tuntap', 'add', tap, 'mode', 'tap']);
  execFileSync('ip', ['link', 'set', tap, 'up']);
  execFileSync('truncate', ['-s', `${mebibytes}M`, path('bare.raw')]);
  const options = 'discard=unmap,detect-zeroes=unmap,if=none';
  const qemu = spawn(
    'qemu-system-x86_64',
    [
      ...machine(accelerator),
      ...['-m', '192M', '-netdev', `tap,id=net,ifname=${tap},script=no,downscript=no,vhost=off`],
      ...['-device', `virtio-net-pci,netdev=net,mac=${mac},romfile=`],
      ...['-drive', `file=${disk},format=qcow2,id=disk,${options}`, '-device', 'virtio-blk-pci,drive=disk,bootindex=0'],
      ...['-drive', `file=${path('bare.raw')},format=raw,id=volume,${options}`],
      ...['-device', 'pcie-root-port,id=slot0', '-device', 'virtio-blk-pci,drive=volume,bus=slot0,serial=bare'],
    ],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const ended = new Promise<void>((resolve) => qemu.once('close', () => resolve()));
  const failed = ended.then(() => Promise.reject(new Error('the QEMU that was started by hand has ended')));
  failed.catch(() => undefined);
  return {
    // The link-local address of the MAC (RFC 4291, appendix A).
    address: `fe80::ff:fe00:42%${tap}`,
    failed,
    stop: () => {
      qemu.kill('SIGKILL');
      return ended;
    },
  };
}

async function story(cloud: GuestCloud): Promise<Rates> {
  const volume = await cloud.run('volume', 'create', '--name', 'data', '--size', `${mebibytes}MiB`);
  const vm = await cloud.createVm('one', '--volumes', 'data');
  const copied = await cloud.createVm('two');
  await Promise.all([cloud.ready(vm), cloud.ready(copied)]);
  await cloud.run('vm', 'update', copied.id, '--power-state', 'stopped');
  await cloud.reach('vm', copied.id, ({ status }) => status.phase === 'stopped');
  copyFileSync(path(`host/vms/${copied.id}/disk.qcow2`), path('bare.qcow2'));
  await cloud.remove('vm', copied.id);
  const bare = startBare(path('bare.qcow2'), commandLineOf(vm.id).includes('kvm') ? 'kvm' : 'tcg');
  try {
    await Promise.race([cloud.login(bare), bare.failed]);
    const sides = { ucloud: [vm, volume.id], bare: [bare, 'bare'] } as const;
    const commands = {} as Record<keyof typeof sides, string>;
    for (const [side, [guest, serial]] of Object.entries(sides) as [keyof typeof sides, (typeof sides)['bare']][]) {
      const device = await cloud.deviceOf(guest, serial);
      // The blocks exist before the first reading.
      await cloud.inGuest(guest, `dd if=/dev/urandom of=${device} bs=1M count=${mebibytes} 2>/dev/null; sync`);
      const program = await bring(cloud, guest);
      commands[side] = `${program} -B -q -D -i 0 -w ${seconds} -S ${mebibytes}m DEVICE ${device}`;
    }
    const rates = {} as Rates;
    for (const [access, options] of Object.entries(accesses) as [Access, readonly string[]][]) {
      rates[access] = { ucloud: [], bare: [] };
      // Both in turn, so that a disturbance of the machine affects both.
      for (let round = 0; round < Number(rounds); round++) {
        for (const side of round % 2 === 0 ? (['ucloud', 'bare'] as const) : (['bare', 'ucloud'] as const)) {
          const command = commands[side].replace('DEVICE', options.join(' '));
          rates[access][side].push(await rateOf(cloud, sides[side][0], command));
        }
      }
    }
    return rates;
  } finally {
    await bare.stop();
  }
}

await GuestCloud.tell(data, image, story);
process.exit();
