/** Files for the disks of VMs: their format by content, whether ucloud accepts them, and their names. */
import type { Id } from '../../contract/fields.ts';
import { qcow2HeadSize, qcow2Magic, readQcow2Header } from './qcow2-header.ts';

/** Returns the file name of an image in the image store, for the image scanner and hosts. */
export const imageFileName = (image: Id<'image'>): string => `${image}.qcow2`;

/** An accepted disk image. */
export interface DiskImage {
  readonly format: 'qcow2' | 'raw';
  /** The size of the virtual disk in bytes. */
  readonly virtualSize: number;
}

/** The image, or the problem of a refused file. */
export type DiskImageResult =
  | { readonly ok: true; readonly image: DiskImage }
  | { readonly ok: false; readonly problem: string };

/** The bytes from the start of a file that `recognizeDiskImage` needs. */
export const headSize = qcow2HeadSize;

const text = (at: number, signature: string) => ({ at, bytes: Buffer.from(signature, 'latin1') });
const hex = (at: number, signature: string) => ({ at, bytes: Buffer.from(signature, 'hex') });

/** Known formats that are refused, so that the error can name them. */
const others: readonly { readonly name: string; readonly at: number; readonly bytes: Buffer }[] = [
  { name: 'a VMDK image', ...text(0, 'KDMV') },
  { name: 'a VMDK image', ...text(0, 'COWD') },
  { name: 'a VMDK descriptor', ...text(0, '# Disk DescriptorFile') },
  { name: 'a VHDX image', ...text(0, 'vhdxfile') },
  { name: 'a VHD image', ...text(0, 'conectix') },
  { name: 'a VDI image', ...hex(64, '7f10dabe') },
  { name: 'a QED image', ...text(0, 'QED\0') },
  { name: 'a Parallels image', ...text(0, 'WithoutFreeSpace') },
  { name: 'a Parallels image', ...text(0, 'WithouFreSpacExt') },
  { name: 'an encrypted LUKS volume', ...hex(0, '4c554b53babe') },
  { name: 'compressed with gzip', ...hex(0, '1f8b') },
  { name: 'compressed with xz', ...hex(0, 'fd377a585a00') },
  { name: 'compressed with zstd', ...hex(0, '28b52ffd') },
  { name: 'compressed with bzip2', ...text(0, 'BZh') },
  { name: 'a ZIP archive', ...text(0, 'PK\x03\x04') },
  { name: 'a tar archive', ...text(257, 'ustar') },
  { name: 'a web page', ...text(0, '<') },
];
const isoSignature = { name: 'an ISO 9660 image', ...text(0x8001, 'CD001') };
const bootSignature = hex(510, '55aa');

const has = (head: Uint8Array, { at, bytes }: { at: number; bytes: Buffer }): boolean =>
  head.length >= at + bytes.length && bytes.equals(head.subarray(at, at + bytes.length));

const no = (problem: string): DiskImageResult => ({ ok: false, problem });

/**
 * Recognises qcow2 and raw disks. This is the only place that determines a format: QEMU gets it explicitly, so a guest
 * cannot change it through its first sector.
 * @param head the first `headSize` bytes of the file, or the whole file
 * @param fileSize the size of the file in bytes
 */
export function recognizeDiskImage(head: Uint8Array, fileSize: number): DiskImageResult {
  if (fileSize === 0) return no('The file is empty.');
  if (head.length >= 4 && new DataView(head.buffer, head.byteOffset).getUint32(0) === qcow2Magic) {
    const result = readQcow2Header(head, fileSize);
    return result.ok ? { ok: true, image: { format: 'qcow2', virtualSize: result.header.virtualSize } } : result;
  }
  const other = others.find((each) => has(head, each));
  if (other) return no(`The file is ${other.name}. Convert it first: qemu-img convert -O qcow2 old new.qcow2`);
  if (!has(head, bootSignature)) {
    return has(head, isoSignature)
      ? no(`The file is ${isoSignature.name}, not a disk.`)
      : no('The file is neither a qcow2 image nor a raw disk that can be booted (it has no boot sector).');
  }
  if (fileSize % 512 !== 0)
    return no('The file is a raw disk, but its size is not a multiple of 512 bytes: is it cut off?');
  return { ok: true, image: { format: 'raw', virtualSize: fileSize } };
}
