/** Runs tasks one after the other. A failed task does not block the next one. */
export class Mutex {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs the task after all earlier tasks. Resolves or rejects with the result of the task. */
  run<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#last.then(task, task);
    this.#last = result.catch(() => undefined);
    return result;
  }
}
