/** Reads the content of new and changed files, and records it. */
import { createHash, type Hash } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { fingerprintOf, sizeIn } from '../model/file/fingerprint.ts';
import { escapeName } from '../model/file/name-text.ts';
import { fileId } from '../model/file/names.ts';
import type { FileRecord } from '../model/records/index.ts';
import { type Candidate, type Candidates, maxUrgentBytes } from './candidates.ts';
import { type Directory, isPlainFile, modifiedAt } from './directory.ts';
import type { KnownFiles } from './known-files.ts';
import { fits, maxBatch, type Recorder } from './recorder.ts';
import type { Work } from './turns.ts';

const chunkBytes = 1024 * 1024;
/** The bytes after which another project has its turn. */
const sliceBytes = maxUrgentBytes;
/** The maximum size of a small file. Small files are read several at a time, because each costs more waiting than work. */
const maxSmallBytes = 64 * 1024;
const maxSmallReads = 8;

interface Reading {
  readonly server: Id<'file_server'>;
  readonly project: Id<'project'>;
  /** Opens the directory of the project. */
  readonly open: () => Promise<Directory | undefined>;
  readonly known: KnownFiles;
  readonly recorder: Recorder;
  readonly logger: Logger;
  readonly maxFileBytes: number;
  readonly signal: AbortSignal;
}

/** One buffer for all large files, because only one is read at a time. */
const largeBuffer = Buffer.allocUnsafe(chunkBytes);

/** Hashes a slice of the file, and returns the position behind it. */
async function hashSlice(file: FileHandle, from: number, size: number, hash: Hash, buffer: Buffer): Promise<number> {
  const end = Math.min(size, from + sliceBytes);
  for (let at = from; at < end; ) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, end - at), at);
    // The file has become shorter. Its fingerprint tells the same.
    if (bytesRead === 0) return size;
    hash.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
  return end;
}

/** Returns the state of an open file; undefined if it is not that of the fingerprint. */
async function stateOf(file: FileHandle, fingerprint: string): Promise<BigIntStats | undefined> {
  const stats = await file.stat({ bigint: true });
  return isPlainFile(stats) && fingerprintOf(stats) === fingerprint ? stats : undefined;
}

/** Does the work for all items, some of them at a time. */
async function inParallel<T>(items: readonly T[], count: number, work: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values();
  const run = async () => {
    for (const item of rest) await work(item);
  };
  await Promise.all(Array.from({ length: count }, run));
}

/** Reads the files of one project. It has files open only during its turns, so any number of projects may have work. */
class Reader {
  readonly #reading: Reading;
  readonly #candidates: Candidates;
  #directory: Directory | undefined;
  #batch: FileRecord[] = [];
  #room: ReturnType<Recorder['room']> | undefined;
  /** The files that could not be read, and the first reason. */
  unreadable = 0;
  reason: unknown;
  /** Whether files are left for a later scan. */
  left = false;

  constructor(reading: Reading, candidates: Candidates) {
    this.#reading = reading;
    this.#candidates = candidates;
  }

  /** Commits the complete files and closes the directory. */
  async pause(): Promise<void> {
    try {
      await this.#commit();
    } finally {
      await this.close();
    }
  }

  async close(): Promise<void> {
    const directory = this.#directory;
    this.#directory = undefined;
    await directory?.close();
  }

  async #commit(): Promise<void> {
    const put = this.#batch;
    this.#batch = [];
    this.#room = undefined;
    if (put.length > 0 && (await this.#reading.recorder.commit(this.#reading.project, { put })) > 0) this.left = true;
  }

  /** Opens a file if it is still what the scan saw. */
  async #open({ name, fingerprint }: Candidate): Promise<FileHandle | undefined> {
    this.#directory ??= await this.#reading.open();
    const file = await this.#directory?.file(name);
    if (!file) return undefined;
    try {
      if (await stateOf(file, fingerprint)) return file;
    } catch (error) {
      await file.close();
      throw error;
    }
    await file.close();
    return undefined;
  }

