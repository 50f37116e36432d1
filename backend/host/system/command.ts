/** Runs programs of the machine (`ip`, `nft`, `qemu-img`) with argument arrays, never with a shell. */
import { spawn } from 'node:child_process';

/**
 * Runs a program to its end and returns its standard output. It is passed as a parameter, so that tests can interrupt
 * the code between any two programs.
 * @throws CommandError if the program fails, cannot start, or takes longer than one minute
 */
export type Run = (program: string, args: readonly string[], input?: string) => Promise<string>;

/** A program failed. The message contains the command line and the end of its standard error. */
export class CommandError extends Error {
  readonly program: string;
  readonly stderr: string;
  constructor(program: string, args: readonly string[], reason: string, stderr: string, options?: ErrorOptions) {
    super(
      `${[program, ...args].join(' ')}: ${[reason, stderr.trim().slice(-2000)].filter(Boolean).join(': ')}`,
      options,
    );
    this.name = 'CommandError';
    this.program = program;
    this.stderr = stderr;
  }
}

/**
 * The environment of the programs. It contains nothing of the agent's own environment (tokens, proxies). Debian
 * installs some of the programs in sbin.
 */
export const environment: NodeJS.ProcessEnv = {
  PATH: `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`,
  LC_ALL: 'C',
};

/** Runs a program on this machine. */
export const run: Run = (program, args, input = '') =>
  new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: environment, stdio: 'pipe', timeout: 60_000, killSignal: 'SIGKILL' });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.stdin.on('error', (cause: NodeJS.ErrnoException) => {
      // A program that fails early closes its input. Its exit code then contains the reason.
      if (cause.code !== 'EPIPE' && cause.code !== 'ECONNRESET') reject(cause);
    });
    child.on('error', (cause) => reject(new CommandError(program, args, cause.message, stderr, { cause })));
    child.on('close', (code, signal) => {
      if (code === 0) resolve(stdout);
      else reject(new CommandError(program, args, signal ? `ended by ${signal}` : `exit code ${code}`, stderr));
    });
    child.stdin.end(input);
  });
