/** Copies a sparse file without a look at its content. File systems with shared blocks (btrfs, XFS) copy nothing. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { environment } from '../system/command.ts';
import { syncPath } from '../system/files.ts';

/**
 * Copies the file. The target is complete, or as it was before.
 * @throws AbortError after an interruption; Error if the copy fails
 */
export async function copySparse(source: string, target: string, signal: AbortSignal): Promise<void> {
  const temporary = `${target}.new`;
  await mkdir(dirname(target), { recursive: true, mode: 0o700 });
  await rm(temporary, { force: true });
  try {
    const args = ['--sparse=always', '--reflink=auto', '--', source, temporary];
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
    await syncPath(temporary);
    await rename(temporary, target);
    await syncPath(dirname(target));
  } finally {
    await rm(temporary, { force: true });
  }
}
