/**
 * The encryption keys of Terraform states. They are in a file of the API and never in the database, so a copy of the
 * database does not reveal the secrets in states.
 *
 * The file contains one key per line: 32 random bytes in base 64. The first key encrypts, and all keys decrypt; a new
 * key is placed before the old ones. Lines that start with `#` are comments. All API servers of a cloud need the same
 * file.
 */
import { createHmac, randomBytes } from 'node:crypto';

const keyBytes = 32;

/** One encryption key. */
export interface StateKey {
  /** An id that does not reveal the key. */
  readonly id: string;
  readonly bytes: Buffer;
}

/** The encryption keys of Terraform states. */
export interface StateKeys {
  readonly current: StateKey;
  find(id: string): StateKey | undefined;
}

/** Returns the content of a new key file. */
export const newStateKeyFile = (): string =>
  `# This key encrypts Terraform states. The states are lost without it; keep a copy, but not beside the database.\n${randomBytes(keyBytes).toString('base64')}\n`;

/** Reads a key file. @throws Error that names the line at fault */
export function parseStateKeys(text: string): StateKeys {
  const keys = text.split('\n').flatMap((raw, i): StateKey[] => {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) return [];
    const bytes = Buffer.from(line, 'base64');
    if (!/^[A-Za-z0-9+/]{43}=$/.test(line)) {
      throw new Error(`line ${i + 1} is not a key: ${keyBytes} bytes in base 64, such as \`openssl rand -base64 32\``);
    }
    return [{ id: createHmac('sha256', bytes).update('ucloud state key').digest('hex').slice(0, 16), bytes }];
  });
  const [current] = keys;
  if (!current) throw new Error('the file contains no key; create one with `openssl rand -base64 32`');
  return { current, find: (id) => keys.find((key) => key.id === id) };
}
