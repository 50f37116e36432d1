/**
 * Network namespaces for tests. A namespace has its own interfaces, which are removed with it. Node cannot enter a namespace,
 * so code inside needs its own process.
 */
import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import type { Test } from 'tap';

/** Returns why this machine cannot create namespaces, or false: for the `skip` option of a test. */
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

  /** @param exists the namespace is there. Others remove it. */
  constructor(name: string, exists = false) {
    this.name = name;
    if (exists) return;
    execFileSync('ip', ['netns', 'add', name]);
    this.ip('link', 'set', 'lo', 'up');
  }

  /** Runs `ip` with these arguments inside. */
  ip(...args: readonly string[]): string {
    return execFileSync('ip', ['-n', this.name, ...args], { encoding: 'utf8' });
  }

  /** Runs a program inside to its end, and returns its standard output. */
  run(program: string, ...args: readonly string[]): string {
    return execFileSync('ip', ['netns', 'exec', this.name, program, ...args], { encoding: 'utf8', stdio: 'pipe' });
  }

  spawn(program: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    return spawn('ip', ['netns', 'exec', this.name, program, ...args], options);
  }

  /** Returns the processes inside. */
  pids(): number[] {
    return execFileSync('ip', ['netns', 'pids', this.name], { encoding: 'utf8' })
      .split('\n')
      .filter(Boolean)
      .map(Number);
  }

  /** Removes the namespace and ends all processes inside, such as VMs, which survive their agent. */
  remove(): void {
    for (const pid of this.pids()) killIfThere(pid);
    execFileSync('ip', ['netns', 'del', this.name]);
  }
}

/** Creates a namespace, which the test removes at its end. */
export function netNamespace(t: Test, label: string): NetNamespace {
  const namespace = new NetNamespace(`ut-${label}-${randomBytes(4).toString('hex')}`);
  t.teardown(() => namespace.remove());
  return namespace;
}
