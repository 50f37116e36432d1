/** The password of a BGP session, in a file of root. It is secret: it appears in no error and on no command line. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { isMissing } from '../system/files.ts';
import { isPassword } from './bird-config.ts';

const maxFileBytes = 4096;

/** A password file breaks a rule. The message names the file and the rule. */
export class PasswordFault extends Error {
  override name = 'PasswordFault';
}

/**
 * Reads the password from a file of root that nobody else can read.
 * @throws PasswordFault that names the file and the rule
 */
export async function readPassword(path: string): Promise<string> {
  const fault = (text: string) => new PasswordFault(`password_file: ${path} ${text}`);
  // A pipe would block the agent without O_NONBLOCK.
  const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
  const file = await open(path, flags).catch((cause: NodeJS.ErrnoException) => {
    throw fault(isMissing(cause) ? 'does not exist' : `cannot be read: ${cause.code}`);
  });
  const failed = (cause: unknown): never => {
    throw cause instanceof PasswordFault ? cause : fault(`cannot be read: ${(cause as NodeJS.ErrnoException).code}`);
  };
  try {
    const { mode, size, uid } = await file.stat();
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw fault('is no regular file');
    if (uid !== 0 || (mode & 0o077) !== 0)
      throw fault('must belong to root, with mode 600, so that nobody else reads it');
    const text = size > maxFileBytes ? '' : (await file.readFile('utf8')).replace(/\r?\n$/, '');
    if (!isPassword(text)) throw fault('must contain a password of 1 to 80 printable ASCII characters without `"`');
    return text;
  } catch (error) {
    return failed(error);
  } finally {
    await file.close().catch(() => undefined);
  }
}
