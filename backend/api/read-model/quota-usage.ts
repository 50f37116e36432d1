/**
 * What each project has, summed up from the mirror and kept up with each of its batches: as of the mirror's revision,
 * never of another. It is made anew with the process, so it cannot drift from the records.
 */
import type { QuotaKind } from '../../contract/resources/quotas.ts';
import {
  type Amounts,
  noAmounts,
  plus,
  prefixAmounts,
  type SomeAmounts,
  stateAmounts,
  vmAmounts,
} from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import type { Mirror, RecordChange } from '../../store/mirror.ts';
import type { RecordKind, Stored } from '../../store/record-kind.ts';

type Owned = { readonly project?: string };

interface Counted {
  readonly kind: RecordKind;
  /** What a record of the kind stands for. */
  readonly amounts: (value: unknown) => SomeAmounts;
}
const each = (kind: RecordKind, what: QuotaKind): Counted => ({ kind, amounts: () => ({ [what]: 1 }) });

const counted: ReadonlyMap<string, Counted> = new Map(
  [
    // The mirror has checked the form of records.
    { kind: records.vms, amounts: (value: unknown) => vmAmounts(value as records.VmRecord) },
    { kind: records.prefixes, amounts: (value: unknown) => prefixAmounts(value as records.PrefixRecord) },
    each(records.networks, 'networks'),
    each(records.images, 'images'),
    each(records.sshKeys, 'ssh_keys'),
    each(records.tokens, 'tokens'),
    { kind: records.terraformStates, amounts: (value: unknown) => stateAmounts(value as records.TerraformStateRecord) },
  ].map((one) => [one.kind.prefix, one]),
);

/** What an object counts for, if it belongs to the project. */
export function amountsOf(kind: RecordKind, project: string, value: unknown): SomeAmounts {
  return (value as Owned).project === project ? (counted.get(kind.prefix)?.amounts(value) ?? {}) : {};
}

export class QuotaUsage {
  readonly #byProject = new Map<string, Amounts>();
  readonly #stop: () => void;

  constructor(mirror: Mirror) {
    for (const { kind } of counted.values()) for (const stored of mirror.list(kind)) this.#add(kind, stored, 1);
    this.#stop = mirror.subscribe(({ changes }) => {
      for (const change of changes) this.#follow(change);
    });
  }

  /** What the project has as of the mirror's revision. */
  of(project: string): Amounts {
    return this.#byProject.get(project) ?? noAmounts;
  }

  #follow({ kind, id, previous, stored }: RecordChange): void {
    if (counted.has(kind.prefix)) {
      this.#add(kind, previous, -1);
      this.#add(kind, stored, 1);
    } else if (kind.prefix === records.projects.prefix && stored === undefined) {
      this.#byProject.delete(id);
    }
  }

  #add(kind: RecordKind, stored: Stored<unknown> | undefined, times: 1 | -1): void {
    const project = (stored?.value as Owned | undefined)?.project;
    if (stored === undefined || project === undefined) return;
    this.#byProject.set(project, plus(this.of(project), amountsOf(kind, project, stored.value), times));
  }

  close(): void {
    this.#stop();
    this.#byProject.clear();
  }
}
