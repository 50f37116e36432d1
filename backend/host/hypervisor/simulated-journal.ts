/**
 * Small records by id in one file. Every change appends a line, so the records survive the end of the process at low
 * cost. The file is not synced to disk, so they may be lost in a crash of the machine.
 */
import { closeSync, openSync, readFileSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';

/** The maximum number of obsolete lines before the journal rewrites its file. */
const maxObsoleteLines = 1_000;

/** A journal of records. */
export class Journal<T extends { readonly id: string }> {
  readonly #path: string;
  readonly #records = new Map<string, T>();
  #file: number | undefined;
  #lines = 0;

  /** Reads the records that an earlier process left in the file. */
  constructor(path: string) {
    this.#path = path;
    for (const line of readIfThere(path).split('\n').slice(0, -1)) {
      const change: { put: T } | { removed: string } = JSON.parse(line);
      if ('put' in change) this.#records.set(change.put.id, change.put);
      else this.#records.delete(change.removed);
    }
    this.#rewrite();
  }

  /** Returns the record; undefined if there is none. */
  get(id: string): T | undefined {
    return this.#records.get(id);
  }

  /** Returns all records, in the order in which they were first written. */
  values(): IterableIterator<T> {
    return this.#records.values();
  }

  /** Writes the record, in the place of the record with the same id. */
  put(record: T): void {
    this.#append({ put: record });
    this.#records.set(record.id, record);
  }

  /** Removes the record. Does nothing if there is none. */
  remove(id: string): void {
    if (!this.#records.has(id)) return;
    this.#append({ removed: id });
    this.#records.delete(id);
  }

  /** Removes all records and the file. */
  clear(): void {
    this.close();
    this.#records.clear();
    rmSync(this.#path, { force: true });
  }

  /** Closes the file. The next write opens it again. */
  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #append(change: { put: T } | { removed: string }): void {
    this.#file ??= openSync(this.#path, 'a');
    // One call of write(2) writes either the whole line or nothing.
    writeSync(this.#file, `${JSON.stringify(change)}\n`);
    this.#lines++;
    if (this.#lines > 2 * this.#records.size + maxObsoleteLines) this.#rewrite();
  }

  #rewrite(): void {
    this.close();
    const text = [...this.#records.values()].map((put) => `${JSON.stringify({ put })}\n`).join('');
    writeFileSync(`${this.#path}.new`, text);
    renameSync(`${this.#path}.new`, this.#path);
    this.#lines = this.#records.size;
  }
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return '';
    throw error;
  }
}
