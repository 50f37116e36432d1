/** Commands and files of a lab. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rename, writeFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { environment } from '../host/system/command.ts';

/** Runs a program in a namespace with this input. @throws Error with its messages if it fails */
export async function runIn(namespace: string, program: string, args: readonly string[], input = ''): Promise<void> {
  const child = spawn('ip', ['netns', 'exec', namespace, program, ...args], {
    stdio: ['pipe', 'ignore', 'pipe'],
    env: environment,
  });
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const [messages, [code]] = await Promise.all([text(child.stderr), once(child, 'close')]);
  if (code !== 0) throw new Error(`${program} failed: ${messages.trim()}`);
}

/** Writes the value to the file in one step. */
export async function writeJson(path: string, value: unknown): Promise<void> {
  const draft = `${path}.${process.pid}.new`;
  await writeFile(draft, `${JSON.stringify(value, undefined, 2)}\n`, { mode: 0o600 });
  await rename(draft, path);
}
