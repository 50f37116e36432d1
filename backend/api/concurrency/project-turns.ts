/**
 * Projects take turns at the one thread that answers requests. A rate bounds how many requests a project makes, not how
 * long each takes: lists may be long, and a change may wake a thousand long polls at once. So no more than one request
 * goes on in each round of the event loop while others wait, and the next one is that of another project.
 */

/** Work that waits, by owner. The owner whose turn is next comes first. */
export class ProjectTurns {
  readonly #waiting = new Map<string, (() => void)[]>();
  #busy = false;
  readonly #next = (): void => {
    const [first] = this.#waiting;
    if (!first) {
      this.#busy = false;
      return;
    }
    const [owner, queue] = first;
    const go = queue.shift();
    // To the end of the line, if there is more.
    this.#waiting.delete(owner);
    if (queue.length > 0) this.#waiting.set(owner, queue);
    go?.();
    setImmediate(this.#next);
  };

  /** Requests that wait now. */
  get count(): number {
    let count = 0;
    for (const queue of this.#waiting.values()) count += queue.length;
    return count;
  }

  /** Resolves when it is the owner's turn, at once if nobody has one. */
  async take(owner: string): Promise<void> {
    if (!this.#busy) {
      this.#busy = true;
      setImmediate(this.#next);
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const queue = this.#waiting.get(owner);
    if (queue) queue.push(resolve);
    else this.#waiting.set(owner, [resolve]);
    await promise;
  }
}
