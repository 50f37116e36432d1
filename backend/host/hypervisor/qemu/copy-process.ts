/**
 * A short-lived QEMU without a machine. It copies disks that no guest has: it opens them read-only and reads qcow2, which
 * no privileged program may do. It also writes the qcow2 of a VM that is restored. Its user has no other process, and it may open no file.
 *
 * The process ends with the agent that started it. QEMU locks the files: while they are copied, no guest can open them, and
 * a disk of a running guest cannot be copied in this way.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { VolumeSource } from '../../storage/pools/pool-driver.ts';
import { environment } from '../../system/command.ts';
import { type ListeningSocket, listenAt } from '../../system/listening-socket.ts';
import { fileLimits, sandbox, unprivileged } from './command-line.ts';
import { addFile, type CopyOptions, copyDisks, finish, stallMs } from './disk-copy.ts';
import { passDescriptor } from './pass-descriptor.ts';
import { Qmp, QmpError, readable } from './qmp.ts';
import { openRbd } from './rbd-nodes.ts';
import { descriptorSet } from './volumes.ts';

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

/** The process of a copy. */
export interface CopyProcess {
  /** A user id without another process. */
  readonly uid: number;
  /** The path for the socket of the process, in a directory of the agent. */
  readonly socket: string;
  readonly signal: AbortSignal;
  /** The time in milliseconds for the end of a process that was killed. Default: no limit. */
  readonly endMs?: number;
  /** Called after the end of the process, which may be later than that of the call. */
  readonly ended?: () => void;
}

/** The time in milliseconds until the writes of a copy are on the disks of the host. */
const flushMs = 600_000;
const qmpDescriptor = 3;
const monitorDescriptor = 4;

/** The files that a process gets open. */
class OpenFiles {
  readonly handles: FileHandle[] = [];
  readonly arguments: string[] = [];

  /** Opens a file. Returns its path for QEMU. */
  async add(path: string, flags: 'r' | 'r+'): Promise<string> {
    const file = await open(path, flags);
    this.handles.push(file);
    this.arguments.push('-add-fd', `fd=${monitorDescriptor + this.handles.length},set=${this.handles.length}`);
    return `/dev/fdset/${this.handles.length}`;
  }

  async close(): Promise<void> {
    for (const file of this.handles) await file.close();
  }
}

/** Returns the path of the monitor that takes files. */
const monitorOf = ({ socket }: CopyProcess): string => `${socket}-files`;

/** The work of a process. */
interface CopyWork<T> {
  /** The size of the largest file that the process writes, in bytes. */
  readonly size: number;
  /** Opens the files of the process. Returns its nodes. */
  prepare(files: OpenFiles): Promise<readonly object[]>;
  use(qmp: Qmp): Promise<T>;
  /** Whether a message of the process is a failure. QEMU returns no error for some lost writes, and only prints them. */
  readonly isSilent?: boolean;
}

