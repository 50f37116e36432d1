/**
 * Reproducible zip archives: the same members result in the same bytes on every machine. Members keep their order and their
 * Unix modes. Every time is 1980-01-01, the earliest possible time. Format: PKWARE APPNOTE 6.3.10, without the 64-bit
 * extension, so members and archive must be smaller than 4 GiB.
 */
import { crc32, deflateRawSync } from 'node:zlib';

export interface Member {
  /** The path in the archive, in ASCII. */
  readonly name: string;
  readonly content: Uint8Array;
  readonly executable?: boolean;
}

/** The date 1980-01-01 in the upper half, midnight in the lower. */
const dosTime = 0x0021_0000;
/** The version that a reader needs: 2.0, for deflate. */
const neededVersion = 20;
/** The same version, and 3 for attributes of Unix. */
const madeBy = (3 << 8) | neededVersion;
const deflate = 8;

/** Returns the fields that the local header and the central directory share. */
function describe(name: Buffer, content: Uint8Array, compressed: Buffer): Buffer {
  const fields = Buffer.alloc(26);
  fields.writeUInt16LE(neededVersion, 0);
  fields.writeUInt16LE(0, 2);
  fields.writeUInt16LE(deflate, 4);
  fields.writeUInt32LE(dosTime, 6);
  fields.writeUInt32LE(crc32(content), 10);
  fields.writeUInt32LE(compressed.length, 14);
  fields.writeUInt32LE(content.length, 18);
  fields.writeUInt16LE(name.length, 22);
  return fields;
}

export function zip(members: readonly Member[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, content, executable = false } of members) {
    const nameBytes = Buffer.from(name, 'ascii');
    // The default level: the highest level takes three times as long and saves half a percent.
    const compressed = deflateRawSync(content, { level: 6 });
    const described = describe(nameBytes, content, compressed);
    const local = [Buffer.from('PK\x03\x04', 'latin1'), described, nameBytes, compressed];

    const head = Buffer.alloc(6);
    head.write('PK\x01\x02', 0, 'latin1');
    head.writeUInt16LE(madeBy, 4);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(((executable ? 0o100755 : 0o100644) << 16) >>> 0, 6);
    tail.writeUInt32LE(offset, 10);
    directory.push(head, described, tail, nameBytes);

    parts.push(...local);
    offset += local.reduce((sum, { length }) => sum + length, 0);
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 0, 'latin1');
  end.writeUInt16LE(members.length, 8);
  end.writeUInt16LE(members.length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, central, end]);
}
