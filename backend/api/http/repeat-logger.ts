/** Keeps a log readable when the same happens over and over: so many lines of a kind in a minute, then their number. */
import type { Logger } from '../../model/component.ts';

const linesPerPeriod = 10;
const periodMs = 60_000;
/** Kinds told apart in a period. All others are one kind. */
const maxKinds = 100;

interface Kind {
  readonly level: 'warn' | 'error';
  readonly message: string;
  said: number;
}

export class RepeatLogger {
  readonly #logger: Logger;
  #kinds = new Map<string, Kind>();
  #timer: NodeJS.Timeout | undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** @param kind what makes lines count as the same, beside their message */
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

  /** Says what has not been said yet. */
  close(): void {
    clearTimeout(this.#timer);
    this.#summarize();
  }
}
