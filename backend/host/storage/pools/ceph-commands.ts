/**
 * Runs the programs of Ceph for one pool. They interpret what a QEMU with the pool's key has written, so they have no
 * privileges and limits. They read no file of the host.
 *
 * A hung pool holds each program. Each call therefore ends at its deadline, and a pool has few programs at a time.
 */
import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { limited, type ProgramLimits, withoutPrivileges } from '../../../model/confinement.ts';
import type { PoolSettings } from '../../../model/storage/pool.ts';
import { environment } from '../../system/command.ts';
import { programOutput } from '../../system/program-output.ts';
import { openKey, readKey } from './ceph-key.ts';
import { PoolFault } from './pool-driver.ts';

/** The settings of a pool of Ceph. */
export type CephSettings = Extract<PoolSettings, { readonly kind: 'ceph' }>;

/** The pool does not answer within the time of a call. */
export class PoolHangs extends PoolFault {}

/** The programs in use. */
export type CephProgram = 'rbd' | 'rados' | 'ceph';

/** The end of a program. */
export interface CephOutcome {
  readonly ok: boolean;
  /** The error number (errno(3)); 0 if the program ended otherwise. */
  readonly errno: number;
  readonly stdout: string;
  /** The last messages as one line without control characters. */
  readonly message: string;
}

/** The parts that tests replace. */
export interface CephCommandOptions {
  /** The time in milliseconds for a call. */
  readonly callMs?: number;
  /** The number of programs at a time. */
  readonly maxPrograms?: number;
  /** Ends a program at its deadline. */
  readonly end?: (child: ChildProcess) => void;
}

const maxOutputBytes = 32 * 1024 ** 2;
const maxMessageLength = 500;
const limits = { memory: 2 * 1024 ** 3, cpuSeconds: 120, fileSize: 0, openFiles: 256 };
/** The CPU seconds of a program that reads a whole image. */
const outputCpuSeconds = 3_600;
/** User ids that no VM and no package has. Each pool has its own, so the programs of one pool see no key of another. */
const firstUid = 64_100;
const uids = 800;

/** Returns the user id for the programs of the pool. */
export const uidOfPool = (pool: string): number =>
  firstUid + ([...pool].reduce((hash, each) => (hash * 31 + (each.codePointAt(0) ?? 0)) % 1_000_003, 7) % uids);

const errnoOf = (code: number | null, stderr: string): number => {
  if (code !== null && code > 1) return code;
  // `rados` and `ceph` end with 1 and name the error: "(16) Device or resource busy".
  return Number([...stderr.matchAll(/\((\d{1,3})\) [A-Z]/g)].at(-1)?.[1] ?? 0);
};

const oneLine = (text: string): string =>
  text
    .slice(-4 * maxMessageLength)
    .replaceAll(/\p{C}+/gu, ' ')
    .trim()
    .slice(-maxMessageLength);