  /** Reads one file. Yields after each slice. Returns undefined if the file is not what the scan saw. */
  async *#read(candidate: Candidate, buffer: Buffer): Work<FileRecord | undefined> {
    const size = sizeIn(candidate.fingerprint);
    const hash = createHash('sha256');
    for (let at = 0; ; ) {
      this.#reading.signal.throwIfAborted();
      const file = await this.#open(candidate);
      if (!file) return undefined;
      try {
        at = await hashSlice(file, at, size, hash, buffer);
        if (at === size) {
          const stats = await stateOf(file, candidate.fingerprint);
          return stats && this.#record(candidate, stats, hash.digest('hex'));
        }
      } finally {
        await file.close();
      }
      // Complete files do not wait for a large one.
      await this.#takeUrgent();
      await this.pause();
      yield;
    }
  }

  /** Reads the files that a scan has found meanwhile, each in one slice. */
  async #takeUrgent(): Promise<void> {
    for (const each of this.#candidates.takeUrgent()) {
      if (await this.#isOffered(each)) await this.#take(each, largeBuffer).next();
    }
  }

  #record({ name, fingerprint }: Candidate, stats: BigIntStats, sha256: string): FileRecord {
    const { server, project, known } = this.#reading;
    const id = fileId(server, project, name);
    const now = new Date().toISOString();
    return {
      id,
      project,
      server,
      name: escapeName(name),
      size: Number(stats.size),
      sha256,
      modified_at: modifiedAt(stats),
      fingerprint,
      created_at: known.of(project).get(id)?.createdAt ?? now,
      updated_at: now,
    };
  }

  /** Reads a file and adds it to the batch. */
  async *#take(candidate: Candidate, buffer: Buffer): Work {
    try {
      const record = yield* this.#read(candidate, buffer);
      if (record) this.#batch.push(record);
      else this.left = true;
    } catch (error) {
      // One file without permission or on a bad sector must not keep the others from their records.
      if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
      this.reason ??= error;
      this.unreadable++;
    }
  }

  /** Tells whether the file can be offered. A file that cannot is not read. The commit checks the quota again. */
  async #isOffered({ name, fingerprint }: Candidate): Promise<boolean> {
    const { server, project, known, recorder, maxFileBytes } = this.#reading;
    const size = sizeIn(fingerprint);
    const id = fileId(server, project, name);
    const before = known.of(project).get(id);
    // A later scan may have found the file again, and it has its record.
    if (before?.fingerprint === fingerprint) return false;
    this.#room ??= recorder.room(project);
    if (size <= maxFileBytes && fits(this.#room, before ? 0 : 1, size - (before?.size ?? 0))) return true;
    this.left = true;
    if (!before) return false;
    await recorder.commit(project, { remove: [id] });
    this.#room = undefined;
    return false;
  }

  /** Reads and records at most `maxBatch` files. */
  async *takeAll(candidates: readonly Candidate[]): Work {
    const small: Candidate[] = [];
    const large: Candidate[] = [];
    for (const each of candidates)
      if (await this.#isOffered(each)) (sizeIn(each.fingerprint) > maxSmallBytes ? large : small).push(each);
    this.#directory ??= await this.#reading.open();
    await inParallel(small, maxSmallReads, async (each) => {
      // A small file is one slice, so there is nothing between two turns.
      await this.#take(each, Buffer.allocUnsafe(sizeIn(each.fingerprint))).next();
    });
    for (const each of large) yield* this.#take(each, largeBuffer);
    await this.pause();
  }
}

/** Reads the files and records them in batches. Returns true if some are left for a later scan. */
export async function* recordFiles(reading: Reading, candidates: Candidates): Work<boolean> {
  const { logger, project } = reading;
  const reader = new Reader(reading, candidates);
  try {
    for (let next = candidates.take(maxBatch); next.length > 0; next = candidates.take(maxBatch)) {
      yield* reader.takeAll(next);
      yield;
    }
    const { unreadable, reason: err } = reader;
    if (unreadable > 0 && unreadable !== candidates.unreadable)
      logger.warn({ err, project, unreadable }, 'files of a project cannot be read');
    candidates.unreadable = unreadable;
    return reader.left;
  } finally {
    await reader.close();
  }
}
