/**
 * Turns a source that has been examined into a clean qcow2 that refers to nothing, with qemu-img. It parses hostile
 * input in C, so it runs with nothing to lose: an uid of its own, no capabilities, no network, limits on processor
 * time, memory, file size and files. The format is given, never guessed, and the target exists already, so the only
 * files it needs are the two that it is given: as open descriptors, so that the directories need not let it in.
 */
import { spawn } from 'node:child_process';
import { open, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { describeSize } from '../model/text/sizes.ts';
import { ImageRejected, noRoom } from './failures.ts';
import type { ImportLimits } from './limits.ts';

/** Nobody's: not in passwd(5), and not among the uids that guests run as. */
const converterUid = 64_010;

export interface Conversion {
  /** Both in a directory of ours. */
  readonly source: string;
  readonly target: string;
  readonly format: 'qcow2' | 'raw';
  /** Bytes of the disk, and of the source. */
  readonly virtualSize: number;
  readonly sourceSize: number;
  /** Bytes that the target may take of the free space. */
  readonly room: number;
}

interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

/** @param descriptors become 3, 4, … of the program */
function execute(
  command: readonly string[],
  signal: AbortSignal,
  descriptors: readonly number[] = [],
): Promise<Outcome> {
  const [program = '', ...args] = command;
  const env = {
    PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin`,
    LC_ALL: 'C',
    // glibc reserves an arena of 64 MiB a thread otherwise, and a few threads of qemu-img use up the address space.
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

/** Each program replaces itself by the next, so that the process is qemu-img in the end and can be ended as one. */
function confined(command: readonly string[], fileSize: number, limits: ImportLimits): string[] {
  const bounds = [
    `--as=${limits.convertMemory}`,
    // Of each thread: it counts as memory.
    '--stack=1048576',
    `--cpu=${limits.convertCpuSeconds}`,
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
    // Dies with the scanner.
    '--pdeathsig=KILL',
  ];
  return ['unshare', '--net', '--', 'prlimit', ...bounds, 'setpriv', ...privileges, ...command];
}

/** Our own file, made by us: failure is ours. */
async function create(target: string, virtualSize: number, signal: AbortSignal): Promise<void> {
  const options = 'compat=1.1,cluster_size=64k,lazy_refcounts=off';
  const { code, stderr } = await execute(
    ['qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, target, `${virtualSize}`],
    signal,
  );
  if (code !== 0) throw new Error(`qemu-img create: ${stderr.trim()}`);
}

interface Bound {
  /** Bytes of the copy's file. */
  readonly size: number;
  readonly exceeded: () => Error;
}

/** The tightest of the bounds on the size of the copy. */
function bound({ virtualSize, sourceSize, room }: Conversion, { expansion, expansionBase }: ImportLimits): Bound {
  const bounds: Bound[] = [
    {
      // A fully used disk with its tables: 8 bytes for each cluster of 64 KiB, twice, and a little.
      size: virtualSize + Math.ceil(virtualSize / 4096) + 1024 * 1024,
      exceeded: () =>
        new ImageRejected(`Its data takes more than the ${describeSize(virtualSize)} of the disk that it describes.`),
    },
    {
      size: expansionBase + expansion * sourceSize,
      exceeded: () =>
        new ImageRejected(
          `Unpacked, it takes more than ${expansion} times its size. Upload it unpacked: qemu-img convert -O qcow2 old new.qcow2`,
        ),
    },
    { size: room, exceeded: noRoom },
  ];
  return bounds.reduce((least, each) => (each.size < least.size ? each : least));
}

/** @throws ImageRejected if the source cannot be converted within the limits, SourceUnavailable without space for it */
export async function convert(conversion: Conversion, limits: ImportLimits, signal: AbortSignal): Promise<void> {
  const { source, target, format, virtualSize } = conversion;
  const late = AbortSignal.timeout(limits.convertTime);
  const ending = AbortSignal.any([signal, late]);
  const { size, exceeded } = bound(conversion, limits);
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
    outcome = await execute(confined(command, size, limits), ending, [from.fd, to.fd]);
  } catch (error) {
    signal.throwIfAborted();
    throw late.aborted ? new ImageRejected(`Converting it took more than ${limits.convertTime / 1000} s.`) : error;
  } finally {
    await from.close();
    await to.close();
  }
  if (outcome.code === 0) return;
  throw await fault(outcome, conversion, limits, exceeded);
}

/** Explains the exit of qemu-img. Every failure is a fault of the file, except a full disk. */
async function fault(
  { signal, stderr }: Outcome,
  { target, format }: Conversion,
  limits: ImportLimits,
  exceeded: () => Error,
): Promise<Error> {
  if (signal === 'SIGKILL' || signal === 'SIGXCPU')
    return new ImageRejected(`Converting it took more than ${limits.convertCpuSeconds} s of processor time.`);
  if (signal === 'SIGXFSZ' || /File too large/.test(stderr)) return exceeded();
  const { bavail, bsize } = await statfs(dirname(target));
  // The machine's lack, tried again. The message alone could be of the file's making.
  if (/No space left/.test(stderr) && bavail * bsize < 2 ** 30) return noRoom();
  if (signal === 'SIGABRT' || /Cannot allocate memory|Resource temporarily unavailable/.test(stderr))
    return new ImageRejected(`Converting it takes more than ${describeSize(limits.convertMemory)} of memory.`);
  const said = stderr.replaceAll('/proc/self/fd/3', 'the image').replaceAll('/proc/self/fd/4', 'the copy').trim();
  return new ImageRejected(`It cannot be read as ${format}: ${said || `qemu-img ended by ${signal}`}`);
}
