/**
 * The files that local processes have open for writing. Processes of other users are visible to root only. The calls are
 * synchronous: /proc is memory of the kernel, and with thousands of open files the way through other threads takes ten
 * times as long.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { setImmediate as immediate } from 'node:timers/promises';

const writing = 0o3;
/** The file descriptors between two pauses, in which other work goes on. */
const sliceSize = 100;

function entriesOf(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    // The process has ended, or belongs to another user.
    return [];
  }
}

/** Returns the inode of a file descriptor that may write; undefined for others. It does not touch the file system. */
function writtenInode(fdinfo: string): string | undefined {
  let text: string;
  try {
    text = readFileSync(fdinfo, 'latin1');
  } catch {
    return undefined;
  }
  const flags = Number.parseInt(/^flags:\s*([0-7]+)$/m.exec(text)?.[1] ?? '0', 8);
  return (flags & writing) === 0 ? undefined : /^ino:\s*(\d+)$/m.exec(text)?.[1];
}

/** Returns those of the files, given as `<device>:<inode>`, that a process has open for writing. */
export async function openForWriting(files: ReadonlySet<string>): Promise<Set<string>> {
  const inodes = new Set([...files].map((file) => file.slice(file.indexOf(':') + 1)));
  const found = new Set<string>();
  let looked = 0;
  for (const pid of entriesOf('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    for (const fd of entriesOf(`/proc/${pid}/fd`)) {
      if (++looked % sliceSize === 0) await immediate();
      const inode = writtenInode(`/proc/${pid}/fdinfo/${fd}`);
      if (inode === undefined || !inodes.has(inode)) continue;
      const stats = await stat(`/proc/${pid}/fd/${fd}`, { bigint: true }).catch(() => undefined);
      if (stats) found.add(`${stats.dev}:${stats.ino}`);
    }
  }
  return found;
}
