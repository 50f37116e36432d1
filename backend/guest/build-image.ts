/**
 * Builds the demo guest image as a bootable qcow2: a small system of Debian packages (kernel, BusyBox, Dropbear,
 * e2fsprogs, rdnssd, the QEMU guest agent) with ucloud-init. The build needs neither loop devices nor root, and takes
 * a few seconds.
 *
 * The root file system is ext4 and grows to the disk, so data, host keys and the work of the first boot persist. The
 * guest has one user, `ucloud`, who logs in by SSH key only. No user has a password. The guest uses IPv6 only.
 *
 * Command: node backend/guest/build-image.ts --output FILE [--cache DIRECTORY]
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  access,
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { makeBootDisk, unpackedProgram } from './boot-disk.ts';
import { type ArchiveEntry, cpioArchive, directoryMode, linkMode, programMode } from './cpio.ts';
import {
  downloadPackages,
  type PackageFile,
  PackagesUnavailable,
  resolvePackages,
  unpackPackages,
} from './debian-packages.ts';
import { type KernelModule, moduleClosure } from './kernel-modules.ts';

const run = promisify(execFile);
const here = import.meta.dirname;

const packages = [
  ...['linux-image-cloud-amd64', 'busybox', 'dropbear-bin', 'e2fsprogs', 'rdnssd', 'libc-bin'],
  ...['qemu-guest-agent', 'grub-common', 'grub-pc-bin'],
];
/** The programs of the guest beside BusyBox, by their paths in the packages. */
const programs = [
  ...['usr/sbin/dropbear', 'usr/bin/dropbearkey', 'sbin/resize2fs', 'sbin/rdnssd', 'usr/bin/getent'],
  ...['sbin/mke2fs', 'usr/sbin/qemu-ga'],
];
const bootModules = ['virtio_pci', 'virtio_blk', 'ext4'];
const guestModules = [
  ...['virtio_net', 'virtio_rng', 'virtio_balloon', 'virtio_console', 'button', 'evdev', 'qemu_fw_cfg', 'af_packet'],
  // Containers of a guest have a network of their own.
  'veth',
];
const diskSize = 256 * 1024 * 1024;

/** The options of the build. */
export interface DemoImageOptions {
  /** The path of the qcow2. It is replaced atomically. */
  readonly output: string;
  /** The directory of downloaded packages and built images. Concurrent builds may share it. */
  readonly cacheDir: string;
  /** Receives one line for each step. */
  readonly progress?: (message: string) => void;
}

/**
 * Builds the image, or takes it from the cache. @throws PackagesUnavailable if this machine cannot build the image; the
 * message contains the remedy
 */
