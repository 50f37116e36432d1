/**
 * Memory that many owners share. Each owner has a limit. When all memory is in use, the limit of each owner is an equal
 * share, so owners with little memory are not refused because of owners with much.
 */
export class ByteBudget {
  readonly #perOwner: number;
  readonly #all: number;
  readonly #held = new Map<string, number>();
  #total = 0;

  constructor(perOwner: number, all: number) {
    this.#perOwner = perOwner;
    this.#all = all;
  }

  get total(): number {
    return this.#total;
  }

  held(owner: string): number {
    return this.#held.get(owner) ?? 0;
  }

  /**
   * Tells whether the owner may hold these further bytes. An owner that holds nothing may hold one object of any size.
   */
  hasRoom(owner: string, bytes: number): boolean {
    const held = this.held(owner);
    if (held === 0) return true;
    if (held + bytes > this.#perOwner) return false;
    return this.#total + bytes <= this.#all || held + bytes <= this.#all / this.#held.size;
  }

  /** Counts the bytes, even above the limit. Returns the function that releases them; a second call has no effect. */
  hold(owner: string, bytes: number): () => void {
    this.#add(owner, bytes);
    let held = bytes;
    return () => {
      this.#add(owner, -held);
      held = 0;
    };
  }

  #add(owner: string, bytes: number): void {
    const left = this.held(owner) + bytes;
    this.#total += bytes;
    if (left <= 0) this.#held.delete(owner);
    else this.#held.set(owner, left);
  }
}
