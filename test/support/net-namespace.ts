/**
 * Network namespaces for tests: interfaces made in one are nobody else's, and go with it. Node cannot enter one, so
 * what is to run inside runs as a process of its own.
 */
import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import type { Test } from 'tap';

/** Why namespaces cannot be made here, or false: for the `skip` option of a test. */
export function noNamespaces(...programs: readonly string[]): string | false {
  if (process.getuid?.() !== 0) return 'needs root, for network namespaces';
  for (const program of ['ip', ...programs]) {
    try {
      execFileSync('sh', ['-c', 'command -v "$1"', 'sh', program], {
        env: { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` },
      });
    } catch {
      return `${program} is not installed`;
    }
  }
  return false;
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

export class NetNamespace {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
    execFileSync('ip', ['netns', 'add', name]);
    this.ip('link', 'set', 'lo', 'up');
  }

  /** `ip` with these arguments, inside. */
  ip(...args: readonly string[]): string {
    return execFileSync('ip', ['-n', this.name, ...args], { encoding: 'utf8' });
  }

  /** Runs a program inside to its end and gives its standard output. */
  run(program: string, ...args: readonly string[]): string {
    return execFileSync('ip', ['netns', 'exec', this.name, program, ...args], { encoding: 'utf8', stdio: 'pipe' });
  }

  spawn(program: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    return spawn('ip', ['netns', 'exec', this.name, program, ...args], options);
  }

  /** Processes inside. */
  pids(): number[] {
    return execFileSync('ip', ['netns', 'pids', this.name], { encoding: 'utf8' })
      .split('\n')
      .filter(Boolean)
      .map(Number);
  }

  /** With whatever still runs inside: VMs, for one, outlive those who have started them. */
  remove(): void {
    for (const pid of this.pids()) killIfThere(pid);
    execFileSync('ip', ['netns', 'del', this.name]);
  }
}

/** Removed with the test. */
export function netNamespace(t: Test, label: string): NetNamespace {
  const namespace = new NetNamespace(`ut-${label}-${randomBytes(4).toString('hex')}`);
  t.teardown(() => namespace.remove());
  return namespace;
}
