/** The records of one kind in memory, in the order of their ids, with their indexes. Only mirror.ts fills it. */
import type { Stored } from './record-kind.ts';
import { SortedMap } from './sorted-map.ts';

/** Finds records of one kind by another key than their id. Every change updates it. */
export interface MirrorIndex<T> {
  /** Returns the current records in the order of their ids, only ids after `after`. */
  list(indexKey: string, after?: string): Iterable<Stored<T>>;
  /** Returns the current records in the reverse order of their ids, only ids before `before`. */
  listBackwards(indexKey: string, before?: string): Iterable<Stored<T>>;
  /** Returns the first record of `list`. */
  get(indexKey: string): Stored<T> | undefined;
  /** Returns the number of records. */
  size(indexKey: string): number;
}

/** Returns the index keys of a record. The function must be pure, and its keys must not contain `\0`. */
export type IndexKeys<T> = (record: Stored<T>) => string | readonly string[] | undefined;

class Index<T> implements MirrorIndex<T> {
  readonly #keysOf: IndexKeys<T>;
  readonly #records = new SortedMap<Stored<T>>();

  constructor(keysOf: IndexKeys<T>) {
    this.#keysOf = keysOf;
  }

  #places(record: Stored<T>): string[] {
    const keys = this.#keysOf(record) ?? [];
    return (typeof keys === 'string' ? [keys] : keys).map((key) => `${key}\0${record.id}`);
  }

  replace(previous: Stored<T> | undefined, next: Stored<T> | undefined): void {
    if (previous !== undefined) for (const place of this.#places(previous)) this.#records.delete(place);
    if (next !== undefined) for (const place of this.#places(next)) this.#records.set(place, next);
  }

  list(indexKey: string, after = ''): Iterable<Stored<T>> {
    return this.#records.values(`${indexKey}\0`, after === '' ? '' : `${indexKey}\0${after}`);
  }

  listBackwards(indexKey: string, before = ''): Iterable<Stored<T>> {
    return this.#records.valuesBackwards(`${indexKey}\0`, before === '' ? '' : `${indexKey}\0${before}`);
  }

  get(indexKey: string): Stored<T> | undefined {
    const [first] = this.list(indexKey);
    return first;
  }

  size(indexKey: string): number {
    return this.#records.count(`${indexKey}\0`);
  }
}

/** The table of one record kind. */
export class MirrorTable<T> {
  readonly #byId = new Map<string, Stored<T>>();
  readonly #sorted = new SortedMap<Stored<T>>();
  readonly #indexes: Index<T>[] = [];

  get(id: string): Stored<T> | undefined {
    return this.#byId.get(id);
  }

  list(idPrefix: string, after: string): Iterable<Stored<T>> {
    return this.#sorted.values(idPrefix, after);
  }

  listBackwards(before: string): Iterable<Stored<T>> {
    return this.#sorted.valuesBackwards('', before);
  }

  size(idPrefix: string): number {
    return this.#sorted.count(idPrefix);
  }

  /** Sets or removes the record. Returns the previous record. */
  replace(id: string, next: Stored<T> | undefined): Stored<T> | undefined {
    const previous = this.#byId.get(id);
    if (next === undefined) {
      this.#byId.delete(id);
      this.#sorted.delete(id);
    } else {
      this.#byId.set(id, next);
      this.#sorted.set(id, next);
    }
    for (const index of this.#indexes) index.replace(previous, next);
    return previous;
  }

  /** Creates an index of the table. */
  index(keysOf: IndexKeys<T>): MirrorIndex<T> {
    const index = new Index<T>(keysOf);
    for (const record of this.#byId.values()) index.replace(undefined, record);
    this.#indexes.push(index);
    return index;
  }
}
