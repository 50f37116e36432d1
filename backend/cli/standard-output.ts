/**
 * Data goes to standard output, all else to standard error. What cannot be written is an error: a disk that is full must
 * not look like success. Written at once, since a process may end before a stream has been flushed.
 */
import { writeSync } from 'node:fs';
import { visibleLines } from './terminal.ts';

/** The reader has gone, as `head` does. */
export class PipeClosed extends Error {}

const cell = new Int32Array(new SharedArrayBuffer(4));
/** For a pipe that does not block, and whose other end is slow. */
export const pause = (): void => {
  Atomics.wait(cell, 0, 0, 5);
};

function writeAll(descriptor: number, data: string | Uint8Array): void {
  const bytes = typeof data === 'string' ? Buffer.from(data) : data;
  for (let from = 0; from < bytes.length; ) {
    try {
      from += writeSync(descriptor, bytes, from);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      pause();
    }
  }
}

/** As it is. Throws PipeClosed, or what keeps it from being written. */
export function writeOut(data: string | Uint8Array): void {
  try {
    writeAll(1, data);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EPIPE') throw new PipeClosed('standard output is closed');
    throw new Error(`standard output cannot be written: ${(error as Error).message}`, { cause: error });
  }
}

/** A line of data. */
export const say = (line: string): void => writeOut(`${line}\n`);

/** Hints, progress, errors. Where nobody can be told, there is nobody to tell. */
export function tell(text: string): void {
  try {
    writeAll(2, `${visibleLines(text)}\n`);
  } catch {
    // See above.
  }
}
