/**
 * Brings the source of an image into a file of our own, hashing it on the way. Everything later looks at that copy:
 * the source may change under us.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { download } from './download.ts';
import { FileMissing, ImageRejected, SourceUnavailable } from './failures.ts';
import { type ImportLimits, inWords } from './limits.ts';

export interface SourceOptions {
  readonly filesDir: string;
  readonly allowPrivateAddresses: boolean;
  readonly limits: ImportLimits;
}

export interface Fetched {
  /** Lower-case hex. */
  readonly sha256: string;
  /** Bytes. */
  readonly size: number;
}

const fileName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** @throws ImageRejected, FileMissing, SourceUnavailable, or what `signal` was aborted with */
export async function fetchSource(
  image: { readonly project: string; readonly source: string },
  target: string,
  options: SourceOptions,
  signal: AbortSignal,
): Promise<Fetched> {
  const { source } = image;
  if (!source.startsWith('file:')) {
    const late = AbortSignal.timeout(options.limits.fetchTime);
    const content = download(source, options, AbortSignal.any([signal, late]), signal);
    return copy(content, target, options.limits, signal);
  }
  const name = source.slice('file:'.length);
  if (!fileName.test(name)) throw new ImageRejected(`"${name}" is not the name of a file.`);
  const file = await openFile(join(options.filesDir, image.project), name);
  try {
    const before = await file.stat();
    if (before.size > options.limits.sourceSize) throw tooLarge(options.limits);
    const stream = file.createReadStream({ autoClose: false, highWaterMark: 1024 * 1024 });
    const fetched = await copy(stream, target, options.limits, signal);
    const after = await file.stat();
    if (fetched.size !== before.size || after.mtimeMs !== before.mtimeMs || after.size !== before.size)
      throw new SourceUnavailable(`The file ${name} changed while it was read.`);
    return fetched;
  } finally {
    await file.close();
  }
}

/** Whether a file that was missing is there, and has not been written to for `quiet` milliseconds: who copies it is done. */
export async function hasArrived(
  { project, source }: { readonly project: string; readonly source: string },
  filesDir: string,
  quiet: number,
): Promise<boolean> {
  try {
    const { mtimeMs } = await lstat(join(filesDir, project, source.slice('file:'.length)));
    return Date.now() - mtimeMs >= quiet;
  } catch (err) {
    // Any other fault is told by an import.
    return (err as NodeJS.ErrnoException).code !== 'ENOENT';
  }
}

const tooLarge = ({ sourceSize }: ImportLimits) =>
  new ImageRejected(`The source is larger than ${inWords(sourceSize)}, the limit.`);

/** Opens a regular file that lies in the directory itself: users own what is in there, links and pipes included. */
async function openFile(directory: string, name: string): Promise<FileHandle> {
  const missing = () => new FileMissing(`There is no file ${name} in the directory of the project.`);
  const real = await realpath(directory).catch((err: NodeJS.ErrnoException) => {
    throw err.code === 'ENOENT' ? missing() : err;
  });
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  const file = await open(join(real, name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch((err: NodeJS.ErrnoException) => {
    if (err.code === 'ENOENT') throw missing();
    if (err.code === 'ELOOP') throw new ImageRejected(`${name} is a symbolic link; only regular files are read.`);
    if (err.code === 'ENXIO') throw new ImageRejected(`${name} is not a regular file.`);
    throw err;
  });
  try {
    if ((await file.stat()).isFile()) return file;
  } catch (err) {
    await file.close();
    throw err;
  }
  await file.close();
  throw new ImageRejected(`${name} is not a regular file.`);
}

async function copy(
  content: AsyncIterable<Buffer>,
  target: string,
  limits: ImportLimits,
  signal: AbortSignal,
): Promise<Fetched> {
  const hash = createHash('sha256');
  let size = 0;
  const file = await open(target, 'wx', 0o600);
  try {
    for await (const chunk of content) {
      signal.throwIfAborted();
      size += chunk.length;
      if (size > limits.sourceSize) throw tooLarge(limits);
      hash.update(chunk);
      await writeAll(file, chunk);
    }
  } finally {
    await file.close();
  }
  return { sha256: hash.digest('hex'), size };
}

async function writeAll(file: FileHandle, chunk: Buffer): Promise<void> {
  for (let written = 0; written < chunk.length; ) written += (await file.write(chunk, written)).bytesWritten;
}