/** Runs programs for one pool. */
export class CephCommands {
  readonly #settings: CephSettings;
  readonly #uid: number;
  readonly #callMs: number;
  readonly #end: (child: ChildProcess) => void;
  readonly #maxPrograms: number;
  #running = 0;
  /** The programs that run although their deadline has passed. */
  #overdue = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(pool: string, settings: CephSettings, options: CephCommandOptions = {}) {
    this.#settings = settings;
    this.#uid = uidOfPool(pool);
    this.#callMs = options.callMs ?? 15_000;
    this.#maxPrograms = options.maxPrograms ?? 4;
    this.#end = options.end ?? ((child) => child.kill('SIGKILL'));
  }

  /**
   * Runs a program to its end.
   * @param timeoutMs the time in milliseconds for the whole call
   * @throws PoolHangs if the program does not end in time
   * @throws Error if the program is not installed, or if the key cannot be read
   */
  async run(program: CephProgram, args: readonly string[], timeoutMs = this.#callMs): Promise<CephOutcome> {
    const deadline = performance.now() + timeoutMs;
    const late = () => new PoolHangs(`the pool does not answer (${program} ${args[0]})`);
    if (this.#overdue >= this.#maxPrograms) throw late();
    await this.#turn(deadline, late);
    let started = false;
    try {
      const key = await openKey(await readKey(this.#settings.key_file), this.#uid);
      try {
        const child = spawn('prlimit', this.#arguments(program, args), {
          env: { ...environment, MALLOC_ARENA_MAX: '1' },
          stdio: ['ignore', 'pipe', 'pipe', key.fd],
          cwd: '/',
        });
        started = true;
        return await this.#watch(child, deadline, late);
      } finally {
        await key.close();
      }
    } finally {
      if (!started) this.#done();
    }
  }

  /**
   * Starts a program that prints for a long time, beside the calls. Returns its output, which fails if the program fails.
   * @throws Error if the key cannot be read
   */
  async output(program: CephProgram, args: readonly string[]): Promise<Readable> {
    const key = await openKey(await readKey(this.#settings.key_file), this.#uid);
    try {
      const child = spawn('prlimit', this.#arguments(program, args, { ...limits, cpuSeconds: outputCpuSeconds }), {
        env: { ...environment, MALLOC_ARENA_MAX: '1' },
        stdio: ['ignore', 'pipe', 'pipe', key.fd],
        cwd: '/',
      });
      // The types of Node know no further descriptors.
      return programOutput(child as unknown as ChildProcessByStdio<null, Readable, Readable>);
    } finally {
      await key.close();
    }
  }

  /** Waits until fewer programs run than may. */
  async #turn(deadline: number, late: () => PoolHangs): Promise<void> {
    if (this.#running < this.#maxPrograms) {
      this.#running++;
      return;
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.push(resolve);
    const timer = setTimeout(
      () => {
        const place = this.#waiting.indexOf(resolve);
        if (place < 0) return;
        this.#waiting.splice(place, 1);
        reject(late());
      },
      Math.max(1, deadline - performance.now()),
    );
    try {
      await promise;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Gives the turn to the next call. */
  #done(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#running--;
  }

  #arguments(program: CephProgram, args: readonly string[], bounds: ProgramLimits = limits): string[] {
    const { monitors, user } = this.#settings;
    const common = [
      // Without this, the programs read files below /etc/ceph and in the home directory.
      ...['--conf', '/dev/null', '--mon-host', monitors.join(','), '--id', user, '--keyfile', '/dev/fd/3'],
      // Clones of format 2 need no protection of their snapshot. 61 is all features that librbd in QEMU knows.
      ...['--rbd_default_clone_format=2', '--rbd_default_features=61'],
    ];
    const [, ...rest] = limited(withoutPrivileges([program, ...common, ...args], this.#uid), bounds);
    return rest;
  }

  #watch(child: ChildProcess, deadline: number, late: () => PoolHangs): Promise<CephOutcome> {
    return new Promise((resolve, reject) => {
      let overdue = false;
      let stdout = '';
      let stderr = '';
      const timer = setTimeout(
        () => {
          overdue = true;
          this.#overdue++;
          this.#end(child);
          reject(late());
        },
        Math.max(1, deadline - performance.now()),
      );
      const ended = () => {
        clearTimeout(timer);
        if (overdue) this.#overdue--;
        this.#done();
      };
      child.stdout?.setEncoding('utf8').on('data', (text: string) => {
        stdout += text;
        if (stdout.length > maxOutputBytes) child.kill('SIGKILL');
      });
      child.stderr?.setEncoding('utf8').on('data', (text: string) => {
        stderr = (stderr + text).slice(-8 * maxMessageLength);
      });
      child.once('error', (error) => {
        // Without a process, no `close` follows.
        if (child.pid === undefined) ended();
        reject(error);
      });
      child.once('close', (code) => {
        ended();
        if (code === 127) reject(new PoolFault('the programs of Ceph are not installed: apt-get install ceph-common'));
        else if (stdout.length > maxOutputBytes) reject(new Error('the pool contains too many images'));
        else resolve({ ok: code === 0, errno: errnoOf(code, stderr), stdout, message: oneLine(stderr) });
      });
    });
  }
}
