/**
 * The credentials of the command and of the Terraform provider: a JSON file with endpoint, token, project and CA file.
 * An environment variable replaces each of them. `ucloud up` writes the file with the first token, and `ucloud login`
 * writes it with another token.
 */
import { constants, copyFileSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { makePrivate } from '../store/private-files.ts';
import { makeDirectory } from './make-directory.ts';

/** The credentials of a cloud. */
export interface Credentials {
  readonly endpoint: string;
  readonly token: string;
  /** The project of creations and lists if the token belongs to none. */
  readonly project?: string;
  readonly ca_file?: string;
}

/** Returns the path of the credentials file. */
export const credentialsPath = (): string =>
  process.env.UCLOUD_CREDENTIALS?.trim() ||
  join(process.env.XDG_CONFIG_HOME || join(homedir(), '.config'), 'ucloud', 'credentials.json');

function readFile(path: string): Partial<Credentials> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new Error(`${path} cannot be used: ${(error as Error).message}`, { cause: error });
  }
  try {
    return trimmed(JSON.parse(text) as Partial<Credentials>);
  } catch {
    // The message of JSON.parse contains the text and therefore a token.
    throw new Error(`${path} cannot be used: it is not JSON`);
  }
}

/** Removes white space at both ends, which comes from copying. It is never part of a value. */
const trimmed = <T extends object>(values: T): T =>
  Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, typeof value === 'string' ? value.trim() : value]),
  ) as T;

function sameOrigin(a: string, b: string): boolean {
  return URL.canParse(a) && URL.canParse(b) && new URL(a).origin === new URL(b).origin;
}

/** The credentials of the environment and the file. */
export interface Found extends Partial<Credentials> {
  /** The endpoint of the file's token, if it differs from the requested endpoint. */
  readonly withheldFrom?: string;
}

/**
 * Returns the credentials: the environment first, then the file. Values of the file are for its endpoint, and go to no
 * other.
 */
export function readCredentials(): Found {
  const file = readFile(credentialsPath());
  const given = Object.fromEntries(
    (['endpoint', 'token', 'project', 'ca_file'] as const).flatMap((name) => {
      const value = process.env[`UCLOUD_${name.toUpperCase()}`]?.trim();
      return value ? [[name, value]] : [];
    }),
  ) as Partial<Credentials>;
  const { endpoint = file.endpoint } = given;
  if (endpoint !== undefined && file.endpoint !== undefined && !sameOrigin(endpoint, file.endpoint)) {
    return { ...given, ...(file.token && !given.token && { withheldFrom: file.endpoint }) };
  }
  const { project, ...rest } = file;
  // The project of the file belongs to the token of the file. Another token may not see it.
  const belongs = project !== undefined && (!given.token || given.token === file.token);
  return { ...rest, ...(belongs && { project }), ...given };
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
