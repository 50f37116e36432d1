/** `ucloud login`: stores a token for the command and the Terraform provider. */
import { resolve } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import type { Command } from 'commander';
import { call } from './client.ts';
import { type Credentials, credentialsPath, writeCredentials } from './credentials.ts';
import { idOf } from './names.ts';
import { say } from './standard-output.ts';

interface LoginOptions {
  readonly project?: string;
  readonly caFile?: string;
}

/**
 * Reads the token from the terminal without showing it, or from a pipe. As an argument it would be visible to every
 * user of the machine.
 */
async function readToken(): Promise<string> {
  if (!process.stdin.isTTY) return (await text(process.stdin)).trim();
  process.stderr.write('Token: ');
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const prompt = createInterface({ input: process.stdin, output: silent, terminal: true });
  try {
    return (await prompt.question('')).trim();
  } finally {
    prompt.close();
    process.stderr.write('\n');
  }
}

async function login(endpoint: string, options: LoginOptions): Promise<void> {
  const token = await readToken();
  if (token === '') throw new Error('no token was given');
  const given: Credentials = {
    endpoint,
    token,
    ...(options.caFile !== undefined && { ca_file: resolve(options.caFile) }),
  };
  const own = (await call({ method: 'GET', path: '/v1/token' }, given)) as {
    readonly name: string;
    readonly role: string;
    readonly project?: string;
  };
  // A token of a project implies its project.
  let project: string | undefined;
  if (options.project !== undefined) {
    project = await idOf('project', options.project, undefined, given);
    await call({ method: 'GET', path: `/v1/projects/${project}` }, given);
  }
  const path = credentialsPath();
  const kept = writeCredentials(path, { ...given, ...(project && { project }) });
  const home = project ?? own.project;
  const where = home ? ` in project ${home}` : '';
  say(`Logged in to ${endpoint} as ${own.name} (${own.role}${where}). Written to ${path}.`);
  if (kept) say(`The previous credentials are in ${kept}.`);
}

/** Adds `ucloud login`. */
export function addLogin(program: Command): void {
  program
    .command('login')
    .description(
      'store a token for the command and for Terraform. The command asks for it, or reads it from standard input',
    )
    .argument('<endpoint>', 'URL of the API, such as https://cloud.example.net')
    .option('--project <id or name>', 'project of new objects. Default: that of the token')
    .option('--ca-file <file>', 'PEM file of the trusted CAs. Default: those of this machine')
    .action(login);
}
