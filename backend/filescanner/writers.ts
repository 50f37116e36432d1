/** The files that local processes have open for writing. Processes of other users are visible to root only. */
import { readdir, readFile, stat } from 'node:fs/promises';

const writing = 0o3;

async function entriesOf(path: string): Promise<readonly string[]> {
  try {
    return await readdir(path);
  } catch {
    // The process has ended, or belongs to another user.
    return [];
  }
}

/** Returns the inode of a file descriptor that may write; undefined for others. It does not touch the file system. */
async function writtenInode(fdinfo: string): Promise<string | undefined> {
  const text = await readFile(fdinfo, 'latin1').catch(() => '');
  const flags = Number.parseInt(/^flags:\s*([0-7]+)$/m.exec(text)?.[1] ?? '0', 8);
  return (flags & writing) === 0 ? undefined : /^ino:\s*(\d+)$/m.exec(text)?.[1];
}

/** Returns those of the files, given as `<device>:<inode>`, that a process has open for writing. */
export async function openForWriting(files: ReadonlySet<string>): Promise<Set<string>> {
  const inodes = new Set([...files].map((file) => file.slice(file.indexOf(':') + 1)));
  const found = new Set<string>();
  for (const pid of await entriesOf('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    for (const fd of await entriesOf(`/proc/${pid}/fd`)) {
      const inode = await writtenInode(`/proc/${pid}/fdinfo/${fd}`);
      if (inode === undefined || !inodes.has(inode)) continue;
      const stats = await stat(`/proc/${pid}/fd/${fd}`, { bigint: true }).catch(() => undefined);
      if (stats) found.add(`${stats.dev}:${stats.ino}`);
    }
  }
  return found;
}
