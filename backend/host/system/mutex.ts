/** Runs tasks one after the other. A failed task does not block the next one. */
export class Mutex {
  #last: Promise<unknown> = Promise.resolve();

  /**
   * Runs the task after all earlier tasks. Resolves or rejects with the result of the task.
   * @param signal ends the wait. The task then never begins. A task that has begun looks at the signal itself.
   * @throws the reason of the signal if the task has not begun
   */
  run<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const interrupt = () => reject(signal?.reason);
    const begin = async (): Promise<void> => {
      signal?.removeEventListener('abort', interrupt);
      if (signal?.aborted) return interrupt();
      await task().then(resolve, reject);
    };
    signal?.addEventListener('abort', interrupt);
    this.#last = this.#last.then(begin).catch(reject);
    return promise;
  }
}
