/** A simple model of a store: it keeps every state as a whole. */
import type { Batch, Change, Commit, Condition, Entry, Page, Revision } from '../../backend/store/store.ts';

type State = ReadonlyMap<string, Entry & { readonly lease?: string | undefined }>;

const byKey = <T extends { readonly key: string }>(a: T, b: T): number => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0);
const keyOf = (change: Change): string => (change.type === 'put' ? change.entry.key : change.key);

/** Sorts the changes of a commit, because their order has no meaning. */
export const normalize = (batch: Batch): Batch => ({
  revision: batch.revision,
  changes: [...batch.changes].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1)),
});

const plain = ({ key, value, revision, created }: Entry): Entry => ({ key, value, revision, created });

/** The model of one store. */
export class StoreModel {
  /** The states by revision, from the first one on. */
  readonly #states = new Map<Revision, State>();
  readonly #batches: Batch[] = [];
  revision: Revision;
  compacted: Revision;

  constructor(revision: Revision) {
    this.revision = revision;
    this.compacted = 0;
    this.#states.set(revision, new Map());
  }

  get state(): State {
    return this.#states.get(this.revision) ?? new Map();
  }

  get(key: string): Entry | undefined {
    const entry = this.state.get(key);
    return entry === undefined ? undefined : plain(entry);
  }

  /** Returns 'compacted' if the store must reject with CompactedError. */
  list(prefix: string, after: string, limit: number, revision: Revision): Page | 'compacted' {
    if (revision < this.compacted) return 'compacted';
    const state = this.#states.get(revision) ?? new Map();
    const all = [...state.values()]
      .filter(({ key }) => key.startsWith(prefix) && key > after)
      .sort(byKey)
      .map(plain);
    return { entries: all.slice(0, limit), more: all.length > limit, revision };
  }

  #holds(condition: Condition): boolean {
    if ('prefix' in condition) return ![...this.state.keys()].some((key) => key.startsWith(condition.prefix));
    const entry = this.state.get(condition.key);
    return 'exists' in condition
      ? (entry !== undefined) === condition.exists
      : entry !== undefined && entry.revision === condition.revision;
  }

  /** Replaces the state with `next`, as one commit, if they differ. */
  #advance(change: (state: Map<string, Entry & { lease?: string | undefined }>, revision: Revision) => Change[]): void {
    const next = new Map(this.state);
    const changes = change(next, this.revision + 1);
    if (changes.length === 0) return;
    this.revision += 1;
    this.#states.set(this.revision, next);
    this.#batches.push(normalize({ revision: this.revision, changes }));
  }

  commit({ require = [], write }: Commit): boolean {
    if (!require.every((condition) => this.#holds(condition))) return false;
    this.#advance((state, revision) => {
      const changes: Change[] = [];
      const remove = (key: string): void => {
        if (state.delete(key)) changes.push({ type: 'delete', key });
      };
      for (const one of write) {
        if ('delete' in one) remove(one.delete);
        else if ('deletePrefix' in one)
          for (const key of [...state.keys()].filter((key) => key.startsWith(one.deletePrefix))) remove(key);
        else {
          const created = state.get(one.put)?.created ?? revision;
          const entry = { key: one.put, value: one.value, revision, created };
          state.set(one.put, { ...entry, lease: one.lease });
          changes.push({ type: 'put', entry });
        }
      }
      return changes;
    });
    return true;
  }

  endLease(lease: string): void {
    this.#advance((state) => {
      const keys = [...state.values()].filter((entry) => entry.lease === lease).map(({ key }) => key);
      for (const key of keys) state.delete(key);
      return keys.map((key) => ({ type: 'delete', key }));
    });
  }

  compact(revision: Revision): void {
    this.compacted = Math.max(this.compacted, revision);
  }

  /** Returns the batches that a watch of `prefix` from `from` on must have delivered by now. */
  batches(prefix: string, from: Revision): Batch[] {
    return this.#batches
      .filter(({ revision }) => revision >= from)
      .map(({ revision, changes }) => ({ revision, changes: changes.filter((one) => keyOf(one).startsWith(prefix)) }))
      .filter(({ changes }) => changes.length > 0);
  }
}
