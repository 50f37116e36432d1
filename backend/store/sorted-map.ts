/**
 * A map from strings to values in the order of its keys, for tens of thousands of entries. The map is a list of short
 * sorted runs. A write replaces one run and the list of runs, which takes about a microsecond, and changes none of the
 * old arrays. So an iteration shows the entries as they were at its beginning, however long it takes.
 */
interface Run<V> {
  readonly keys: readonly string[];
  readonly values: readonly V[];
}

const maxRunLength = 512;

/** Returns the index of the first key that is not less than `key`. */
function lowerBound(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] as string) < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

function* iterate<V>(
  runs: readonly Run<V>[],
  first: number,
  from: string,
  prefix: string,
  after: string,
): Generator<V, void> {
  for (let index = first; index < runs.length; index++) {
    const run = runs[index] as Run<V>;
    for (let at = lowerBound(run.keys, from); at < run.keys.length; at++) {
      const key = run.keys[at] as string;
      if (after !== '' && key === after) continue;
      if (!key.startsWith(prefix)) return;
      yield run.values[at] as V;
    }
  }
}

function* iterateBackwards<V>(
  runs: readonly Run<V>[],
  last: number,
  bound: string,
  prefix: string,
): Generator<V, void> {
  for (let index = last; index >= 0; index--) {
    const run = runs[index];
    if (run === undefined) return;
    for (let at = lowerBound(run.keys, bound) - 1; at >= 0; at--) {
      if (!(run.keys[at] as string).startsWith(prefix)) return;
      yield run.values[at] as V;
    }
  }
}

/** A sorted map. */
export class SortedMap<V> {
  #runs: readonly Run<V>[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Returns the index of the run for `key`: the last run that starts at or before it. */
  #runOf(key: string): number {
    let low = 0;
    let high = this.#runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#runs[middle]?.keys[0] as string) <= key) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  get(key: string): V | undefined {
    const run = this.#runs[this.#runOf(key)];
    if (run === undefined) return undefined;
    const at = lowerBound(run.keys, key);
    return run.keys[at] === key ? run.values[at] : undefined;
  }

  set(key: string, value: V): void {
    const index = this.#runOf(key);
    const run = this.#runs[index];
    if (run === undefined) {
      this.#runs = [{ keys: [key], values: [value] }];
      this.#size = 1;
      return;
    }
    const at = lowerBound(run.keys, key);
    if (run.keys[at] === key) {
      this.#runs = this.#runs.with(index, { keys: run.keys, values: run.values.with(at, value) });
      return;
    }
    this.#size += 1;
    const keys = run.keys.toSpliced(at, 0, key);
    const values = run.values.toSpliced(at, 0, value);
    if (keys.length <= maxRunLength) {
      this.#runs = this.#runs.with(index, { keys, values });
      return;
    }
    // Appending in order leaves full runs. Otherwise the run splits in the middle.
    const cut = at === keys.length - 1 ? at : keys.length >>> 1;
    const low = { keys: keys.slice(0, cut), values: values.slice(0, cut) };
    const high = { keys: keys.slice(cut), values: values.slice(cut) };
    this.#runs = this.#runs.toSpliced(index, 1, low, high);
  }

  delete(key: string): void {
    const index = this.#runOf(key);
    const run = this.#runs[index];
    if (run === undefined) return;
    const at = lowerBound(run.keys, key);
    if (run.keys[at] !== key) return;
    this.#size -= 1;
    this.#runs =
      run.keys.length === 1
        ? this.#runs.toSpliced(index, 1)
        : this.#runs.with(index, { keys: run.keys.toSpliced(at, 1), values: run.values.toSpliced(at, 1) });
  }

  /** Returns the current values in the order of their keys, only keys with the prefix and after `after`. */
  values(prefix = '', after = ''): Iterable<V> {
    const from = after >= prefix ? after : prefix;
    const runs = this.#runs;
    const first = this.#runOf(from);
    return { [Symbol.iterator]: () => iterate(runs, first, from, prefix, after) };
  }

  /** Returns the current values in the reverse order of their keys, only keys with the prefix and before `before`. */
  valuesBackwards(prefix = '', before = ''): Iterable<V> {
    // Keys are ASCII, so this bound lies after all that start with the prefix.
    const end = `${prefix}\uffff`;
    const bound = before === '' || before > end ? end : before;
    const runs = this.#runs;
    const last = this.#runOf(bound);
    return { [Symbol.iterator]: () => iterateBackwards(runs, last, bound, prefix) };
  }

  /** Returns the number of keys with the prefix. */
  count(prefix = ''): number {
    if (prefix === '') return this.#size;
    let count = 0;
    for (let index = this.#runOf(prefix); index < this.#runs.length; index++) {
      const { keys } = this.#runs[index] as Run<V>;
      const start = lowerBound(keys, prefix);
      // Keys are ASCII, so this bound lies after all that start with the prefix.
      const end = lowerBound(keys, `${prefix}\uffff`);
      count += end - start;
      if (end < keys.length) break;
    }
    return count;
  }
}
