/**
 * A disk that a PC BIOS boots, put together without loop devices and without root: an MBR with one partition, GRUB in
 * the gap before it, and an ext4 file system filled from a directory.
 */
import { execFile } from 'node:child_process';
import { open, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const sectorSize = 512;
const partitionStart = 2048;

/** One active Linux partition from `partitionStart` to the end of the disk. */
function partitionTable(diskSize: number): Buffer {
  const table = Buffer.alloc(66);
  table.writeUInt8(0x80, 0); // active
  table.writeUInt8(0x83, 4); // Linux
  table.fill(0xfe, 1, 4); // CHS values: unused since disks exceed them
  table.fill(0xfe, 5, 8);
  table.writeUInt32LE(partitionStart, 8);
  table.writeUInt32LE(diskSize / sectorSize - partitionStart, 12);
  table.writeUInt16LE(0xaa55, 64);
  return table;
}

export interface BootDisk {
  /** Raw image to write. */
  readonly output: string;
  /** Bytes; a multiple of 1 MiB. */
  readonly size: number;
  /** Tree that becomes the root file system; holds /boot/grub/grub.cfg. Whoever owns its files here, root does there. */
  readonly root: string;
  /** Label of the file system, at most 16 characters. */
  readonly label: string;
  /** Tree in which grub-common, grub-pc-bin and their libraries have been unpacked. */
  readonly tools: string;
}

/** Runs a program of an unpacked tree with the libraries of that tree. */
export function unpackedProgram(tools: string, program: string, args: readonly string[]): [string, string[]] {
  const libraries = ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'].map((path) => join(tools, path)).join(':');
  const loader = join(tools, 'lib64/ld-linux-x86-64.so.2');
  return [loader, ['--inhibit-cache', '--library-path', libraries, ...args.slice(0, 0), join(tools, program), ...args]];
}

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
    // Everything that boots is older than these features of newer e2fsprogs; GRUB 2.06 cannot read metadata_csum_seed.
    ...['-O', '^metadata_csum_seed,^orphan_file', '-E', `offset=${partitionStart * sectorSize},root_owner=0:0`],
    ...[disk.output, `${blocks}k`],
  ];
  // In a user namespace of its own, the files of an ordinary user look like root's.
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
