/** Directories that an operator names. */
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

const reasons: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EEXIST: 'there is a file of that name',
  ENOENT: 'nothing can be made there',
  ENOTDIR: 'there is a file above it',
  EPERM: 'not permitted there',
  EROFS: 'the file system is read-only',
};

function make(path: string, mode: number): void {
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
    const above = dirname(path);
    if (code !== 'ENOENT' || existsSync(above)) throw error;
    make(above, mode);
    make(path, mode);
  }
}

/**
 * Makes a directory and those above it, where they are not there. Throws an Error that names the path.
 *
 * Not by Node's `recursive`, which never returns where a directory is there and yet says ENOENT to whoever makes
 * something in it, as /proc does.
 */
export function makeDirectory(path: string, mode = 0o777): void {
  try {
    make(path, mode);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new Error(`cannot make the directory ${path}: ${reasons[code ?? ''] ?? message}`, { cause: error });
  }
}