export async function buildDemoImage({ output, cacheDir, progress = () => {} }: DemoImageOptions): Promise<void> {
  if (process.arch !== 'x64') throw new PackagesUnavailable('The demo image is for x86_64, and so is what builds it.');
  const debs = join(cacheDir, 'debian-packages');
  progress('looking for Debian packages');
  const files = await resolvePackages(packages, debs);
  const cached = join(cacheDir, `demo-image-${await fingerprint(files)}.qcow2`);
  if (!(await exists(cached))) {
    const work = await mkdtemp(join(cacheDir, 'build-'));
    try {
      const image = join(work, 'image.qcow2');
      await build(debs, files, work, image, progress);
      await rename(image, cached);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
    await removeOld(cacheDir);
  }
  await mkdir(dirname(output), { recursive: true });
  const temporary = `${output}.${process.pid}.new`;
  await copyFile(cached, temporary);
  await rename(temporary, output);
  progress(`image at ${output}`);
}

/** Removes the images of earlier versions, and the remains of killed builds. */
async function removeOld(cacheDir: string): Promise<void> {
  const yesterday = Date.now() - 24 * 3600 * 1000;
  for (const name of await readdir(cacheDir)) {
    const path = join(cacheDir, name);
    if (!/^(demo-image|build)-/.test(name)) continue;
    // Another build may have removed the file.
    const age = await stat(path).catch(() => undefined);
    if (age && age.mtimeMs < yesterday) await rm(path, { recursive: true, force: true });
  }
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** Returns the digest of all inputs: packages and the files of this directory. */
async function fingerprint(files: readonly PackageFile[]): Promise<string> {
  const hash = createHash('sha256');
  for (const file of files) hash.update(`${file.name} ${file.sha256}\n`);
  const sources = await readdir(here, { recursive: true, withFileTypes: true });
  for (const entry of sources.sort((a, b) => join(a.parentPath, a.name).localeCompare(join(b.parentPath, b.name)))) {
    if (!entry.isFile()) continue;
    hash.update(`${entry.name}\n`).update(await readFile(join(entry.parentPath, entry.name)));
  }
  return hash.digest('hex').slice(0, 16);
}

async function build(
  debs: string,
  files: readonly PackageFile[],
  work: string,
  image: string,
  progress: (message: string) => void,
): Promise<void> {
  progress('downloading what is missing of them');
  await downloadPackages(files, debs);
  progress('unpacking them');
  const tree = join(work, 'packages');
  await unpackPackages(debs, files, tree);
  const [version] = await readdir(join(tree, 'lib/modules'));
  if (version === undefined) throw new Error('the kernel package has no modules');
  progress('making the root file system');
  const root = join(work, 'root');
  await makeRoot(tree, root, version);
  progress('making the disk');
  const disk = join(work, 'disk.raw');
  await makeBootDisk({ output: disk, size: diskSize, root, label: 'ucloud-root', tools: tree });
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', disk, image]);
}

/** Returns the program and its libraries by their paths in the guest. All libraries go to /lib. */
async function withLibraries(tree: string, program: string): Promise<Map<string, string>> {
  const [loader, args] = unpackedProgram(tree, program, []);
  const { stdout } = await run(loader, ['--list', ...args]);
  const found = new Map([[program, join(tree, program)]]);
  found.set('lib64/ld-linux-x86-64.so.2', loader);
  for (const [, path] of stdout.matchAll(/ => (\S+) \(/g)) {
    if (path?.startsWith(tree)) found.set(`lib/${basename(path)}`, path);
  }
  return found;
}

async function makeRoot(tree: string, root: string, kernel: string): Promise<void> {
  const directories = ['bin', 'boot/grub', 'dev', 'etc/acpi/PWRF', 'etc/dropbear', 'etc/init.d', 'etc/rdnssd'];
  directories.push('home/ucloud', 'lib/modules', 'lib64', 'mnt', 'proc', 'root', 'run', 'sys', 'tmp', 'usr');
  directories.push('var/log', 'var/lib');
  for (const directory of directories) await mkdir(join(root, directory), { recursive: true });
  // All programs are in one directory, so every PATH finds them.
  await symlink('bin', join(root, 'sbin'));
  for (const name of ['bin', 'sbin', 'lib']) await symlink(`../${name}`, join(root, 'usr', name));
  await symlink('/run', join(root, 'var/run'));
  await chmod(join(root, 'root'), 0o700);
  await chmod(join(root, 'home/ucloud'), 0o700);

  const put = async (path: string, content: string | Uint8Array, mode = 0o644): Promise<void> => {
    await writeFile(join(root, path), content);
    await chmod(join(root, path), mode);
  };
  const busybox = await readFile(join(tree, 'bin/busybox'));
  await put('bin/busybox', busybox, 0o755);
  const { stdout } = await run(...unpackedProgram(tree, 'bin/busybox', ['--list']));
  for (const applet of stdout.split('\n').filter(Boolean)) {
    if (applet !== 'busybox') await symlink('busybox', join(root, 'bin', applet));
  }
  for (const program of ['bin/busybox', ...programs]) {
    for (const [path, source] of await withLibraries(tree, program)) {
      await rm(join(root, path), { force: true });
      await put(path, await readFile(source), 0o755);
    }
  }

  const modules = join(tree, 'lib/modules', kernel);
  const forGuest = await moduleClosure(modules, [...bootModules, ...guestModules]);
  await putModules(modules, forGuest, join(root, 'lib/modules', kernel));
  await put('boot/vmlinuz', await readFile(join(tree, `boot/vmlinuz-${kernel}`)));
  await put('boot/initramfs', await initramfs(tree, modules));

  const own = async (name: string, path: string, mode = 0o755) =>
    put(path, await readFile(join(here, 'demo-image', name)), mode);
  await own('grub.cfg', 'boot/grub/grub.cfg', 0o644);
  await own('inittab', 'etc/inittab', 0o644);
  await own('rcS', 'etc/init.d/rcS');
  await own('rcK', 'etc/init.d/rcK');
  await own('power-button', 'etc/acpi/PWRF/00000080');
  await own('guest-agent', 'bin/guest-agent');
  await own('rdnssd-merge-hook', 'etc/rdnssd/merge-hook');
  await put(
    'etc/passwd',
    'root:*:0:0:root:/root:/bin/sh\nrdnssd:*:100:100::/run/rdnssd:/bin/false\nucloud:*:1000:1000::/home/ucloud:/bin/sh\n',
  );
  await put('etc/group', 'root:*:0:\nrdnssd:*:100:\nucloud:*:1000:\n');
  await put('etc/shells', '/bin/sh\n');
  await put('etc/hostname', 'ucloud\n');
  await put('etc/hosts', '::1 localhost\n');
  await put('etc/profile', 'export PATH=/usr/sbin:/usr/bin:/sbin:/bin\n');
  await put('etc/ucloud-init.conf', 'users=ucloud\n');
  await put(
    'etc/os-release',
    `NAME="ucloud demo guest"\nID=ucloud-demo\nID_LIKE=debian\nPRETTY_NAME="ucloud demo guest"\n`,
  );
  await put('bin/ucloud-init', await readFile(join(here, 'ucloud-init/ucloud-init')), 0o755);
}

/** Copies modules with all their dependencies, and writes modules.dep(5) for modprobe: the nearest dependency first. */
async function putModules(tree: string, modules: readonly KernelModule[], into: string): Promise<void> {
  const needs = new Map<string, Set<string>>();
  const lines: string[] = [];
  for (const { name, path, dependencies } of modules) {
    await mkdir(join(into, dirname(path)), { recursive: true });
    await copyFile(join(tree, path), join(into, path));
    const all = new Set<string>();
    for (const dependency of dependencies) {
      for (const each of needs.get(dependency) ?? []) all.add(each);
      const found = modules.find((module) => module.name === dependency);
      if (found) all.add(found.path);
    }
    needs.set(name, all);
    lines.push(`${path}: ${[...all].reverse().join(' ')}\n`);
  }
  await writeFile(join(into, 'modules.dep'), lines.join(''));
}

/** Returns an initramfs that mounts the root file system. */
async function initramfs(tree: string, modules: string): Promise<Buffer> {
  const needed = await moduleClosure(modules, bootModules);
  const entries: ArchiveEntry[] = ['bin', 'lib', 'lib64', 'modules'].map((path) => ({ path, mode: directoryMode }));
  for (const [path, source] of await withLibraries(tree, 'bin/busybox')) {
    entries.push({ path, mode: programMode, data: await readFile(source) });
  }
  for (const { name, path } of needed) {
    entries.push({ path: `modules/${name}.ko`, mode: 0o100644, data: await readFile(join(modules, path)) });
  }
  const order = needed.map(({ name }) => `${name}\n`).join('');
  entries.push({ path: 'modules/order', mode: 0o100644, data: Buffer.from(order) });
  entries.push({ path: 'bin/sh', mode: linkMode, data: Buffer.from('/bin/busybox') });
  entries.push({ path: 'init', mode: programMode, data: await readFile(join(here, 'demo-image/initramfs-init')) });
  return gzipSync(cpioArchive(entries), { level: 6 });
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { output: { type: 'string' }, cache: { type: 'string' } } });
  if (values.output === undefined) {
    console.error('usage: node backend/guest/build-image.ts --output FILE [--cache DIRECTORY]');
    process.exit(2);
  }
  const cacheDir = values.cache ?? join(here, '../../.ucloud/cache');
  try {
    await buildDemoImage({ output: resolve(values.output), cacheDir: resolve(cacheDir), progress: console.log });
  } catch (error) {
    if (!(error instanceof PackagesUnavailable)) throw error;
    console.error(error.message);
    process.exit(1);
  }
}
