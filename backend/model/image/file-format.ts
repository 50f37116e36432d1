/**
 * The format of a file, by its content. This is the only place that determines a format: programs get it explicitly, so
 * a guest cannot change it through its first sector.
 */

/** The formats of disks that ucloud reads. */
export const diskFormats = ['qcow2', 'raw', 'vmdk', 'vdi', 'vhdx'] as const;
export type DiskFormat = (typeof diskFormats)[number];

/** The compressions of whole files that ucloud unpacks. */
export const compressions = ['gzip', 'xz', 'zstd'] as const;
export type Compression = (typeof compressions)[number];

/** The format of a file, or the problem of a refused file. */
export type FileFormat =
  | { readonly kind: 'disk'; readonly format: DiskFormat }
  | { readonly kind: 'compressed'; readonly compression: Compression }
  | { readonly kind: 'refused'; readonly problem: string };

/** The number of bytes from the start of a file that `detectFormat` needs. */
export const formatHeadSize = 0x8006;
/** The number of bytes from the end of a file that `detectFormat` needs. */
export const formatTailSize = 512;

interface Mark {
  readonly at: number;
  readonly bytes: Buffer;
}

const text = (at: number, signature: string): Mark => ({ at, bytes: Buffer.from(signature, 'latin1') });
const hex = (at: number, signature: string): Mark => ({ at, bytes: Buffer.from(signature, 'hex') });

const disk = (format: DiskFormat): FileFormat => ({ kind: 'disk', format });
const compressed = (compression: Compression): FileFormat => ({ kind: 'compressed', compression });
const refused = (problem: string): FileFormat => ({ kind: 'refused', problem });
/** Refuses a known format. The error names it. */
const other = (name: string): FileFormat =>
  refused(`The file is ${name}. Convert it first: qemu-img convert -O qcow2 old new.qcow2`);

const severalFiles = other('a VMDK descriptor, which refers to other files');
const notADisk = (name: string): FileFormat => refused(`The file is ${name}, not a disk.`);

/** The marks of formats. The first that matches counts. */
const marks: readonly (readonly [Mark, FileFormat])[] = [
  [hex(0, '514649fb'), disk('qcow2')],
  [text(0, 'KDMV'), disk('vmdk')],
  [text(0, 'vhdxfile'), disk('vhdx')],
  [hex(64, '7f10dabe'), disk('vdi')],
  [hex(0, '1f8b08'), compressed('gzip')],
  [hex(0, 'fd377a585a00'), compressed('xz')],
  [hex(0, '28b52ffd'), compressed('zstd')],
  [text(0, 'COWD'), other('a VMDK image of an old version')],
  [text(0, '# Disk DescriptorFile'), severalFiles],
  [text(0, 'conectix'), other('a VHD image')],
  [text(0, 'QED\0'), other('a QED image')],
  [text(0, 'WithoutFreeSpace'), other('a Parallels image')],
  [text(0, 'WithouFreSpacExt'), other('a Parallels image')],
  [hex(0, '4c554b53babe'), refused('The file is an encrypted LUKS volume.')],
  [text(0, 'BZh'), refused('The file is compressed with bzip2. Use gzip, xz or zstd.')],
  [text(0, 'LZIP'), refused('The file is compressed with lzip. Use gzip, xz or zstd.')],
  [hex(0, '04224d18'), refused('The file is compressed with LZ4. Use gzip, xz or zstd.')],
  [text(0, 'PK\x03\x04'), refused('The file is a ZIP archive. Unpack it, and use the disk image in it.')],
  [hex(0, '377abcaf271c'), refused('The file is a 7z archive. Unpack it, and use the disk image in it.')],
  [text(257, 'ustar'), refused('The file is a tar archive, such as an OVA. Unpack it, and use the disk image in it.')],
  [text(0, '<'), notADisk('a web page')],
];
const bootSignature = hex(510, '55aa');
const isoSignature = text(0x8001, 'CD001');
/** A VHD image of fixed size is a raw disk with this mark in its last 512 bytes. */
const vhdFooter = text(0, 'conectix');

const has = (bytes: Uint8Array, mark: Mark): boolean =>
  bytes.length >= mark.at + mark.bytes.length &&
  mark.bytes.equals(bytes.subarray(mark.at, mark.at + mark.bytes.length));

/**
 * Returns the format of a file. A raw disk has no mark, so it needs a boot sector. An ISO 9660 image with a boot sector
 * is a raw disk too. Without one it boots only from a CD drive, which VMs do not have.
 * @param head the first `formatHeadSize` bytes of the file, or the whole file
 * @param tail the last `formatTailSize` bytes of the file, or the whole file
 * @param fileSize the size of the file in bytes
 */
export function detectFormat(head: Uint8Array, tail: Uint8Array, fileSize: number): FileFormat {
  if (fileSize === 0) return refused('The file is empty.');
  const known = marks.find(([mark]) => has(head, mark));
  if (known) return known[1];
  if (has(tail, vhdFooter)) return other('a VHD image of fixed size');
  if (!has(head, bootSignature)) {
    return has(head, isoSignature)
      ? refused(
          'The file is an ISO 9660 image without a boot sector. It boots only from a CD drive, which VMs do not have. Use a disk image.',
        )
      : refused(
          'The file is neither an image of a known format nor a raw disk that can be booted (it has no boot sector).',
        );
  }
  if (fileSize % 512 !== 0)
    return refused('The file is a raw disk, but its size is not a multiple of 512 bytes: is it cut off?');
  return disk('raw');
}
