/** The archive format of an initramfs ("newc": Documentation/driver-api/early-userspace/buffer-format.rst of Linux). */

/** A file of the archive. */
export interface ArchiveEntry {
  /** The path, without a leading slash. */
  readonly path: string;
  /** The file type and the permissions, as in stat(2). */
  readonly mode: number;
  /** The content of a file, or the target of a symbolic link. */
  readonly data?: Uint8Array;
}

/** The mode of a directory. */
export const directoryMode = 0o040755;
/** The mode of a program. */
export const programMode = 0o100755;
/** The mode of a symbolic link. */
export const linkMode = 0o120777;

const pad = (length: number): Buffer => Buffer.alloc((4 - (length % 4)) % 4);

function member(entry: ArchiveEntry, inode: number): Buffer {
  const data = entry.data ?? new Uint8Array();
  const name = Buffer.from(`${entry.path}\0`);
  const links = (entry.mode & 0o170000) === 0o040000 ? 2 : 1;
  // inode, mode, uid, gid, links, mtime, size, device and rdev as major and minor, length of the name, check
  const fields = [inode, entry.mode, 0, 0, links, 0, data.length, 0, 0, 0, 0, name.length, 0];
  const header = Buffer.from(`070701${fields.map((value) => value.toString(16).padStart(8, '0')).join('')}`);
  return Buffer.concat([header, name, pad(header.length + name.length), data, pad(data.length)]);
}

/** Returns the archive. Everything belongs to root and times are zero, so equal entries give equal bytes. */
export function cpioArchive(entries: readonly ArchiveEntry[]): Buffer {
  const members = entries.map((entry, index) => member(entry, index + 1));
  return Buffer.concat([...members, member({ path: 'TRAILER!!!', mode: 0 }, 0)]);
}
