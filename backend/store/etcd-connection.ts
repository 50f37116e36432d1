/**
 * The connection to etcd: deadlines, keep-alive, and the meaning of failures.
 *
 * By default, etcd3 waits without a limit and retries a transaction whose answer was lost. The second try then fails on
 * conditions that the first try has changed, so a successful commit would look like a failed one. This driver therefore
 * disables etcd3's retries. It retries reads freely. It retries a write only if the request certainly never left the
 * process. Any other failure becomes `store_unavailable`.
 */
import { setTimeout as delay } from 'node:timers/promises';
import {
  type CircuitBreakerPolicy,
  ConsecutiveBreaker,
  circuitBreaker,
  handleWhen,
  type NoopPolicy,
  noop,
} from 'cockatiel';
import { Etcd3, EtcdLeaseInvalidError, type IOptions, isRecoverableError } from 'etcd3';
import { UcloudError } from '../contract/errors.ts';
import type { StoreLogger } from './logger.ts';
import { CompactedError } from './store.ts';

/** Options of `openEtcdStore`. */
export interface EtcdOptions {
  /** The endpoints (`host:port`) of the members of one cluster. */
  readonly endpoints: readonly string[];
  /** The prefix of this store's keys in etcd. Ends with `/`. */
  readonly keyPrefix?: string;
  /**
   * TLS settings in PEM. Default of `ca`: the authorities that Node trusts. `cert` and `key` identify this client to
   * the server.
   */
  readonly tls?: { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer };
  readonly username?: string;
  readonly password?: string;
  /** The maximum time of one call, including its retries. */
  readonly requestTimeoutMs?: number;
  /** For tests: a scoped mirror watches its ranges on every version of etcd. Early versions may tell a change late. */
  readonly watchesRanges?: boolean;
  readonly logger?: StoreLogger;
}

const defaultTimeoutMs = 5000;
/** Keep-alive pings. etcd refuses more than one ping per 5 s. The client notices a silent connection after 10 + 4 s. */
const keepAlive = { intervalMs: 10_000, timeoutMs: 4000 };
/**
 * The maximum number of concurrent calls. More calls would not make etcd faster, and a burst of thousands would exceed
 * its deadlines. Further calls wait here, and their deadline starts when they are sent.
 */
const maxCallsInFlight = 128;
/**
 * The number of consecutive failures after which the client avoids a member for one second, if the cluster has others.
 */
const maxConsecutiveFailures = 2;

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Tells whether the request failed before it was sent: there was no connection, or the connection was closing. */
const wasNeverSent = (error: unknown): boolean =>
  /No connection established|Channel closed before call started|ECONNREFUSED|circuit breaker is open/.test(
    messageOf(error),
  );

function clientOptions(options: EtcdOptions): IOptions {
  const { endpoints, tls, username, password } = options;
  const several = endpoints.length > 1;
  return {
    hosts: endpoints.map((endpoint) => `${tls === undefined ? 'http' : 'https'}://${endpoint}`),
    ...(tls?.ca === undefined
      ? {}
      : {
          credentials: {
            rootCertificate: tls.ca,
            ...(tls.key === undefined ? {} : { privateKey: tls.key }),
            ...(tls.cert === undefined ? {} : { certChain: tls.cert }),
          },
        }),
    ...(username === undefined ? {} : { auth: { username, password: password ?? '' } }),
    defaultCallOptions: ({ isStream }) =>
      isStream ? {} : { deadline: Date.now() + (options.requestTimeoutMs ?? defaultTimeoutMs) },
    faultHandling: {
      host: (): CircuitBreakerPolicy | NoopPolicy =>
        several
          ? circuitBreaker(handleWhen(isRecoverableError), {
              halfOpenAfter: 1000,
              breaker: new ConsecutiveBreaker(maxConsecutiveFailures),
            })
          : noop,
      global: noop,
    },
    grpcOptions: {
      'grpc.keepalive_time_ms': keepAlive.intervalMs,
      'grpc.keepalive_timeout_ms': keepAlive.timeoutMs,
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.min_reconnect_backoff_ms': 50,
      'grpc.max_reconnect_backoff_ms': 1000,
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
    },
  };
}

