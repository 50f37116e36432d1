/** Readable progress: a line at the beginning of a step, its duration at the end, and a line every 10 s in between. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { promisify } from 'node:util';

/** Runs a program and returns its output. */
export const exec = promisify(execFile);

/** Runs a step and prints its progress. */
export async function step<T>(title: string, work: () => Promise<T>): Promise<T> {
  const start = performance.now();
  const seconds = () => `${((performance.now() - start) / 1000).toFixed(1)} s`;
  console.log(`▸ ${title}`);
  const alive = setInterval(() => console.log(`    … ${seconds()}`), 10_000);
  try {
    const result = await work();
    console.log(`    done in ${seconds()}`);
    return result;
  } finally {
    clearInterval(alive);
  }
}

/**
 * Runs a command and prints its output, indented below the step.
 * @throws Error with the end of the output, if the command fails
 */
export function show(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv; quiet?: boolean } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child: ChildProcess = spawn(command, args, {
      cwd: options.cwd,
      env: options.env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    let line = '';
    const take = (chunk: Buffer) => {
      const text = chunk.toString();
      output += text;
      if (options.quiet) return;
      const lines = (line + text).split('\n');
      line = lines.pop() ?? '';
      for (const whole of lines) console.log(`    ${whole}`);
    };
    child.stdout?.on('data', take);
    child.stderr?.on('data', take);
    child.on('error', reject);
    child.on('close', (code) => {
      if (line !== '' && !options.quiet) console.log(`    ${line}`);
      if (code === 0) resolve(output);
      else reject(new Error(`${command} ${args.join(' ')} ended with code ${code}:\n${output.slice(-4000)}`));
    });
  });
}

/** An error that a retry cannot fix. */
export class PermanentError extends Error {}

/**
 * Retries until the attempt succeeds.
 * @throws PermanentError of the attempt, at once
 * @throws Error with the last reason, after the timeout
 */
export async function eventually<T>(what: string, timeoutMs: number, attempt: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await attempt();
    } catch (cause) {
      if (cause instanceof PermanentError) throw cause;
      if (performance.now() > deadline) {
        throw new Error(`${what}: not within ${timeoutMs / 1000} s: ${(cause as Error).message}`, { cause });
      }
      // The state is in other processes and guests, which announce no change.
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
}
