/** The local file whose content the provider uploads. All errors name the attribute `source`. */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { DiagnosticError } from '../framework/index.ts';

/** The content of a local file. */
export interface Content {
  /** The size in bytes. */
  readonly size: number;
  /** The SHA-256 in hex. */
  readonly sha256: string;
}

/** The maximum size of an upload in bytes, as openapi.yaml has it. */
const maxBytes = 2 ** 40;
/** The size of the pieces that are in memory, in bytes. */
const pieceBytes = 2 ** 18;

const path = ['source'] as const;
const unusable = (source: string, reason: string): DiagnosticError =>
  new DiagnosticError('The source cannot be uploaded', `\`source\` is ${JSON.stringify(source)}, ${reason}.`, path);

/** Returns the error for a file with other content than the plan. */
export const changedSource = (source: string, when: string): DiagnosticError =>
  new DiagnosticError(
    'The source changed',
    `The content of ${JSON.stringify(source)} changed ${when}. Nothing was replaced. Plan again when no program writes to the file.`,
    path,
  );

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'which does not exist. A relative path begins at the directory in which Terraform runs',
  ENOTDIR: 'and a part of this path is not a directory',
  EACCES: 'which the user of Terraform may not read',
  EPERM: 'which the user of Terraform may not read',
  ELOOP: 'a symbolic link that leads nowhere',
};

/** Opens the file, and checks that it can be uploaded. @throws DiagnosticError */
async function openSource(source: string): Promise<FileHandle> {
  let handle: FileHandle | undefined;
  try {
    // Opening a device or a pipe may have an effect, so the type is checked before. It may change until the opening.
    const kind = await stat(source);
    if (kind.isDirectory()) throw unusable(source, 'a directory');
    if (!kind.isFile()) throw unusable(source, 'which is not a regular file');
    handle = await open(source, constants.O_RDONLY | constants.O_NONBLOCK);
    const opened = await handle.stat();
    if (!opened.isFile()) throw unusable(source, 'which is not a regular file');
    if (opened.size === 0) throw unusable(source, 'an empty file');
    if (opened.size > maxBytes) throw unusable(source, 'which is larger than 1 TiB');
    return handle;
  } catch (error) {
    await handle?.close();
    if (error instanceof DiagnosticError) throw error;
    const { code = '', message } = error as NodeJS.ErrnoException;
    throw unusable(source, reasons[code] ?? `which cannot be read: ${message}`);
  }
}

/** The identity of an opened file's content, as far as the file system tells it. */
async function marksOf(handle: FileHandle): Promise<string> {
  const { size, mtimeNs, ctimeNs } = await handle.stat({ bigint: true });
  return [size, mtimeNs, ctimeNs].join();
}

/** Runs the work with the opened file. Its read errors name the file. @throws DiagnosticError */
async function withSource<T>(source: string, work: (handle: FileHandle) => Promise<T>): Promise<T> {
  const handle = await openSource(source);
  try {
    return await work(handle);
  } finally {
    await handle.close();
  }
}

/**
 * Reads the file with constant memory, and returns size and SHA-256.
 * @throws DiagnosticError if the file cannot be uploaded or changes meanwhile; the reason of the signal after its abort
 */
export function readSource(source: string, signal: AbortSignal): Promise<Content> {
  return withSource(source, async (handle) => {
    const before = await marksOf(handle);
    const size = Number(before.split(',')[0]);
    const hash = createHash('sha256');
    const buffer = Buffer.allocUnsafe(pieceBytes);
    let read = 0;
    // A file that grows while it is read would have no end.
    while (read <= size) {
      signal.throwIfAborted();
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, read).catch((error: Error) => {
        throw unusable(source, `which cannot be read: ${error.message}`);
      });
      if (bytesRead === 0) break;
      hash.update(buffer.subarray(0, bytesRead));
      read += bytesRead;
    }
    if (read !== size || (await marksOf(handle)) !== before) throw changedSource(source, 'while it was read');
    return { size, sha256: hash.digest('hex') };
  });
}

/** A part of an opened file, as a stream. It fails if the file ends before `end`. */
function partOf(handle: FileHandle, source: string, start: number, end: number): Readable {
  async function* pieces() {
    for (let at = start; at < end; ) {
      const { bytesRead, buffer } = await handle.read(
        Buffer.allocUnsafe(pieceBytes),
        0,
        Math.min(pieceBytes, end - at),
        at,
      );
      if (bytesRead === 0) throw changedSource(source, 'during the upload');
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }
  return Readable.from(pieces(), { objectMode: false, highWaterMark: pieceBytes });
}

/** Returns streams of parts of the file. */
export type OpenPart = (start: number, end: number) => Readable;

/** Runs the work with the file of the planned size. @throws DiagnosticError if the file has another size */
export function withParts<T>(source: string, size: number, work: (part: OpenPart) => Promise<T>): Promise<T> {
  return withSource(source, async (handle) => {
    if ((await handle.stat()).size !== size) throw changedSource(source, 'after the plan');
    return work((start, end) => partOf(handle, source, start, end));
  });
}
