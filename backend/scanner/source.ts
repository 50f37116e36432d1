/**
 * Copies the source of an image into a file of the scanner, and computes its hash. All later steps read the copy,
 * because the user may change the source meanwhile.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import type { Id } from '../contract/fields.ts';
import { fingerprintOf } from '../model/file/fingerprint.ts';
import { describeSize } from '../model/text/sizes.ts';
import { type DownloadOptions, download } from './download.ts';
import { FileMissing, ImageRejected, notEnoughSpace, SourceUnavailable } from './failures.ts';
import type { ImportLimits } from './limits.ts';
import { type FindFile, findByName, type ProjectFile } from './project-file.ts';

/** Options of `fetchSource`. */
export interface SourceOptions extends DownloadOptions {
  /** The directory with one directory of files for each project. */
  readonly filesDir: string;
  /** Finds the file of a source. Default: by name, without records. */
  readonly findFile?: FindFile;
}

/** The copy of a source. */
export interface Fetched {
  /** The SHA-256, in lower-case hex. */
  readonly sha256: string;
  /** The SHA-512, in lower-case hex; undefined unless it is declared. */
  readonly sha512: string | undefined;
  /** The size in bytes. */
  readonly size: number;
}

/**
 * Copies the source to the path `target`.
 * @param maxBytes the maximum size of the copy, in bytes
 * @param progress gets the bytes that are copied, and the size of the source; 0 if it is not known
 * @throws ImageRejected, FileMissing or SourceUnavailable
 * @throws the reason of `signal` after its abort
 */
export async function fetchSource(
  image: { readonly project: Id<'project'>; readonly source: string; readonly sha512?: string },
  target: string,
  options: SourceOptions,
  maxBytes: number,
  signal: AbortSignal,
  progress: (bytes: number, total: number) => void = () => undefined,
): Promise<Fetched> {
  const { source } = image;
  let expected = 0;
  const size = (bytes: number): void => {
    expected = bytes;
  };
  const copied = (bytes: number): void => progress(bytes, expected);
  const withSha512 = image.sha512 !== undefined;
  const limits = { size: options.limits.maxSourceBytes, maxBytes };
  if (!source.startsWith('file:')) {
    const transfer = new TransferLimit(options.limits);
    try {
      const content = download(source, options, AbortSignal.any([signal, transfer.signal]), signal, size);
      return await copy({ content, target, limits, withSha512, signal }, (bytes, all) => {
        transfer.count(bytes);
        copied(all);
      });
    } finally {
      transfer.end();
    }
  }
  const found = await (options.findFile ?? findByName)(image);
  const { record, text: name } = found;
  const file = await openFile(join(options.filesDir, image.project), found);
  try {
    if (record && fingerprintOf(await file.stat({ bigint: true })) !== record.fingerprint)
      throw new FileMissing(`The file ${name} has changed, and its file scanner has not read it again yet.`);
    const before = await file.stat();
    if (before.size > limits.size) throw tooLarge(limits);
    if (before.size > maxBytes) throw notEnoughSpace();
    size(before.size);
    const content = file.createReadStream({ autoClose: false, highWaterMark: 1024 * 1024 });
    const fetched = await copy({ content, target, limits, withSha512, signal }, (_bytes, all) => copied(all));
    const after = await file.stat();
    if (
      fetched.size !== before.size ||
      after.mtimeMs !== before.mtimeMs ||
      after.size !== before.size ||
      (record && fetched.sha256 !== record.sha256)
    )
      throw new SourceUnavailable(`The file ${name} changed while it was read.`);
    return fetched;
  } finally {
    await file.close();
  }
}

/**
 * Tells whether the image's file exists and is complete: it is as recorded, or has been unchanged for `quietMs`
 * milliseconds. The user then has probably finished copying it.
 */
export async function isFileComplete(
  image: { readonly project: Id<'project'>; readonly source: string },
  { filesDir, findFile = findByName }: SourceOptions,
  quietMs: number,
): Promise<boolean> {
  try {
    const { name, record } = await findFile(image);
    const stats = await lstat(pathOf(join(filesDir, image.project), name), { bigint: true });
    return record ? fingerprintOf(stats) === record.fingerprint : Date.now() - Number(stats.mtimeMs) >= quietMs;
  } catch (err) {
    // The import reports every other fault.
    return !(err instanceof FileMissing) && (err as NodeJS.ErrnoException).code !== 'ENOENT';
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

/** Returns the path of a name in any encoding. */
const pathOf = (directory: string, name: Buffer): Buffer => Buffer.concat([Buffer.from(`${directory}/`), name]);

/** Opens a regular file in the directory. Users own the directory's content, which may include links and pipes. */
async function openFile(directory: string, { name: bytes, text: name }: ProjectFile): Promise<FileHandle> {
  const missing = () => new FileMissing(`There is no file ${name} in the directory of the project.`);
  const real = await realpath(directory).catch((err: NodeJS.ErrnoException) => {
    throw err.code === 'ENOENT' ? missing() : err;
  });
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  const file = await open(pathOf(real, bytes), O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch(
    (err: NodeJS.ErrnoException) => {
      if (err.code === 'ENOENT') throw missing();
      if (err.code === 'ELOOP') throw new ImageRejected(`${name} is a symbolic link; only regular files are read.`);
      if (err.code === 'ENXIO') throw new ImageRejected(`${name} is not a regular file.`);
      throw err;
    },
  );
  try {
    const stats = await file.stat();
    // Another hard link may be a file of somebody else, which the user must not read.
    if (stats.isFile() && stats.nlink <= 1) return file;
  } catch (err) {
    await file.close();
    throw err;
  }
  await file.close();
  throw new ImageRejected(`${name} is not a regular file with one hard link.`);
}

interface Copying {
  readonly content: AsyncIterable<Buffer>;
  readonly target: string;
  readonly limits: CopyLimits;
  readonly withSha512: boolean;
  readonly signal: AbortSignal;
}

/** @param count gets the bytes of each part, and of all parts until then */
async function copy(
  { content, target, limits, withSha512, signal }: Copying,
  count: (bytes: number, all: number) => void,
): Promise<Fetched> {
  const sha256 = createHash('sha256');
  const sha512 = withSha512 ? createHash('sha512') : undefined;
  let size = 0;
  const file = await open(target, 'wx', 0o600);
  try {
    for await (const chunk of content) {
      signal.throwIfAborted();
      size += chunk.length;
      count(chunk.length, size);
      if (size > limits.size) throw tooLarge(limits);
      if (size > limits.maxBytes) throw notEnoughSpace();
      sha256.update(chunk);
      sha512?.update(chunk);
      await writeAll(file, chunk);
    }
  } finally {
    await file.close();
  }
  return { sha256: sha256.digest('hex'), sha512: sha512?.digest('hex'), size };
}

async function writeAll(file: FileHandle, chunk: Buffer): Promise<void> {
  for (let written = 0; written < chunk.length; ) written += (await file.write(chunk, written)).bytesWritten;
}
