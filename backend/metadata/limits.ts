/** The limits of the metadata server. They protect other guests from a hostile guest. */

/** The maximum number of open connections of one address. */
export const maxConnectionsPerSource = 8;
/** The maximum number of open connections of one network. */
export const maxConnectionsPerNetwork = 1024;
/** The maximum number of requests that one address may send at once. */
const maxRequestBurst = 60;
/** The maximum rate of requests of one address, after the burst. */
const maxRequestsPerSecond = 20;
/** The maximum size of a request's body, in bytes. */
export const maxBodyBytes = 4096;

/** The server options of node:http. Times are in milliseconds, sizes in bytes. */
export const httpLimits = {
  maxHeaderSize: 8192,
  headersTimeout: 5000,
  requestTimeout: 10_000,
  keepAliveTimeout: 2000,
  connectionsCheckingInterval: 1000,
} as const;
/** The server ends a connection after this time without a byte in either direction, in milliseconds. */
export const idleTimeoutMs = 10_000;

/** Limits the rate of requests with a token bucket for each source address. */
export class RequestRate {
  readonly #buckets = new Map<string, { tokens: number; at: number }>();

  /**
   * Counts a request. Returns false if the address has exceeded its rate.
   * @param now the time of a monotonic clock, in milliseconds
   */
  take(source: string, now: number): boolean {
    const bucket = this.#buckets.get(source) ?? { tokens: maxRequestBurst, at: now };
    const tokens = Math.min(maxRequestBurst, bucket.tokens + ((now - bucket.at) / 1000) * maxRequestsPerSecond);
    const allowed = tokens >= 1;
    this.#buckets.delete(source);
    this.#buckets.set(source, { tokens: allowed ? tokens - 1 : tokens, at: now });
    this.#dropFull(now);
    return allowed;
  }

  /**
   * Drops full buckets. The map is in the order of their last use, so the loop ends at the first bucket that is not
   * full.
   */
  #dropFull(now: number): void {
    for (const [source, { at }] of this.#buckets) {
      if (now - at < (maxRequestBurst / maxRequestsPerSecond) * 1000) return;
      this.#buckets.delete(source);
    }
  }
}
