/**
 * The objects that this run of Terraform has read from its state. Terraform plans the new object of a replacement as an
 * object that does not exist, and does not say which object it replaces. Names are unique, so the name identifies it.
 */
import { setTimeout as sleep } from 'node:timers/promises';

/** The time in milliseconds without a new object after which Terraform has probably read its state. */
const quietMs = 250;
/** The longest wait in milliseconds for such a time. */
const maxQuietWaitMs = 5_000;

/** An object in the state of Terraform. */
export interface ManagedObject {
  readonly id: string;
  /** `delete_protection` is switched on. */
  readonly protected: boolean;
  /** The object is planned to be replaced, and a dry run of its replacement was made. */
  readonly tried?: boolean;
}

/** `_` stands for no project: the object belongs to the cloud. */
const keyOf = (kind: string, project: unknown, name: string): string =>
  `${kind}/${typeof project === 'string' ? project : '_'}/${name}`;

/** The managed objects of one run. */
export class ManagedObjects {
  readonly #ids = new Map<string, Set<string>>();
  readonly #named = new Map<string, ManagedObject>();
  #notes = 0;

  /** Notes that the object, or the planned replacement of it, has this name. */
  note(kind: string, project: unknown, name: unknown, object: ManagedObject): void {
    let ids = this.#ids.get(kind);
    if (!ids) {
      ids = new Set();
      this.#ids.set(kind, ids);
    }
    ids.add(object.id);
    this.#notes += 1;
    if (typeof name === 'string') this.#named.set(keyOf(kind, project, name), object);
  }

  /**
   * Resolves when no object was noted for 250 ms, at the latest after 5 s. There is no state to wait for: Terraform reads
   * objects in any order, also after plans of others, and announces no end.
   */
  async settled(): Promise<void> {
    const deadline = performance.now() + maxQuietWaitMs;
    let before: number;
    do {
      before = this.#notes;
      await sleep(quietMs);
    } while (this.#notes !== before && performance.now() < deadline);
  }

  /** Returns the object of this name. */
  named(kind: string, project: unknown, name: unknown): ManagedObject | undefined {
    return typeof name === 'string' ? this.#named.get(keyOf(kind, project, name)) : undefined;
  }

  /** Returns the ids of all objects of the kind. */
  idsOf(kind: string): readonly string[] {
    return [...(this.#ids.get(kind) ?? [])];
  }
}
