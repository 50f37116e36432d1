/**
 * The objects that this run of Terraform has come across in its state. Terraform plans the new object of a replacement
 * as one that does not exist, and says nothing of the old one; names are unique, so the name tells.
 */

export interface Managed {
  readonly id: string;
  /** `delete_protection` is switched on. */
  readonly protected: boolean;
  /** It is to be replaced, and that was tried already. */
  readonly tried?: boolean;
}

/** `_` stands for no project: the object is of the cloud. */
const place = (kind: string, project: unknown, name: string): string =>
  `${kind}/${typeof project === 'string' ? project : '_'}/${name}`;

export class ManagedObjects {
  readonly #ids = new Map<string, Set<string>>();
  readonly #named = new Map<string, Managed>();
  readonly #planned = new Map<string, unknown>();

  /** There is an object of this name, or what replaces it is planned to have the name. */
  note(kind: string, project: unknown, name: unknown, object: Managed): void {
    let ids = this.#ids.get(kind);
    if (!ids) {
      ids = new Set();
      this.#ids.set(kind, ids);
    }
    ids.add(object.id);
    if (typeof name === 'string') this.#named.set(place(kind, project, name), object);
  }

  /** The planned name of an object. */
  plan(id: string, name: unknown): void {
    this.#planned.set(id, name);
  }

  /** It was planned already, and keeps its name; false if it gets another, undefined if it was not planned yet. */
  keepsName(id: string, name: unknown): boolean | undefined {
    return this.#planned.has(id) ? this.#planned.get(id) === name : undefined;
  }

  named(kind: string, project: unknown, name: unknown): Managed | undefined {
    return typeof name === 'string' ? this.#named.get(place(kind, project, name)) : undefined;
  }

  /** Of all of a kind. */
  idsOf(kind: string): readonly string[] {
    return [...(this.#ids.get(kind) ?? [])];
  }
}
