/**
 * The usage of each project, computed from the mirror and updated with each of its batches. It is always that of the
 * mirror's revision. Each process computes it again, so it cannot deviate from the records.
 */
import { type Amounts, noAmounts, plus, type SomeAmounts } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import type { Mirror, RecordChange } from '../../store/mirror.ts';
import type { RecordKind, Stored } from '../../store/record-kind.ts';

type Owned = { readonly project?: string };

/** The part of a descriptor that determines the usage of its objects. */
export interface CountedResource {
  readonly kind: RecordKind;
  quota?(record: never): SomeAmounts;
}

/** Computes the usage of projects. */
export class QuotaUsage {
  readonly #byProject = new Map<string, Amounts>();
  /** The descriptors, by the prefix of the kind. */
  readonly #counted: ReadonlyMap<string, CountedResource>;
  readonly #stop: () => void;

  constructor(mirror: Mirror, resources: readonly CountedResource[]) {
    this.#counted = new Map(resources.filter(({ quota }) => quota).map((each) => [each.kind.prefix, each]));
    for (const { kind } of this.#counted.values()) for (const stored of mirror.list(kind)) this.#add(kind, stored, 1);
    this.#stop = mirror.subscribe(({ changes }) => {
      for (const change of changes) this.#follow(change);
    });
  }

  /** Returns the usage of the project at the mirror's revision. */
  of(project: string): Amounts {
    return this.#byProject.get(project) ?? noAmounts;
  }

  #follow({ kind, id, previous, stored }: RecordChange): void {
    if (this.#counted.has(kind.prefix)) {
      this.#add(kind, previous, -1);
      this.#add(kind, stored, 1);
    } else if (kind.prefix === records.projects.prefix && stored === undefined) {
      this.#byProject.delete(id);
    }
  }

  #add(kind: RecordKind, stored: Stored<unknown> | undefined, times: 1 | -1): void {
    const project = (stored?.value as Owned | undefined)?.project;
    if (stored === undefined || project === undefined) return;
    // The mirror has checked the form of the record.
    const amounts = this.#counted.get(kind.prefix)?.quota?.(stored.value as never) ?? {};
    this.#byProject.set(project, plus(this.of(project), amounts, times));
  }

  close(): void {
    this.#stop();
    this.#byProject.clear();
  }
}
