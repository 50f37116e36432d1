/**
 * Where the command line and the Terraform provider find the API: a JSON file of endpoint, token, project and CA,
 * each overridden by an environment variable. `ucloud up` writes the file when it makes the first token.
 */
import { constants, copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

export interface Credentials {
  readonly endpoint: string;
  readonly token: string;
  /** Project of creations and lists, where the token belongs to none. */
  readonly project?: string;
  readonly ca_file?: string;
}

export const credentialsPath = (): string =>
  process.env.UCLOUD_CREDENTIALS ??
  join(process.env.XDG_CONFIG_HOME ?? join(homedir(), '.config'), 'ucloud', 'credentials.json');

export function readCredentials(): Partial<Credentials> {
  const path = credentialsPath();
  let file: Partial<Credentials> = {};
  try {
    file = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
      throw new Error(`${path} cannot be used: ${(error as Error).message}`, { cause: error });
    }
  }
  const { UCLOUD_ENDPOINT, UCLOUD_TOKEN, UCLOUD_PROJECT, UCLOUD_CA_FILE } = process.env;
  const { project, ...rest } = file;
  return {
    ...rest,
    // The file's project goes with the file's token; another token may not even know of it.
    ...(project && (!UCLOUD_TOKEN || UCLOUD_TOKEN === file.token) && { project }),
    ...(UCLOUD_ENDPOINT && { endpoint: UCLOUD_ENDPOINT }),
    ...(UCLOUD_TOKEN && { token: UCLOUD_TOKEN }),
    ...(UCLOUD_PROJECT && { project: UCLOUD_PROJECT }),
    ...(UCLOUD_CA_FILE && { ca_file: UCLOUD_CA_FILE }),
  };
}

/**
 * Readable by its owner only; whole or not at all. What was there may be the only key to another cloud: it is kept,
 * and the answer is where.
 */
export function writeCredentials(path: string, credentials: Credentials): string | undefined {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const kept = existsSync(path) ? `${path}.${new Date().toISOString().replaceAll(':', '-')}` : undefined;
  if (kept) copyFileSync(path, kept, constants.COPYFILE_EXCL);
  const draft = `${path}.${process.pid}.new`;
  writeFileSync(draft, `${JSON.stringify(credentials, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(draft, path);
  return kept;
}
