/**
 * The regions and metadata of a VHDX file (MS-VHDX; block/vhdx.c of QEMU), read as hostile input. Only a complete disk is
 * accepted: a differencing image has the locator of a parent, which is another file.
 */
import { bytesOf, type DiskSizeResult, diskSize, type ImageBytes, refuse } from './image-bytes.ts';

/** Both copies of the region table. They must agree, so it does not matter which one a program reads. */
const regionTablesAt = [192 * 1024, 256 * 1024] as const;
const tableBytes = 64 * 1024;
const maxEntries = 2047;
const MiB = 1024 ** 2;

/** Returns the bytes of a GUID in hex. Its first three parts are little-endian. */
const guid = (text: string): string => {
  const [a = '', b = '', c = '', ...rest] = text.toLowerCase().split('-');
  const reversed = (part: string) => Buffer.from(part, 'hex').reverse().toString('hex');
  return reversed(a) + reversed(b) + reversed(c) + rest.join('');
};
const region = {
  blocks: guid('2DC27766-F623-4200-9D64-115E9BFD4A08'),
  metadata: guid('8B7CA206-4790-4B9A-B8FE-575F050F886E'),
} as const;
const item = {
  parameters: guid('CAA16737-FA36-4D43-B3B6-33F0AA44E76B'),
  size: guid('2FA54224-CD1B-4876-B211-5DBED83BF4B8'),
  sectorSize: guid('8141BF1D-A96F-4709-BA47-F233A8FAAB5F'),
  parent: guid('A8D35F2D-B30B-454D-ABF7-D3D84834AB0C'),
} as const;
const hasParent = 2;

const damaged = 'Its tables are damaged, or lie outside of the file.';
const differencing =
  'It is a differencing image, which needs another file. Flatten it first: Convert-VHD, or qemu-img convert -O qcow2';

interface Place {
  readonly at: number;
  readonly length: number;
}

/** Returns the entries of 32 bytes by their GUID; undefined if the table is damaged. */
function readEntries(
  table: DataView,
  { signature, countAt, first, placeOf }: TableForm,
): ReadonlyMap<string, Place> | undefined {
  if (bytesOf(table).toString('latin1', 0, signature.length) !== signature) return undefined;
  const count = signature === 'regi' ? table.getUint32(countAt, true) : table.getUint16(countAt, true);
  if (count > maxEntries || first + count * 32 > table.byteLength) return undefined;
  const entries = new Map<string, Place>();
  for (let at = first; at < first + count * 32; at += 32) {
    const id = bytesOf(table).toString('hex', at, at + 16);
    if (entries.has(id)) return undefined;
    entries.set(id, placeOf(at));
  }
  return entries;
}

interface TableForm {
  readonly signature: 'regi' | 'metadata';
  readonly countAt: number;
  readonly first: number;
  readonly placeOf: (at: number) => Place;
}

const regionsIn = (table: DataView) =>
  readEntries(table, {
    signature: 'regi',
    countAt: 8,
    first: 16,
    placeOf: (at) => ({ at: Number(table.getBigUint64(at + 16, true)), length: table.getUint32(at + 24, true) }),
  });

const itemsIn = (table: DataView) =>
  readEntries(table, {
    signature: 'metadata',
    countAt: 10,
    first: 32,
    placeOf: (at) => ({ at: table.getUint32(at + 16, true), length: table.getUint32(at + 20, true) }),
  });

/** Reads regions and metadata. Returns the size of the disk. */
export async function readVhdx(file: ImageBytes): Promise<DiskSizeResult> {
  const [table, copy] = await Promise.all(regionTablesAt.map((at) => file.read(at, tableBytes)));
  if (table === undefined || copy === undefined || !bytesOf(table).equals(bytesOf(copy))) return refuse(damaged);
  const regions = regionsIn(table);
  const [metadata, blocks] = [regions?.get(region.metadata), regions?.get(region.blocks)];
  if (metadata === undefined || blocks === undefined) return refuse(damaged);
  const fits = ({ at, length }: Place): boolean => at % MiB === 0 && at >= MiB && at + length <= file.size;
  if (!fits(metadata) || !fits(blocks) || metadata.length < 2 * tableBytes) return refuse(damaged);

  const items = itemsIn(await file.read(metadata.at, tableBytes));
  if (items === undefined) return refuse(damaged);
  if (items.has(item.parent)) return refuse(differencing);
  const value = async (id: string, length: number): Promise<DataView | undefined> => {
    const place = items.get(id);
    if (place === undefined || place.at < tableBytes || place.at + length > metadata.length) return undefined;
    return file.read(metadata.at + place.at, length);
  };
  const parameters = await value(item.parameters, 8);
  const size = await value(item.size, 8);
  const sectorSize = await value(item.sectorSize, 4);
  if (parameters === undefined || size === undefined || sectorSize === undefined) return refuse(damaged);
  if ((parameters.getUint32(4, true) & hasParent) !== 0) return refuse(differencing);
  if (sectorSize.getUint32(0, true) !== 512) return refuse('Its sectors must have 512 bytes.');
  const blockSize = parameters.getUint32(0, true);
  if (blockSize < MiB || blockSize > 256 * MiB || (blockSize & (blockSize - 1)) !== 0)
    return refuse('The size of its blocks is not valid.');
  const disk = diskSize(size.getBigUint64(0, true));
  if (disk.ok && Math.ceil(disk.virtualSize / blockSize) * 8 > blocks.length)
    return refuse('Its table of blocks is too short for the disk.');
  return disk;
}
