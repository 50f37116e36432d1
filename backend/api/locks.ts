/**
 * Lets the requests of this process that take from the same pool go one after the other. It only spares them futile
 * attempts: what keeps two from getting the same is the condition of their transactions, which holds across processes.
 */
export class Locks {
  readonly #tails = new Map<string, Promise<unknown>>();

  async run<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(name) ?? Promise.resolve();
    const turn = before.then(work, work);
    // Who waits here waits for the turn to end, however it ends; its outcome belongs to its own caller.
    const tail = turn.catch(() => undefined);
    this.#tails.set(name, tail);
    try {
      return await turn;
    } finally {
      if (this.#tails.get(name) === tail) this.#tails.delete(name);
    }
  }
}
