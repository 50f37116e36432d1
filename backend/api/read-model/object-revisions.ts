/**
 * The revision at which an object last changed, its observed state included.
 *
 * An object shows several records. Each knows the revision at which it was written, but a record that is deleted (a
 * host's sign of life, a schedule) leaves no trace, and yet the object looks different. So deletions are noted here as
 * the mirror learns of them. What was deleted before this process began cannot be known: until it is touched again,
 * such an object counts as changed when the mirror was opened. That answers a waiting client once too often at worst,
 * never too seldom.
 */
import { parsePlacementId } from '../../model/placement/placement-id.ts';
import * as records from '../../model/records/index.ts';
import { isChangeOf, type MirrorBatch, type RecordChange } from '../../store/mirror.ts';
import type { RecordKind, Stored } from '../../store/record-kind.ts';
import type { Revision } from '../../store/store.ts';
import type { ApiMirror } from './mirror.ts';

/** The part of a descriptor that names the observations of its objects. */
export interface ObservedResource {
  readonly kind: RecordKind;
  readonly observedBy?: readonly RecordKind[];
}

/** A host's sign of life came or went; that it was given again is no news. */
export const isSignOfLife = (change: RecordChange): boolean =>
  isChangeOf(records.alive, change) && (change.stored === undefined || change.previous === undefined);

export class ObjectRevisions {
  readonly #mirror: ApiMirror;
  readonly #opened: Revision;
  /** The kinds of observations, by the prefix of the kind of the object. */
  readonly #observedBy: ReadonlyMap<string, readonly RecordKind[]>;
  readonly #observations: ReadonlySet<string>;
  readonly #touched = new Map<string, Revision>();
  readonly #stop: () => void;

  constructor(mirror: ApiMirror, resources: readonly ObservedResource[]) {
    this.#observedBy = new Map(
      resources.flatMap(({ kind, observedBy }) => (observedBy ? [[kind.prefix, observedBy] as const] : [])),
    );
    this.#observations = new Set([...this.#observedBy.values()].flat().map(({ prefix }) => prefix));
    this.#mirror = mirror;
    this.#opened = mirror.revision;
    this.#stop = mirror.subscribe((batch) => this.#note(batch));
  }

  /** Newest revision of everything that the object shows. */
  revisionOf(kind: RecordKind, stored: Stored<unknown>): Revision {
    const observed = this.#observedBy.get(kind.prefix);
    if (!observed) return stored.revision;
    const others = observed.map((other) => this.#mirror.get(other, stored.id)?.revision ?? 0);
    return Math.max(stored.revision, this.#touched.get(stored.id) ?? this.#opened, ...others);
  }

  #note({ revision, changes }: MirrorBatch): void {
    for (const change of changes) {
      if (isSignOfLife(change)) {
        this.#touched.set(change.id, revision);
        for (const { id } of this.#mirror.schedulesByHost.list(change.id)) this.#touched.set(id, revision);
      } else if (isChangeOf(records.placements, change)) {
        this.#touched.set(parsePlacementId(change.id).host, revision);
      } else if (change.stored === undefined) {
        const gone = this.#observedBy.has(change.kind.prefix);
        if (gone) this.#touched.delete(change.id);
        else if (this.#observations.has(change.kind.prefix)) this.#touched.set(change.id, revision);
      }
    }
  }

  close(): void {
    this.#stop();
    this.#touched.clear();
  }
}
