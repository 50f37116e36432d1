/**
 * Finds processes again. /proc is the only source for running processes. The caller recognizes a process by its user,
 * its groups and its arguments. So the agent finds a process that started just before a crash, even without a stored
 * pid. A pid alone is not an identity, so the code stores it together with the start time of the process.
 */
import { open, readdir, readFile } from 'node:fs/promises';
import { isMissing } from './files.ts';

/** The identity of a process. */
export interface Process {
  readonly pid: number;
  /**
   * The start time in clock ticks since boot (proc(5), field 22 of stat). It distinguishes processes with the same pid.
   */
  readonly startTime: number;
}

const isGone = (error: unknown): boolean =>
  isMissing(error) || (error instanceof Error && 'code' in error && error.code === 'ESRCH');

async function read(pid: number, file: string): Promise<string | undefined> {
  try {
    return await readFile(`/proc/${pid}/${file}`, 'utf8');
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** Returns undefined for a missing process and for a zombie, which has ended but still has an entry. */
async function statOf(pid: number): Promise<{ startTime: number; group: number } | undefined> {
  const stat = await read(pid, 'stat');
  // The second field is the name in parentheses, which may itself contain spaces and parentheses.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (!fields || fields[0] === 'Z' || fields[0] === 'X') return undefined;
  return { startTime: Number(fields[19]), group: Number(fields[2]) };
}

/** Tells whether the process still runs. */
export const isAlive = async (process: Process): Promise<boolean> =>
  (await statOf(process.pid))?.startTime === process.startTime;

/** Returns the identity of the running process with this pid; undefined if there is none. */
export async function identify(pid: number): Promise<Process | undefined> {
  const stat = await statOf(pid);
  return stat && { pid, startTime: stat.startTime };
}

/** The user and the groups of a process. A process without privileges cannot change them. */
export interface Credentials {
  readonly uid: number;
  /** The supplementary groups. */
  readonly groups: readonly number[];
}

/** A process that `findProcesses` has found. */
export interface FoundProcess extends Process, Credentials {
  /** The command line. The process can change its own command line at any time. */
  readonly args: readonly string[];
  /**
   * True if the process leads its process group. ucloud starts its processes as leaders; their child processes are not.
   */
  readonly leader: boolean;
}

async function credentialsOf(pid: number): Promise<Credentials | undefined> {
  const status = (await read(pid, 'status')) ?? '';
  const uid = /^Uid:\s+(\d+)/m.exec(status)?.[1];
  const groups = /^Groups:([\d\t ]*)$/m.exec(status)?.[1] ?? '';
  return uid === undefined ? undefined : { uid: Number(uid), groups: groups.split(/\s+/).filter(Boolean).map(Number) };
}

/** The maximum length of a command line that the agent reads, in bytes. A process can make its own arbitrarily long. */
const maxCommandLineBytes = 256 * 1024;

async function argumentsOf(pid: number): Promise<string[]> {
  try {
    const file = await open(`/proc/${pid}/cmdline`, 'r');
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(maxCommandLineBytes), 0, maxCommandLineBytes, 0);
      return buffer.toString('utf8', 0, bytesRead).split('\0').slice(0, -1);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

/**
 * Returns all running processes with such credentials. It does not read the command lines of other processes. The
 * kernel reads a command line from the memory of its process, which can make the reader wait.
 */
export async function findProcesses(wanted: (credentials: Credentials) => boolean): Promise<FoundProcess[]> {
  const found: FoundProcess[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^[0-9]+$/.test(entry)) continue;
    const pid = Number(entry);
    const credentials = await credentialsOf(pid);
    if (!credentials || !wanted(credentials)) continue;
    const args = await argumentsOf(pid);
    const stat = await statOf(pid);
    if (stat) found.push({ pid, startTime: stat.startTime, args, ...credentials, leader: stat.group === pid });
  }
  return found;
}

/** Sends the signal, unless the process has ended. */
export async function signal(target: Process, name: NodeJS.Signals): Promise<void> {
  if (!(await isAlive(target))) return;
  try {
    process.kill(target.pid, name);
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

/** Waits for the end of the process. Returns false if it still runs after the timeout. */
export async function waitForExit(target: Process, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (await isAlive(target)) {
    if (performance.now() > deadline) return false;
    // The process is no child of the agent after a restart, and Node has no other way to wait for its end.
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return true;
}

/**
 * Sends SIGTERM, then SIGKILL after the grace period. Returns after the process has ended.
 * @throws Error if the process still runs 10 s after SIGKILL
 */
export async function terminate(target: Process, graceMs: number): Promise<void> {
  await signal(target, 'SIGTERM');
  if (await waitForExit(target, graceMs)) return;
  await signal(target, 'SIGKILL');
  if (!(await waitForExit(target, 10_000))) throw new Error(`process ${target.pid} still runs after SIGKILL`);
}

/** Returns the maximum size in bytes of the files that the process may write (RLIMIT_FSIZE, setrlimit(2)). */
export async function maxFileSize(pid: number): Promise<number> {
  const line = /^Max file size +(\d+|unlimited)/m.exec(await readFile(`/proc/${pid}/limits`, 'utf8'));
  return line?.[1] === undefined || line[1] === 'unlimited' ? Number.POSITIVE_INFINITY : Number(line[1]);
}
