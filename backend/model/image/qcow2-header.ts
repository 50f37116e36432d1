/**
 * The header of a qcow2 file (docs/interop/qcow2.txt of QEMU), read as hostile input. A qcow2 can refer to other files,
 * whose content QEMU and `qemu-img` would copy to the disk of the guest. Only self-contained files are accepted, and
 * only optional features that refer to nothing outside.
 */
import { diskSize, refuse as no } from './image-bytes.ts';

export const qcow2Magic = 0x514649fb;

/** The fields of an accepted header. */
export interface Qcow2Header {
  /** The size of the virtual disk in bytes. */
  readonly virtualSize: number;
  /** The size of a cluster in bytes. */
  readonly clusterSize: number;
  /** The offset of the first-level table, and the number of its entries for the disk. */
  readonly tablesAt: number;
  readonly tables: number;
  /** The bytes of an entry of a second-level table, which fills a cluster. */
  readonly entrySize: 8 | 16;
}

/** The header, or the problem of a refused file. */
export type Qcow2Result =
  | { readonly ok: true; readonly header: Qcow2Header }
  | { readonly ok: false; readonly problem: string };

/** The bytes from the start of the file that contain everything examined: one cluster of the maximum size. */
export const qcow2HeadSize = 2 * 1024 * 1024;

/** Incompatible feature bits. */
const known = {
  dirty: 1n << 0n,
  corrupt: 1n << 1n,
  externalData: 1n << 2n,
  compression: 1n << 3n,
  extendedL2: 1n << 4n,
};
const accepted = known.compression | known.extendedL2;

/** Types of header extensions. */
const extension = {
  end: 0,
  backingFormat: 0xe2792aca,
  featureNames: 0x6803f857,
  bitmaps: 0x23852875,
  encryption: 0x0537be77,
  externalDataFile: 0x44415441,
} as const;

/** QEMU refuses larger active tables. */
const maxL1Bytes = 32 * 1024 * 1024;
/** The minimum length of a version 3 header for the rules below. */
const minHeaderBytes = 104;

/**
 * Reads the header of a qcow2 file.
 * @param head the first `qcow2HeadSize` bytes of the file, or the whole file
 * @param fileSize the size of the file in bytes
 */
export function readQcow2Header(head: Uint8Array, fileSize: number): Qcow2Result {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (head.length < minHeaderBytes || fileSize < head.length) return no('The file is too short to be a qcow2 image.');
  if (view.getUint32(0) !== qcow2Magic) return no('The file does not start as a qcow2 image does.');
  const version = view.getUint32(4);
  if (version !== 2 && version !== 3) return no(`It is qcow version ${version}; versions 2 and 3 are accepted.`);

  if (view.getBigUint64(8) !== 0n || view.getUint32(16) !== 0)
    return no('It refers to a backing file. Flatten it first: qemu-img convert -O qcow2 old.qcow2 new.qcow2');
  if (view.getUint32(32) !== 0) return no('It is encrypted.');
  if (view.getUint32(60) !== 0) return no('It contains snapshots. Delete them first: qemu-img snapshot -d');

  const clusterBits = view.getUint32(20);
  if (clusterBits < 9 || clusterBits > 21)
    return no(`Its cluster size, 2 to the power of ${clusterBits}, is not valid.`);
  const clusterSize = 2 ** clusterBits;

  let extensions = 72;
  let entrySize: 8 | 16 = 8;
  if (version === 3) {
    const features = view.getBigUint64(72);
    if ((features & known.externalData) !== 0n) return no('It keeps its data in an external file. Flatten it first.');
    if ((features & known.corrupt) !== 0n) return no('It is marked as corrupt.');
    if ((features & known.dirty) !== 0n) return no('It was not closed cleanly. Repair it first: qemu-img check -r all');
    const unknown = features & ~accepted;
    if (unknown !== 0n) return no(`It needs features that are not known here (bits 0x${unknown.toString(16)}).`);
    if ((features & known.extendedL2) !== 0n) entrySize = 16;
    extensions = view.getUint32(100);
    if (extensions < minHeaderBytes || extensions % 8 !== 0 || extensions > Math.min(clusterSize, head.length))
      return no('The length of its header is not valid.');
    const compression = extensions > minHeaderBytes ? view.getUint8(minHeaderBytes) : 0;
    if (compression > 1) return no(`It is compressed with a method that is not known here (${compression}).`);
  }
  const problem = extensionProblem(view, extensions, Math.min(clusterSize, head.length));
  if (problem !== undefined) return no(problem);
  return readTables(view, fileSize, clusterSize, entrySize);
}

function extensionProblem(view: DataView, start: number, end: number): string | undefined {
  for (let at = start; at + 8 <= end; ) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (type === extension.end) return undefined;
    if (type === extension.backingFormat) return 'It names the format of a backing file.';
    if (type === extension.externalDataFile) return 'It names an external data file.';
    if (type === extension.encryption) return 'It is encrypted.';
    at += 8 + Math.ceil(length / 8) * 8;
    if (at > end) return 'A part of its header is longer than the header.';
  }
  return undefined;
}

function readTables(view: DataView, fileSize: number, clusterSize: number, entrySize: 8 | 16): Qcow2Result {
  const size = diskSize(view.getBigUint64(24));
  if (!size.ok) return size;
  const { virtualSize } = size;

  // An entry of the first level has 8 bytes, and describes one second-level table.
  const entries = view.getUint32(36);
  const needed = Math.ceil(virtualSize / (clusterSize * (clusterSize / entrySize)));
  if (entries * 8 > maxL1Bytes || entries < needed) return no('Its table of clusters has an impossible size.');
  const tables = [
    { offset: view.getBigUint64(40), bytes: BigInt(entries) * 8n },
    { offset: view.getBigUint64(48), bytes: BigInt(view.getUint32(56)) * BigInt(clusterSize) },
  ];
  for (const { offset, bytes } of tables) {
    const valid =
      offset > 0n && offset % BigInt(clusterSize) === 0n && bytes > 0n && offset + bytes <= BigInt(fileSize);
    if (!valid) return no('Its tables lie outside of the file: it is damaged or cut off.');
  }
  const tablesAt = Number(view.getBigUint64(40));
  return { ok: true, header: { virtualSize, clusterSize, tablesAt, tables: needed, entrySize } };
}
