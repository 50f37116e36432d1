/**
 * Small records by id in one file, to which every change is appended: the cheapest thing that survives the death of the
 * process. Not synced to disk, so it need not survive that of the machine.
 */
import { closeSync, openSync, readFileSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';

/** Lines written beyond what is needed before the file is written anew. */
const slack = 1_000;

export class Journal<T extends { readonly id: string }> {
  readonly #path: string;
  readonly #records = new Map<string, T>();
  #file: number | undefined;
  #lines = 0;

  /** Takes up what an earlier process has left. */
  constructor(path: string) {
    this.#path = path;
    for (const line of readIfThere(path).split('\n').slice(0, -1)) {
      const change: { put: T } | { removed: string } = JSON.parse(line);
      if ('put' in change) this.#records.set(change.put.id, change.put);
      else this.#records.delete(change.removed);
    }
    this.#rewrite();
  }

  get(id: string): T | undefined {
    return this.#records.get(id);
  }

  values(): IterableIterator<T> {
    return this.#records.values();
  }

  put(record: T): void {
    this.#append({ put: record });
    this.#records.set(record.id, record);
  }

  remove(id: string): void {
    if (!this.#records.has(id)) return;
    this.#append({ removed: id });
    this.#records.delete(id);
  }

  /** Removes the file too. */
  clear(): void {
    this.close();
    this.#records.clear();
    rmSync(this.#path, { force: true });
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #append(change: { put: T } | { removed: string }): void {
    this.#file ??= openSync(this.#path, 'a');
    // One call of write(2): the whole line is there, or none of it.
    writeSync(this.#file, `${JSON.stringify(change)}\n`);
    this.#lines++;
    if (this.#lines > 2 * this.#records.size + slack) this.#rewrite();
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
