/**
 * The data directory belongs to the user that ucloud runs as, and is open to nobody else: it has the database, keys,
 * disks of VMs and what their consoles said. Checked and mended at each start, as it may have been made by others
 * before. Processes of VMs need no way into it: what they use is given to them open.
 */
import { lstatSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../model/component.ts';
import { makePrivate, requireOwner } from '../store/private-files.ts';
import { makeDirectory } from './make-directory.ts';

/** Paths that a line of the log names at most. */
const named = 20;

/**
 * Directories of which nothing but the directory is looked at. Both may be shared with other machines, and hold files of
 * other users. Nobody gets to them through the data directory.
 */
const shared = new Set(['files', 'images']);

/** Others of our processes may use the directory, and files come and go. */
function unlessGone(work: () => void): void {
  try {
    work();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** Makes what is below the directory private, and adds the paths of what it has changed. */
function mend(directory: string, mended: string[], isShared: (name: string) => boolean = () => false): void {
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    unlessGone(() => {
      const stats = lstatSync(path);
      if (isShared(name) && stats.uid !== process.geteuid?.()) return;
      requireOwner(path, stats);
      if (makePrivate(path, stats)) mended.push(path);
      if (stats.isDirectory() && !isShared(name)) mend(path, mended);
    });
  }
}

/**
 * To be called before anything is made in the directory. Files of this process are private from then on. Throws an
 * Error that names the path of what belongs to somebody else.
 */
export function openDataDirectory(data: string, logger: Logger): void {
  process.umask(0o077);
  makeDirectory(data, 0o700);
  const mended: string[] = [];
  const stats = statSync(data);
  requireOwner(data, stats);
  if (makePrivate(data, stats)) mended.push(data);
  // From here on nobody else can put anything into it.
  mend(data, mended, (name) => shared.has(name));
  if (mended.length > 0)
    logger.warn(
      { paths: mended.slice(0, named), count: mended.length },
      'other users could read files of the data directory; it is now open to its owner only',
    );
}
