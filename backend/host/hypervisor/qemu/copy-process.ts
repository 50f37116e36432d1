/**
 * A short-lived QEMU without a machine. It copies disks that no guest has: it opens them read-only and reads the qcow2 of a
 * VM's disk, which no privileged program may do. Its user has no other process, and it may open no file.
 *
 * The process ends with the agent that started it. QEMU locks the files: while they are copied, no guest can open them, and
 * a disk of a running guest cannot be copied in this way.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type FileHandle, open } from 'node:fs/promises';
import { environment } from '../../system/command.ts';
import { listenAt } from '../../system/listening-socket.ts';
import { fileLimits, sandbox, unprivileged } from './command-line.ts';
import { type CopyOptions, copyDisks } from './disk-copy.ts';
import { Qmp, QmpError, readable } from './qmp.ts';

/** A disk without guest, and the file for its copy. */
export interface IdleDisk {
  /** The path of the file: a qcow2 on an image, or raw data. */
  readonly path: string;
  /** The path of the image under a qcow2; undefined for raw data. */
  readonly image?: string;
  readonly target: string;
  /** Bytes. */
  readonly size: number;
}

const connectMs = 10_000;
const firstDescriptor = 3;

/**
 * Copies the disks.
 * @param socket the path for the socket of the process, in a directory of the agent
 * @throws QmpError if the copy fails; AbortError after an interruption
 */
export async function copyIdleDisks(
  disks: readonly IdleDisk[],
  options: CopyOptions & { readonly uid: number; readonly socket: string },
): Promise<Date> {
  const { uid, socket, signal } = options;
  const files: FileHandle[] = [];
  const sets: string[] = [];
  const opened = async (path: string, flags: string): Promise<string> => {
    const file = await open(path, flags);
    files.push(file);
    sets.push('-add-fd', `fd=${firstDescriptor + files.length},set=${files.length}`);
    return `/dev/fdset/${files.length}`;
  };
  const listening = await listenAt(socket);
  try {
    const nodes: string[] = [];
    const targets: string[] = [];
    for (const [index, { path, image, target }] of disks.entries()) {
      const content = { driver: 'file', filename: await opened(path, 'r'), locking: 'on', 'read-only': true };
      const node =
        image === undefined
          ? { ...content, 'node-name': `disk${index}` }
          : {
              ...{ driver: 'qcow2', 'node-name': `disk${index}`, 'read-only': true, file: content },
              // This overrides the backing file in the header, because a hostile QEMU may have changed the header.
              backing: {
                ...{ driver: 'qcow2', 'read-only': true, backing: null },
                file: { driver: 'file', filename: await opened(image, 'r'), 'read-only': true },
              },
            };
      nodes.push('-blockdev', JSON.stringify(node));
      targets.push(await opened(target, 'r+'));
    }
    const largest = Math.max(...disks.map(({ size }) => size));
    const program = [
      ...['qemu-system-x86_64', '-machine', 'none', '-nodefaults', '-no-user-config', '-display', 'none', '-S'],
      ...['-chardev', `socket,id=qmp,fd=${firstDescriptor},server=on,wait=off`, '-mon', 'chardev=qmp,mode=control'],
      ...[...sets, ...nodes, ...sandbox],
    ];
    const [name = '', ...args] = [...fileLimits(largest), ...unprivileged(uid, [], program, ['--pdeathsig', 'KILL'])];
    const child = spawn(name, args, {
      cwd: '/',
      env: environment,
      stdio: ['ignore', 'ignore', 'pipe', listening.descriptor, ...files.map(({ fd }) => fd)],
    });
    let messages = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      messages = (messages + text).slice(-1_000);
    });
    const ended = once(child, 'close');
    // The program may not start. The wait below then shows it.
    ended.catch(() => undefined);
    const kill = () => child.kill('SIGKILL');
    signal.addEventListener('abort', kill);
    try {
      // Otherwise this process would accept the connection, too.
      await listening.close();
      const qmp = await Qmp.connect(socket, connectMs);
      try {
        const copies = disks.map((_disk, index) => ({ node: `disk${index}`, open: async () => targets[index] ?? '' }));
        return await copyDisks(qmp, copies, options);
      } finally {
        qmp.close();
      }
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof QmpError)) throw error;
      kill();
      await ended;
      throw new QmpError(`${error.message} ${readable(messages)}`.trim(), { cause: error });
    } finally {
      signal.removeEventListener('abort', kill);
      kill();
      await ended;
    }
  } finally {
    await listening.close();
    for (const file of files) await file.close();
  }
}
