/**
 * Converts an examined source with qemu-img into a qcow2 file that refers to no other file. The program parses hostile
 * input in C, so it runs with a user id of its own, without capabilities and without network. Processor time, memory,
 * file size and the number of files are limited. The scanner gives it the format, because qemu-img must not guess. The
 * target exists before. So qemu-img needs only two files, and gets them as open descriptors.
 */
import { spawn } from 'node:child_process';
import { open, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { describeSize } from '../model/text/sizes.ts';
import { ImageRejected, notEnoughSpace } from './failures.ts';
import type { ImportLimits } from './limits.ts';

/** The user id of qemu-img. It is not in passwd(5), and no VM has it. */
const converterUid = 64_010;

/** The files of a conversion, with their sizes. */
export interface Conversion {
  /** The paths of both files, in a directory of the scanner. */
  readonly source: string;
  readonly target: string;
  readonly format: 'qcow2' | 'raw';
  /** The size of the disk, in bytes. */
  readonly virtualSize: number;
  /** The size of the source file, in bytes. */
  readonly sourceSize: number;
  /** The free space that the target may take, in bytes. */
  readonly maxTargetBytes: number;
}

interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

/** Runs a program to its end. The descriptors become 3, 4, … of the program. */
function execute(
  command: readonly string[],
  signal: AbortSignal,
  descriptors: readonly number[] = [],
): Promise<Outcome> {
  const [program = '', ...args] = command;
  const env = {
    PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin`,
    LC_ALL: 'C',
    // By default, glibc reserves 64 MiB for each thread. A few threads of qemu-img would then fill the address space.
    MALLOC_ARENA_MAX: '1',
  };
  return new Promise((resolve, reject) => {
    const stdio = ['ignore' as const, 'ignore' as const, 'pipe' as const, ...descriptors];
    const child = spawn(program, args, { env, stdio, signal, killSignal: 'SIGKILL' });
    let stderr = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-4096);
    });
    child.on('error', reject);
    child.on('close', (code, ended) =>
      signal.aborted ? reject(signal.reason) : resolve({ code, signal: ended, stderr }),
    );
  });
}

/**
 * Returns the command line with limits and without privileges. Each program replaces itself with the next, so the
 * process becomes qemu-img and one signal ends it.
 */
function confined(command: readonly string[], fileSize: number, limits: ImportLimits): string[] {
  const bounds = [
    `--as=${limits.maxConvertMemoryBytes}`,
    // The stack of each thread counts as memory.
    '--stack=1048576',
    `--cpu=${limits.maxConvertCpuSeconds}`,
    `--fsize=${fileSize}`,
    '--nofile=64',
    '--core=0',
  ];
  if (process.getuid?.() !== 0) return ['prlimit', ...bounds, ...command];
  const privileges = [
    `--reuid=${converterUid}`,
    `--regid=${converterUid}`,
    '--clear-groups',
    '--no-new-privs',
    '--inh-caps=-all',
    '--bounding-set=-all',
    // The process ends with the scanner.
    '--pdeathsig=KILL',
  ];
  return ['unshare', '--net', '--', 'prlimit', ...bounds, 'setpriv', ...privileges, ...command];
}

/** Creates the empty target. A failure is no fault of the image. */
async function create(target: string, virtualSize: number, signal: AbortSignal): Promise<void> {
  const options = 'compat=1.1,cluster_size=64k,lazy_refcounts=off';
  const { code, stderr } = await execute(
    ['qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, target, `${virtualSize}`],
    signal,
  );
  if (code !== 0) throw new Error(`qemu-img create: ${stderr.trim()}`);
}

interface SizeLimit {
  /** The maximum size of the target file, in bytes. */
  readonly size: number;
  readonly exceeded: () => Error;
}

/** Returns the lowest of the limits on the size of the target. */
function lowestSizeLimit(
  { virtualSize, sourceSize, maxTargetBytes }: Conversion,
  { maxExpansion, expansionBaseBytes }: ImportLimits,
): SizeLimit {
  const limits: SizeLimit[] = [
    {
      // A fully used disk has two tables with 8 bytes for each cluster of 64 KiB, and a header.
      size: virtualSize + Math.ceil(virtualSize / 4096) + 1024 * 1024,
      exceeded: () =>
        new ImageRejected(`Its data takes more than the ${describeSize(virtualSize)} of the disk that it describes.`),
    },
    {
      size: expansionBaseBytes + maxExpansion * sourceSize,
      exceeded: () =>
        new ImageRejected(
          `Unpacked, it takes more than ${maxExpansion} times its size. Upload it unpacked: qemu-img convert -O qcow2 old new.qcow2`,
        ),
    },
    { size: maxTargetBytes, exceeded: notEnoughSpace },
  ];
  return limits.reduce((least, each) => (each.size < least.size ? each : least));
}

/**
 * Converts the source into the target.
 * @throws ImageRejected if the source cannot be converted within the limits
 * @throws SourceUnavailable if the image store is full
 * @throws the reason of `signal` after its abort
 */
export async function convert(conversion: Conversion, limits: ImportLimits, signal: AbortSignal): Promise<void> {
  const { source, target, format, virtualSize } = conversion;
  const timeout = AbortSignal.timeout(limits.maxConvertMs);
  const interrupt = AbortSignal.any([signal, timeout]);
  const { size, exceeded } = lowestSizeLimit(conversion, limits);
  await create(target, virtualSize, signal);
  const from = await open(source, 'r');
  const to = await open(target, 'r+');
  let outcome: Outcome;
  try {
    if (process.getuid?.() === 0) {
      await from.chown(converterUid, converterUid);
      await to.chown(converterUid, converterUid);
    }
    const files = ['/proc/self/fd/3', '/proc/self/fd/4'];
    const command = ['qemu-img', 'convert', '-q', '-n', '-f', format, '-O', 'qcow2', ...files];
    outcome = await execute(confined(command, size, limits), interrupt, [from.fd, to.fd]);
  } catch (error) {
    signal.throwIfAborted();
    throw timeout.aborted ? new ImageRejected(`Converting it took more than ${limits.maxConvertMs / 1000} s.`) : error;
  } finally {
    await from.close();
    await to.close();
  }
  if (outcome.code === 0) return;
  throw await conversionError(outcome, conversion, limits, exceeded);
}

/** Returns the error for a failed qemu-img. Every failure is a fault of the image, except a full disk. */
async function conversionError(
  { signal, stderr }: Outcome,
  { target, format }: Conversion,
  limits: ImportLimits,
  exceeded: () => Error,
): Promise<Error> {
  if (signal === 'SIGKILL' || signal === 'SIGXCPU')
    return new ImageRejected(`Converting it took more than ${limits.maxConvertCpuSeconds} s of processor time.`);
  if (signal === 'SIGXFSZ' || /File too large/.test(stderr)) return exceeded();
  const { bavail, bsize } = await statfs(dirname(target));
  // A full disk is a fault of the machine. The image may have caused the message, so the free space counts too.
  if (/No space left/.test(stderr) && bavail * bsize < 2 ** 30) return notEnoughSpace();
  if (signal === 'SIGABRT' || /Cannot allocate memory|Resource temporarily unavailable/.test(stderr))
    return new ImageRejected(`Converting it takes more than ${describeSize(limits.maxConvertMemoryBytes)} of memory.`);
  const output = stderr.replaceAll('/proc/self/fd/3', 'the image').replaceAll('/proc/self/fd/4', 'the copy').trim();
  return new ImageRejected(`It cannot be read as ${format}: ${output || `qemu-img ended by ${signal}`}`);
}
