/** `ucloud lab`: a data centre on one machine, for trials, tests and demonstrations. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, existsSync, realpathSync } from 'node:fs';
import { basename, delimiter, dirname, join, resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Direction } from '../lab/faults.ts';
import type { Lab, LabState } from '../lab/lab.ts';
import type { LabPlan } from '../lab/plan.ts';
import type { SpineSession } from '../lab/spine.ts';
import { call } from './client.ts';
import type { HypervisorChoice } from './layout.ts';
import { say, tell } from './standard-output.ts';
import { vmOf } from './vm-access.ts';

/** The variable names the directory of the lab once for many commands. */
const defaultDirectory = process.env.UCLOUD_LAB || '/var/lib/ucloud-lab';

interface DataOption {
  readonly data: string;
}

const modules = async () => {
  const [{ Lab }, plan, faults] = await Promise.all([
    import('../lab/lab.ts'),
    import('../lab/plan.ts'),
    import('../lab/faults.ts'),
  ]);
  return { Lab, ...plan, ...faults };
};

/** Returns the path without links, of which the last parts may be missing. So a directory has one lab, whatever its spelling. */
function realPath(path: string): string {
  if (existsSync(path)) return realpathSync(path);
  const above = dirname(path);
  return above === path ? path : join(realPath(above), basename(path));
}

const labIn = async ({ data }: DataOption): Promise<Lab> => new (await modules()).Lab(realPath(resolve(data)), tell);

/** The variables that name another cloud. */
const otherCloud = ['UCLOUD_ENDPOINT', 'UCLOUD_TOKEN', 'UCLOUD_PROJECT', 'UCLOUD_CA_FILE'];

/** Returns the environment of commands for the cloud of the lab. */
const labEnvironment = (lab: Lab): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !otherCloud.includes(name))),
  UCLOUD_CREDENTIALS: lab.credentials,
});

