/** The key of a Ceph user. It is secret: it appears on no command line, in no error and in no file of ours. */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMissing } from '../../system/files.ts';
import { PoolFault } from './pool-driver.ts';

/** A cephx key in base64: a header of 12 bytes and the secret. */
const form = /^[A-Za-z0-9+/]{16,508}={0,2}$/;
const maxFileBytes = 4096;

/**
 * Reads the key from a file of root that nobody else can read.
 * @throws PoolFault that names the file and the rule
 */
export async function readKey(path: string): Promise<string> {
  // A pipe would block the agent without O_NONBLOCK.
  const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
  const file = await open(path, flags).catch((cause: NodeJS.ErrnoException) => {
    throw new PoolFault(isMissing(cause) ? `key_file: ${path} does not exist` : `key_file: ${path}: ${cause.code}`);
  });
  try {
    const { mode, size, uid } = await file.stat();
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw new PoolFault(`key_file: ${path} is no regular file`);
    if (uid !== 0 || (mode & 0o077) !== 0)
      throw new PoolFault(`key_file: ${path} must belong to root, with mode 600, so that nobody else reads the key`);
    const text = size > maxFileBytes ? '' : (await file.readFile('utf8')).trim();
    if (!form.test(text) || text.length % 4 !== 0)
      throw new PoolFault(`key_file: ${path} must contain the key in base64 and nothing else (ceph auth get-key)`);
    return text;
  } finally {
    await file.close();
  }
}

/**
 * Returns the key as an open file without a name, which only this user id can read. A program opens it as /dev/fd/3;
 * it could not open a pipe of root.
 */
export async function openKey(key: string, uid: number): Promise<FileHandle> {
  const path = join(tmpdir(), `ucloud-${randomBytes(16).toString('hex')}`);
  const file = await open(path, 'wx+', 0o600);
  try {
    await rm(path);
    await file.writeFile(key);
    await file.chown(uid, uid);
    await file.chmod(0o400);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}
