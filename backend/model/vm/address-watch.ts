/**
 * Decides whether a guest uses other addresses than its VM declares, by the frames that the host dropped because of
 * their source. Such a guest loses its traffic without any error, so the status of the VM reports it.
 */

/** A few frames with a wrong source are normal, for instance while a guest changes its configuration. */
const minDrops = 3;
/** A pause of this length ends a series of drops. So a guest can change the status only rarely. */
const maxPauseMs = 600_000;

/** The observations of one guest. */
export interface AddressWatch {
  /** The counter at the last look. */
  readonly counter: number;
  /** The counter before the first drop of the current series. */
  readonly seriesStart: number;
  /** The time of the last drop; of the first look if there is none. */
  readonly lastDropMs: number;
  /** Undefined: nothing is known yet about a guest that was running before this agent. */
  readonly others: boolean | undefined;
}

/** Returns the observations of a guest that starts now, or that a new agent finds running. */
export const beginWatch = (counter: number, nowMs: number, others: boolean | undefined): AddressWatch => ({
  counter,
  seriesStart: counter,
  lastDropMs: nowMs,
  others,
});

/** Returns the observations after another look at the counter, which counts the dropped frames. */
export function watchAddresses(before: AddressWatch, counter: number, nowMs: number): AddressWatch {
  // A smaller counter belongs to a new tap.
  if (counter < before.counter) return watchAddresses(beginWatch(0, nowMs, before.others), counter, nowMs);
  const paused = nowMs - before.lastDropMs >= maxPauseMs;
  const seriesStart = paused ? before.counter : before.seriesStart;
  const lastDropMs = counter > before.counter ? nowMs : before.lastDropMs;
  const others = counter - seriesStart >= minDrops ? true : paused ? false : before.others;
  return { counter, seriesStart, lastDropMs, others };
}
