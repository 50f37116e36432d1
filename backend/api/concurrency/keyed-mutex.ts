/**
 * A mutex for each key. Requests of one process that allocate from the same pool run one after the other. This only
 * avoids useless attempts: the conditions of the transactions prevent a double allocation, also between processes.
 */
export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>();

  /** Waits for the mutex, and returns the function that releases it. */
  async enter(name: string): Promise<() => void> {
    const before = this.#tails.get(name);
    const { promise: turn, resolve } = Promise.withResolvers<void>();
    this.#tails.set(name, turn);
    await before;
    return () => {
      resolve();
      if (this.#tails.get(name) === turn) this.#tails.delete(name);
    };
  }

  async run<T>(name: string, work: () => Promise<T>): Promise<T> {
    const leave = await this.enter(name);
    try {
      return await work();
    } finally {
      leave();
    }
  }
}

/** The hold of one request on a mutex. The request takes it when it knows that it needs it. */
export class Turn {
  readonly #locks: KeyedMutex;
  #leave: (() => void) | undefined;

  constructor(locks: KeyedMutex) {
    this.#locks = locks;
  }

  /** Waits for the mutex. Returns false if this request had it already. */
  async take(name: string): Promise<boolean> {
    if (this.#leave) return false;
    this.#leave = await this.#locks.enter(name);
    return true;
  }

  end(): void {
    this.#leave?.();
  }
}
