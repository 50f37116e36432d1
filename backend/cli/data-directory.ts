/**
 * The data directory contains the database, keys, disks of VMs and the output of their consoles. It belongs to the user
 * of ucloud and is closed to others. Other programs may have created it, so each start checks and corrects it.
 * Processes of VMs need no access: they get open files.
 */
import { lstatSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../model/component.ts';
import { makePrivate, requireOwner } from '../store/private-files.ts';
import { makeDirectory } from './make-directory.ts';

/** The maximum number of paths in a log line. */
const named = 20;

/**
 * Directories whose content is not examined. They may be shared with other machines and contain files of other users.
 * The data directory around them is closed.
 */
const shared = new Set(['files', 'images']);

/** Ignores a missing file: other processes of ucloud may use the directory. */
function unlessGone(work: () => void): void {
  try {
    work();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** Makes all files below the directory private, and adds the changed paths to `mended`. */
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
 * Prepares the data directory, before a component creates files in it. New files of this process are private. @throws
 * Error that names the path of a file of another user
 */
export function openDataDirectory(data: string, logger: Logger): void {
  process.umask(0o077);
  makeDirectory(data, 0o700);
  const mended: string[] = [];
  const stats = statSync(data);
  requireOwner(data, stats);
  if (makePrivate(data, stats)) mended.push(data);
  // From here on, other users cannot create files in the directory.
  mend(data, mended, (name) => shared.has(name));
  if (mended.length > 0)
    logger.warn(
      { paths: mended.slice(0, named), count: mended.length },
      'other users could read files of the data directory; it is now open to its owner only',
    );
}
