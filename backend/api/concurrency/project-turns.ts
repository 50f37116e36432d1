/**
 * Projects take turns at the thread that answers requests. The rate limit bounds the number of requests, not their
 * duration: a list may be long, and a change may wake a thousand long polls. While requests wait, each round of the
 * event loop therefore continues one request, and the next round one of another project.
 */

/** Gives the thread to one request at a time, in turns of their owners. */
export class ProjectTurns {
  /** The waiting requests by owner. The first owner has the next turn. */
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
    // An owner with further requests goes to the end of the queue.
    this.#waiting.delete(owner);
    if (queue.length > 0) this.#waiting.set(owner, queue);
    go?.();
    setImmediate(this.#next);
  };

  /** The number of waiting requests. */
  get count(): number {
    let count = 0;
    for (const queue of this.#waiting.values()) count += queue.length;
    return count;
  }

  /** Resolves when the owner has the turn; immediately if no request has it. */
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
