/** Progress that people can follow: a line when a step begins, its time when it ends, a sign of life in between. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { promisify } from 'node:util';

export const exec = promisify(execFile);

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

/** Runs a command, its output indented below the step; rejects with the tail of it when it fails. */
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

/** Trying again is of no use. */
export class Hopeless extends Error {}

/** Tries until it succeeds or the deadline has passed; then rejects with the last reason. */
export async function eventually<T>(what: string, timeoutMs: number, attempt: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await attempt();
    } catch (cause) {
      if (cause instanceof Hopeless) throw cause;
      if (performance.now() > deadline) {
        throw new Error(`${what}: not within ${timeoutMs / 1000} s: ${(cause as Error).message}`, { cause });
      }
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
}
