/**
 * Finds processes again. /proc is the only source for running processes. A process is recognized by an argument that
 * only ucloud passes: a path below its run directory. So the agent finds a process that started just before a crash,
 * even without a stored pid. A pid alone is not an identity, so the code stores it together with the start time of the
 * process.
 */
import { readdir, readFile } from 'node:fs/promises';
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

/**
 * Undefined if there is no such process, or only its zombie: a process that has ended but whose parent has not waited
 * for it.
 */
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

/** A process that `findProcesses` has found. */
export interface FoundProcess extends Process {
  readonly args: readonly string[];
  readonly uid: number;
  /**
   * True if the process leads its process group. ucloud starts its processes as leaders; their child processes are not.
   */
  readonly leader: boolean;
}

/** Returns all running processes with at least one argument for which `mark` returns true. */
export async function findProcesses(mark: (arg: string) => boolean): Promise<FoundProcess[]> {
  const found: FoundProcess[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^[0-9]+$/.test(entry)) continue;
    const pid = Number(entry);
    const args = (await read(pid, 'cmdline'))?.split('\0').slice(0, -1);
    if (!args?.some(mark)) continue;
    const stat = await statOf(pid);
    const uid = /^Uid:\s+(\d+)/m.exec((await read(pid, 'status')) ?? '')?.[1];
    if (!stat || uid === undefined) continue;
    found.push({ pid, startTime: stat.startTime, args, uid: Number(uid), leader: stat.group === pid });
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
