/** Images in the formats of other hypervisors, made of bytes, with some fields as told, and hostile ones. */

const sector = 512;
const MiB = 1024 ** 2;

export interface VmdkFields {
  version?: number;
  /** In sectors. */
  capacity?: bigint;
  grain?: bigint;
  descriptorAt?: bigint;
  descriptorSize?: bigint;
  tableEntries?: number;
  directoryAt?: bigint;
  compression?: number;
  descriptor?: string;
  /** The text at the place where QEMU looks for the parent, if the descriptor lies elsewhere. */
  usualDescriptor?: string;
  /** The header at the end of the file. */
  footer?: VmdkFields;
}

export const vmdkDescriptor = (extents: string, parent = 'ffffffff', createType = 'monolithicSparse'): string =>
  `# Disk DescriptorFile\nversion=1\nCID=1234abcd\nparentCID=${parent}\ncreateType="${createType}"\n\n${extents}\n`;

function vmdkHeader(fields: VmdkFields): Buffer {
  const header = Buffer.alloc(sector);
  header.write('KDMV', 0, 'latin1');
  header.writeUInt32LE(fields.version ?? 1, 4);
  header.writeUInt32LE(1, 8);
  header.writeBigUInt64LE(fields.capacity ?? 2048n, 12);
  header.writeBigUInt64LE(fields.grain ?? 128n, 20);
  header.writeBigUInt64LE(fields.descriptorAt ?? 1n, 28);
  header.writeBigUInt64LE(fields.descriptorSize ?? 20n, 36);
  header.writeUInt32LE(fields.tableEntries ?? 512, 44);
  header.writeBigUInt64LE(fields.directoryAt ?? 26n, 56);
  header.writeBigUInt64LE(128n, 64);
  header.write('\n \r\n', 73, 'latin1');
  header.writeUInt16LE(fields.compression ?? 0, 77);
  return header;
}

/** A VMDK of 128 KiB: header, descriptor, and a grain directory whose only table is empty. */
export function vmdkImage(fields: VmdkFields = {}): Buffer {
  const image = Buffer.alloc(256 * sector);
  vmdkHeader(fields).copy(image);
  const at = Number(fields.descriptorAt ?? 1n) * sector;
  if (fields.usualDescriptor !== undefined) image.write(fields.usualDescriptor, sector, 'latin1');
  if (at > 0 && at < image.length)
    image.write(fields.descriptor ?? vmdkDescriptor('RW 2048 SPARSE "disk.vmdk"'), at, 'latin1');
  image.writeUInt32LE(27, 26 * sector);
  if (fields.footer) {
    image.writeUInt32LE(1, image.length - 3 * sector);
    image.writeUInt32LE(3, image.length - 3 * sector + 12);
    vmdkHeader(fields.footer).copy(image, image.length - 2 * sector);
  }
  return image;
}

export interface VdiFields {
  version?: number;
  type?: number;
  mapAt?: number;
  size?: bigint;
  blockSize?: number;
  blocks?: number;
  link?: string;
  parent?: string;
}

/** A VDI of 1 MiB without any block. */
export function vdiImage(fields: VdiFields = {}): Buffer {
  const image = Buffer.alloc(4096);
  image.write('<<< Oracle VM VirtualBox Disk Image >>>\n', 0, 'latin1');
  image.writeUInt32LE(0xbeda107f, 0x40);
  image.writeUInt32LE(fields.version ?? 0x10001, 0x44);
  image.writeUInt32LE(0x180, 0x48);
  image.writeUInt32LE(fields.type ?? 1, 0x4c);
  image.writeUInt32LE(fields.mapAt ?? 512, 0x154);
  image.writeUInt32LE(1024, 0x158);
  image.writeUInt32LE(512, 0x168);
  image.writeBigUInt64LE(fields.size ?? BigInt(MiB), 0x170);
  image.writeUInt32LE(fields.blockSize ?? MiB, 0x178);
  image.writeUInt32LE(fields.blocks ?? 1, 0x180);
  image.write(fields.link ?? '', 0x1a8, 'hex');
  image.write(fields.parent ?? '', 0x1b8, 'hex');
  image.fill(0xff, 512, 516);
  return image;
}

/** GUIDs as they lie in the file. */
const guid = {
  blocks: '6677c22d23f600429d64115e9bfd4a08',
  metadata: '06a27c8b90479a4bb8fe575f050f886e',
  parameters: '3767a1ca36fa434db3b633f0aa44e76b',
  size: '2442a52f1bcd7648b2115dbed83bf4b8',
  sectorSize: '1dbf41816fa90947ba47f233a8faab5f',
  parent: '2d5fd3a80bb34d45abf7d3d84834ab0c',
} as const;

