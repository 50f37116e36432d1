/** What a hostile guest can take from the metadata server, so that others do not notice. */

/** Connections that one address may have open. */
export const connectionsPerSource = 8;
/** Connections of one network together. */
export const connectionsPerNetwork = 1024;
/** Requests that one address may send at once, and then each second. */
const requestBurst = 60;
const requestsPerSecond = 20;
/** Bytes of a request's body. */
export const bodyLimit = 4096;

/** Server options of node:http, in milliseconds and bytes. */
export const httpLimits = {
  maxHeaderSize: 8192,
  headersTimeout: 5000,
  requestTimeout: 10_000,
  keepAliveTimeout: 2000,
  connectionsCheckingInterval: 1000,
} as const;
/** Milliseconds without a byte in either direction after which a connection is ended. */
export const idleTimeout = 10_000;

/** Token bucket for each source address. */
export class RequestRate {
  readonly #buckets = new Map<string, { tokens: number; at: number }>();

  /** @param now milliseconds of a monotonic clock */
  take(source: string, now: number): boolean {
    const bucket = this.#buckets.get(source) ?? { tokens: requestBurst, at: now };
    const tokens = Math.min(requestBurst, bucket.tokens + ((now - bucket.at) / 1000) * requestsPerSecond);
    const allowed = tokens >= 1;
    this.#buckets.delete(source);
    this.#buckets.set(source, { tokens: allowed ? tokens - 1 : tokens, at: now });
    this.#forgetFull(now);
    return allowed;
  }

  /** Drops the buckets that have filled up again; they are kept in the order of their last use. */
  #forgetFull(now: number): void {
    for (const [source, { at }] of this.#buckets) {
      if (now - at < (requestBurst / requestsPerSecond) * 1000) return;
      this.#buckets.delete(source);
    }
  }
}
