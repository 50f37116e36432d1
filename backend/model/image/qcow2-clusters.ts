/**
 * The tables of a qcow2 file that locate its content (docs/interop/qcow2.txt of QEMU), read as hostile input. If many
 * entries refer to one cluster, a small file becomes a disk of terabytes. A normal image uses each part of its file
 * once, and other images are refused. The limits below bound memory and time.
 */
import type { Qcow2Header } from './qcow2-header.ts';

/**
 * The maximum number of second-level tables and of their bytes. A full disk of 2 TiB with clusters of 64 KiB has 4,096
 * tables.
 */
const tableLimit = 2 ** 18;
const tableBytesLimit = 2 ** 30;
/** The maximum number of compressed clusters. Each of them is remembered. */
const compressedLimit = 2 ** 20;

const shared = 'Parts of it use the same clusters of the file. Copy it first: qemu-img convert -O qcow2 old new.qcow2';
const outside = 'Its clusters lie outside of the file: it is damaged or cut off.';
const damaged = 'Its table of clusters is damaged.';
const scattered =
  'It has too many clusters. Make them larger: qemu-img convert -O qcow2 -o cluster_size=2M old.qcow2 new.qcow2';

/** Returns bits 9 to 55 of an entry. */
const offsetOf = (table: DataView, at: number): number =>
  (table.getUint32(at) & 0x00ffffff) * 2 ** 32 + (table.getUint32(at + 4) & 0xfffffe00);

/** Checks the clusters of one qcow2 file. */
export class ClusterCheck {
  readonly #header: Qcow2Header;
  readonly #fileSize: number;
  /** One bit for each cluster of the file. */
  readonly #used: Uint8Array;
  readonly #compressed = new Set<number>();
  #tables = 0;
  /** The minimum number of bytes of all compressed clusters. */
  #compressedBytes = 0;

  constructor(header: Qcow2Header, fileSize: number) {
    this.#header = header;
    this.#fileSize = fileSize;
    this.#used = new Uint8Array(Math.ceil(Math.ceil(fileSize / header.clusterSize) / 8));
    this.#take(0);
    for (let at = 0; at < header.tables * 8; at += header.clusterSize) this.#take(header.tablesAt + at);
  }

  /** Marks a cluster as used. Returns the problem, if there is one. */
  #take(offset: number): string | undefined {
    const { clusterSize } = this.#header;
    if (offset % clusterSize !== 0) return damaged;
    if (offset >= this.#fileSize) return outside;
    const cluster = offset / clusterSize;
    const bit = 1 << (cluster % 8);
    const at = Math.floor(cluster / 8);
    const byte = this.#used[at] ?? 0;
    if ((byte & bit) !== 0) return shared;
    this.#used[at] = byte | bit;
    return undefined;
  }

  /** Returns the offset of the second-level table in an entry of the first level, 0 for none, or a problem. */
  tableAt(first: DataView, at: number): number | string {
    const offset = offsetOf(first, at);
    if (offset === 0) return 0;
    if (++this.#tables > tableLimit || this.#tables * this.#header.clusterSize > tableBytesLimit) return scattered;
    return this.#take(offset) ?? offset;
  }

  /** Checks a second-level table. Returns the problem, if there is one. */
  examine(second: DataView): string | undefined {
    const { entrySize } = this.#header;
    for (let at = 0; at + entrySize <= second.byteLength; at += entrySize) {
      const high = second.getUint32(at);
      const low = second.getUint32(at + 4);
      if (high === 0 && low === 0) continue;
      const problem = (high & 0x40000000) !== 0 ? this.#takeCompressed(high, low) : this.#takePlain(second, at, low);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }

  #takePlain(second: DataView, at: number, low: number): string | undefined {
    const offset = offsetOf(second, at);
    // A cluster that reads as zeros may have an allocated place without content.
    const isZero = this.#header.entrySize === 8 && (low & 1) !== 0;
    if (offset === 0 || (isZero && offset >= this.#fileSize)) return undefined;
    return this.#take(offset);
  }

  /** Checks a compressed cluster. It may start at any byte, and its length is in sectors of 512 bytes. */
  #takeCompressed(high: number, low: number): string | undefined {
    const split = 2 ** (38 - Math.log2(this.#header.clusterSize));
    const place = high & 0x3fffffff;
    const offset = (place % split) * 2 ** 32 + low;
    const sectors = Math.floor(place / split) + 1;
    if (offset >= this.#fileSize) return outside;
    if (this.#compressed.has(offset)) return shared;
    if (this.#compressed.size >= compressedLimit) return scattered;
    this.#compressed.add(offset);
    // The last sector may contain only one byte of it. The sum of these minimum sizes cannot exceed the file.
    this.#compressedBytes += Math.max(8, (sectors - 1) * 512 - (offset % 512) + 1);
    return this.#compressedBytes > this.#fileSize ? shared : undefined;
  }
}
