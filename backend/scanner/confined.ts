/**
 * Runs a program that parses hostile input in C. The program has a user id of its own, no capabilities and no network.
 * Processor time, memory, file size and the number of files are limited. It gets its files as open descriptors.
 */
import { spawn } from 'node:child_process';
import type { Writable } from 'node:stream';
import { limited, withoutPrivileges } from '../model/confinement.ts';
import { describeSize } from '../model/text/sizes.ts';
import { ImageRejected, SourceUnavailable } from './failures.ts';
import type { ImportLimits } from './limits.ts';

/** The user id of confined programs. It is not in passwd(5), and no VM has it. */
export const confinedUid = 64_010;

/** Tells whether this process may give a program another user id. */
export const isPrivileged = (): boolean => process.getuid?.() === 0;

/** A descriptor of an open file, nothing, or a reader of the output. */
export interface Channels {
  readonly stdin?: number;
  readonly stdout?: number | ((text: string) => void);
  /** The descriptors 3, 4, … of the program. */
  readonly others?: readonly number[];
}

/** The end of a program. */
export interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The last 4096 characters of its messages. */
  readonly stderr: string;
}

/** Runs a program of ours on no hostile input, with our own privileges. Otherwise as `runConfined`. */
export function run(command: readonly string[], signal: AbortSignal, channels: Channels = {}): Promise<Outcome> {
  const [program = '', ...args] = command;
  const env = {
    PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin`,
    LC_ALL: 'C',
    // By default, glibc reserves 64 MiB for each thread. A few threads of qemu-img would then fill the address space.
    MALLOC_ARENA_MAX: '1',
  };
  const { stdin = 'ignore', stdout = 'ignore', others = [] } = channels;
  return new Promise((resolve, reject) => {
    const output = typeof stdout === 'function' ? ('pipe' as const) : stdout;
    const stdio: ('ignore' | 'pipe' | Writable | number)[] = [stdin, output, 'pipe', ...others];
    const child = spawn(program, args, { env, stdio, signal, killSignal: 'SIGKILL' });
    let stderr = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-4096);
    });
    if (typeof stdout === 'function') child.stdout?.setEncoding('latin1').on('data', stdout);
    child.on('error', reject);
    child.on('close', (code, ended) =>
      signal.aborted ? reject(signal.reason) : resolve({ code, signal: ended, stderr }),
    );
  });
}

/** Returns the command line with limits, without privileges and without a network. */
function confined(command: readonly string[], fileSize: number, cpuSeconds: number, memory: number): string[] {
  const limits = { memory, cpuSeconds, fileSize, openFiles: 64 };
  if (!isPrivileged()) return limited(command, limits);
  return ['unshare', '--net', '--', ...limited(withoutPrivileges(command, confinedUid), limits)];
}

/** The processor time of a program for a source of so many bytes, in seconds. */
const cpuSecondsFor = (sourceSize: number, limits: ImportLimits): number =>
  Math.ceil(
    Math.min(limits.maxConvertCpuSeconds, limits.baseCpuSeconds + (limits.cpuSecondsPerMiB * sourceSize) / 1024 ** 2),
  );

const missing = (program: string, debianPackage: string): string =>
  `The machine of the image scanner lacks the program ${program} (package ${debianPackage}).`;

/** Returns a message for each program that does not run here. @param programs pairs of program and Debian package */
export async function missingPrograms(programs: readonly (readonly [string, string])[]): Promise<string[]> {
  const messages = programs.map(async ([program, debianPackage]) => {
    const { code } = await run([program, '--version'], new AbortController().signal).catch(() => ({ code: null }));
    return code === 0 ? [] : [missing(program, debianPackage)];
  });
  return (await Promise.all(messages)).flat();
}

/** The work of a confined program. */
export interface Work {
  readonly command: readonly string[];
  readonly channels: Channels;
  /** The Debian package of the program. */
  readonly debianPackage: string;
  /** The work in words, for messages, such as `Converting`. */
  readonly verb: string;
  /** The size of the source as it arrived, in bytes. */
  readonly sourceSize: number;
  /** The maximum size of each written file, in bytes, and the error for a larger one. */
  readonly fileSize: SizeLimit;
}

/** A limit on the size of a file. */
export interface SizeLimit {
  readonly size: number;
  readonly exceeded: () => Error;
}

/** Returns the lowest limit. */
export const lowest = (limits: readonly [SizeLimit, ...SizeLimit[]]): SizeLimit =>
  limits.reduce((least, each) => (each.size < least.size ? each : least));

/**
 * Runs a program in confinement. Returns undefined after its success, and its messages after another failure than a
 * limit.
 * @throws ImageRejected if the program reaches a limit, or the error of the file size
 * @throws SourceUnavailable if the program is not installed
 * @throws the reason of `signal` after its abort
 */
export async function runConfined(work: Work, limits: ImportLimits, signal: AbortSignal): Promise<Outcome | undefined> {
  const { command, channels, fileSize, verb } = work;
  const cpuSeconds = cpuSecondsFor(work.sourceSize, limits);
  const memoryBytes = limits.maxConvertMemoryBytes;
  const timeout = AbortSignal.timeout(limits.maxConvertMs);
  const line = confined(command, fileSize.size, cpuSeconds, memoryBytes);
  const outcome = await run(line, AbortSignal.any([signal, timeout]), channels).catch((error: unknown) => {
    signal.throwIfAborted();
    throw timeout.aborted ? new ImageRejected(`${verb} it took more than ${limits.maxConvertMs / 1000} s.`) : error;
  });
  const { code, signal: ended, stderr } = outcome;
  if (code === 0) return undefined;
  if (code === 127) throw new SourceUnavailable(missing(command[0] ?? '', work.debianPackage));
  if (ended === 'SIGKILL' || ended === 'SIGXCPU')
    throw new ImageRejected(`${verb} it took more than ${cpuSeconds} s of processor time.`);
  if (ended === 'SIGXFSZ' || /File too large/.test(stderr)) throw fileSize.exceeded();
  if (ended === 'SIGABRT' || /Cannot allocate memory|Resource temporarily unavailable/.test(stderr))
    throw new ImageRejected(`${verb} it takes more than ${describeSize(memoryBytes)} of memory.`);
  return outcome;
}
