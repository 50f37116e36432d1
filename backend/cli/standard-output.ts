/**
 * Data goes to standard output, and all other text to standard error. A failed write is an error, so a full disk does
 * not look like success. Writes are synchronous, because the process may end before a stream is flushed.
 */
import { writeSync } from 'node:fs';
import { visibleLines } from './terminal.ts';

/** The reader has closed the pipe, as `head` does. */
export class PipeClosed extends Error {}

const cell = new Int32Array(new SharedArrayBuffer(4));
/** Waits for the reader of a non-blocking pipe. */
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

/** Writes data to standard output. @throws PipeClosed @throws Error if the data cannot be written */
export function writeOut(data: string | Uint8Array): void {
  try {
    writeAll(1, data);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EPIPE') throw new PipeClosed('standard output is closed');
    throw new Error(`standard output cannot be written: ${(error as Error).message}`, { cause: error });
  }
}

/** Writes a line of data. */
export const say = (line: string): void => writeOut(`${line}\n`);

/** Writes a hint, progress or an error to standard error. A failure of this write is ignored. */
export function tell(text: string): void {
  try {
    writeAll(2, `${visibleLines(text)}\n`);
  } catch {
    // The failure cannot be reported anywhere.
  }
}
