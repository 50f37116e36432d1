/**
 * The waiters of a mirror: thousands of long polls. Each waiter names records or kinds. A change costs only the waiters
 * of its own record and kind, so waiting is free while other records change.
 */
import type { RecordKind, Stored } from './record-kind.ts';
import type { Revision } from './store.ts';

/** A change of one record. */
export interface RecordChange<T = unknown> {
  readonly kind: RecordKind;
  readonly id: string;
  /** The record after the change; undefined if it was deleted. */
  readonly stored?: Stored<T> | undefined;
  /** The record before the change, if it existed. */
  readonly previous?: Stored<T> | undefined;
}

/** Limits of a wait. */
export interface WaitOptions {
  /** The maximum time. Default: no limit. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** The changes that a waiter waits for. */
export interface ChangeWaitOptions extends WaitOptions {
  /** Only changes after this revision count. */
  readonly after: Revision;
  /** The kinds, or the records, whose changes count. */
  readonly of: readonly { readonly kind: RecordKind; readonly id?: string }[];
  /** A filter of the changes. The mirror calls it for each change of `of`, so it must be cheap. */
  readonly predicate?: (change: RecordChange) => boolean;
}

/** The number of recent changes in the log. The log answers a waiter that asks for a recent revision. */
const maxLogLength = 4096;

/** A promise that resolves once: true when woken, false on timeout or abort. */
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

/** Waiters until the mirror reaches a revision. */
export class RevisionWaiters {
  /** In the order of revisions; the lowest revision is last. */
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

  /** Wakes all waiters up to the revision. */
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

/** Waiters until a record changes. */
export class ChangeWaiters {
  readonly #waiting = new Map<Topic, Set<ChangeWaiter>>();
  /** The latest changes, in the order of their arrival. */
  #log: { revision: Revision; change: RecordChange }[] = [];
  /** The log contains all changes after this revision. */
  #logStart: Revision;

  constructor(revision: Revision) {
    this.#logStart = revision;
  }

  /** The number of waiters. */
  get count(): number {
    let count = 0;
    for (const waiters of this.#waiting.values()) count += waiters.size;
    return count;
  }

  /**
   * Tells whether a matching change has already happened. If the log is too short, it returns true unless every record
   * is certainly unchanged.
   */
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

  /** Waits for a matching change. Resolves to false on timeout or abort. */
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

  /** Adds the changes to the log and wakes the waiters that match. */
  changed(revision: Revision, changes: readonly RecordChange[]): void {
    for (const change of changes) {
      this.#log.push({ revision, change });
      for (const topic of [topicOf(change.kind), topicOf(change.kind, change.id)])
        for (const { predicate, waiter } of this.#waiting.get(topic) ?? [])
          if (predicate === undefined || predicate(change)) waiter.settle(true);
    }
    if (this.#log.length > 2 * maxLogLength) {
      this.#logStart = this.#log[this.#log.length - maxLogLength - 1]?.revision ?? this.#logStart;
      this.#log = this.#log.slice(-maxLogLength);
    }
  }

  end(): void {
    for (const waiters of [...this.#waiting.values()]) for (const { waiter } of [...waiters]) waiter.settle(false);
  }
}
