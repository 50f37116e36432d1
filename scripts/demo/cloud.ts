/**
 * The cloud of the demo: `ucloud up` as a child process with its own data directory, and the initial set-up by an
 * operator.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { eventually, exec } from './steps.ts';

/** A running cloud. */
export interface Cloud {
  readonly endpoint: string;
  readonly credentials: string;
  readonly hypervisor: string;
  readonly project: string;
  /** The token of the operator. */
  readonly token: string;
  /** Runs a command as the operator and returns its parsed answer. */
  ucloud(...args: string[]): Promise<Record<string, unknown>>;
  /**
   * Reads from the API as the operator, such as `vms/vm-…`; undefined if the object is gone. Waiting needs many reads, and a
   * request costs the machine much less than the start of a command.
   */
  read(path: string): Promise<Record<string, unknown> | undefined>;
  /** Returns the standard output of `ucloud up`, without its log. */
  output(): string;
  stop(): Promise<void>;
  /** Ends the cloud with SIGKILL, to simulate a crash. */
  kill(): Promise<void>;
}

/** The path of the command. */
export const command = resolve('backend/cli/ucloud');

/** Removes the VMs, networks and data of an earlier demo. */
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

/** Returns the operator's access to a cloud. */
export function clientOf<T extends Pick<Cloud, 'endpoint' | 'credentials' | 'project' | 'token'>>(
  access: T,
): T & Pick<Cloud, 'ucloud' | 'read'> {
  const { endpoint, project, token } = access;
  const env = { ...process.env, UCLOUD_ENDPOINT: endpoint, UCLOUD_TOKEN: token, UCLOUD_PROJECT: project };
  return {
    ...access,
    ucloud: async (...args) => JSON.parse((await exec(command, [...args, '--json'], { env })).stdout || 'null'),
    async read(path) {
      const answer = await fetch(`${endpoint}/v1/${path}`, { headers: { authorization: `Bearer ${token}` } });
      if (answer.status === 404) return undefined;
      if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
      return (await answer.json()) as Record<string, unknown>;
    },
  };
}

/** Starts the cloud. Resolves when its API answers. */
export async function startCloud(data: string, extra: readonly string[]): Promise<Cloud> {
  mkdirSync(data, { recursive: true, mode: 0o700 });
  const credentials = join(data, 'credentials.json');
  const logFile = join(data, 'ucloud.log');
  const log = openSync(logFile, 'a');
  const child = spawn(
    command,
    ['up', '--data', data, '--listen', '[::1]:0', '--credentials', credentials, ...extra],
    // The child has its own process group, so that Ctrl-C in the terminal reaches only the demo, which then stops the
    // child.
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
      'The database already contains a cloud with its own operator token. Add a key prefix for this cloud to the address, such as etcd://[::1]:2379/demo-2',
    );
  }
  const { project, token } = JSON.parse(readFileSync(credentials, 'utf8')) as { project: string; token: string };
  return {
    // Each start has a new port, but the credentials contain the port of the first start.
    ...clientOf({ endpoint: up.endpoint, credentials, project, token }),
    hypervisor: up.hypervisor,
    output: () => output,
    stop: () => end(child, 'SIGTERM'),
    kill: () => end(child, 'SIGKILL'),
  };
}

/**
 * Does the initial set-up of an operator: a prefix pool, a public image, and a token for Terraform's project.
 * @param upload makes the image. Default: a command that gives the file to the scanner on this machine
 */
export async function setUpCloud(
  cloud: Cloud,
  data: string,
  image: string,
  upload?: (cloud: Cloud, image: string) => Promise<void>,
): Promise<{ token: string }> {
  // A unique local prefix (RFC 4193), which only this machine can reach.
  await cloud.ucloud('prefix-pool', 'create', '--name', 'demo', '--cidr', 'fd75:c10d::/40');
  if (upload) await upload(cloud, image);
  else await cloud.ucloud('image', 'import', image, '--name', 'demo', '--visibility', 'public', '--data', data);
  const token = await cloud.ucloud('token', 'create', '--name', 'terraform', '--project', cloud.project);
  return { token: String(token.secret) };
}
