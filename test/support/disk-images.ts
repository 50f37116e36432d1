/** Small disk images made of bytes, and hostile ones. */

/** A raw disk with a boot sector and a recognizable text at 4096. */
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

/** An empty qcow2 as qemu-img makes it, with some fields as told. Clusters: header, refcount table and block, L1 table. */
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
