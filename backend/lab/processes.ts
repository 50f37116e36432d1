/**
 * The processes of a lab. A daemon is marked by a variable of its environment, and all processes of a node are in its
 * namespace. So processes are found without a record, also after the command that started them was killed.
 */
import { execFile, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { environment } from '../host/system/command.ts';
import { type DaemonKind, namespaceOf } from './plan.ts';

const exec = promisify(execFile);
/** The variable of the environment of a daemon. */
const mark = 'UCLOUD_LAB_DAEMON';
/** The time in milliseconds in which a killed process must be gone. */
const endMs = 20_000;

/** A process in a namespace of the lab. */
export interface LabProcess {
  readonly pid: number;
  /** The daemon; undefined for other processes, such as VMs. */
  readonly daemon?: DaemonKind;
  /** The process has been stopped by a signal. */
  readonly paused: boolean;
}

function processOf(pid: number): LabProcess | undefined {
  try {
    const [state = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
    if (state === 'Z' || state === 'X') return undefined;
    const variables = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
    const daemon = variables.find((each) => each.startsWith(`${mark}=`))?.slice(mark.length + 1);
    return { pid, paused: state === 'T', ...(daemon && { daemon: daemon as DaemonKind }) };
  } catch {
    // The process has ended.
    return undefined;
  }
}

/** Returns the processes of a node; none without its namespace. */
export async function processesIn(namespace: string): Promise<LabProcess[]> {
  const { stdout } = await exec('ip', ['netns', 'pids', namespace], { env: environment }).catch(async (error) => {
    const list = await exec('ip', ['netns', 'list'], { env: environment });
    if (list.stdout.split('\n').some((line) => line.split(' ')[0] === namespace)) throw error;
    return { stdout: '' };
  });
  return stdout
    .split('\n')
    .filter(Boolean)
    .flatMap((pid) => processOf(Number(pid)) ?? []);
}

/** Sends a signal to processes, which may have ended. */
export function signal(processes: readonly LabProcess[], name: NodeJS.Signals): void {
  for (const { pid } of processes) {
    try {
      process.kill(pid, name);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}

/** Kills processes of a node, and waits for their end. New ones that match are killed as well. @throws Error after 20 s */
export async function killIn(namespace: string, matches: (each: LabProcess) => boolean = () => true): Promise<number> {
  const killed = new Set<number>();
  const deadline = performance.now() + endMs;
  for (;;) {
    const left = (await processesIn(namespace)).filter(matches);
    if (left.length === 0) return killed.size;
    if (performance.now() > deadline) {
      throw new Error(`processes in ${namespace} do not end: ${left.map(({ pid }) => pid).join(', ')}`);
    }
    signal(left, 'SIGKILL');
    for (const { pid } of left) killed.add(pid);
    await delay(50);
  }
}

/** A daemon to start. */
export interface DaemonStart {
  readonly lab: string;
  readonly node: string;
  readonly daemon: DaemonKind;
  readonly program: readonly string[];
  /** The file to which its output is added. */
  readonly log: string;
}

/** Starts a daemon, which outlives this process. */
export async function startDaemon({ lab, node, daemon, program, log }: DaemonStart): Promise<void> {
  const output = openSync(log, 'a', 0o600);
  try {
    const { HOME = '/root', NODE_COMPILE_CACHE } = process.env;
    const child = spawn('ip', ['netns', 'exec', namespaceOf(lab, node), ...program], {
      detached: true,
      stdio: ['ignore', output, output],
      cwd: '/',
      env: { PATH: environment.PATH, HOME, ...(NODE_COMPILE_CACHE && { NODE_COMPILE_CACHE }), [mark]: daemon },
    });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', reject);
    });
    child.unref();
  } finally {
    closeSync(output);
  }
}
