/** Files for the disks of VMs: whether ucloud accepts them, and their names. */
import type { Id } from '../../contract/fields.ts';
import { type Compression, type DiskFormat, detectFormat, formatHeadSize, formatTailSize } from './file-format.ts';
import { bytesOf, type DiskSizeResult, type ImageBytes, refuse } from './image-bytes.ts';
import { qcow2HeadSize, readQcow2Header } from './qcow2-header.ts';
import { readVdi } from './vdi-header.ts';
import { readVhdx } from './vhdx-header.ts';
import { readVmdk } from './vmdk-header.ts';

/** Returns the file name of an image in the image store, for the image scanner and hosts. */
export const imageFileName = (image: Id<'image'>): string => `${image}.qcow2`;

/** An accepted disk image. */
export interface DiskImage {
  readonly format: DiskFormat;
  /** The size of the virtual disk in bytes. */
  readonly virtualSize: number;
}

/** The image, the compression of a file that must be unpacked first, or the problem of a refused file. */
export type DiskImageResult =
  | { readonly ok: true; readonly image: DiskImage }
  | { readonly ok: true; readonly compression: Compression }
  | { readonly ok: false; readonly problem: string };

/** The readers of headers. None of them accepts a file that refers to another file. */
const readers: Readonly<Record<DiskFormat, (file: ImageBytes) => Promise<DiskSizeResult>>> = {
  raw: async ({ size }) => ({ ok: true, virtualSize: size }),
  vmdk: readVmdk,
  vdi: readVdi,
  vhdx: readVhdx,
  qcow2: async (file) => {
    const result = readQcow2Header(bytesOf(await file.read(0, Math.min(file.size, qcow2HeadSize))), file.size);
    return result.ok ? { ok: true, virtualSize: result.header.virtualSize } : result;
  },
};

/** Recognises disks and compressed files. */
export async function recognizeDiskImage(file: ImageBytes): Promise<DiskImageResult> {
  const { size } = file;
  const head = await file.read(0, Math.min(size, formatHeadSize));
  const tailSize = Math.min(size, formatTailSize);
  const tail = await file.read(size - tailSize, tailSize);
  const found = detectFormat(bytesOf(head), bytesOf(tail), size);
  if (found.kind === 'refused') return refuse(found.problem);
  if (found.kind === 'compressed') return { ok: true, compression: found.compression };
  const { format } = found;
  const result = await readers[format](file);
  if (result.ok) return { ok: true, image: { format, virtualSize: result.virtualSize } };
  return format === 'qcow2' ? result : refuse(`The file is a ${format.toUpperCase()} image. ${result.problem}`);
}
