/**
 * Those who wait for a mirror to change: long polls, by the thousands. Each waits for certain records or kinds and is
 * looked at only when one of these changes, so that waiting costs nothing while others are busy.
 */
import type { RecordKind, Stored } from './records.ts';
import type { Revision } from './store.ts';

export interface RecordChange<T = unknown> {
  readonly kind: RecordKind;
  readonly id: string;
  /** As it is now; undefined when it was deleted. */
  readonly stored?: Stored<T> | undefined;
  /** As it was before, if it was there. */
  readonly previous?: Stored<T> | undefined;
}

export interface WaitOptions {
  /** At most this long, in milliseconds; for ever without. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface ChangeWaitOptions extends WaitOptions {
  /** Only changes later than this revision count. */
  readonly after: Revision;
  /** Changes of which kinds, or of which records. */
  readonly of: readonly { readonly kind: RecordKind; readonly id?: string }[];
  /** Only changes for which it answers true count. Called for each change of `of`, so keep it cheap. */
  readonly predicate?: (change: RecordChange) => boolean;
}

/** Changes kept, to answer those who ask for a revision that has just gone by. */
const logLength = 4096;

/** A promise that resolves at most once: true when woken, false on time-out or abort. */
class Waiter {
  readonly done: Promise<boolean>;
  #resolve: (woken: boolean) => void = () => undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #abort = (): void => this.settle(false);
  readonly #leave: () => void;

  constructor({ timeoutMs, signal }: WaitOptions, leave: (waiter: Waiter) => void) {
    this.#leave = () => leave(this);
    this.#signal = signal;
    this.done = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    if (timeoutMs !== undefined) this.#timer = setTimeout(() => this.settle(false), timeoutMs);
    if (signal?.aborted) this.settle(false);
    else signal?.addEventListener('abort', this.#abort, { once: true });
  }

  settle(woken: boolean): void {
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener('abort', this.#abort);
    this.#leave();
    this.#resolve(woken);
  }
}

/** Waiters for the mirror to reach a revision. */
export class RevisionWaiters {
  /** By revision, the next to be reached last. */
  readonly #waiting: { revision: Revision; waiter: Waiter }[] = [];

  wait(revision: Revision, options: WaitOptions): Promise<boolean> {
    const waiter = new Waiter(options, (left) => {
      const at = this.#waiting.findIndex((one) => one.waiter === left);
      if (at >= 0) this.#waiting.splice(at, 1);
    });
    if (options.signal?.aborted) return waiter.done;
    let at = this.#waiting.length;
    while (at > 0 && (this.#waiting[at - 1]?.revision ?? 0) < revision) at--;
    this.#waiting.splice(at, 0, { revision, waiter });
    return waiter.done;
  }

  reached(revision: Revision): void {
    for (
      let last = this.#waiting.at(-1);
      last !== undefined && last.revision <= revision;
      last = this.#waiting.at(-1)
    ) {
      this.#waiting.pop();
      last.waiter.settle(true);
    }
  }

  end(): void {
    for (const { waiter } of [...this.#waiting]) waiter.settle(false);
  }
}

type CurrentRecord = (kind: RecordKind, id: string) => Stored<unknown> | undefined;
type Topic = string;
const topicOf = (kind: RecordKind, id?: string): Topic => kind.prefix + (id ?? '');

interface ChangeWaiter {
  readonly predicate: ((change: RecordChange) => boolean) | undefined;
  readonly waiter: Waiter;
}

/** Waiters for changes of records. */
export class ChangeWaiters {
  readonly #waiting = new Map<Topic, Set<ChangeWaiter>>();
  /** The latest changes in the order of their arrival. */
  #log: { revision: Revision; change: RecordChange }[] = [];
  /** Changes after this revision are all in the log. */
  #logStart: Revision;

  constructor(revision: Revision) {
    this.#logStart = revision;
  }

  get count(): number {
    let count = 0;
    for (const waiters of this.#waiting.values()) count += waiters.size;
    return count;
  }

  /** Whether something that counts has changed already; when the log does not reach back far enough, it may have. */
  #hasChanged({ after, of, predicate }: ChangeWaitOptions, current: CurrentRecord): boolean {
    if (after < this.#logStart) {
      const untouched = of.every(({ kind, id }) => {
        const stored = id === undefined ? undefined : current(kind, id);
        return stored !== undefined && stored.revision <= after;
      });
      return !untouched;
    }
    for (let at = this.#log.length - 1; at >= 0; at--) {
      const { revision, change } = this.#log[at] as { revision: Revision; change: RecordChange };
      if (revision <= after) return false;
      const asked = of.some(({ kind, id }) => kind.prefix === change.kind.prefix && (id ?? change.id) === change.id);
      if (asked && (predicate === undefined || predicate(change))) return true;
    }
    return false;
  }

  async wait(options: ChangeWaitOptions, current: CurrentRecord): Promise<boolean> {
    if (options.signal?.aborted) return false;
    if (this.#hasChanged(options, current)) return true;
    const topics = options.of.map(({ kind, id }) => topicOf(kind, id));
    const waiter = new Waiter(options, () => {
      for (const topic of topics) {
        const waiters = this.#waiting.get(topic);
        waiters?.delete(entry);
        if (waiters?.size === 0) this.#waiting.delete(topic);
      }
    });
    const entry: ChangeWaiter = { predicate: options.predicate, waiter };
    for (const topic of topics) {
      const waiters = this.#waiting.get(topic);
      if (waiters === undefined) this.#waiting.set(topic, new Set([entry]));
      else waiters.add(entry);
    }
    return waiter.done;
  }

  changed(revision: Revision, changes: readonly RecordChange[]): void {
    for (const change of changes) {
      this.#log.push({ revision, change });
      for (const topic of [topicOf(change.kind), topicOf(change.kind, change.id)])
        for (const { predicate, waiter } of this.#waiting.get(topic) ?? [])
          if (predicate === undefined || predicate(change)) waiter.settle(true);
    }
    if (this.#log.length > 2 * logLength) {
      this.#logStart = this.#log[this.#log.length - logLength - 1]?.revision ?? this.#logStart;
      this.#log = this.#log.slice(-logLength);
    }
  }

  end(): void {
    for (const waiters of [...this.#waiting.values()]) for (const { waiter } of [...waiters]) waiter.settle(false);
  }
}
