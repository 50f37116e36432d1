/**
 * Where the command line and the Terraform provider find the API: a JSON file of endpoint, token, project and CA,
 * each overridden by an environment variable. `ucloud up` writes the file when it makes the first token.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
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
  return {
    ...file,
    ...(UCLOUD_ENDPOINT && { endpoint: UCLOUD_ENDPOINT }),
    ...(UCLOUD_TOKEN && { token: UCLOUD_TOKEN }),
    ...(UCLOUD_PROJECT && { project: UCLOUD_PROJECT }),
    ...(UCLOUD_CA_FILE && { ca_file: UCLOUD_CA_FILE }),
  };
}

/** Readable by its owner only; whole or not at all. */
export function writeCredentials(path: string, credentials: Credentials): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const draft = `${path}.${process.pid}.new`;
  writeFileSync(draft, `${JSON.stringify(credentials, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(draft, path);
}
