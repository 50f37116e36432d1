/**
 * The credentials of the command and of the Terraform provider: a JSON file with endpoint, token, project and CA file.
 * An environment variable replaces each of them. `ucloud up` writes the file with the first token, and `ucloud login`
 * writes it with another token.
 */
import { constants, copyFileSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname } from 'node:path';
import { makePrivate } from '../store/private-files.ts';
import {
  completeSettings,
  credentialsPathFor,
  parseCredentials,
  type Settings,
  settingsOf,
} from './credential-rules.ts';
import { makeDirectory } from './make-directory.ts';

/** The credentials of a cloud. */
export interface Credentials {
  readonly endpoint: string;
  readonly token: string;
  /** The project of creations and lists if the token belongs to none. */
  readonly project?: string;
  readonly ca_file?: string;
}

/** Returns the path of the credentials file of this user. */
export const credentialsPath = (): string => credentialsPathFor(process.env, homedir());

function readFile(path: string): Settings {
  try {
    return parseCredentials(readFileSync(path, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new Error(`${path} cannot be used: ${(error as Error).message}`, { cause: error });
  }
}

/** The credentials of the environment and the file. */
export interface Found extends Settings {
  /** The endpoint of the file's token, if it differs from the requested endpoint. */
  readonly withheldFrom?: string;
}

/**
 * Returns the settings of the environment, completed by those of the credentials file.
 * @throws Error if the file cannot be used
 */
export function readCredentials(): Found {
  const file = readFile(credentialsPath());
  const found = completeSettings(settingsOf(process.env), file);
  const withheld = found.token === undefined && file.token !== undefined ? file.endpoint : undefined;
  return { ...found, ...(withheld !== undefined && { withheldFrom: withheld }) };
}

/**
 * Writes the file, readable by its owner only, in one step. The previous file may contain the only token of another
 * cloud, so it is kept. Returns the path of that copy; undefined if there was no file.
 */
export function writeCredentials(path: string, credentials: Credentials): string | undefined {
  makeDirectory(dirname(path), 0o700);
  const kept = existsSync(path) ? `${path}.${new Date().toISOString().replaceAll(':', '-')}` : undefined;
  if (kept) {
    // The copy gets the permissions of the original.
    makePrivate(path);
    copyFileSync(path, kept, constants.COPYFILE_EXCL);
  }
  const draft = `${path}.${process.pid}.new`;
  writeFileSync(draft, `${JSON.stringify(credentials, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(draft, path);
  return kept;
}
