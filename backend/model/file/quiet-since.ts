/**
 * Finds files that have not changed for a time, without a note of each file. The kernel of the file server stamps each
 * change of a file, and users cannot set this time. So a file whose time lies before the newest time that was seen a
 * while ago has not changed since then. This holds for whatever clock the file server has.
 */
export class QuietSince {
  readonly #quietMs: number;
  /** The newest change that was seen, in nanoseconds of the clock of the file server. */
  #newestNs = 0n;
  /** An observation that is younger than the quiet time. `atMs` is on a local clock. */
  #young: { readonly newestNs: bigint; readonly atMs: number } | undefined;
  /** All changes before this time are older than the quiet time. */
  #quietNs = 0n;

  constructor(quietMs: number) {
    this.#quietMs = quietMs;
  }

  /**
   * Notes a change. `wallNs` is the local time: a change in the future comes from a clock that was wrong, and must not
   * make all other files quiet.
   */
  note(changedNs: bigint, wallNs: bigint): void {
    if (changedNs > this.#newestNs && changedNs <= wallNs) this.#newestNs = changedNs;
  }

  /** Tells the time on a local clock that never goes back. */
  tick(atMs: number): void {
    if (this.#young && atMs - this.#young.atMs >= this.#quietMs) {
      this.#quietNs = this.#young.newestNs;
      this.#young = undefined;
    }
    this.#young ??= { newestNs: this.#newestNs, atMs };
  }

  /** Tells whether a file that changed at this time has been quiet. False means that it is not certain. */
  isQuiet(changedNs: bigint): boolean {
    return changedNs < this.#quietNs;
  }
}
