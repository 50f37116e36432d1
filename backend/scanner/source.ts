/**
 * Copies the source of an image into a file of the scanner, and computes its hash. All later steps read the copy,
 * because the user may change the source meanwhile.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { describeSize } from '../model/text/sizes.ts';
import { type DownloadOptions, download } from './download.ts';
import { FileMissing, ImageRejected, notEnoughSpace, SourceUnavailable } from './failures.ts';
import type { ImportLimits } from './limits.ts';

/** Options of `fetchSource`. */
export interface SourceOptions extends DownloadOptions {
  /** The directory with one directory of files for each project. */
  readonly filesDir: string;
}

/** The copy of a source. */
export interface Fetched {
  /** The SHA-256, in lower-case hex. */
  readonly sha256: string;
  /** The size in bytes. */
  readonly size: number;
}

const fileName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/**
 * Copies the source to the path `target`.
 * @param maxBytes the maximum size of the copy, in bytes
 * @throws ImageRejected, FileMissing or SourceUnavailable
 * @throws the reason of `signal` after its abort
 */
export async function fetchSource(
  image: { readonly project: string; readonly source: string },
  target: string,
  options: SourceOptions,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Fetched> {
  const { source } = image;
  const limits = { size: options.limits.maxSourceBytes, maxBytes };
  if (!source.startsWith('file:')) {
    const transfer = new TransferLimit(options.limits);
    try {
      const content = download(source, options, AbortSignal.any([signal, transfer.signal]), signal);
      return await copy(content, target, limits, signal, (bytes) => transfer.count(bytes));
    } finally {
      transfer.end();
    }
  }
  const name = source.slice('file:'.length);
  if (!fileName.test(name)) throw new ImageRejected(`"${name}" is not the name of a file.`);
  const file = await openFile(join(options.filesDir, image.project), name);
  try {
    const before = await file.stat();
    if (before.size > limits.size) throw tooLarge(limits);
    if (before.size > maxBytes) throw notEnoughSpace();
    const stream = file.createReadStream({ autoClose: false, highWaterMark: 1024 * 1024 });
    const fetched = await copy(stream, target, limits, signal);
    const after = await file.stat();
    if (fetched.size !== before.size || after.mtimeMs !== before.mtimeMs || after.size !== before.size)
      throw new SourceUnavailable(`The file ${name} changed while it was read.`);
    return fetched;
  } finally {
    await file.close();
  }
}

/**
 * Tells whether the image's file exists and has been unchanged for `quietMs` milliseconds. The user then has probably
 * finished copying it.
 */
export async function isFileComplete(
  { project, source }: { readonly project: string; readonly source: string },
  filesDir: string,
  quietMs: number,
): Promise<boolean> {
  try {
    const { mtimeMs } = await lstat(join(filesDir, project, source.slice('file:'.length)));
    return Date.now() - mtimeMs >= quietMs;
  } catch (err) {
    // The import reports every other fault.
    return (err as NodeJS.ErrnoException).code !== 'ENOENT';
  }
}

interface CopyLimits {
  /** The maximum size of a source, in bytes. */
  readonly size: number;
  /** The available space, in bytes. */
  readonly maxBytes: number;
}

const tooLarge = ({ size }: CopyLimits) =>
  new ImageRejected(`The source is larger than ${describeSize(size)}, the limit.`);

/**
 * Ends a transfer that takes too long or is too slow, because a slow server would keep one of a few concurrent imports.
 */
class TransferLimit {
  readonly #ending = new AbortController();
  readonly #timers: readonly NodeJS.Timeout[];
  #bytes = 0;

  constructor({ maxFetchMs, minBytesPerSecond, rateWindowMs }: ImportLimits) {
    const end = (why: string) => this.#ending.abort(new ImageRejected(why));
    const check = () => {
      if (this.#bytes < (minBytesPerSecond * rateWindowMs) / 1000)
        end(`The server sends less than ${describeSize(minBytesPerSecond)} a second, which is too slow.`);
      this.#bytes = 0;
    };
    this.#timers = [
      setTimeout(() => end('Fetching the URL took too long.'), maxFetchMs),
      setInterval(check, rateWindowMs),
    ];
  }

  get signal(): AbortSignal {
    return this.#ending.signal;
  }

  count(bytes: number): void {
    this.#bytes += bytes;
  }

  end(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }
}

/** Opens a regular file in the directory. Users own the directory's content, which may include links and pipes. */
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
  limits: CopyLimits,
  signal: AbortSignal,
  count: (bytes: number) => void = () => undefined,
): Promise<Fetched> {
  const hash = createHash('sha256');
  let size = 0;
  const file = await open(target, 'wx', 0o600);
  try {
    for await (const chunk of content) {
      signal.throwIfAborted();
      size += chunk.length;
      count(chunk.length);
      if (size > limits.size) throw tooLarge(limits);
      if (size > limits.maxBytes) throw notEnoughSpace();
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
