/**
 * A mirror: a part of the database in memory, kept up to date by watching. Nearly all reads use it, and every process
 * has one.
 *
 * A mirror first lists its prefixes at one revision. It then applies each commit as a whole and in order. So it always
 * shows one recent state of the database, never a mixture of two. If the history is compacted before the watch can
 * continue, the mirror lists again and applies the difference as one batch. While the database is unreachable, the
 * mirror keeps its last state.
 *
 * The prefix `''` mirrors everything. A mirror of several prefixes has one watch for each. A commit below two prefixes
 * then arrives as two batches, and `revision` is the revision that all watches have reached.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Static, TSchema } from '@sinclair/typebox';
import { UcloudError } from '../contract/errors.ts';
import { type Backoff, backoffMs } from './backoff.ts';
import { BaseMirror, type BaseMirrorOptions, type KeyChange, type Mirror, quietMs } from './mirror-base.ts';
import type { RecordChange } from './mirror-waiters.ts';
import { readAllBelow } from './read-below.ts';
import type { RecordKind } from './record-kind.ts';
import { CompactedError, type Revision, type Store } from './store.ts';

export type { Mirror, MirrorBatch } from './mirror-base.ts';
export type { MirrorIndex } from './mirror-table.ts';
export type { ChangeWaitOptions, RecordChange, WaitOptions } from './mirror-waiters.ts';

/** Options of `openMirror`. */
export interface MirrorOptions extends BaseMirrorOptions {
  readonly prefixes: readonly [string, ...string[]];
}

/** Tells whether the change is of this kind, and narrows its type. */
export const isChangeOf = <S extends TSchema>(
  kind: RecordKind<S>,
  change: RecordChange,
): change is RecordChange<Static<S>> => change.kind.prefix === kind.prefix;

/** The first and the maximum delay between two tries while the database is unreachable. */
const retry: Backoff = { firstMs: 20, maxMs: 1000 };

class StoreMirror extends BaseMirror {
  readonly #prefixes: readonly [string, ...string[]];
  /** The revision that the watch of each prefix has reached. */
  readonly #watchedRevision = new Map<string, Revision>();
  #lastBatchAt = performance.now();
  /** Ends the watches, so that the mirror lists the prefixes again. */
  #relist = new AbortController();
  #following: Promise<unknown> = Promise.resolve();

  constructor(store: Store, options: MirrorOptions) {
    super(store, options);
    this.#prefixes = options.prefixes;
  }

  protected get anyPrefix(): string {
    return this.#prefixes[0];
  }

  async open(): Promise<void> {
    for (const prefix of this.#prefixes) await this.#list(prefix);
    this.beginLog();
    this.#following = Promise.all(this.#prefixes.map((prefix) => this.#follow(prefix)));
  }

  /**
   * Lists again after a quiet time. Revisions count all writes of the database, but a watch shows only its prefix. A
   * write outside the prefix (another program in the same etcd, a prefix that this mirror lacks) raises the revision
   * without a batch. A list returns the current revision.
   */
  protected hurry(): void {
    if (performance.now() - this.#lastBatchAt < quietMs) return;
    this.#lastBatchAt = performance.now();
    this.#relist.abort();
    this.#relist = new AbortController();
  }

  async close(): Promise<void> {
    this.end();
    await this.#following;
  }

  #apply(prefix: string, revision: Revision, keyChanges: Iterable<KeyChange>): void {
    const changes = this.change(keyChanges);
    this.#lastBatchAt = performance.now();
    this.#watchedRevision.set(prefix, revision);
    const isComplete = this.#watchedRevision.size === this.#prefixes.length;
    this.tell(revision, changes, isComplete ? Math.min(...this.#watchedRevision.values()) : this.revision);
  }

  /** Updates the tables to the current state of the database below the prefix, as one batch. */
  async #list(prefix: string): Promise<void> {
    const { revision, entries } = await readAllBelow(this.store, prefix);
    const difference: KeyChange[] = [];
    for (const key of this.keysBelow(prefix)) if (!entries.has(key)) difference.push([key, undefined]);
    for (const [key, entry] of entries)
      if (this.mirrored(key)?.revision !== entry.revision) difference.push([key, entry]);
    this.#apply(prefix, revision, difference);
  }

  /** Follows the prefix until the mirror or the store is closed. */
  async #follow(prefix: string): Promise<void> {
    const { signal } = this.closing;
    let unreachable = false;
    let mustList = false;
    let failures = 0;
    while (!signal.aborted) {
      try {
        if (mustList) await this.#list(prefix);
        mustList = false;
        if (unreachable) this.logger?.info({ prefix }, 'the mirror follows the database again');
        unreachable = false;
        const from = (this.#watchedRevision.get(prefix) ?? 0) + 1;
        const again = this.#relist.signal;
        const ending = AbortSignal.any([signal, again]);
        for await (const { revision, changes } of this.store.watch(prefix, from, ending)) {
          failures = 0;
          this.#apply(
            prefix,
            revision,
            changes.map((change) =>
              change.type === 'put' ? [change.entry.key, change.entry] : [change.key, undefined],
            ),
          );
        }
        // A watch ends without an error only after an abort, or when the store is closed.
        if (again.aborted && !signal.aborted) mustList = true;
        else this.end();
      } catch (err) {
        if (err instanceof CompactedError) {
          mustList = true;
          continue;
        }
        if (!(err instanceof UcloudError)) mustList = true;
        if (!unreachable) this.logger?.warn({ err, prefix }, 'the mirror cannot follow the database; it retries');
        unreachable = true;
        failures++;
        await delay(backoffMs(failures, retry), undefined, { signal, ref: false }).catch(() => undefined);
      }
    }
  }
}

/**
 * Opens a mirror. Resolves when it has listed all prefixes.
 * @throws UcloudError `store_unavailable` if the database does not answer
 */
export async function openMirror(store: Store, options: MirrorOptions): Promise<Mirror> {
  const mirror = new StoreMirror(store, options);
  await mirror.open();
  return mirror;
}
