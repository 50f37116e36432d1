/** Directories that an operator gives. */
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

const reasons: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EEXIST: 'a file has this name',
  ENOENT: 'the file system allows no new directory there',
  ENOTDIR: 'a part of the path is a file',
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
 * Creates a directory and its parents. @throws Error that names the path
 *
 * This does not use `recursive` of Node, which never returns if an existing directory answers ENOENT to the creation of
 * a file, as /proc does.
 */
export function makeDirectory(path: string, mode = 0o777): void {
  try {
    make(path, mode);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new Error(`cannot make the directory ${path}: ${reasons[code ?? ''] ?? message}`, { cause: error });
  }
}
