/**
 * The keys that states of Terraform are encrypted with. They lie in a file of the API's, never in the database: who gets
 * at the database, or at a copy of it, does not get at the secrets in the states.
 *
 * The file has a key a line, 32 random bytes in base 64. The first encrypts; all of them decrypt, so a key is replaced by
 * putting a new one before it. Lines that start with `#` are comments. All API servers of a cloud need the same file.
 */
import { createHmac, randomBytes } from 'node:crypto';

const keyBytes = 32;

export interface StateKey {
  /** Names the key without betraying it. */
  readonly id: string;
  readonly bytes: Buffer;
}

export interface StateKeys {
  readonly current: StateKey;
  find(id: string): StateKey | undefined;
}

export const newStateKeyFile = (): string =>
  `# Encrypts states of Terraform. Whoever loses it loses the states; keep a copy, but not beside the database.\n${randomBytes(keyBytes).toString('base64')}\n`;

/** Throws an Error that names the line at fault. */
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
  if (!current) throw new Error('there is no key in it: make one with `openssl rand -base64 32`');
  return { current, find: (id) => keys.find((key) => key.id === id) };
}
