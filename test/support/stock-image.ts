/**
 * Stock images: Debian as mmdebstrap installs it, with cloud-init and nothing of ucloud. Each is built once and kept in
 * the ignored cache of the repository.
 *
 * The images differ from Debian's own cloud images in what costs minutes under emulation: documentation, locales, and
 * services that a test does not need.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { makeBootDisk } from '../../backend/guest/boot-disk.ts';
import { downloadPackages, resolvePackages, unpackPackages } from '../../backend/guest/debian-packages.ts';
import { cacheDir } from './demo-image.ts';

const run = promisify(execFile);

export const stacks = ['networkd', 'netplan', 'network-manager', 'ifupdown'] as const;

export interface StockImage {
  readonly suite: 'bookworm' | 'trixie';
  /** The programs that configure the network. */
  readonly stack: (typeof stacks)[number];
}

const packages = [
  ...['systemd', 'systemd-sysv', 'systemd-resolved', 'udev', 'dbus', 'libpam-systemd', 'netbase', 'iproute2'],
  ...['linux-image-cloud-amd64', 'initramfs-tools', 'lz4', 'e2fsprogs', 'fdisk', 'cloud-init', 'cloud-guest-utils'],
  ...['openssh-server', 'sudo', 'ca-certificates', 'iputils-ping'],
];
const stackPackages: Readonly<Record<StockImage['stack'], readonly string[]>> = {
  networkd: [],
  netplan: ['netplan.io'],
  'network-manager': ['network-manager'],
  ifupdown: ['ifupdown'],
};

/** cloud-init's steps that cost seconds under emulation and are not about the network. */
const cloudConfig = `
locale: false
growpart: {mode: 'off'}
ssh_genkeytypes: [ed25519]
apt: {preserve_sources_list: true}
`;

const grubConfig = `
set timeout=0
serial --unit=0 --speed=115200
terminal_output serial
linux /vmlinuz root=/dev/vda1 rw console=ttyS0
initrd /initrd.img
boot
`;

/** Steps before the packages, each a shell command of mmdebstrap with the tree as $1. */
const setUp: readonly string[] = [
  'mkdir -p $1/etc/initramfs-tools/conf.d $1/etc/dpkg/dpkg.cfg.d',
  'printf "MODULES=list\\nCOMPRESS=lz4\\n" > $1/etc/initramfs-tools/conf.d/test',
  'printf "virtio_pci\\nvirtio_blk\\next4\\nvirtio_net\\n" > $1/etc/initramfs-tools/modules',
  // An option of mmdebstrap would also send each package of the base system through a filter in Python.
  'printf "path-exclude=/usr/share/%s/*\\n" doc man info locale > $1/etc/dpkg/dpkg.cfg.d/test',
];

/** Steps after the packages, as those before. */
const customize = ({ stack }: StockImage): string[] => [
  'chroot $1 systemctl mask e2scrub_reap.service',
  // Without netplan, nothing else starts systemd-networkd.
  ...(stack === 'networkd' ? ['chroot $1 systemctl enable systemd-networkd.service'] : []),
];

const recipe = (image: StockImage): readonly string[] => [
  ...['--mode=root', '--variant=minbase', `--include=${[...packages, ...stackPackages[image.stack]].join(',')}`],
  ...['--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Retries "3"'],
  // A build that a crash interrupts begins again, so nothing must reach the disk in the meantime.
  '--dpkgopt=force-unsafe-io',
  ...setUp.map((step) => `--setup-hook=${step}`),
  ...customize(image).map((step) => `--customize-hook=${step}`),
  image.suite,
];

/** Returns the path of the image, a qcow2. The first call takes one or two minutes, the others none. */
export async function stockImage(image: StockImage): Promise<string> {
  const hash = createHash('sha256')
    .update(JSON.stringify([recipe(image), cloudConfig, grubConfig]))
    .digest('hex');
  const output = join(cacheDir, `stock-${image.suite}-${image.stack}-${hash.slice(0, 12)}.qcow2`);
  const there = await access(output).then(
    () => true,
    () => false,
  );
  if (there) return output;
  await mkdir(cacheDir, { recursive: true });
  const work = await mkdtemp(join(cacheDir, 'build-'));
  try {
    await build(image, work, `${output}.${process.pid}`);
    await rename(`${output}.${process.pid}`, output);
    return output;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function build(image: StockImage, work: string, output: string): Promise<void> {
  const root = join(work, 'root');
  await run('mmdebstrap', [...recipe(image), root], { maxBuffer: 64 * 1024 ** 2 });
  await writeFile(join(root, 'etc/cloud/cloud.cfg.d/90-test.cfg'), cloudConfig);
  await mkdir(join(root, 'boot/grub'), { recursive: true });
  await writeFile(join(root, 'boot/grub/grub.cfg'), grubConfig);
  const debs = join(cacheDir, 'stock-packages');
  const files = await resolvePackages(['grub-common', 'grub-pc-bin'], debs);
  await downloadPackages(files, debs);
  const tools = join(work, 'tools');
  await unpackPackages(debs, files, tools);
  const disk = join(work, 'disk.raw');
  await makeBootDisk({ output: disk, size: 2048 * 1024 ** 2, root, label: 'root', tools });
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', disk, output]);
}
