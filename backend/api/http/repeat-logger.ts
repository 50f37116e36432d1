/**
 * Limits repeated log lines: each kind gets a number of lines per minute, and then one line with the number of the
 * others.
 */
import type { Logger } from '../../model/component.ts';

const linesPerPeriod = 10;
const periodMs = 60_000;
/** The maximum number of kinds in a period. All further kinds are one kind. */
const maxKinds = 100;

interface Kind {
  readonly level: 'warn' | 'error';
  readonly message: string;
  said: number;
}

/** A logger that limits repeated lines. */
export class RepeatLogger {
  readonly #logger: Logger;
  #kinds = new Map<string, Kind>();
  #timer: NodeJS.Timeout | undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Logs a line. @param kind lines with the same message and kind are repetitions */
  say(level: Kind['level'], kind: string, fields: object, message: string): void {
    const key = `${message}\n${kind}`;
    const known = this.#kinds.get(this.#kinds.size < maxKinds || this.#kinds.has(key) ? key : message);
    const entry = known ?? { level, message, said: 0 };
    if (!known) this.#kinds.set(this.#kinds.size < maxKinds ? key : message, entry);
    this.#timer ??= setTimeout(() => this.#summarize(), periodMs).unref();
    entry.said++;
    if (entry.said <= linesPerPeriod) this.#logger[level](fields, message);
  }

  #summarize(): void {
    this.#timer = undefined;
    const kinds = this.#kinds;
    this.#kinds = new Map();
    for (const { level, message, said } of kinds.values()) {
      if (said > linesPerPeriod) this.#logger[level]({ times: said - linesPerPeriod }, `${message}, as before`);
    }
  }

  /** Logs the numbers of the repetitions that have not been logged. */
  close(): void {
    clearTimeout(this.#timer);
    this.#summarize();
  }
}
