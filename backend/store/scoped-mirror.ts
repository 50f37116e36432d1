/**
 * A mirror with a scope: the keys and prefixes that somebody needs now. Each owner states its ranges, and the mirror keeps a
 * range as long as any owner needs it.
 *
 * A new range is watched first and then read. Its records appear in one batch, at a revision that the whole mirror has reached.
 * So at each revision, the mirror shows the records of all known ranges as the database had them. A range is known from then on.
 * Until then, the absence of a record means nothing, and `hasScope` tells the owner so.
 *
 * When no owner needs a range any more, its records vanish without a batch: they are not deleted.
 *
 * After a lost connection, and when the history is compacted, the mirror reads all ranges again and shows the difference as one
 * batch. Meanwhile it keeps its last state.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type Backoff, backoffMs } from './backoff.ts';
import { BaseMirror, type BaseMirrorOptions, type KeyChange, type Mirror } from './mirror-base.ts';
import type { RecordChange } from './mirror-waiters.ts';
import { isPrefix, keyOf, openRangeWatch, rangesWith } from './range-watch.ts';
import { readAllBelow } from './read-below.ts';
import { type Change, CompactedError, type Entry, type RangeWatch, type Revision, type Store } from './store.ts';

/** The scope of a mirror. */
export interface Scope {
  /**
   * Sets the ranges that an owner needs, instead of those before: keys, and prefixes that end with `/`. Returns whether all of
   * them are known already.
   */
  set(owner: string, ranges: Iterable<string>): boolean;
  /** Tells whether all ranges of the owner are known. An owner without ranges has them. */
  has(owner: string): boolean;
  /** Registers a listener that is called when the ranges of an owner have become known, after the batch with their records. */
  onKnown(listener: (owner: string) => void): void;
}

/** The scope of a mirror of everything. */
export const wholeScope: Scope = { set: () => true, has: () => true, onKnown: () => undefined };

/** A mirror with a scope. */
export interface ScopedMirror extends Mirror {
  readonly scope: Scope;
  /** The number of keys and prefixes in the scope. */
  readonly scopeSize: number;
  /** The number of changes that have come over the watch. */
  readonly watchedChanges: number;
}

/** Options of `openScopedMirror`. */
export interface ScopedMirrorOptions extends BaseMirrorOptions {
  /** The ranges that the mirror has when it opens, by owner. */
  readonly scope: ReadonlyMap<string, Iterable<string>>;
}

const retry: Backoff = { firstMs: 20, maxMs: 1000 };

/** The number of attempts to read the first ranges. A database that does not answer at all gets one. */
const maxAttemptsToOpen = 5;

interface Base {
  readonly revision: Revision;
  readonly entries: Map<string, Entry>;
}

interface RangeState {
  readonly owners: Set<string>;
  /** The mirror shows the records of the range. */
  known: boolean;
  /** The mirror applies the changes of the watch. Otherwise it reads the range. */
  live: boolean;
  /** The entries as they were read. */
  base: Base | undefined;
  /** The changes since the watch of the range began. */
  late: { readonly revision: Revision; readonly change: Change }[];
}

class ScopedStoreMirror extends BaseMirror implements ScopedMirror {
  protected readonly anyPrefix = '';
  readonly #ranges = new Map<string, RangeState>();
  readonly #owners = new Map<string, ReadonlySet<string>>();
  readonly #knownListeners = new Set<(owner: string) => void>();
  /** The current connection. Calls for an earlier one count no more. */
  #connection: object = {};
  #watch: RangeWatch | undefined;
  /** The changes of revisions that the watch has not reached yet. */
  #buffer: { readonly revision: Revision; readonly changes: readonly Change[] }[] = [];
  /** All ranges are read again, and appear together. */
  #resyncing = true;
  #failures = 0;
  #lost: (error?: unknown) => void = () => undefined;
  #following: Promise<void> = Promise.resolve();
  #opened = Promise.withResolvers<void>();
  #isOpen = false;
  #hadWatch = false;
  #watchedChanges = 0;

  readonly scope: Scope = {
    set: (owner, ranges) => this.#set(owner, new Set(ranges)),
    has: (owner) => this.#has(owner),
    onKnown: (listener) => void this.#knownListeners.add(listener),
  };

  constructor(store: Store, options: ScopedMirrorOptions) {
    super(store, options);
    for (const [owner, ranges] of options.scope) this.#set(owner, new Set(ranges));
  }

  /** Resolves when the first ranges are known. @throws the error of the last attempt */
  async open(): Promise<void> {
    this.#following = this.#follow();
    await this.#opened.promise;
    this.beginLog();
  }

