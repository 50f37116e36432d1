/** Copies a sparse file without a look at its content. File systems with shared blocks (btrfs, XFS) copy nothing. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { environment } from '../system/command.ts';

/**
 * Replaces the content of the target file.
 * @throws AbortError after an interruption; Error if the copy fails
 */
export async function copySparse(source: string, target: string, signal: AbortSignal): Promise<void> {
  const args = ['--sparse=always', '--reflink=auto', '--', source, target];
  const child = spawn('cp', args, {
    env: environment,
    stdio: ['ignore', 'ignore', 'pipe'],
    signal,
    killSignal: 'SIGKILL',
  });
  let messages = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    messages = (messages + text).slice(-1_000);
  });
  child.on('error', () => undefined);
  const [code] = (await once(child, 'close')) as [number | null];
  signal.throwIfAborted();
  if (code !== 0) throw new Error(`cp ${args.join(' ')}: ${messages.trim()}`);
}