/** Starts the process, and ends it after its work. */
async function withProcess<T>(process: CopyProcess, { size, prepare, use, isSilent = false }: CopyWork<T>): Promise<T> {
  const { uid, socket, signal, endMs } = process;
  const files = new OpenFiles();
  const sockets: ListeningSocket[] = [];
  const listening = async (path: string): Promise<number> => {
    const each = await listenAt(path);
    sockets.push(each);
    return each.descriptor;
  };
  const close = async () => {
    for (const each of sockets.splice(0)) await each.close();
  };
  let end: Promise<unknown> | undefined;
  try {
    const nodes = await prepare(files);
    const descriptors = [await listening(socket), await listening(monitorOf(process))];
    const program = [
      ...['qemu-system-x86_64', '-machine', 'none', '-nodefaults', '-no-user-config', '-display', 'none', '-S'],
      ...['-chardev', `socket,id=qmp,fd=${qmpDescriptor},server=on,wait=off`, '-mon', 'chardev=qmp,mode=control'],
      ...['-chardev', `socket,id=files,fd=${monitorDescriptor},server=on,wait=off`],
      ...['-mon', 'chardev=files,mode=control', ...files.arguments],
      ...[...nodes.flatMap((node) => ['-blockdev', JSON.stringify(node)]), ...sandbox],
    ];
    const [name = '', ...args] = [...fileLimits(size), ...unprivileged(uid, [], program, ['--pdeathsig', 'KILL'])];
    const child = spawn(name, args, {
      cwd: '/',
      env: environment,
      stdio: ['ignore', 'ignore', 'pipe', ...descriptors, ...files.handles.map(({ fd }) => fd)],
    });
    let messages = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      messages = (messages + text).slice(-1_000);
    });
    // The program may not start. The wait below then shows it.
    const ended = once(child, 'close').catch(() => undefined);
    end = ended;
    const kill = () => child.kill('SIGKILL');
    // A process that waits for a file server ends late.
    const wait = () => (endMs === undefined ? ended : Promise.race([ended, delay(endMs)]));
    signal.addEventListener('abort', kill);
    try {
      // Otherwise this process would accept the connections, too.
      await close();
      // The process may write to a slow pool, and no other work waits for it. So it fails only as a copy without progress does.
      const qmp = await Qmp.connect(socket, stallMs, stallMs);
      let result: T;
      try {
        result = await use(qmp);
      } finally {
        qmp.close();
      }
      if (isSilent) {
        kill();
        await wait();
        if (messages !== '') throw new QmpError('QEMU printed an error');
      }
      return result;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof QmpError)) throw error;
      kill();
      await wait();
      throw new QmpError(`${error.message} ${readable(messages)}`.trim(), { cause: error });
    } finally {
      signal.removeEventListener('abort', kill);
      kill();
      await wait();
    }
  } finally {
    await close();
    await files.close();
    const { ended = () => undefined } = process;
    void Promise.resolve(end).then(ended);
  }
}

/**
 * Copies the disks.
 * @throws QmpError if the copy fails; AbortError after an interruption
 */
export function copyIdleDisks(disks: readonly IdleDisk[], options: CopyOptions & CopyProcess): Promise<Date> {
  const targets: string[] = [];
  return withProcess(options, {
    size: Math.max(...disks.map(({ size }) => size)),
    async prepare(files) {
      const nodes: object[] = [];
      for (const [index, { path, image, target }] of disks.entries()) {
        const content = { driver: 'file', filename: await files.add(path, 'r'), locking: 'on', 'read-only': true };
        nodes.push(
          image === undefined
            ? { ...content, 'node-name': `disk${index}` }
            : {
                ...{ driver: 'qcow2', 'node-name': `disk${index}`, 'read-only': true, file: content },
                // This overrides the backing file in the header, because a hostile QEMU may have changed the header.
                backing: imageNode(await files.add(image, 'r')),
              },
        );
        targets.push(await files.add(target, 'r+'));
      }
      return nodes;
    },
    use(qmp) {
      const copies = disks.map((_disk, index) => ({
        node: `disk${index}`,
        open: (mark: string) => addFile(qmp, mark, targets[index] ?? ''),
      }));
      return copyDisks(qmp, copies, options);
    },
  });
}

/** Passes a file to the process. Returns its path for QEMU. A short-lived program opens it, because a file server may hang. */
async function passFile(qmp: Qmp, process: CopyProcess, path: string, mark: string, mode: 'r' | 'r+'): Promise<string> {
  await passDescriptor(monitorOf(process), path, mark, mode);
  const set = descriptorSet(await qmp.execute('query-fdsets'), mark);
  if (set === undefined) throw new QmpError('QEMU has not kept a descriptor');
  return `/dev/fdset/${set}`;
}

/**
 * Copies a raw file to another one of its size that contains zeros. Both may lie on a file server that hangs.
 * @throws QmpError if the copy fails, or if a guest has the source; AbortError after an interruption
 */
