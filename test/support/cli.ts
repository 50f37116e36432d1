/** The `ucloud` command as a process, which is how users and scripts run it. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';

export interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

export const ucloudCommand = resolve('backend/cli/ucloud');

/** Runs the command to its end. @param typed the text on standard input */
export function runUcloud(args: readonly string[], environment: Environment, typed = ''): Promise<Ended> {
  const env = { ...process.env, UCLOUD_ENDPOINT: undefined, UCLOUD_TOKEN: undefined, ...environment };
  return new Promise((resolved) => {
    const child = execFile(ucloudCommand, args, { env, timeout: 300_000 }, (_error, out, err) =>
      resolved({ code: child.exitCode ?? -1, out, err }),
    );
    child.stdin?.end(typed);
  });
}

/** A running command, and its output so far. */
export class RunningUcloud {
  readonly #child: ChildProcess;
  out = '';
  err = '';

  constructor(args: readonly string[], environment: Environment) {
    const env = { ...process.env, UCLOUD_ENDPOINT: undefined, UCLOUD_TOKEN: undefined, ...environment };
    this.#child = spawn(ucloudCommand, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child.stdout?.on('data', (chunk: Buffer) => {
      this.out += chunk.toString();
    });
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.err += chunk.toString();
    });
  }

  async end(signal: NodeJS.Signals): Promise<Ended> {
    const closed = once(this.#child, 'close');
    this.#child.kill(signal);
    const [code] = await closed;
    return { code: typeof code === 'number' ? code : -1, out: this.out, err: this.err };
  }
}
