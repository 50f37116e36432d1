/** Small disk images, also hostile ones, as bytes. */
import type { ImageBytes } from '../../backend/model/image/image-bytes.ts';

/** The content of a file for the readers of image formats. */
export const bytesOfImage = (file: Uint8Array): ImageBytes => ({
  size: file.length,
  async read(at, length) {
    const bytes = new Uint8Array(length);
    bytes.set(file.subarray(at, at + length));
    return new DataView(bytes.buffer);
  },
});

/** Returns a raw disk with a boot sector, and a recognizable text at byte 4096. */
export function rawDisk(size = 1024 * 1024, text = 'raw disk'): Buffer {
  const disk = Buffer.alloc(size);
  disk.writeUInt16LE(0xaa55, 510);
  if (size > 4096 + text.length) disk.write(text, 4096);
  return disk;
}

export interface Qcow2Fields {
  version?: number;
  backingOffset?: bigint;
  backingSize?: number;
  clusterBits?: number;
  size?: bigint;
  encryption?: number;
  l1Entries?: number;
  l1Offset?: bigint;
  refcountOffset?: bigint;
  refcountClusters?: number;
  snapshots?: number;
  incompatible?: bigint;
  headerLength?: number;
  compression?: number;
  extensions?: readonly { type: number; data: Buffer }[];
}

const cluster = 65536;

/** Returns an empty qcow2 like that of qemu-img, with some given fields. Clusters: header, refcount table and block, L1 table. */
export function qcow2Image(fields: Qcow2Fields = {}): Buffer {
  const image = Buffer.alloc(4 * cluster);
  image.write('QFI\xfb', 0, 'latin1');
  image.writeUInt32BE(fields.version ?? 3, 4);
  image.writeBigUInt64BE(fields.backingOffset ?? 0n, 8);
  image.writeUInt32BE(fields.backingSize ?? 0, 16);
  image.writeUInt32BE(fields.clusterBits ?? 16, 20);
  image.writeBigUInt64BE(fields.size ?? 1048576n, 24);
  image.writeUInt32BE(fields.encryption ?? 0, 32);
  image.writeUInt32BE(fields.l1Entries ?? 1, 36);
  image.writeBigUInt64BE(fields.l1Offset ?? BigInt(3 * cluster), 40);
  image.writeBigUInt64BE(fields.refcountOffset ?? BigInt(cluster), 48);
  image.writeUInt32BE(fields.refcountClusters ?? 1, 56);
  image.writeUInt32BE(fields.snapshots ?? 0, 60);
  let end = 72;
  if ((fields.version ?? 3) === 3) {
    image.writeBigUInt64BE(fields.incompatible ?? 0n, 72);
    image.writeUInt32BE(4, 96); // refcounts of 16 bits
    end = fields.headerLength ?? 112;
    image.writeUInt32BE(end, 100);
    image.writeUInt8(fields.compression ?? 0, 104);
  }
  for (const { type, data } of fields.extensions ?? []) {
    image.writeUInt32BE(type, end);
    image.writeUInt32BE(data.length, end + 4);
    data.copy(image, end + 8);
    end += 8 + Math.ceil(data.length / 8) * 8;
  }
  image.writeBigUInt64BE(BigInt(2 * cluster), cluster);
  for (let used = 0; used < 4; used++) image.writeUInt16BE(1, 2 * cluster + 2 * used);
  return image;
}

/**
 * Returns a qcow2 with the given tables, by the numbers of their clusters. Clusters from 4 on are free. All other clusters
 * contain zeros.
 * @param clusters the number of clusters in the file
 */
export function qcow2WithTables(
  fields: Qcow2Fields,
  clusters: number,
  tables: Readonly<Record<number, readonly bigint[]>>,
): Buffer {
  const image = Buffer.concat([qcow2Image(fields), Buffer.alloc((clusters - 4) * cluster)]);
  for (const [place, entries] of Object.entries(tables)) {
    for (const [index, entry] of entries.entries()) image.writeBigUInt64BE(entry, Number(place) * cluster + index * 8);
  }
  return image;
}

const copied = 1n << 63n;
const at = (place: number): bigint => BigInt(place * cluster);
const many = (entry: bigint, count = cluster / 8): bigint[] => new Array<bigint>(count).fill(entry);
const GiB = 1024n ** 3n;
/** Returns the entry of a cluster that is compressed to one sector at this byte. */
const compressed = (offset: number, sectors = 1): bigint => (1n << 62n) | (BigInt(sectors - 1) << 54n) | BigInt(offset);

/** Hostile images, each with the reason that its owner gets. */
export const hostileImages: readonly { readonly name: string; readonly image: Buffer; readonly why: RegExp }[] = [
  {
    name: 'all entries of a table name one cluster',
    image: qcow2WithTables({ size: GiB / 2n }, 6, { 3: [copied | at(4)], 4: many(copied | at(5)) }),
    why: /use the same clusters/,
  },
  {
    name: 'all tables of the second level are one',
    image: qcow2WithTables({ size: 2n * GiB, l1Entries: 4 }, 6, {
      3: many(copied | at(4), 4),
      4: many(copied | at(5)),
    }),
    why: /use the same clusters/,
  },
  {
    name: 'two entries of different tables name one cluster',
    image: qcow2WithTables({ size: GiB, l1Entries: 2 }, 7, { 3: [at(4), at(5)], 4: [at(6)], 5: [0n, at(6)] }),
    why: /use the same clusters/,
  },
  {
    name: 'a table is its own content',
    image: qcow2WithTables({ size: GiB / 2n }, 5, { 3: [at(4)], 4: many(at(4)) }),
    why: /use the same clusters/,
  },
  {
    name: 'the header is content',
    image: qcow2WithTables({ size: GiB / 2n }, 5, { 3: [at(4)], 4: [copied | 1n, at(3)] }),
    why: /use the same clusters/,
  },
  {
    name: 'all compressed clusters are one',
    image: qcow2WithTables({ size: GiB / 2n }, 6, { 3: [at(4)], 4: many(compressed(5 * cluster)) }),
    why: /use the same clusters/,
  },
  {
    name: 'compressed clusters overlap',
    image: qcow2WithTables({ size: GiB / 2n }, 6, {
      3: [at(4)],
      4: many(0n, 512).map((_, index) => compressed(5 * cluster + index, 64)),
    }),
    why: /use the same clusters/,
  },
  {
    name: 'content lies beyond the end of the file',
    image: qcow2WithTables({ size: GiB / 2n }, 5, { 3: [at(4)], 4: [at(5)] }),
    why: /outside of the file/,
  },
  {
    name: 'compressed content lies beyond the end of the file',
    image: qcow2WithTables({ size: GiB / 2n }, 5, { 3: [at(4)], 4: [compressed(2 ** 50)] }),
    why: /outside of the file/,
  },
  {
    name: 'a table lies beyond the end of the file',
    image: qcow2WithTables({ size: GiB / 2n }, 4, { 3: [1n << 55n] }),
    why: /outside of the file/,
  },
  {
    name: 'a table lies between two clusters',
    image: qcow2WithTables({ size: GiB / 2n }, 6, { 3: [at(4) + 512n] }),
    why: /damaged/,
  },
  {
    name: 'a header that says it is longer than the file',
    image: qcow2Image({}).subarray(0, 104),
    why: /length of its header/,
  },
  { name: 'a header that is cut off', image: qcow2Image({}).subarray(0, 100), why: /too short/ },
  {
    name: 'a length of the header with nothing behind it',
    image: qcow2Image({ headerLength: 65_536 }).subarray(0, 65_535),
    why: /length of its header/,
  },
];
