/**
 * The revision of an object: that of the last change of its record or its observations.
 *
 * Each record has the revision of its last write, but a deleted record (a sign of life, a schedule) has none. So this
 * class notes deletions when the mirror shows them. Deletions before the start of the process are unknown, so every
 * object counts as changed when the mirror was opened. A waiting client may therefore get one answer too many, but
 * never misses a change.
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

/** Tells whether a sign of life of a host appeared or disappeared. Its renewal is not a change. */
export const isSignOfLife = (change: RecordChange): boolean =>
  isChangeOf(records.alive, change) && (change.stored === undefined || change.previous === undefined);

/** Computes the revisions of objects. */
export class ObjectRevisions {
  readonly #mirror: ApiMirror;
  readonly #opened: Revision;
  /** The kinds of observations, by the prefix of the object's kind. */
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

  /** Returns the newest revision of all records that the object shows. */
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
      } else if (isChangeOf(records.vms, change) || isChangeOf(records.schedules, change)) {
        this.#touchAttachments(change.id, revision);
        this.#noteRemoval(change, revision);
      } else if (isChangeOf(records.volumes, change)) {
        this.#touchHolder(change.id, revision);
        this.#noteRemoval(change, revision);
      } else if (isChangeOf(records.volumePlacements, change)) {
        this.#touchHolder(change.id, revision);
        for (const host of [change.previous?.value.host, change.stored?.value.host])
          if (host !== undefined) this.#touched.set(host, revision);
        this.#noteRemoval(change, revision);
      } else this.#noteRemoval(change, revision);
    }
  }

  #noteRemoval(change: RecordChange, revision: Revision): void {
    if (change.stored !== undefined) return;
    if (this.#observedBy.has(change.kind.prefix)) this.#touched.delete(change.id);
    else if (this.#observations.has(change.kind.prefix)) this.#touched.set(change.id, revision);
  }

  /** An attachment shows the host of its VM, and whether the VM is stopped. */
  #touchAttachments(vm: string, revision: Revision): void {
    for (const { id } of this.#mirror.by(records.volumeAttachments, 'vm').list(vm)) this.#touched.set(id, revision);
  }

  /** An attachment shows the host of its volume, and a VM the size of its root volume. */
  #touchHolder(volume: string, revision: Revision): void {
    const holder = this.#mirror.get(records.volumeHolders, volume)?.value.id;
    if (holder === undefined) return;
    this.#touched.set(holder, revision);
    const attachment = this.#mirror.get(records.volumeAttachments, holder)?.value;
    if (attachment?.root) this.#touched.set(attachment.vm, revision);
  }

  close(): void {
    this.#stop();
    this.#touched.clear();
  }
}
