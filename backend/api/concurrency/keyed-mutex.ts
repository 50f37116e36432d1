/**
 * Lets the requests of this process that take from the same pool go one after the other. It only spares them futile
 * attempts: what keeps two from getting the same is the condition of their transactions, which holds across processes.
 */
export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>();

  /** Waits for its turn, and answers how to end it. */
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

/** A turn that is taken on the way, once it is known that one is needed. */
export class Turn {
  readonly #locks: KeyedMutex;
  #leave: (() => void) | undefined;

  constructor(locks: KeyedMutex) {
    this.#locks = locks;
  }

  /** Waits for it. False if it had been taken before. */
  async take(name: string): Promise<boolean> {
    if (this.#leave) return false;
    this.#leave = await this.#locks.enter(name);
    return true;
  }

  end(): void {
    this.#leave?.();
  }
}
