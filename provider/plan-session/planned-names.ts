/** The names that existing objects get in this plan, by id, as far as Terraform has planned them. */
import { setTimeout as sleep } from 'node:timers/promises';

/** The planned names of one run. */
export class PlannedNames {
  readonly #names = new Map<string, unknown>();
  readonly #waiting = new Map<string, (() => void)[]>();

  /** Notes the planned name of an object. The name may be unknown. */
  note(id: string, name: unknown): void {
    this.#names.set(id, name);
    for (const resolve of this.#waiting.get(id) ?? []) resolve();
    this.#waiting.delete(id);
  }

  /** Returns true if the object keeps the name, false if not, and undefined if the object is not planned yet. */
  keeps(id: string, name: string): boolean | undefined {
    return this.#names.has(id) ? this.#names.get(id) === name : undefined;
  }

  /** Waits until the object is planned, or until the time in milliseconds is over. */
  async planned(id: string, timeoutMs: number): Promise<void> {
    if (this.#names.has(id)) return;
    const planned = new Promise<void>((resolve) => {
      this.#waiting.set(id, [...(this.#waiting.get(id) ?? []), resolve]);
    });
    // The timer ends with the wait: a plan has thousands of these waits.
    const over = new AbortController();
    const timeout = sleep(timeoutMs, undefined, { signal: over.signal }).catch(() => undefined);
    await Promise.race([planned, timeout]);
    over.abort();
  }
}
