/**
 * The rules by which the command line and the Terraform provider find endpoint, token, project and CA file: the caller's
 * own values, else environment variables, else the credentials file. No I/O. The provider gets a copy of this file.
 *
 * Each value is looked for separately, with one exception: the token, the project and the CA file of the credentials file
 * belong to the endpoint of that file, and no other endpoint gets them.
 */
import { join } from 'node:path';

export interface Settings {
  readonly endpoint?: string | undefined;
  readonly token?: string | undefined;
  readonly project?: string | undefined;
  readonly ca_file?: string | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

const names = ['endpoint', 'token', 'project', 'ca_file'] as const satisfies readonly (keyof Settings)[];

/** Returns the path of the credentials file. */
export const credentialsPathFor = (env: Environment, home: string): string =>
  env.UCLOUD_CREDENTIALS?.trim() || join(env.XDG_CONFIG_HOME || join(home, '.config'), 'ucloud', 'credentials.json');

/** Returns the name of the environment variable of a setting. */
export const variableOf = (name: keyof Settings): string => `UCLOUD_${name.toUpperCase()}`;

/** Returns the settings in the environment, without the blanks around them. A variable of blanks counts as not set. */
export const settingsOf = (env: Environment): Settings =>
  Object.fromEntries(names.map((name) => [name, env[variableOf(name)]?.trim() || undefined]));

/**
 * Parses a credentials file. Blanks around a value are no part of it.
 * @throws Error with the reason, which does not quote the text: it contains a token
 */
export function parseCredentials(text: string): Settings {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new Error('it is not JSON');
  }
  if (typeof parsed !== 'object' || parsed === null) throw new Error('it holds no JSON object');
  const field = (name: keyof Settings) => {
    const value = (parsed as Record<string, unknown>)[name];
    if (value !== undefined && typeof value !== 'string') throw new Error(`\`${name}\` is not text`);
    return value?.trim();
  };
  return Object.fromEntries(names.map((name) => [name, field(name)]));
}

const isSameOrigin = (a: string, b: string): boolean =>
  URL.canParse(a) && URL.canParse(b) && new URL(a).origin === new URL(b).origin;

/** Returns the settings of the caller, completed by those of the file that belong to the same endpoint and token. */
export function completeSettings(own: Settings, file: Settings): Settings {
  const endpoint = own.endpoint ?? file.endpoint;
  const same = endpoint !== undefined && file.endpoint !== undefined && isSameOrigin(endpoint, file.endpoint);
  const token = own.token ?? (same ? file.token : undefined);
  return {
    endpoint,
    token,
    // Another token may belong to another project.
    project: own.project ?? (same && token === file.token ? file.project : undefined),
    ca_file: own.ca_file ?? (same ? file.ca_file : undefined),
  };
}
