/**
 * Long pieces of work, one for each project, in turns. Only one makes progress at a time, so the disk is read for one file
 * at a time. A piece of work yields after a slice, so a large file of one project does not hold up other projects.
 */
import type { Logger } from '../model/component.ts';

/** The maximum number of projects with work in progress. Each has a file open. */
const maxOpen = 32;

type Work = AsyncGenerator<void, void>;

/** Runs work in turns. */
export class Turns {
  readonly #waiting = new Map<string, () => Work>();
  readonly #open = new Map<string, Work>();
  readonly #logger: Logger;
  readonly #signal: AbortSignal;
  #running: Promise<void> | undefined;

  constructor(logger: Logger, signal: AbortSignal) {
    this.#logger = logger;
    this.#signal = signal;
  }

  /** Tells whether work of the project waits or is in progress. */
  has(project: string): boolean {
    return this.#waiting.has(project) || this.#open.has(project);
  }

  add(project: string, work: () => Work): void {
    this.#waiting.set(project, work);
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  async #run(): Promise<void> {
    while (!this.#signal.aborted) {
      for (const [project, work] of this.#waiting) {
        if (this.#open.size >= maxOpen) break;
        this.#waiting.delete(project);
        this.#open.set(project, work());
      }
      if (this.#open.size === 0) return;
      for (const [project, work] of [...this.#open]) {
        if (this.#signal.aborted) break;
        try {
          if ((await work.next()).done) this.#open.delete(project);
        } catch (err) {
          this.#open.delete(project);
          if (!this.#signal.aborted) this.#logger.error({ err, project }, 'files of a project could not be recorded');
        }
      }
    }
    for (const work of this.#open.values()) await work.return();
  }

  /** Resolves when no work is in progress. After the abort of the signal, this is soon. */
  async end(): Promise<void> {
    await this.#running;
  }
}