/** Debian installs some programs in sbin. */
const isInstalled = (program: string): boolean =>
  [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'].some((directory) => {
    try {
      accessSync(join(directory, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });

/** @throws Error that names what this machine lacks */
function checkMachine(): void {
  if (process.getuid?.() !== 0) throw new Error('ucloud lab needs root, for network namespaces');
  const packages = { ip: 'iproute2', nft: 'nftables', etcd: 'etcd-server', openssl: 'openssl', sysctl: 'procps' };
  const missing = Object.entries(packages).filter(([program]) => !isInstalled(program));
  if (missing.length === 0) return;
  const names = missing.map(([, name]) => name).join(' ');
  throw new Error(`ucloud lab needs ${missing.map(([program]) => program).join(', ')}: apt-get install ${names}`);
}

/** Returns the parser of a whole number in this range. */
const within =
  (least: number, most: number) =>
  (text: string): number => {
    const value = Number(text);
    if (/^\d{1,3}$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`must be a whole number from ${least} to ${most}`);
  };

interface UpOptions extends DataOption {
  readonly hosts?: number;
  readonly etcd?: string;
  readonly hypervisor?: HypervisorChoice;
}

async function up({ hosts, etcd, hypervisor, ...options }: UpOptions): Promise<void> {
  checkMachine();
  const lab = await labIn(options);
  const made = await lab.up({
    ...(hosts !== undefined && { hosts }),
    ...(etcd !== undefined && { etcd: Number(etcd) }),
    ...(hypervisor !== undefined && { hypervisor }),
  });
  const set = otherCloud.filter((name) => process.env[name] !== undefined);
  const unset = set.length === 0 ? '' : `\n  unset ${set.join(' ')}`;
  const path = `'${lab.credentials.replaceAll("'", "'\\''")}'`;
  say(`The lab is up with ${made.hosts} hosts. Use it with:\n  export UCLOUD_CREDENTIALS=${path}${unset}`);
}

function table({ nodes }: LabState): string {
  const rows = nodes.map(({ name, address, daemons, processes }) => [
    name,
    address,
    daemons.map((each) => `${each.name} ${each.state}`).join(', '),
    processes === 0 ? '' : `${processes} other ${processes === 1 ? 'process' : 'processes'}`,
  ]);
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

const sessionText = ({ host, state, prefixes }: SpineSession): string =>
  state === 'established' ? `${host} established (${prefixes} prefixes)` : `${host} ${state}`;

async function status(options: DataOption & { readonly json?: boolean }): Promise<void> {
  const state = await (await labIn(options)).state();
  if (options.json) {
    say(JSON.stringify(state, undefined, 2));
    return;
  }
  say(table(state));
  if (state.sessions !== undefined) say(`BGP sessions of the spine: ${state.sessions.map(sessionText).join(', ')}`);
  const { describeFault } = await modules();
  for (const fault of state.faults) say(describeFault(fault));
}

/** Runs a command in the namespace of a node, and ends with its exit code. */
async function runOn(lab: Lab, node: string, command: readonly string[]): Promise<void> {
  const { namespaceOf } = await modules();
  const child = spawn('ip', ['netns', 'exec', namespaceOf(lab.plan.id, node), ...command], {
    stdio: 'inherit',
    env: labEnvironment(lab),
  });
  const [code] = await once(child, 'exit');
  process.exitCode = typeof code === 'number' ? code : 1;
}

async function nodeOf(plan: LabPlan, name: string) {
  return (await modules()).nodeNamed(plan, name);
}

async function ssh(text: string, args: readonly string[], options: DataOption & { readonly user: string }) {
  const lab = await labIn(options);
  const { plan } = lab;
  for (const name of otherCloud) delete process.env[name];
  process.env.UCLOUD_CREDENTIALS = lab.credentials;
  const { name, address, status } = await vmOf(text, {});
  if (status.host === undefined) throw new Error(`${name} has no host yet`);
  const host = (await call({ method: 'GET', path: `/v1/hosts/${status.host}` })) as { readonly name: string };
  const node = await nodeOf(plan, host.name);
  // A lab is made anew again and again, so its guests have new keys at old addresses.
  const forget = ['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR'];
  await runOn(lab, node.name, ['ssh', ...forget, '-l', options.user, '--', address, ...args]);
}

interface FaultOptions extends DataOption {
  readonly direction: Direction;
  readonly peer?: string;
  readonly percent?: number;
}

async function fail(node: string, { direction, peer, percent = 100, ...options }: FaultOptions): Promise<void> {
  const lab = await labIn(options);
  const { plan } = lab;
  const { linkedNodeNamed } = await modules();
  linkedNodeNamed(plan, node);
  if (peer !== undefined) linkedNodeNamed(plan, peer);
  if (peer === node) throw new Error('--peer: must be another node');
  const fault = { node, percent, direction, ...(peer !== undefined && { peer }) };
  await lab.addFault(fault);
  say((await modules()).describeFault(fault));
}

async function act(text: string, options: DataOption, action: 'kill' | 'pause'): Promise<void> {
  const lab = await labIn(options);
  const target = (await modules()).targetNamed(lab.plan, text);
  const count = await lab[action](target);
  say(`${count} ${count === 1 ? 'process' : 'processes'} of ${text} ${action === 'kill' ? 'killed' : 'paused'}`);
}

/** Adds `ucloud lab`. */
export function addLab(program: Command): void {
  const lab = program
    .command('lab')
    .description('run a data centre on this machine, in network namespaces (needs root)');
  const command = (name: string, description: string) =>
    lab
      .command(name)
      .description(description)
      .option('--data <directory>', 'directory of the lab (or UCLOUD_LAB)', defaultDirectory);
  command('up', 'start hosts, an etcd cluster and all components, or complete what is missing of them')
    .option('--hosts <number>', 'number of hosts, 1 to 16. Default: 3', within(1, 16))
    .addOption(new Option('--etcd <number>', 'number of etcd members. Default: 3').choices(['1', '3', '5']))
    .addOption(
      new Option('--hypervisor <kind>', 'auto uses qemu if it works on this machine. Default: auto').choices([
        'auto',
        'qemu',
        'simulated',
      ]),
    )
    .action(up);
  command('status', 'show nodes, daemons and faults').option('--json', 'print JSON').action(status);
  command('exec', 'run a command on a node: ucloud lab exec host-1 -- ip -6 route')
    .argument('<node>')
    .argument('<command...>', 'the command, after --')
    .action(async (node: string, words: readonly string[], options: DataOption) => {
      const found = await labIn(options);
      await runOn(found, (await nodeOf(found.plan, node)).name, words);
    });
  command('ssh', 'log in to a VM from its host: ucloud lab ssh web-1 -- uptime')
    .argument('<id or name>')
    .argument('[command...]', 'command to run in the guest, after --')
    .option('--user <name>', 'user of the login', 'ucloud')
    .action(ssh);
  command('kill', 'kill a daemon (host-1/agent), or all processes of a node with its VMs (host-1)')
    .argument('<node or daemon>')
    .action((text: string, options: DataOption) => act(text, options, 'kill'));
  command('pause', 'stop a daemon or all processes of a node; their connections stay')
    .argument('<node or daemon>')
    .action((text: string, options: DataOption) => act(text, options, 'pause'));
  const link = (name: string, description: string) =>
    command(name, description)
      .argument('<node>')
      .addOption(
        new Option('--direction <direction>', 'packets to the node (in), from it (out), or both')
          .choices(['in', 'out', 'both'])
          .default('both'),
      )
      .option('--peer <node>', 'only packets between the two nodes. Default: all packets of the node');
  link('partition', 'cut the link of a node, also in one direction only').action(fail);
  link('lose', 'lose a part of the packets of a node')
    .requiredOption('--percent <number>', 'the part, 1 to 99', within(1, 99))
    .action(fail);
  command('heal', 'end all faults of a node, or of all nodes: links work, and all daemons run')
    .argument('[node]')
    .action(async (node: string | undefined, options: DataOption) => {
      const found = await labIn(options);
      await found.heal(node === undefined ? undefined : await nodeOf(found.plan, node));
      say(`${node ?? 'all nodes'} healed`);
    });
  command('down', 'end all processes and remove everything of the lab').action(async (options: DataOption) => {
    checkMachine();
    const found = await labIn(options);
    say((await found.down()) ? 'the lab is gone' : `there is no lab in ${found.directory}`);
  });
}
