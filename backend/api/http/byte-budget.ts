/**
 * Memory that many owners share. Each may hold so much. When all of it is in use, each may hold an equal share of the
 * whole, so those who hold little are not refused because of those who hold much.
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

  /** Whether the owner may hold so much more. Owners that hold nothing may always hold one thing, as large as it is. */
  hasRoom(owner: string, bytes: number): boolean {
    const held = this.held(owner);
    if (held === 0) return true;
    if (held + bytes > this.#perOwner) return false;
    return this.#total + bytes <= this.#all || held + bytes <= this.#all / this.#held.size;
  }

  /** Counts the bytes, whether there is room or not. Answers how to give them back; the second time it does nothing. */
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
