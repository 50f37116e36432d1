/** Delays between tries: each is twice as long as the one before, up to a maximum. */
import { fullJitterGenerator, type IExponentialBackoffOptions, noJitterGenerator } from 'cockatiel';

/** The first and the maximum delay, in milliseconds. */
export interface Backoff {
  readonly firstMs: number;
  readonly maxMs: number;
}

const optionsOf = ({ firstMs, maxMs }: Backoff): IExponentialBackoffOptions<number> => ({
  generator: noJitterGenerator,
  initialDelay: firstMs,
  maxDelay: maxMs,
  exponent: 2,
});

/** Returns the delay in milliseconds after a number of consecutive failures, at least one. */
export const backoffMs = (failures: number, backoff: Backoff): number =>
  noJitterGenerator(failures - 1, optionsOf(backoff))[0];

/**
 * Returns a random delay in milliseconds, at most that of `backoffMs`, so that competing callers separate ("full
 * jitter": https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
 */
export const randomBackoffMs = (failures: number, backoff: Backoff): number =>
  fullJitterGenerator(failures - 1, optionsOf(backoff))[0];
