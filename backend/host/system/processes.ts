/**
 * Finding processes again. /proc is the one source of truth on what runs: a process is recognized by an argument that
 * only we give, so one that was started just before a crash is found although nobody
 * could write down its pid. A pid alone is never trusted: it is kept with the time its process was started.
 */
import { open, readdir, readFile } from 'node:fs/promises';
import { isMissing } from './files.ts';

export interface Process {
  readonly pid: number;
  /** Clock ticks since boot (proc(5), field 22 of stat): tells processes with the same pid apart. */
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

/** Undefined when there is none, or only its zombie: one that has ended but was not yet waited for. */
async function statOf(pid: number): Promise<{ startTime: number; group: number } | undefined> {
  const stat = await read(pid, 'stat');
  // The second field is the name in parentheses and may itself hold blanks and parentheses.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (!fields || fields[0] === 'Z' || fields[0] === 'X') return undefined;
  return { startTime: Number(fields[19]), group: Number(fields[2]) };
}

export const isAlive = async (process: Process): Promise<boolean> =>
  (await statOf(process.pid))?.startTime === process.startTime;

export async function identify(pid: number): Promise<Process | undefined> {
  const stat = await statOf(pid);
  return stat && { pid, startTime: stat.startTime };
}

/** Kept by the kernel: a process without privileges cannot change them. */
export interface Credentials {
  readonly uid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
}

export interface FoundProcess extends Process, Credentials {
  /** Chosen by the process itself, even while it runs. */
  readonly args: readonly string[];
  /** Started by us (as leader of a group), not by another process of its own. */
  readonly leader: boolean;
}

async function credentialsOf(pid: number): Promise<Credentials | undefined> {
  const status = (await read(pid, 'status')) ?? '';
  const uid = /^Uid:\s+(\d+)/m.exec(status)?.[1];
  const groups = /^Groups:([\d\t ]*)$/m.exec(status)?.[1] ?? '';
  return uid === undefined ? undefined : { uid: Number(uid), groups: groups.split(/\s+/).filter(Boolean).map(Number) };
}

/** Bytes of a command line that are read. Ours have a few KiB; a process can make its own as long as its memory. */
const commandLineLimit = 256 * 1024;

async function argumentsOf(pid: number): Promise<string[]> {
  try {
    const file = await open(`/proc/${pid}/cmdline`, 'r');
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(commandLineLimit), 0, commandLineLimit, 0);
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
 * All live processes with such credentials. The command lines of others are not read: the kernel takes them from the
 * memory of the process, which can make the reader wait.
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

/** Sends the signal unless the process has ended. */
export async function signal(target: Process, name: NodeJS.Signals): Promise<void> {
  if (!(await isAlive(target))) return;
  try {
    process.kill(target.pid, name);
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

/** True when it has ended within the time. */
export async function waitForEnd(target: Process, milliseconds: number): Promise<boolean> {
  const deadline = performance.now() + milliseconds;
  while (await isAlive(target)) {
    if (performance.now() > deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return true;
}

/** SIGTERM, and SIGKILL for one that does not heed it in time. Returns when it has ended. */
export async function end(target: Process, graceMilliseconds: number): Promise<void> {
  await signal(target, 'SIGTERM');
  if (await waitForEnd(target, graceMilliseconds)) return;
  await signal(target, 'SIGKILL');
  if (!(await waitForEnd(target, 10_000))) throw new Error(`process ${target.pid} does not end after SIGKILL`);
}
