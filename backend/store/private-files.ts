/**
 * Files with secrets: only their owner may read them, whatever the umask was when they were made. Synchronous: it is
 * done before anything else opens them.
 */
import { chmodSync, closeSync, lstatSync, openSync, type Stats, statSync } from 'node:fs';

/** Permissions of everybody but the owner. */
const others = 0o077;

/** User id of this process; undefined where there are none. */
const self = (): number | undefined => process.geteuid?.();

/** Throws an Error that names the path unless it belongs to the user of this process. */
export function requireOwner(path: string, { uid }: Stats): void {
  const user = self();
  if (user === undefined || uid === user) return;
  throw new Error(
    `${path} belongs to the user with the id ${uid}, and this process runs as ${user}: run it as that user, or change the owner (chown)`,
  );
}

/** Takes the permissions of others away, and tells whether there were any. A symbolic link is left as it is. */
export function makePrivate(path: string, stats: Stats = lstatSync(path)): boolean {
  if (stats.isSymbolicLink() || (stats.mode & others) === 0) return false;
  chmodSync(path, stats.mode & 0o7777 & ~others);
  return true;
}

/** Makes the file, private and empty, if it is not there. One that is there is made private; its owner must be this user. */
export function ensurePrivateFile(path: string): void {
  // One that is there is not opened: closing it would take the locks away that SQLite has on it in this process.
  const there = () => statSync(path, { throwIfNoEntry: false });
  const stats = there();
  if (stats) {
    requireOwner(path, stats);
    makePrivate(path, stats);
    return;
  }
  try {
    closeSync(openSync(path, 'wx', 0o600));
  } catch (error) {
    // Another process was quicker.
    if (!there()) throw error;
  }
}