/** A connection to an etcd cluster, shared by all calls of one store. */
export class EtcdConnection {
  readonly client: Etcd3;
  readonly logger: StoreLogger | undefined;
  readonly #endpoints: string;
  readonly #timeoutMs: number;
  readonly #closing = new AbortController();
  #unreachable = false;
  /** The time of etcd's last answer, on the clock of `performance.now()`. */
  #lastAnswerAt = 0;
  #inFlight = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(options: EtcdOptions) {
    this.client = new Etcd3(clientOptions(options));
    this.logger = options.logger;
    this.#endpoints = options.endpoints.join(', ');
    this.#timeoutMs = options.requestTimeoutMs ?? defaultTimeoutMs;
  }

  /** Aborted by `close`. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** The maximum time of one call. */
  get timeoutMs(): number {
    return this.#timeoutMs;
  }

  /** Closes the connection. Running calls fail. */
  close(): void {
    this.#closing.abort();
    this.client.close();
  }

  /** @throws UcloudError `store_unavailable` if the connection is closed */
  assertOpen(): void {
    if (this.closing.aborted) throw new UcloudError('store_unavailable', 'the connection to etcd is closed');
  }

  /**
   * Logs the beginning of an outage, once per outage. It ignores a call that began at `since` and hung when a member
   * died, if other calls have succeeded since.
   */
  reportOutage(error: unknown, since: number): void {
    if (this.#unreachable || this.closing.aborted || this.#lastAnswerAt > since) return;
    this.#unreachable = true;
    this.logger?.warn({ err: error, endpoints: this.#endpoints }, 'etcd does not answer; the connection retries');
  }

  /** Records an answer of etcd, and logs the end of an outage. */
  reportRecovery(): void {
    this.#lastAnswerAt = performance.now();
    if (!this.#unreachable) return;
    this.#unreachable = false;
    this.logger?.info({ endpoints: this.#endpoints }, 'etcd answers again');
  }

  /**
   * Runs a call that is safe to retry.
   * @throws UcloudError `store_unavailable` if etcd does not answer in time
   */
  async read<T>(call: (options: { deadline: number }) => Promise<T>): Promise<T> {
    return this.#call(call, () => true);
  }

  /**
   * Runs a call that must not run twice.
   * @throws UcloudError `store_unavailable` if etcd does not answer in time; the call may have succeeded
   */
  async write<T>(call: (options: { deadline: number }) => Promise<T>): Promise<T> {
    return this.#call(call, wasNeverSent);
  }

  /**
   * Waits for a free slot. Rejects if that takes longer than the maximum time of a call and etcd has answered no call
   * since.
   */
  async #acquireSlot(): Promise<void> {
    if (this.#inFlight < maxCallsInFlight) {
      this.#inFlight += 1;
      return;
    }
    const asked = performance.now();
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (this.#lastAnswerAt >= asked || performance.now() - asked < this.#timeoutMs) return;
    this.#releaseSlot();
    throw new UcloudError('store_unavailable', `etcd at ${this.#endpoints} does not answer; the request was not sent`);
  }

  /** Gives the slot to the next waiting call. */
  #releaseSlot(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#inFlight -= 1;
    else next();
  }

  async #call<T>(
    call: (options: { deadline: number }) => Promise<T>,
    mayRetry: (error: unknown) => boolean,
  ): Promise<T> {
    this.assertOpen();
    await this.#acquireSlot();
    try {
      return await this.#try(call, mayRetry);
    } finally {
      this.#releaseSlot();
    }
  }

  async #try<T>(
    call: (options: { deadline: number }) => Promise<T>,
    mayRetry: (error: unknown) => boolean,
  ): Promise<T> {
    const deadline = Date.now() + this.#timeoutMs;
    const started = performance.now();
    for (let retryDelayMs = 20; ; retryDelayMs = Math.min(500, retryDelayMs * 2)) {
      this.assertOpen();
      try {
        const result = await call({ deadline });
        this.reportRecovery();
        return result;
      } catch (error) {
        const meaning = translateError(error);
        if (meaning !== undefined) throw meaning;
        const remainingMs = deadline - Date.now() - retryDelayMs;
        if (remainingMs <= 0 || !mayRetry(error) || this.closing.aborted) {
          this.reportOutage(error, started);
          throw new UcloudError('store_unavailable', `etcd at ${this.#endpoints} failed: ${messageOf(error)}`, {
            cause: error,
          });
        }
        await delay(retryDelayMs, undefined, { signal: this.closing }).catch(() => undefined);
      }
    }
  }
}

/** Translates an error of etcd for the caller. Returns undefined for a failure of the server or the network. */
function translateError(error: unknown): Error | undefined {
  const message = messageOf(error);
  if (error instanceof EtcdLeaseInvalidError) return error;
  if (message.includes('required revision has been compacted')) return new CompactedError();
  if (message.includes('required revision is a future revision')) return new RangeError('revision lies in the future');
  if (message.includes('too many operations in txn request'))
    return new RangeError('the commit has more operations than etcd allows; start etcd with --max-txn-ops=128 or more');
  if (message.includes('request is too large'))
    return new RangeError('the commit is larger than etcd allows; start etcd with --max-request-bytes=1572864 or more');
  if (isFinal(error))
    return new UcloudError('store_unavailable', `etcd refuses the request: ${message}`, { cause: error });
  return undefined;
}

/** Tells whether a retry cannot succeed: wrong credentials, missing permissions, or a full database. */
const isFinal = (error: unknown): boolean =>
  error instanceof Error &&
  !isRecoverableError(error) &&
  /permission denied|authentication failed|authentication is not enabled|database space exceeded/.test(error.message);
