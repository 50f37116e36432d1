/** Starts the QEMU process of a VM. The process is detached, so it outlives the agent. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type FileHandle, open } from 'node:fs/promises';
import { environment } from '../../system/command.ts';
import { type ListeningSocket, listenAt } from '../../system/listening-socket.ts';
import { identify, type Process } from '../../system/processes.ts';

/** The command and the files of a process to start. */
export interface Launch {
  /** The program with its arguments. They drop all privileges (see `unprivileged`). */
  readonly command: readonly string[];
  /**
   * The paths of disk with image, and of the seed disk. The process gets them open, because it may not open them itself. A
   * VM with a root volume has no disk.
   */
  readonly disk: { readonly path: string; readonly image: string } | undefined;
  readonly seed: string;
  /** The paths of code and variables of UEFI; none for BIOS. */
  readonly uefi?: { readonly code: string; readonly variables: string } | undefined;
  /**
   * The paths of the sockets, in a directory to which only the agent writes. The process gets the sockets listening.
   */
  readonly qmp: string;
  readonly files: string;
  readonly serial: string;
  readonly agent: string;
  /** The path of the log for the output of the process. The log is emptied first. */
  readonly log: string;
}

/** Returns the last 1000 bytes of the output of the VM's last QEMU, for error messages. The file may be large. */
export async function logTail(log: string): Promise<string> {
  const file = await open(log, 'r');
  try {
    const { size } = await file.stat();
    const { buffer, bytesRead } = await file.read(Buffer.alloc(1_000), 0, 1_000, Math.max(0, size - 1_000));
    return buffer.toString('utf8', 0, bytesRead).trim();
  } finally {
    await file.close();
  }
}

/**
 * Starts the process and returns its identity.
 * @throws Error if the process cannot start, or if it ends at once
 */
export async function launch({
  command,
  disk,
  seed,
  uefi,
  qmp,
  files: monitor,
  serial,
  agent,
  log,
}: Launch): Promise<Process> {
  const files: FileHandle[] = [];
  const sockets: ListeningSocket[] = [];
  const listening = async (path: string): Promise<number> => {
    const socket = await listenAt(path);
    sockets.push(socket);
    return socket.descriptor;
  };
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
      stdio: [
        'ignore',
        output,
        output,
        // `ignore` would leave descriptors closed, but others follow them.
        disk ? await opened(disk.path, 'r+') : await opened('/dev/null', 'r'),
        await opened(disk?.image ?? '/dev/null', 'r'),
        await listening(qmp),
        await listening(serial),
        await opened(seed, 'r'),
        await opened(uefi?.code ?? '/dev/null', 'r'),
        uefi ? await opened(uefi.variables, 'r+') : await opened('/dev/null', 'r'),
        await listening(monitor),
        await listening(agent),
      ],
    });
    await once(child, 'spawn');
    child.unref();
    const process = child.pid === undefined ? undefined : await identify(child.pid);
    if (!process) throw new Error(`QEMU ended at once: ${await logTail(log)}`);
    return process;
  } finally {
    for (const each of [...files, ...sockets]) await each.close();
  }
}
