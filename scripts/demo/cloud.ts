/** The demo's own cloud: `ucloud up` as a child process with a data directory of its own, and what an operator sets up once. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { eventually, exec } from './steps.ts';

export interface Cloud {
  readonly endpoint: string;
  readonly credentials: string;
  readonly hypervisor: string;
  readonly project: string;
  /** Of the operator. */
  readonly token: string;
  /** Runs an operator command and gives its answer. */
  ucloud(...args: string[]): Promise<Record<string, unknown>>;
  /** What it has printed, but for its log. */
  output(): string;
  stop(): Promise<void>;
  /** kill -9, as a crash would. */
  kill(): Promise<void>;
}

const command = resolve('backend/cli/ucloud');

/** Removes what an earlier demo left: its VMs, networks and data. */
export async function cleanUp(data: string): Promise<string> {
  if (!existsSync(data)) return '';
  const { stdout } = await exec(command, ['host', 'clean', '--yes', '--data', data]);
  rmSync(data, { recursive: true, force: true });
  return stdout.trim();
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolved) => child.once('exit', resolved));
  child.kill(signal);
  await gone;
}

export async function startCloud(data: string, extra: readonly string[]): Promise<Cloud> {
  mkdirSync(data, { recursive: true, mode: 0o700 });
  const credentials = join(data, 'credentials.json');
  const logFile = join(data, 'ucloud.log');
  const log = openSync(logFile, 'a');
  const child = spawn(
    command,
    ['up', '--data', data, '--listen', '[::1]:0', '--credentials', credentials, ...extra],
    // A group of its own: Ctrl-C in the terminal must reach the demo first, which then stops this in order.
    { stdio: ['ignore', 'pipe', log], detached: true },
  );
  closeSync(log);
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  const up = await eventually('ucloud up', 60_000, async () => {
    if (child.exitCode !== null) throw new Error(`it ended:\n${output}\n${readFileSync(logFile, 'utf8').slice(-3000)}`);
    const match = /ucloud is up: (\S+) \((\w+), \w+\)/.exec(output);
    if (!match) throw new Error('it does not answer yet');
    return { endpoint: match[1] ?? '', hypervisor: match[2] ?? '' };
  }).catch(async (error: unknown) => {
    await end(child, 'SIGTERM');
    throw error;
  });
  if (!existsSync(credentials)) {
    await end(child, 'SIGTERM');
    throw new Error(
      'The database holds a cloud already, whose operator has the token. Give this one a part of its own: a key prefix behind the address, such as etcd://[::1]:2379/demo-2',
    );
  }
  const { project, token } = JSON.parse(readFileSync(credentials, 'utf8')) as { project: string; token: string };
  // The port is a new one at each start, and the credentials are for that of the first.
  const env = { ...process.env, UCLOUD_ENDPOINT: up.endpoint, UCLOUD_TOKEN: token, UCLOUD_PROJECT: project };
  return {
    ...up,
    credentials,
    project,
    token,
    ucloud: async (...args) => JSON.parse((await exec(command, [...args, '--json'], { env })).stdout || 'null'),
    output: () => output,
    stop: () => end(child, 'SIGTERM'),
    kill: () => end(child, 'SIGKILL'),
  };
}

/** What an operator does once: a pool of prefixes, a public image, and a token for the project that Terraform uses. */
export async function setUpCloud(cloud: Cloud, data: string, image: string): Promise<{ token: string }> {
  // A unique local prefix (RFC 4193): reachable from this machine, and from nowhere else.
  await cloud.ucloud('prefix-pool', 'create', '--name', 'demo', '--cidr', 'fd75:c10d::/40');
  await cloud.ucloud('image', 'import', image, '--name', 'demo', '--visibility', 'public', '--data', data);
  const token = await cloud.ucloud('token', 'create', '--name', 'terraform', '--project', cloud.project);
  return { token: String(token.secret) };
}
