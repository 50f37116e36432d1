/**
 * The header of a VDI file (VirtualBox; block/vdi.c of QEMU), read as hostile input. Only a complete disk is accepted:
 * a differencing image needs another file.
 */
import { type DiskSizeResult, diskSize, type ImageBytes, refuse } from './image-bytes.ts';

const headerSize = 512;
const blockSize = 1024 ** 2;
/** Types of images. */
const type = { dynamic: 1, fixed: 2, undo: 3, differencing: 4 } as const;
/** Offsets of the ids of other images: that of the linked image, and that of the parent. */
const referenceAt = [0x1a8, 0x1b8];

/** Reads the header. Returns the size of the disk. */
export async function readVdi(file: ImageBytes): Promise<DiskSizeResult> {
  const header = await file.read(0, headerSize);
  const number = (at: number): number => header.getUint32(at, true);
  const version = number(0x44);
  if (version !== 0x10001) return refuse(`It is VDI version ${version >>> 16}.${version & 0xffff}; 1.1 is accepted.`);
  const imageType = number(0x4c);
  const refers = referenceAt.some((at) => header.getBigUint64(at) !== 0n || header.getBigUint64(at + 8) !== 0n);
  if (refers || imageType === type.undo || imageType === type.differencing)
    return refuse('It is a differencing image, which needs another file. Flatten it first: VBoxManage clonemedium');
  if (imageType !== type.dynamic && imageType !== type.fixed) return refuse(`Its type, ${imageType}, is not valid.`);
  if (number(0x168) !== 512 || number(0x178) !== blockSize)
    return refuse('Its sectors must have 512 bytes and its blocks 1 MiB.');
  const [mapAt, dataAt, blocks] = [number(0x154), number(0x158), number(0x180)];
  if (mapAt < headerSize || mapAt % 512 !== 0 || dataAt % 512 !== 0 || mapAt + blocks * 4 > file.size)
    return refuse('Its map of blocks lies outside of the file: it is damaged or cut off.');
  // VirtualBox writes odd sizes too, and QEMU rounds them up.
  const bytes = ((header.getBigUint64(0x170, true) + 511n) / 512n) * 512n;
  if (bytes > BigInt(blocks) * BigInt(blockSize)) return refuse('Its map of blocks is too short for the disk.');
  return diskSize(bytes);
}
