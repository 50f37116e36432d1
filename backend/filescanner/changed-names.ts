/**
 * The files of a large directory that may have changed since a scan looked at them: the kernel, uploads and deletions name
 * them. The scanner looks at these files alone, so a change among a million files does not wait for a scan of all.
 */
import type { Id } from '../contract/fields.ts';

/** The maximum number of names. With more changes, a scan of the whole directory is no slower. */
const maxNames = 10_000;

/** Names and ids of files, each once. */
export class ChangedNames {
  /** The names, by their bytes as text. */
  readonly #names = new Map<string, Buffer>();
  readonly #files = new Set<Id<'file'>>();

  get empty(): boolean {
    return this.#names.size === 0 && this.#files.size === 0;
  }

  /** Adds a name. Returns false if there is no room, so that only a scan of the whole directory finds the change. */
  add(name: Buffer): boolean {
    const key = name.toString('latin1');
    if (this.#names.size >= maxNames && !this.#names.has(key)) return false;
    this.#names.set(key, name);
    return true;
  }

  /** Adds a file with a record. Returns false if there is no room. */
  addFile(file: Id<'file'>): boolean {
    if (this.#files.size >= maxNames) return this.#files.has(file);
    this.#files.add(file);
    return true;
  }

  /** Takes all names. */
  takeNames(): Buffer[] {
    const taken = [...this.#names.values()];
    this.#names.clear();
    return taken;
  }

  /** Takes all files that were added by their id. */
  takeFiles(): Id<'file'>[] {
    const taken = [...this.#files];
    this.#files.clear();
    return taken;
  }
}
