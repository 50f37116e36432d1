/**
 * The bytes of orders and uses that a project leaves behind. They stay until they are billed and longer, so no limit of a
 * number can remove the oldest. A project that changes its objects in a loop is slowed down instead. Pure.
 */

const dayMs = 24 * 3_600_000;

/** The bytes that a project may leave each day. */
export const orderBytesPerDay = 32 * 2 ** 20;
/** The bytes that a project may leave at once, after a week without changes. */
export const orderBytesAtOnce = 7 * orderBytesPerDay;

interface Level {
  readonly bytes: number;
  readonly at: number;
}

/** The allowances of owners. Each begins full, and fills up as time goes on. */
export class Allowances {
  readonly #perMs: number;
  readonly #most: number;
  readonly #levels = new Map<string, Level>();

  constructor(perDay: number = orderBytesPerDay, most: number = orderBytesAtOnce) {
    this.#perMs = perDay / dayMs;
    this.#most = most;
  }

  /** Returns the bytes that an owner may still leave. */
  left(owner: string, now: number): number {
    const level = this.#levels.get(owner);
    if (!level) return this.#most;
    return Math.min(this.#most, level.bytes + Math.max(0, now - level.at) * this.#perMs);
  }

  /** Takes bytes, down to none. What must happen, such as a deletion, takes them too. */
  take(owner: string, bytes: number, now: number): void {
    this.#levels.set(owner, { bytes: Math.max(0, this.left(owner, now) - bytes), at: now });
  }

  /** Returns the seconds until the owner has so many bytes. */
  secondsUntil(owner: string, bytes: number, now: number): number {
    return Math.max(0, Math.ceil((bytes - this.left(owner, now)) / this.#perMs / 1_000));
  }

  /** Forgets the owners whose allowance is full. */
  sweep(now: number): void {
    for (const owner of this.#levels.keys()) if (this.left(owner, now) >= this.#most) this.#levels.delete(owner);
  }

  /** The number of owners in memory. */
  get size(): number {
    return this.#levels.size;
  }
}