export interface VhdxFields {
  /** Of the metadata and of the table of blocks. */
  metadataAt?: bigint;
  blocksAt?: bigint;
  blocksLength?: number;
  /** The number of entries that the table of regions claims. */
  regions?: number;
  /** The number of entries that the table of metadata claims. */
  items?: number;
  parameters?: number;
  blockSize?: number;
  size?: bigint;
  sectorSize?: number;
  /** A locator of a parent. */
  parent?: boolean;
  /** Bytes of the second table of regions that differ. */
  otherCopy?: boolean;
}

/** The tables of a VHDX of 1 MiB without any block. It has no valid checksums, so QEMU does not open it. */
export function vhdxImage(fields: VhdxFields = {}): Buffer {
  const image = Buffer.alloc(4 * MiB);
  image.write('vhdxfile', 0, 'latin1');
  const put = (at: number, hex: string): void => {
    image.write(hex, at, 'hex');
  };
  for (const table of [192 * 1024, 256 * 1024]) {
    image.write('regi', table, 'latin1');
    image.writeUInt32LE(fields.regions ?? 2, table + 8);
    const entries = [
      [guid.blocks, fields.blocksAt ?? BigInt(3 * MiB), fields.blocksLength ?? MiB],
      [guid.metadata, fields.metadataAt ?? BigInt(2 * MiB), MiB],
    ] as const;
    for (const [index, [id, at, length]] of entries.entries()) {
      const entry = table + 16 + index * 32;
      put(entry, id);
      image.writeBigUInt64LE(at, entry + 16);
      image.writeUInt32LE(length, entry + 24);
      image.writeUInt32LE(1, entry + 28);
    }
  }
  if (fields.otherCopy) image.writeUInt32LE(1, 256 * 1024 + 8);
  const metadata = 2 * MiB;
  image.write('metadata', metadata, 'latin1');
  const items = [
    [guid.parameters, 8],
    [guid.size, 8],
    [guid.sectorSize, 4],
    ...(fields.parent ? [[guid.parent, 64] as const] : []),
  ] as const;
  image.writeUInt16LE(fields.items ?? items.length, metadata + 10);
  for (const [index, [id, length]] of items.entries()) {
    const entry = metadata + 32 + index * 32;
    put(entry, id);
    image.writeUInt32LE(64 * 1024 + index * 64, entry + 16);
    image.writeUInt32LE(length, entry + 20);
  }
  const values = metadata + 64 * 1024;
  image.writeUInt32LE(fields.blockSize ?? 16 * MiB, values);
  image.writeUInt32LE(fields.parameters ?? 0, values + 4);
  image.writeBigUInt64LE(fields.size ?? BigInt(MiB), values + 64);
  image.writeUInt32LE(fields.sectorSize ?? 512, values + 128);
  return image;
}

const TiB500 = 500n * 2n ** 40n;
/** The extent of a descriptor that is any file of the host. */
export const extentOf = (file: string): string => `RW 8 FLAT "${file}" 0`;

