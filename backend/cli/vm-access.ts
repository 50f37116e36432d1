/** Access to VMs beside the API: login, and the output of the serial port. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, existsSync } from 'node:fs';
import { join } from 'node:path';
import { isatty } from 'node:tty';
import type { Command } from 'commander';
import { call } from './client.ts';
import { defaultDataDirectory, layout } from './layout.ts';
import { idOf } from './names.ts';
import { completeNames } from './request.ts';
import { projectNamed } from './resources.ts';
import { writeOut } from './standard-output.ts';
import { visibleLines } from './terminal.ts';

/** A VM and its place. */
export interface Vm {
  readonly id: string;
  readonly name: string;
  readonly address: string;
  readonly status: { readonly host?: string };
}

/** The project of a name. */
export interface VmOptions {
  readonly project?: string;
}

/** Returns the VM of this id or name. */
export async function vmOf(text: string, { project }: VmOptions): Promise<Vm> {
  const scope = await projectNamed(project);
  return (await call({ method: 'GET', path: `/v1/vms/${await idOf('vm', text, scope)}` })) as Vm;
}

async function ssh(text: string, args: readonly string[], options: VmOptions & { readonly user: string }) {
  const { address } = await vmOf(text, options);
  const child = spawn('ssh', ['-l', options.user, '--', address, ...args], { stdio: 'inherit' });
  const [code] = await once(child, 'exit');
  process.exitCode = typeof code === 'number' ? code : 1;
}

async function consoleLog(text: string, options: VmOptions & { readonly data: string; readonly raw?: boolean }) {
  const vm = await vmOf(text, options);
  const directory = join(layout(options.data).host, 'vms', vm.id);
  const logs = ['console.log.1', 'console.log'].map((name) => join(directory, name)).filter(existsSync);
  if (logs.length === 0) {
    const where = vm.status.host ? `its host is ${vm.status.host}` : 'it has no host yet';
    throw new Error(
      `${vm.name} has no console log in ${directory}; ${where}. Run this on its host, with the --data of the agent`,
    );
  }
  // The text comes from the guest, so the terminal must not interpret it.
  const safe = isatty(1) && !options.raw;
  for (const log of logs) {
    const chunks = createReadStream(log, safe ? 'utf8' : undefined) as AsyncIterable<string | Buffer>;
    for await (const chunk of chunks) {
      writeOut(typeof chunk === 'string' ? visibleLines(chunk.replaceAll('\r\n', '\n')) : chunk);
    }
  }
}

/** Adds the commands to `ucloud vm`, beside the commands of the API. */
export function addVmAccess(program: Command): void {
  const vm = program.commands.find((command) => command.name() === 'vm') ?? program.command('vm');
  const target = (name: string, description: string) =>
    completeNames(vm.command(name), '/v1/vms')
      .description(description)
      .argument('<id or name>')
      .option('--project <id or name>', 'project of the name. Default: that of the credentials');
  target('ssh', 'Log in with ssh: ucloud vm ssh web-1 -- uptime')
    .argument('[command...]', 'command to run in the guest, after --')
    .option('--user <name>', 'user of the login', 'ucloud')
    .action(ssh);
  target('console-log', 'Print the output of the guest on its serial port. Run this on its host')
    .option('--data <directory>', 'data directory of the host agent', defaultDataDirectory())
    .option('--raw', 'unchanged, also to a terminal: the guest can then control the terminal')
    .action(consoleLog);
}
