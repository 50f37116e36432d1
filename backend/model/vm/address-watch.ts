/**
 * Decides whether a guest uses other addresses than its VM declares, by the frames that the host dropped because of
 * their source. Such a guest loses its traffic without any error, so the status of the VM reports it.
 */

/** A few frames with a wrong source are normal, for instance while a guest changes its configuration. */
const minDrops = 3;
/** The status returns to normal after this time without a further drop. So a guest can change it only rarely. */
const clearAfterMs = 600_000;

/** The observations of one guest. */
export interface AddressWatch {
  /** The number of dropped frames when the host last looked. */
  readonly drops: number;
  /** The time of the last known drop, in milliseconds. */
  readonly lastDropMs: number;
  /** Whether the guest uses other addresses. */
  readonly others: boolean;
}

/**
 * Returns the observations after another look at the counter.
 * @param before undefined at the first look
 * @param drops the number of frames since the tap exists
 */
export function watchAddresses(before: AddressWatch | undefined, drops: number, nowMs: number): AddressWatch {
  // A counter that is smaller than before belongs to a new tap.
  const grown = drops > 0 && drops !== before?.drops;
  const lastDropMs = grown ? nowMs : (before?.lastDropMs ?? Number.NEGATIVE_INFINITY);
  return { drops, lastDropMs, others: drops >= minDrops && nowMs - lastDropMs < clearAfterMs };
}