/** Images that refer to other files or are damaged, each with the reason that its owner is told. @param file the other file */
export const hostileForeignImages = (
  file: string,
): readonly { readonly name: string; readonly image: Buffer; readonly why: RegExp }[] => [
  {
    name: 'a VMDK without capacity, whose descriptor QEMU would open with other files',
    image: vmdkImage({ capacity: 0n, descriptor: vmdkDescriptor(extentOf(file), 'ffffffff', 'monolithicFlat') }),
    why: /VMDK image.*is empty/,
  },
  {
    name: 'a VMDK with an extent in another file',
    image: vmdkImage({ descriptor: vmdkDescriptor(`RW 2048 SPARSE "disk.vmdk"\n${extentOf(file)}`) }),
    why: /refers to other files/,
  },
  {
    name: 'a VMDK of another type',
    image: vmdkImage({ descriptor: vmdkDescriptor(extentOf(file), 'ffffffff', 'monolithicFlat') }),
    why: /type "monolithicFlat"/,
  },
  {
    name: 'a VMDK with a parent',
    image: vmdkImage({
      descriptor: `${vmdkDescriptor('RW 2048 SPARSE "disk.vmdk"', '12345678')}parentFileNameHint="${file}"\n`,
    }),
    why: /refers to other files/,
  },
  {
    name: 'a VMDK with a parent only where QEMU looks for it',
    image: vmdkImage({ descriptorAt: 64n, usualDescriptor: `parentCID=ffffffff\nparentFileNameHint="${file}"\n` }),
    why: /refers to other files/,
  },
  {
    name: 'a VMDK that is one of several files',
    image: vmdkImage({ descriptorAt: 0n }),
    why: /one of several files/,
  },
  {
    name: 'a VMDK with a descriptor beyond its end',
    image: vmdkImage({ descriptorAt: 2n ** 60n }),
    why: /impossible place/,
  },
  { name: 'a VMDK with a vast descriptor', image: vmdkImage({ descriptorSize: 2n ** 62n }), why: /impossible place/ },
  { name: 'a VMDK of 500 TB', image: vmdkImage({ capacity: TiB500 / 512n }), why: /outside of the file/ },
  { name: 'a VMDK of 2^64 sectors', image: vmdkImage({ capacity: 2n ** 64n - 1n }), why: /impossibly large/ },
  { name: 'a VMDK without grains', image: vmdkImage({ grain: 0n }), why: /size of its grains/ },
  { name: 'a VMDK with a vast grain', image: vmdkImage({ grain: 2n ** 40n }), why: /size of its grains/ },
  { name: 'a VMDK with vast tables', image: vmdkImage({ tableEntries: 2 ** 31 }), why: /grain tables/ },
  {
    name: 'a VMDK with tables beyond its end',
    image: vmdkImage({ directoryAt: 2n ** 55n - 1n }),
    why: /outside of the file/,
  },
  { name: 'a VMDK of version 4', image: vmdkImage({ version: 4 }), why: /version 4/ },
  { name: 'a VMDK with unknown compression', image: vmdkImage({ compression: 2 }), why: /method that is not known/ },
  {
    name: 'a VMDK whose header at the end is missing',
    image: vmdkImage({ directoryAt: 2n ** 64n - 1n }),
    why: /no header at its end/,
  },
  {
    name: 'a VMDK whose header at the end is another',
    image: vmdkImage({ directoryAt: 2n ** 64n - 1n, footer: { capacity: TiB500 / 512n } }),
    why: /outside of the file/,
  },
  {
    name: 'a VMDK whose header at the end has no capacity',
    image: vmdkImage({ directoryAt: 2n ** 64n - 1n, footer: { capacity: 0n } }),
    why: /is empty/,
  },
  { name: 'a VDI with a parent', image: vdiImage({ parent: '01'.repeat(16) }), why: /VDI image.*differencing/ },
  { name: 'a VDI with a link', image: vdiImage({ link: `${'00'.repeat(15)}01` }), why: /differencing/ },
  { name: 'a VDI that is a difference', image: vdiImage({ type: 4 }), why: /differencing/ },
  { name: 'a VDI of type 9', image: vdiImage({ type: 9 }), why: /type, 9/ },
  { name: 'a VDI of version 2', image: vdiImage({ version: 0x20000 }), why: /version 2\.0/ },
  { name: 'a VDI of 500 TB', image: vdiImage({ size: TiB500, blocks: 500 * MiB }), why: /outside of the file/ },
  { name: 'a VDI that is larger than its map', image: vdiImage({ size: TiB500 }), why: /too short for the disk/ },
  { name: 'a VDI with 2^32 blocks', image: vdiImage({ blocks: 2 ** 32 - 1 }), why: /outside of the file/ },
  { name: 'a VDI with blocks of 3 GiB', image: vdiImage({ blockSize: 3 * 2 ** 30 }), why: /blocks 1 MiB/ },
  { name: 'a VDI with its map on the header', image: vdiImage({ mapAt: 0 }), why: /outside of the file/ },
  { name: 'an empty VDI', image: vdiImage({ size: 0n }), why: /is empty/ },
  { name: 'a VHDX with a parent', image: vhdxImage({ parent: true }), why: /VHDX image.*differencing/ },
  { name: 'a VHDX that says it has a parent', image: vhdxImage({ parameters: 2 }), why: /differencing/ },
  { name: 'a VHDX of 500 TB', image: vhdxImage({ size: TiB500 }), why: /too short for the disk/ },
  { name: 'a VHDX of 2^64 - 512 bytes', image: vhdxImage({ size: 2n ** 64n - 512n }), why: /impossibly large/ },
  {
    name: 'a VHDX with metadata beyond its end',
    image: vhdxImage({ metadataAt: 2n ** 62n }),
    why: /outside of the file/,
  },
  { name: 'a VHDX with vast tables', image: vhdxImage({ blocksLength: 2 ** 32 - 1 }), why: /outside of the file/ },
  { name: 'a VHDX with many regions', image: vhdxImage({ regions: 2 ** 32 - 1 }), why: /tables are damaged/ },
  { name: 'a VHDX with many items', image: vhdxImage({ items: 2 ** 16 - 1 }), why: /tables are damaged/ },
  { name: 'a VHDX whose tables of regions differ', image: vhdxImage({ otherCopy: true }), why: /tables are damaged/ },
  { name: 'a VHDX with blocks of 2 GiB', image: vhdxImage({ blockSize: 2 ** 31 }), why: /size of its blocks/ },
  { name: 'a VHDX with sectors of 4 KiB', image: vhdxImage({ sectorSize: 4096 }), why: /sectors must have 512/ },
  ...(['vmdk', 'vdi', 'vhdx'] as const).map((format) => ({
    name: `a ${format} that is cut off`,
    image: { vmdk: vmdkImage(), vdi: vdiImage(), vhdx: vhdxImage() }[format].subarray(0, 100),
    why: new RegExp(`${format.toUpperCase()} image`),
  })),
];