  get scopeSize(): number {
    return this.#ranges.size;
  }

  get watchedChanges(): number {
    return this.#watchedChanges;
  }

  protected hurry(revision: Revision): void {
    this.#watch?.expect(revision);
  }

  async close(): Promise<void> {
    this.end();
    this.#lost();
    await this.#following;
  }

  // ---- the scope
  // -------------------------------------------------------------------------------------------------------

  #has(owner: string): boolean {
    for (const range of this.#owners.get(owner) ?? []) if (!this.#ranges.get(range)?.known) return false;
    return true;
  }

  #set(owner: string, ranges: ReadonlySet<string>): boolean {
    const before = this.#owners.get(owner);
    if (ranges.size === 0) this.#owners.delete(owner);
    else this.#owners.set(owner, ranges);
    for (const range of ranges) {
      const known = this.#ranges.get(range);
      if (known !== undefined) {
        known.owners.add(owner);
        continue;
      }
      const state: RangeState = { owners: new Set([owner]), known: false, live: false, base: undefined, late: [] };
      this.#ranges.set(range, state);
      if (this.#watch) void this.#load(range, state, this.#watch);
    }
    for (const range of before ?? []) if (!ranges.has(range)) this.#release(range, owner);
    return this.#has(owner);
  }

  #release(range: string, owner: string): void {
    const state = this.#ranges.get(range);
    state?.owners.delete(owner);
    if (state === undefined || state.owners.size > 0) return;
    this.#ranges.delete(range);
    this.#watch?.remove(range);
    if (!state.known) return;
    for (const key of isPrefix(range) ? [...this.keysBelow(range)] : [range]) {
      if (![...this.#statesOf(key)].some(({ known }) => known)) this.drop(key);
    }
  }

  *#statesOf(key: string): Generator<RangeState> {
    for (const range of rangesWith(key)) {
      const state = this.#ranges.get(range);
      if (state) yield state;
    }
  }

