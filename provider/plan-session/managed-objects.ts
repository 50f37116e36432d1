/**
 * The objects that this run of Terraform has read from its state. Terraform plans the new object of a replacement as an
 * object that does not exist, and does not say which object it replaces. Names are unique, so the name identifies it.
 */

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

  /** Notes that the object, or the planned replacement of it, has this name. */
  note(kind: string, project: unknown, name: unknown, object: ManagedObject): void {
    let ids = this.#ids.get(kind);
    if (!ids) {
      ids = new Set();
      this.#ids.set(kind, ids);
    }
    ids.add(object.id);
    if (typeof name === 'string') this.#named.set(keyOf(kind, project, name), object);
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
