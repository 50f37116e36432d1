/** The progress of one import, for its report. */
import type { ImageReportRecord } from '../model/records/index.ts';

/** A step of an import. */
export type Step = NonNullable<ImageReportRecord['step']>;

/** The step, and the percentage of the whole import. */
export interface Progress {
  readonly step: Step;
  readonly percent: number;
}

/** Takes the share of a step that is done, from 0 to 1. */
export type ReportProgress = (step: Step, share: number) => void;

/** The percentages at which the steps begin and end. Most sources need no unpacking. */
const ranges: Readonly<Record<Step, readonly [number, number]>> = {
  downloading: [0, 50],
  unpacking: [50, 65],
  converting: [65, 95],
  checking: [95, 100],
};

/** The time between two reports of one import, in milliseconds. */
const intervalMs = 1000;

/**
 * Publishes the progress of an import, at most once a second. The percentage never decreases, whatever a server or a
 * program says.
 */
export class ProgressReporter {
  readonly #publish: (progress: Progress) => Promise<void>;
  #latest: Progress = { step: 'downloading', percent: 0 };
  #published = this.#latest;
  #timer: NodeJS.Timeout | undefined;
  #publishing: Promise<void> = Promise.resolve();
  #ended = false;

  /** @param publish writes the progress; it must not reject */
  constructor(publish: (progress: Progress) => Promise<void>) {
    this.#publish = publish;
    this.#wait();
  }

  readonly report: ReportProgress = (step, share) => {
    const [from, to] = ranges[step];
    const percent = Math.floor(from + (to - from) * Math.min(1, Math.max(0, share)));
    this.#latest = { step, percent: Math.max(percent, this.#latest.percent) };
  };

  /** Ends all reports. Resolves after the last one. */
  async end(): Promise<void> {
    this.#ended = true;
    clearTimeout(this.#timer);
    await this.#publishing;
  }

  #wait(): void {
    if (this.#ended) return;
    this.#timer = setTimeout(() => {
      const { step, percent } = this.#latest;
      if (step !== this.#published.step || percent !== this.#published.percent) {
        this.#published = this.#latest;
        this.#publishing = this.#publish(this.#latest);
      }
      void this.#publishing.then(() => this.#wait());
    }, intervalMs);
  }
}