  /** Watches the range, then reads it. */
  async #load(range: string, state: RangeState, watch: RangeWatch): Promise<void> {
    const isWanted = () => this.#watch === watch && this.#ranges.get(range) === state;
    try {
      const from = await watch.add(range);
      let base: Base;
      do {
        if (!isWanted()) return;
        base = await this.#read(range);
      } while (base.revision < from);
      if (!isWanted()) return;
      state.base = base;
      watch.expect(base.revision);
    } catch (error) {
      if (isWanted()) this.#lost(error);
    }
  }

  async #read(range: string): Promise<Base> {
    if (isPrefix(range)) return readAllBelow(this.store, range);
    // The key itself is the first one that begins with it.
    const { revision, entries } = await this.store.list(range, { limit: 1 });
    return { revision, entries: new Map(entries.flatMap((entry) => (entry.key === range ? [[range, entry]] : []))) };
  }

  // ---- the connection
  // -------------------------------------------------------------------------------------------------------

  async #follow(): Promise<void> {
    const { signal } = this.closing;
    while (!signal.aborted) {
      try {
        await this.#connect();
        if (!signal.aborted) this.end();
      } catch (err) {
        if (err instanceof CompactedError) continue;
        this.#failures++;
        if (!this.#isOpen && (!this.#hadWatch || this.#failures === maxAttemptsToOpen)) {
          this.end();
          this.#opened.reject(err);
          return;
        }
        if (this.#failures === 1) this.logger?.warn({ err }, 'the mirror cannot follow the database; it retries');
        await delay(backoffMs(this.#failures, retry), undefined, { signal, ref: false }).catch(() => undefined);
      }
    }
    this.#opened.reject(new Error('the mirror is closed'));
    this.#opened.promise.catch(() => undefined);
  }

  /** Follows the database until the connection ends. Rejects if it is lost, and resolves if mirror or store are closed. */
  async #connect(): Promise<void> {
    const connection = {};
    this.#connection = connection;
    const ended = Promise.withResolvers<void>();
    this.#lost = (error) => (error === undefined ? ended.resolve() : ended.reject(error));
    ended.promise.catch(() => undefined);
    this.#resyncing = true;
    this.#buffer = [];
    for (const state of this.#ranges.values()) Object.assign(state, { live: false, base: undefined, late: [] });
    const watch = await openRangeWatch(this.store, {
      changed: ({ revision, changes }) => {
        if (this.#connection === connection) this.#changed(revision, changes);
      },
      reached: (revision) => {
        if (this.#connection === connection) this.#reached(revision);
      },
      ended: (error) => (error === undefined ? ended.resolve() : ended.reject(error)),
    });
    try {
      if (this.closing.signal.aborted) return;
      this.#watch = watch;
      this.#hadWatch = true;
      for (const [range, state] of this.#ranges) void this.#load(range, state, watch);
      // Without ranges, nothing else would ask.
      if (this.#ranges.size === 0) watch.expect(0);
      await ended.promise;
    } finally {
      this.#watch = undefined;
      this.#connection = {};
      watch.close();
    }
  }

  // ---- changes
  // -------------------------------------------------------------------------------------------------------

  #changed(revision: Revision, changes: readonly Change[]): void {
    this.#watchedChanges += changes.length;
    let at = this.#buffer.length;
    while (at > 0 && (this.#buffer[at - 1]?.revision ?? 0) > revision) at--;
    this.#buffer.splice(at, 0, { revision, changes });
  }

  #reached(reached: Revision): void {
    while (this.#buffer[0] !== undefined && this.#buffer[0].revision <= reached) {
      const { revision } = this.#buffer[0];
      const next = this.#buffer.findIndex((batch) => batch.revision > revision);
      const batches = this.#buffer.splice(0, next < 0 ? this.#buffer.length : next);
      this.#show(
        revision,
        batches.flatMap(({ changes }) => changes),
      );
    }
    this.#integrate(reached);
    if (this.#resyncing) return;
    this.#failures = 0;
    if (reached > this.revision) this.tell(reached, [], reached);
  }

  /** Shows a commit in the ranges that are live, and keeps it for those that are being read. */
  #show(revision: Revision, changes: readonly Change[]): void {
    const shown = new Map<string, KeyChange>();
    for (const change of changes) {
      const key = keyOf(change);
      const states = [...this.#statesOf(key)];
      for (const { live, late } of states) if (!live) late.push({ revision, change });
      // A change that has come late must not replace a newer one.
      const isNew = (this.mirrored(key)?.revision ?? 0) < revision;
      if (isNew && states.some(({ live }) => live))
        shown.set(key, [key, change.type === 'put' ? change.entry : undefined]);
    }
    const at = Math.max(revision, this.revision);
    if (shown.size > 0) this.tell(at, this.change(shown.values()), this.#resyncing ? this.revision : at);
  }

  /** Shows the ranges that have been read. The whole mirror then shows the revision. */
  #integrate(revision: Revision): void {
    const waiting = [...this.#ranges].filter(([, { live }]) => !live);
    const ready = waiting.filter(([, { base }]) => base !== undefined && base.revision <= revision);
    if (this.#resyncing ? ready.length < waiting.length : ready.length === 0) return;
    this.#resyncing = false;
    const difference = new Map<string, KeyChange>();
    const owners = new Set<string>();
    for (const [range, state] of ready) {
      for (const change of this.#difference(range, state)) difference.set(change[0], change);
      if (!state.known) for (const owner of state.owners) owners.add(owner);
      Object.assign(state, { live: true, known: true, base: undefined, late: [] });
    }
    const changes: RecordChange[] = this.change(difference.values());
    this.tell(Math.max(revision, this.revision), changes, Math.max(revision, this.revision));
    if (!this.#isOpen) {
      this.#isOpen = true;
      this.#opened.resolve();
    }
    for (const owner of owners) if (this.#has(owner)) for (const listener of this.#knownListeners) listener(owner);
  }

  /** Returns the changes that lead from the shown records of the range to its entries. */
  #difference(range: string, { base, late }: RangeState): KeyChange[] {
    const entries = base?.entries ?? new Map<string, Entry>();
    for (const { revision, change } of late.toSorted((a, b) => a.revision - b.revision)) {
      if (revision <= (base?.revision ?? 0)) continue;
      if (change.type === 'put') entries.set(change.entry.key, change.entry);
      else entries.delete(change.key);
    }
    const shown = isPrefix(range) ? [...this.keysBelow(range)] : this.mirrored(range) ? [range] : [];
    return [
      ...shown.flatMap((key): KeyChange[] => (entries.has(key) ? [] : [[key, undefined]])),
      ...[...entries.values()].flatMap((entry): KeyChange[] =>
        this.mirrored(entry.key)?.revision === entry.revision ? [] : [[entry.key, entry]],
      ),
    ];
  }
}

/**
 * Opens a mirror with a scope. Resolves when its first ranges are known.
 * @throws UcloudError `store_unavailable` if the database does not answer
 */
export async function openScopedMirror(store: Store, options: ScopedMirrorOptions): Promise<ScopedMirror> {
  const mirror = new ScopedStoreMirror(store, options);
  await mirror.open();
  return mirror;
}