export function copyFile(
  source: { readonly path: string; readonly size: number },
  target: string,
  options: CopyOptions & CopyProcess,
): Promise<Date> {
  const node = 'source';
  return withProcess(options, {
    size: source.size,
    prepare: async () => [],
    async use(qmp) {
      const filename = await passFile(qmp, options, source.path, node, 'r');
      await qmp.execute('blockdev-add', {
        driver: 'file',
        'node-name': node,
        filename,
        locking: 'on',
        'read-only': true,
      });
      const open = async (mark: string) => addFile(qmp, mark, await passFile(qmp, options, target, mark, 'r+'));
      return copyDisks(qmp, [{ node, open }], options);
    },
  });
}

/** Returns the node of an image. Its header names no other file. */
const imageNode = (filename: string): object => ({
  ...{ driver: 'qcow2', 'read-only': true, backing: null },
  file: { driver: 'file', filename, 'read-only': true },
});

/**
 * Writes the content of an image to a target of its size that contains zeros. Only the parts that the image has are written.
 * @throws QmpError if the copy fails; AbortError after an interruption
 */
export async function copyImage(
  image: { readonly path: string; readonly size: number },
  target: VolumeSource,
  options: CopyOptions & CopyProcess,
): Promise<void> {
  await withProcess(options, {
    size: image.size,
    prepare: async (files) => [{ ...imageNode(await files.add(image.path, 'r')), 'node-name': 'image' }],
    use(qmp) {
      const openTarget = async (mark: string): Promise<void> => {
        // Otherwise the last writes happen when the node is closed, and QEMU ignores their errors.
        if (target.kind === 'rbd') return openRbd(qmp, mark, target, new Set(), { direct: true });
        await addFile(qmp, mark, await passFile(qmp, options, target.path, mark, 'r+'));
      };
      return copyDisks(qmp, [{ node: 'image', open: openTarget }], { ...options, sync: 'top' });
    },
  });
}

/**
 * Writes raw content into an empty file as a qcow2 that needs no backing file: each of its clusters has data or zeros.
 * QEMU has flushed the file at the end.
 * @throws QmpError if the copy fails; AbortError after an interruption
 */
export async function writeOverlay(
  { content, target, size }: { readonly content: string; readonly target: string; readonly size: number },
  options: CopyOptions & CopyProcess,
): Promise<void> {
  const { id, signal, speed } = options;
  await withProcess(options, {
    ...{ size, isSilent: true },
    async prepare(files) {
      const read = { driver: 'file', filename: await files.add(content, 'r'), locking: 'on', 'read-only': true };
      const written = { driver: 'file', filename: await files.add(target, 'r+'), discard: 'unmap' };
      return [
        { ...read, 'node-name': 'content' },
        { ...written, 'node-name': 'file' },
      ];
    },
    async use(qmp) {
      const job = { 'job-id': `${id}-0` };
      await qmp.execute('blockdev-create', { ...job, options: { driver: 'qcow2', file: 'file', size } });
      await finish(qmp, { id, signal }, 1);
      await qmp.execute('job-dismiss', { id: job['job-id'] });
      const overlay = { driver: 'qcow2', 'node-name': 'overlay', file: 'file', backing: null };
      const node = { ...overlay, discard: 'unmap', 'detect-zeroes': 'unmap' };
      await qmp.execute('blockdev-add', node);
      const copy = { device: 'content', target: 'overlay', sync: 'full', speed, 'auto-dismiss': false };
      const report = { 'on-source-error': 'report', 'on-target-error': 'report' };
      await qmp.execute('blockdev-backup', { ...job, ...copy, ...report });
      await finish(qmp, { id, signal }, 1);
      await qmp.execute('job-dismiss', { id: job['job-id'] });
      // The removal of the node hides errors. This change writes the tables of the format, flushes the file and returns errors.
      const unwritable = { ...node, 'read-only': true };
      await qmp.execute('blockdev-reopen', { options: [unwritable] }, flushMs);
      await qmp.execute('blockdev-del', { 'node-name': 'overlay' });
    },
  });
}
