/** Starting a VM's QEMU: detached, so that it outlives the agent. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { environment } from '../../system/command.ts';
import { identify, type Process } from '../../system/processes.ts';

export interface Launch {
  /** Program and arguments, privileges already dropped by them (see `unprivileged`). */
  readonly command: readonly string[];
  /** Handed over open: the process itself may not open them. */
  readonly disk: string;
  readonly image: string;
  /** For what it says. Emptied first. */
  readonly log: string;
}

/** What the last QEMU of the VM said, for error messages. */
export const lastWords = async (log: string): Promise<string> => (await readFile(log, 'utf8')).trim().slice(-1_000);

/** Gives the running process. Rejects when it cannot be started. */
export async function launch({ command, disk, image, log }: Launch): Promise<Process> {
  const files: FileHandle[] = [];
  const opened = async (path: string, flags: string): Promise<number> => {
    const file = await open(path, flags, 0o600);
    files.push(file);
    return file.fd;
  };
  try {
    await (await open(log, 'w', 0o600)).close();
    const output = await opened(log, 'a');
    const [program = '', ...args] = command;
    const child = spawn(program, args, {
      detached: true,
      cwd: '/',
      env: environment,
      stdio: ['ignore', output, output, await opened(disk, 'r+'), await opened(image, 'r')],
    });
    await once(child, 'spawn');
    child.unref();
    const process = child.pid === undefined ? undefined : await identify(child.pid);
    if (!process) throw new Error(`QEMU ended at once: ${await lastWords(log)}`);
    return process;
  } finally {
    for (const file of files) await file.close();
  }
}
