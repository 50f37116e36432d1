/**
 * Long pieces of work, one for each project, in turns. Only one makes progress at a time, so the disk is read for one file
 * at a time. A piece of work yields after a slice, so much work of one project does not hold up other projects.
 */
import type { Logger } from '../model/component.ts';

/** Work that cannot go on until the promise is settled. Others have their turns meanwhile. */
export interface Wait {
  readonly until: Promise<unknown>;
}

/** A piece of work. */
export type Work<Result = void> = AsyncGenerator<Wait | undefined, Result>;

interface OpenWork {
  readonly work: Work;
  waits: boolean;
}

interface TurnsOptions {
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** The maximum number of pieces of work in progress. Default: no limit. */
  readonly maxOpen?: number;
}

/** Runs work in turns. */
export class Turns {
  readonly #waiting = new Map<string, () => Work>();
  readonly #open = new Map<string, OpenWork>();
  readonly #options: TurnsOptions;
  #running: Promise<void> | undefined;
  #wake = (): void => undefined;

  constructor(options: TurnsOptions) {
    this.#options = options;
  }

  /** Tells whether work of the project waits or is in progress. */
  has(project: string): boolean {
    return this.#waiting.has(project) || this.#open.has(project);
  }

  add(project: string, work: () => Work): void {
    this.#waiting.set(project, work);
    this.#wake();
    this.#start();
  }

  #start(): void {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      // Work may have come after the last look.
      if (this.#waiting.size > 0 && !this.#options.signal.aborted) this.#start();
    });
  }

  #admit(): void {
    for (const [project, work] of this.#waiting) {
      if (this.#open.size >= (this.#options.maxOpen ?? Number.POSITIVE_INFINITY)) return;
      if (this.#open.has(project)) continue;
      this.#waiting.delete(project);
      this.#open.set(project, { work: work(), waits: false });
    }
  }

  async #run(): Promise<void> {
    const { signal } = this.#options;
    while (!signal.aborted) {
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#admit();
      if (this.#open.size === 0) return;
      let progress = false;
      for (const [project, open] of [...this.#open]) {
        if (signal.aborted) break;
        if (open.waits) continue;
        progress = true;
        await this.#step(project, open);
      }
      if (!progress) await woken;
    }
    for (const { work } of this.#open.values()) await work.return();
  }

  async #step(project: string, open: OpenWork): Promise<void> {
    const { logger, signal } = this.#options;
    try {
      const { done, value } = await open.work.next();
      if (done) this.#open.delete(project);
      else if (value) {
        open.waits = true;
        const end = () => {
          open.waits = false;
          this.#wake();
        };
        value.until.then(end, end);
      }
    } catch (err) {
      this.#open.delete(project);
      if (!signal.aborted) logger.error({ err, project }, 'the files of a project could not be scanned or recorded');
    }
  }

  /** Resolves when no work is in progress. After the abort of the signal, this is soon. */
  async end(): Promise<void> {
    this.#wake();
    await this.#running;
  }
}
