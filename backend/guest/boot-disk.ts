/**
 * A disk that a PC BIOS boots, built without loop devices and without root. It has an MBR with one partition, GRUB in
 * the gap before the partition, and an ext4 file system with the files of a directory.
 */
import { execFile } from 'node:child_process';
import { open, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const sectorSize = 512;
const partitionStart = 2048;

/** Returns the partition table: one active Linux partition from `partitionStart` to the end of the disk. */
function partitionTable(diskSize: number): Buffer {
  const table = Buffer.alloc(66);
  table.writeUInt8(0x80, 0); // active
  table.writeUInt8(0x83, 4); // Linux
  table.fill(0xfe, 1, 4); // CHS values: unused, because disks exceed them
  table.fill(0xfe, 5, 8);
  table.writeUInt32LE(partitionStart, 8);
  table.writeUInt32LE(diskSize / sectorSize - partitionStart, 12);
  table.writeUInt16LE(0xaa55, 64);
  return table;
}

/** The parts of a boot disk. */
export interface BootDisk {
  /** The path of the raw image. */
  readonly output: string;
  /** The size in bytes, a multiple of 1 MiB. */
  readonly size: number;
  /**
   * The directory of the root file system, with /boot/grub/grub.cfg. The owner of its files becomes root in the guest.
   */
  readonly root: string;
  /** The label of the file system, at most 16 characters. */
  readonly label: string;
  /** The directory with the unpacked packages grub-common, grub-pc-bin and their libraries. */
  readonly tools: string;
}

/** Returns the command that runs a program of an unpacked tree with the libraries of that tree. */
export function unpackedProgram(tools: string, program: string, args: readonly string[]): [string, string[]] {
  const libraries = ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'].map((path) => join(tools, path)).join(':');
  const loader = join(tools, 'lib64/ld-linux-x86-64.so.2');
  return [loader, ['--inhibit-cache', '--library-path', libraries, ...args.slice(0, 0), join(tools, program), ...args]];
}

/** Builds a boot disk. */
export async function makeBootDisk(disk: BootDisk): Promise<void> {
  const grub = join(disk.tools, 'usr/lib/grub/i386-pc');
  const core = join(dirname(disk.output), 'core.img');
  const modules = ['biosdisk', 'part_msdos', 'ext2', 'normal', 'linux', 'serial', 'terminal', 'minicmd'];
  const mkimage = ['-d', grub, '-O', 'i386-pc', '-p', '(hd0,msdos1)/boot/grub', '-o', core, ...modules];
  await run(...unpackedProgram(disk.tools, 'usr/bin/grub-mkimage', mkimage));
  if ((await stat(core)).size > (partitionStart - 1) * sectorSize)
    throw new Error('GRUB does not fit before the partition');

  await writeFile(disk.output, '');
  await truncate(disk.output, disk.size);
  const blocks = disk.size / 1024 - (partitionStart * sectorSize) / 1024;
  const mke2fs = [
    ...['mke2fs', '-q', '-F', '-t', 'ext4', '-L', disk.label, '-d', disk.root, '-m', '1'],
    // GRUB 2.06 cannot read metadata_csum_seed, and the booted programs are older than both features.
    ...['-O', '^metadata_csum_seed,^orphan_file', '-E', `offset=${partitionStart * sectorSize},root_owner=0:0`],
    ...[disk.output, `${blocks}k`],
  ];
  // In a separate user namespace, the files of an ordinary user appear to belong to root.
  const asRoot = process.getuid?.() === 0 ? mke2fs : ['unshare', '--map-root-user', ...mke2fs];
  const [program = '', ...args] = asRoot;
  await run(program, args, { env: { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` } });

  const file = await open(disk.output, 'r+');
  try {
    await file.write(await readFile(join(grub, 'boot.img')), 0, 440, 0);
    await file.write(partitionTable(disk.size), 0, 66, 446);
    await file.write(await readFile(core), 0, undefined, sectorSize);
    await file.sync();
  } finally {
    await file.close();
  }
}
