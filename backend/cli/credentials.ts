/**
 * Where the command line and the Terraform provider find the API: a JSON file of endpoint, token, project and CA,
 * each overridden by an environment variable. `ucloud up` writes the file when it makes the first token, `ucloud login`
 * for who was given one.
 */
import { constants, copyFileSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { makePrivate } from '../store/private-files.ts';
import { makeDirectory } from './make-directory.ts';

export interface Credentials {
  readonly endpoint: string;
  readonly token: string;
  /** Project of creations and lists, where the token belongs to none. */
  readonly project?: string;
  readonly ca_file?: string;
}

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
    // The message of JSON.parse quotes the text, which holds a token.
    throw new Error(`${path} cannot be used: it is not JSON`);
  }
}

/** A line end or blank at an end is a slip of whoever copied the value, and belongs to none of them. */
const trimmed = <T extends object>(values: T): T =>
  Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, typeof value === 'string' ? value.trim() : value]),
  ) as T;

function sameOrigin(a: string, b: string): boolean {
  return URL.canParse(a) && URL.canParse(b) && new URL(a).origin === new URL(b).origin;
}

export interface Found extends Partial<Credentials> {
  /** The file has a token, but for this endpoint and not for the one that is asked. */
  readonly withheldFrom?: string;
}

/** The environment, then the file. What the file holds beside its endpoint is for that endpoint, and goes to no other. */
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
  // The file's project goes with the file's token; another token may not even know of it.
  const belongs = project !== undefined && (!given.token || given.token === file.token);
  return { ...rest, ...(belongs && { project }), ...given };
}

/**
 * Readable by its owner only; whole or not at all. What was there may be the only key to another cloud: it is kept,
 * and the answer is where.
 */
export function writeCredentials(path: string, credentials: Credentials): string | undefined {
  makeDirectory(dirname(path), 0o700);
  const kept = existsSync(path) ? `${path}.${new Date().toISOString().replaceAll(':', '-')}` : undefined;
  if (kept) {
    // A copy has the permissions of what it is made of.
    makePrivate(path);
    copyFileSync(path, kept, constants.COPYFILE_EXCL);
  }
  const draft = `${path}.${process.pid}.new`;
  writeFileSync(draft, `${JSON.stringify(credentials, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(draft, path);
  return kept;
}
