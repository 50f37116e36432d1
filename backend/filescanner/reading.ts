/** Reads the content of new and changed files, and records it. */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import type { Id } from '../contract/fields.ts';
import { fingerprintOf } from '../model/file/fingerprint.ts';
import { escapeName } from '../model/file/name-text.ts';
import { fileId } from '../model/file/names.ts';
import type { FileRecord } from '../model/records/index.ts';
import { type Directory, isPlainFile, modifiedAt } from './directory.ts';
import type { KnownFiles } from './known-files.ts';
import { fits, maxBatch, type Recorder } from './recorder.ts';

const chunkBytes = 1024 * 1024;
/** The bytes after which another project has its turn. */
const sliceBytes = 64 * 1024 * 1024;

/** A file to read. */
export interface Candidate {
  readonly name: Buffer;
  readonly fingerprint: string;
}

interface Reading {
  readonly server: Id<'file_server'>;
  readonly project: Id<'project'>;
  /** Opens the directory of the project. */
  readonly open: () => Promise<Directory | undefined>;
  readonly known: KnownFiles;
  readonly recorder: Recorder;
  readonly maxFileBytes: number;
  readonly signal: AbortSignal;
  /** Gets the number of files that are not offered. */
  readonly refused: (count: number) => void;
}

/** One buffer for all files, because only one file is read at a time. */
const buffer = Buffer.allocUnsafe(chunkBytes);

/** Hashes an open file in slices. */
async function* hashOf(file: FileHandle, signal: AbortSignal): AsyncGenerator<void, string> {
  const hash = createHash('sha256');
  let slice = 0;
  for (;;) {
    signal.throwIfAborted();
    const { bytesRead } = await file.read(buffer, 0, chunkBytes, null);
    if (bytesRead === 0) return hash.digest('hex');
    hash.update(buffer.subarray(0, bytesRead));
    slice += bytesRead;
    if (slice >= sliceBytes) {
      slice = 0;
      yield;
    }
  }
}

/**
 * Reads one file. Yields after each slice, so it can be long between two steps. Returns undefined if the file is not what
 * the scan saw: a later scan sees it again.
 */
async function* recordOf(
  { server, project, known, signal }: Reading,
  directory: Directory,
  { name, fingerprint }: Candidate,
): AsyncGenerator<void, FileRecord | undefined> {
  const file = await directory.file(name);
  if (!file) return undefined;
  try {
    const stats = await file.stat({ bigint: true });
    if (!isPlainFile(stats) || fingerprintOf(stats) !== fingerprint) return undefined;
    const sha256 = yield* hashOf(file, signal);
    const after = await file.stat({ bigint: true });
    if (!isPlainFile(after) || fingerprintOf(after) !== fingerprint) return undefined;
    const id = fileId(server, project, name);
    const at = new Date().toISOString();
    return {
      id,
      project,
      server,
      name: escapeName(name),
      size: Number(stats.size),
      sha256,
      modified_at: modifiedAt(stats),
      fingerprint,
      created_at: known.of(project).files.get(id)?.createdAt ?? at,
      updated_at: at,
    };
  } finally {
    await file.close();
  }
}

const sizeIn = (fingerprint: string): number => Number(fingerprint.split(':')[1]);

/** Reads the files and records them in batches. */
export async function* recordFiles(reading: Reading, candidates: readonly Candidate[]): AsyncGenerator<void, void> {
  const { server, project, known, recorder, maxFileBytes } = reading;
  const directory = await reading.open();
  if (!directory) return;
  let batch: FileRecord[] = [];
  let room = recorder.room(project);
  const commit = async () => {
    if (batch.length > 0) reading.refused(await recorder.commit(project, { put: batch }));
    batch = [];
    room = recorder.room(project);
  };
  try {
    for (const candidate of candidates) {
      const size = sizeIn(candidate.fingerprint);
      const id = fileId(server, project, candidate.name);
      const before = known.of(project).files.get(id);
      // Files that cannot be offered are not read. The commit checks the quota again.
      const growth = size - (before?.size ?? 0);
      if (size > maxFileBytes || !fits(room, before ? 0 : 1, growth)) {
        await commit();
        if (before) await recorder.commit(project, { remove: [id] });
        reading.refused(1);
        continue;
      }
      const record = recordOf(reading, directory, candidate);
      try {
        let step = await record.next();
        for (; !step.done; step = await record.next()) {
          // Complete files do not wait for a large one.
          await commit();
          yield;
        }
        if (step.value) batch.push(step.value);
      } finally {
        await record.return(undefined);
      }
      if (batch.length >= maxBatch) {
        await commit();
        yield;
      }
    }
    await commit();
  } finally {
    await directory.close();
  }
}
