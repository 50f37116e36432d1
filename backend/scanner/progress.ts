/** The progress of one import, for its report. */
import type { ImageReportRecord } from '../model/records/index.ts';

/** A step of an import. */
export type Step = NonNullable<ImageReportRecord['step']>;

/** The step, the percentage of the whole import, and the bytes of the step. */
export interface Progress {
  readonly step: Step;
  readonly percent: number;
  /** The bytes that the step has read. */
  readonly bytes: number;
  /** All bytes that the step reads; undefined if this is not known. */
  readonly total_bytes?: number;
}

/** Takes the bytes that a step has read, and all bytes that it reads; 0 if this is not known. */
export type ReportProgress = (step: Step, bytes: number, total: number) => void;

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
  #latest: Progress = { step: 'downloading', percent: 0, bytes: 0 };
  #published = this.#latest;
  #timer: NodeJS.Timeout | undefined;
  #publishing: Promise<void> = Promise.resolve();
  #ended = false;

  /** @param publish writes the progress; it must not reject */
  constructor(publish: (progress: Progress) => Promise<void>) {
    this.#publish = publish;
    this.#wait();
  }

  readonly report: ReportProgress = (step, bytes, total) => {
    const [from, to] = ranges[step];
    const share = total > 0 ? Math.min(1, Math.max(0, bytes / total)) : 0;
    const percent = Math.max(Math.floor(from + (to - from) * share), this.#latest.percent);
    const read = Math.floor(total > 0 ? Math.min(bytes, total) : bytes);
    this.#latest = { step, percent, bytes: read, ...(total > 0 && { total_bytes: total }) };
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
      const { step, percent, bytes } = this.#latest;
      const before = this.#published;
      if (step !== before.step || percent !== before.percent || bytes !== before.bytes) {
        this.#published = this.#latest;
        this.#publishing = this.#publish(this.#latest);
      }
      void this.#publishing.then(() => this.#wait());
    }, intervalMs);
  }
}
